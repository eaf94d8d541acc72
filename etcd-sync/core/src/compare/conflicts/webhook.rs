//! Webhooks that the standby is given, but whose Service it is not given.

use bytes::Bytes;

use super::bounded::Bounded;
use super::report::Collected;
use super::service::Services;
use super::spec::{self, Crd, ServiceReference};
use super::{Kind, Limits};
use crate::scope::{Decision, Scope};

#[derive(Debug)]
pub(super) struct Webhooks {
    calls: Bounded<(Bytes, Kind), Call>,
}

/// What one object calls: the first Service, and how many of its webhooks call any.
#[derive(Debug)]
struct Call {
    service: Bytes,
    name: String,
    count: usize,
}

impl Webhooks {
    pub fn new(limits: &Limits) -> Self {
        Webhooks { calls: Bounded::new(limits.webhooks) }
    }

    /// An admission configuration that the standby is given. `false`: it cannot be read.
    pub fn admission(&mut self, scope: &Scope, key: &Bytes, prefix: &str, plain: &[u8]) -> bool {
        let Some(spec::WebhookConfiguration { webhooks }) = spec::read(plain) else { return false };
        for webhook in webhooks {
            // The API server's default is Fail.
            let kind = if webhook.failure_policy == "Ignore" { Kind::WebhookIgnore } else { Kind::WebhookFail };
            self.call(scope, key, prefix, kind, webhook.client_config.service);
        }
        true
    }

    /// A CRD that the standby is given.
    pub fn conversion(&mut self, scope: &Scope, key: &Bytes, prefix: &str, crd: Crd) {
        self.call(scope, key, prefix, Kind::ConversionWebhook, crd.spec.conversion.service());
    }

    pub fn finish(&self, scope: &Scope, services: &Services, found: &mut Collected, gaps: &mut Vec<String>) {
        let mut calls: Vec<_> = self.calls.iter().collect();
        calls.sort_by_key(|(key, _)| *key);
        for ((key, kind), call) in calls {
            let has = services.has_local(&call.service);
            let there = if has { "the standby has one of its own" } else { "the standby has none" };
            let why = match scope.decide(&call.service) {
                Decision::Out(reason) => reason.to_string(),
                Decision::InScope => String::new(),
            };
            let more = if call.count > 1 { format!(", {} webhooks", call.count) } else { String::new() };
            let service = has.then_some(&call.service[..]);
            let detail = format!("Service {}: {why}; {there}{more}", call.name);
            found.add(*kind, key, service.as_slice(), detail);
        }
        if !self.calls.is_complete() {
            gaps.push(format!("Webhook configurations beyond {} were not checked.", self.calls.max()));
        }
    }

    fn call(&mut self, scope: &Scope, key: &Bytes, prefix: &str, kind: Kind, service: Option<ServiceReference>) {
        let Some(ServiceReference { namespace, name }) = service else { return };
        let service = Bytes::from(format!("{prefix}services/specs/{namespace}/{name}"));
        if scope.in_scope(&service) {
            return;
        }
        let call = Call { service, name: format!("{namespace}/{name}"), count: 0 };
        if let Some(call) = self.calls.entry((key.clone(), kind), || call) {
            call.count += 1;
        }
    }
}

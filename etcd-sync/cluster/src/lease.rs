//! The Lease that names the leader, for people and scripts. It prevents no writes: etcd does that.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::{ObjectMeta, PostParams};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tracing::warn;

use crate::{Cluster, Error};

/// How often it is renewed, and how long it may be believed behind that: what others in Kubernetes use
/// (LeaderElectionConfiguration: renewDeadline 10 s, leaseDuration 15 s).
const RENEW: Duration = Duration::from_secs(5);
const DURATION_S: i32 = 15;

/// A process that ends does not wait for an API server that is gone.
const RELEASE: Duration = Duration::from_secs(2);

/// A Lease, and where it is.
#[derive(Clone)]
pub struct LeaderLease {
    cluster: Cluster,
    api: Api<Lease>,
    name: String,
}

/// Holds a Lease until it is dropped or released.
pub struct Held {
    lease: LeaderLease,
    holder: String,
    task: JoinHandle<()>,
}

impl LeaderLease {
    /// The Lease `name` of a namespace. Nothing is sent yet.
    pub fn new(cluster: Cluster, namespace: &str, name: &str) -> LeaderLease {
        let api = Api::namespaced(cluster.client(), namespace);
        LeaderLease { cluster, api, name: name.to_owned() }
    }

    /// Takes it from whoever has it, and renews it. What fails is logged once and tried again.
    pub fn hold(&self, holder: &str) -> Held {
        let (lease, by) = (self.clone(), holder.to_owned());
        let task = tokio::spawn(async move {
            let mut warned = None;
            loop {
                match lease.write(Some(&by), &by).await {
                    Ok(()) => warned = None,
                    Err(error) => {
                        let text = error.to_string();
                        if warned.as_ref() != Some(&text) {
                            warn!(
                                lease = lease.name,
                                error = text,
                                "cannot write the Lease of the leader; trying again"
                            );
                            warned = Some(text);
                        }
                    }
                }
                sleep(RENEW).await;
            }
        });
        Held { lease: self.clone(), holder: holder.to_owned(), task }
    }

    /// Writes the holder; `None`: no holder, if it is still `by`.
    async fn write(&self, holder: Option<&str>, by: &str) -> Result<(), Error> {
        let found = self.cluster.ask("read the Lease of the leader", self.api.get_opt(&self.name)).await?;
        let old = found.as_ref().and_then(|lease| lease.spec.clone()).unwrap_or_default();
        let held_by = old.holder_identity.clone().filter(|holder| !holder.is_empty());
        if holder.is_none() && held_by.as_deref() != Some(by) {
            return Ok(());
        }
        let now = MicroTime(Timestamp::now());
        let changes = holder.is_some() && held_by.as_deref() != holder;
        let spec = LeaseSpec {
            holder_identity: Some(holder.unwrap_or_default().to_owned()),
            lease_duration_seconds: Some(if holder.is_some() { DURATION_S } else { 1 }),
            renew_time: Some(now.clone()),
            acquire_time: if changes { Some(now) } else { old.acquire_time.clone() },
            lease_transitions: Some(old.lease_transitions.unwrap_or(0) + i32::from(changes && found.is_some())),
            ..old
        };
        let what = "write the Lease of the leader";
        match found {
            Some(lease) => {
                let lease = Lease { spec: Some(spec), ..lease };
                self.cluster.ask(what, self.api.replace(&self.name, &PostParams::default(), &lease)).await.map(drop)
            }
            None => {
                let metadata = ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
                let lease = Lease { metadata, spec: Some(spec) };
                self.cluster.ask(what, self.api.create(&PostParams::default(), &lease)).await.map(drop)
            }
        }
    }
}

impl Held {
    /// Writes that there is no leader.
    pub async fn release(self) {
        self.task.abort();
        if !matches!(timeout(RELEASE, self.lease.write(None, &self.holder)).await, Ok(Ok(()))) {
            warn!(
                lease = self.lease.name,
                "the Lease could not be released: it names this replica for another {DURATION_S} s"
            );
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.task.abort();
    }
}

//! Gathers what is judged before a switch. Only reads, everything at the same time, each part with a limit of its own: one
//! server that is silent holds nobody up.

pub mod certificates;
mod compared;
mod domain;
mod etcds;
mod kubernetes;
mod machines;
mod server;

use std::time::Duration;

use anyhow::Result;
use etcd_sync_cluster::{Cluster, Error as ClusterError};
use etcd_sync_core::compare::check::Report;
use etcd_sync_operations::preflight::switch::{self, Compared, Comparison, Facts, Last, Sides};
use etcd_sync_operations::preflight::{Finding, text, worst};
use etcd_sync_operations::text::causes;
use etcd_sync_program::config::{Config, ReadinessConfig};
use etcd_sync_program::now_ms;
use serde_json::{Value, json};

pub use etcd_sync_operations::preflight::switch::For;

use self::etcds::Etcds;
use crate::operations::dns::Dns;

/// What to look at, and how.
pub struct Context<'a> {
    /// Both clusters.
    pub config: &'a Config,
    /// The limits.
    pub readiness: &'a ReadinessConfig,
    /// The platform's name, if it is given.
    pub dns: Option<&'a Dns>,
}

/// How each cluster's API server is reached, made once for everything that asks it.
type Clusters = Sides<Reached>;

/// `Ok(None)`: nobody told where it is.
type Reached = Result<Option<Cluster>, ClusterError>;

/// What tells where an API server is.
const PRIMARY_FLAG: &str = "--active-cluster-vip";
const STANDBY_FLAG: &str = "--standby-kubeconfig, or --standby-api-server";

/// What was found.
pub struct Readiness {
    /// One or more for each check, in the order of [`etcd_sync_operations::preflight::Check`].
    pub findings: Vec<Finding>,
    /// The whole comparison, when one could be made.
    pub report: Option<Report>,
    /// Everything the findings rest on, lag and the monitor's last comparison included.
    pub facts: Facts,
}

/// Looks at both clusters and what is around them. What does not answer becomes a finding.
///
/// # Errors
/// The flags or the files they name cannot be used.
pub async fn look(context: &Context<'_>, purpose: For) -> Result<Readiness> {
    let Context { config, readiness, dns } = context;
    let pair = config.pair()?;
    let encryption = config.encryption()?;
    let clusters = Clusters {
        primary: Cluster::primary(&config.api_servers),
        standby: Cluster::standby(&config.api_servers).await,
    };
    let (etcds, servers, api_servers, machines, dns) = tokio::join!(
        async {
            let etcds = Etcds::ask(&pair, purpose).await;
            let (compared, lag, history, members, findings) = tokio::join!(
                compared::compared(context, &pair, &encryption, &etcds),
                etcds.lag(&pair, readiness.limits.lag),
                etcds.history(&pair, &config.scope),
                etcds.members(&pair, purpose),
                etcds.fit(context, &pair, &encryption, purpose),
            );
            (etcds, compared, lag, history, members, findings)
        },
        server::look_at_all(config, &clusters, &pair),
        kubernetes::ready(&clusters),
        machines::machines(&clusters, config, &pair),
        domain::fact(*dns, context, purpose),
    );
    let (etcds, (compared, report), lag, history, members, (mut findings, kubernetes)) = etcds;
    let now_ms = now_ms();
    let mut certificates = certificates::of_files(config, &clusters, now_ms);
    certificates.extend(servers.certificates);
    let facts = Facts {
        purpose,
        limits: readiness.limits,
        now_ms,
        link: config.link.clone(),
        compared,
        standby: etcds.standby,
        primary: etcds.primary,
        lag,
        history,
        members,
        kubernetes,
        api_servers,
        certificates,
        clocks: servers.clocks,
        machines,
        dns,
        ports: servers.ports,
    };
    findings.extend(switch::judge(&facts));
    // Stable: the findings of one check stay in their order.
    findings.sort_by_key(|finding| finding.check);
    Ok(Readiness { findings, report, facts })
}

impl Readiness {
    /// For people.
    pub fn text(&self) -> String {
        text(&self.findings)
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let facts = &self.facts;
        let millis = |time: Duration| time.as_millis() as u64;
        let (comparison, now) = match &facts.compared {
            Compared::Now(comparison) => (Some(comparison), true),
            Compared::Not { last: Last::Known(comparison), .. } => (Some(comparison), false),
            Compared::Not { .. } => (None, false),
        };
        json!({
            "verdict": worst(&self.findings),
            "link": facts.link,
            "atMs": facts.now_ms,
            "comparisonTookMs": self.report.as_ref().map(|report| report.at.took_ms),
            "findings": self.findings,
            "comparison": comparison.map(|comparison| comparison_json(comparison, now)),
            "lag": facts.lag.map(|lag| json!({
                "revisions": lag.revisions,
                "reachedMs": lag.reached.map(millis),
                "waitedMs": millis(lag.waited),
            })),
            "primaryRevision": facts.primary.as_ref().ok().map(|primary| primary.revision),
            "checkpointRevision": facts.checkpoint().map(|checkpoint| checkpoint.revision),
        })
    }
}

fn comparison_json(comparison: &Comparison, now: bool) -> Value {
    json!({
        "now": now,
        "endedMs": comparison.ended_ms,
        "primaryRevision": comparison.revision,
        "keysCompared": comparison.keys,
        "missed": comparison.missed,
        "surplus": comparison.surplus,
        "unproved": comparison.unproved,
        "localMissedKeys": comparison.missed_keys,
        "localSurplusKeys": comparison.surplus_keys,
    })
}

/// Waits for an answer, but not forever.
async fn within<T, E: Into<anyhow::Error>>(
    limit: Duration,
    asked: impl Future<Output = Result<T, E>>,
) -> Result<T, String> {
    match tokio::time::timeout(limit, asked).await {
        Ok(answer) => answer.map_err(|error| causes(error.into().as_ref())),
        Err(_) => Err(format!("no answer within {limit:?}")),
    }
}

//! What a run is going to do, step by step, in words that leave nothing to decide.

use super::{Command, Planned, Step};
use crate::text::redacted_command;

/// What the operator asked for. A run that goes on must be asked for the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intent {
    /// The command.
    pub command: Command,
    /// The endpoints of the primary's etcd.
    pub primary: String,
    /// The endpoints of the standby's etcd.
    pub standby: String,
    /// Mark the primary as handed over.
    pub mark_primary_demoted: bool,
    /// How the primary's writers are stopped.
    pub writers: WritersHow,
    /// The domain; `None`: none is given.
    pub dns: Option<Domain>,
    /// Where the domain is looked up inside the cluster; `None`: no API server is known.
    pub inside: Option<String>,
    /// What is restarted before the rest; empty: no API server is known.
    pub restart_first: Vec<String>,
    /// What is restarted in the end.
    pub restart: Vec<String>,
}

/// The domain and what it is going to point at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Domain {
    /// Its name.
    pub name: String,
    /// The new addresses.
    pub addresses: Vec<String>,
    /// How it is changed.
    pub how: DnsHow,
}

/// How the domain is changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DnsHow {
    /// A signed update to this server.
    Update {
        /// The server.
        server: String,
    },
    /// This command does it.
    Command(String),
    /// The operator does it.
    Manual,
}

/// How the primary's writers are stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WritersHow {
    /// The operator does it.
    Manual,
    /// This command does it.
    Command(String),
}

/// The plan of a switchover or a failover.
pub fn plan(intent: &Intent) -> Vec<Planned> {
    let steps = intent.command.steps().iter();
    steps.map(|&step| Planned { step, what: what(intent, step) }).collect()
}

fn what(intent: &Intent, step: Step) -> String {
    let domain = intent.dns.as_ref();
    let no_domain = || format!("{}no --domain is given", Planned::SKIPPED);
    match step {
        Step::Preflight => "look at everything that must hold".into(),
        Step::RestartFirst if intent.restart_first.is_empty() => no_cluster(),
        Step::RestartFirst => format!("restart {}, where it is installed", intent.restart_first.join("; ")),
        Step::MarkPrimaryDemoted if !intent.mark_primary_demoted => {
            format!("{}--mark-primary-demoted is not given", Planned::SKIPPED)
        }
        Step::MarkPrimaryDemoted => {
            format!("mark the primary ({}) as demoted: its role becomes demoted:<run>", intent.primary)
        }
        Step::StopWriters => match &intent.writers {
            WritersHow::Manual => {
                "show how to stop the primary's API servers, and wait until nobody writes to its etcd any more".into()
            }
            WritersHow::Command(command) => {
                format!(
                    "run {}, and wait until nobody writes to the primary's etcd any more",
                    redacted_command(command)
                )
            }
        },
        Step::Drain => "wait until the standby has the primary's last revision".into(),
        Step::Compare => "compare all keys and values, exactly".into(),
        Step::Promote => format!(
            "make the standby ({}) primary: from then on no synchronizer can write to it, whatever still runs",
            intent.standby
        ),
        Step::ClientPort => "look whether the old primary's etcd can still be reached".into(),
        Step::DnsSwitch => match domain {
            None => no_domain(),
            Some(Domain { name, addresses, how }) => {
                let to = addresses.join(", ");
                match how {
                    DnsHow::Update { server } => format!("point {name} at {to}, with an update to {server}"),
                    DnsHow::Command(command) => format!("point {name} at {to}: run {}", redacted_command(command)),
                    DnsHow::Manual => format!("show the change that points {name} at {to}, and wait for it"),
                }
            }
        },
        Step::DnsVerify => domain.map_or_else(no_domain, |domain| {
            format!(
                "wait until all name servers and resolvers answer {} for {}",
                domain.addresses.join(", "),
                domain.name
            )
        }),
        Step::DnsInside => match (domain, &intent.inside) {
            (None, _) => no_domain(),
            (_, None) => no_cluster(),
            (Some(domain), Some(pod)) => {
                format!("look {} up in {pod}, restarting CoreDNS while the answer is old", domain.name)
            }
        },
        Step::RestartServices if intent.restart.is_empty() => no_cluster(),
        Step::RestartServices => format!("restart {}", intent.restart.join("; ")),
        // Planned by `rejoin` itself.
        Step::FindDivergence | Step::Save | Step::TakeRole | Step::Converge | Step::Prove => step.name().into(),
    }
}

fn no_cluster() -> String {
    format!("{}no API server of the standby is known (--standby-api-server)", Planned::SKIPPED)
}

//! The commands and their steps.

use serde::{Deserialize, Serialize};

/// A command whose runs are journaled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Command {
    /// Both clusters live: the roles change, and nothing is lost.
    Switchover,
    /// The primary is gone.
    Failover,
    /// The old primary becomes the standby.
    Rejoin,
}

/// One step of a run. Each looks first whether it is done already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Everything that must hold is looked at.
    Preflight,
    /// Restarts what must be fresh before the rest begins.
    RestartFirst,
    /// Marks the primary as handed over.
    MarkPrimaryDemoted,
    /// Waits until nobody writes to the primary any more.
    StopWriters,
    /// Waits until the standby has everything.
    Drain,
    /// Compares all keys and values.
    Compare,
    /// The standby's role becomes primary.
    Promote,
    /// Looks whether the old primary's etcd can still be reached.
    ClientPort,
    /// Points the domain at the new primary.
    DnsSwitch,
    /// Waits until everybody is told so.
    DnsVerify,
    /// Waits until pods inside the cluster are told so.
    DnsInside,
    /// Restarts what holds old state.
    RestartServices,
    /// Finds what only the old primary has.
    FindDivergence,
    /// Saves it in a file.
    Save,
    /// The old primary's role becomes standby.
    TakeRole,
    /// It becomes equal to the new primary.
    Converge,
    /// Compares all keys.
    Prove,
}

impl Command {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Command::Switchover => "switchover",
            Command::Failover => "failover",
            Command::Rejoin => "rejoin",
        }
    }

    /// Its steps, in their order. The role changes before the domain does.
    pub fn steps(self) -> &'static [Step] {
        use Step::*;
        match self {
            Command::Switchover => &[
                Preflight,
                RestartFirst,
                MarkPrimaryDemoted,
                StopWriters,
                Drain,
                Compare,
                Promote,
                ClientPort,
                DnsSwitch,
                DnsVerify,
                DnsInside,
                RestartServices,
            ],
            Command::Failover => {
                &[Preflight, RestartFirst, Promote, ClientPort, DnsSwitch, DnsVerify, DnsInside, RestartServices]
            }
            Command::Rejoin => &[FindDivergence, Save, TakeRole, Converge, Prove],
        }
    }
}

impl Step {
    /// Its name, as in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Step::Preflight => "preflight",
            Step::RestartFirst => "restart-first",
            Step::MarkPrimaryDemoted => "mark-primary-demoted",
            Step::StopWriters => "stop-writers",
            Step::Drain => "drain",
            Step::Compare => "compare",
            Step::Promote => "promote",
            Step::ClientPort => "client-port",
            Step::DnsSwitch => "dns-switch",
            Step::DnsVerify => "dns-verify",
            Step::DnsInside => "dns-inside",
            Step::RestartServices => "restart-services",
            Step::FindDivergence => "find-divergence",
            Step::Save => "save",
            Step::TakeRole => "take-role",
            Step::Converge => "converge",
            Step::Prove => "prove",
        }
    }

    /// The step that cannot be taken back, for a step that only tells whether it may be taken: what was seen in an earlier
    /// attempt says nothing about now. A copy goes on until it is proved.
    pub fn proves_for(self) -> Option<Step> {
        match self {
            Step::Preflight | Step::StopWriters | Step::Drain | Step::Compare => Some(Step::Promote),
            Step::FindDivergence | Step::Save => Some(Step::TakeRole),
            Step::Converge => Some(Step::Prove),
            _ => None,
        }
    }
}

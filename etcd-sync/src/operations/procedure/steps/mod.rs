//! The steps. Each checks first whether it is done already, and reports what it saw.

mod compare;
mod demote;
mod dns;
mod drain;
mod port;
mod promote;
mod restart;
mod since;
mod writers;

use anyhow::Result;
use etcd_sync_operations::procedure::{Outcome, Step};

use super::facts::may_promote;
use super::journal::Journal;
use super::{Context, Steps};

pub use compare::compare;
pub use demote::{clear_demoted, demoted_by, mark_primary_demoted};
pub use dns::inside;
use dns::{dns_inside, dns_switch, dns_verify};
pub use drain::drain;
use port::client_port;
use promote::promoted_already;
pub use promote::{is_promoted, promote_drained, promote_lost};
use restart::restart_services;
pub use writers::stop_writers;

/// The steps of a switchover or a failover.
pub struct SwitchSteps<'a, F> {
    /// What they work with.
    pub context: &'a Context<'a>,
    /// The run had changed the roles before this attempt.
    pub is_promoted: bool,
    /// Takes one.
    pub take: F,
}

impl<F: AsyncFnMut(Step, &mut Journal) -> Result<Outcome>> Steps for SwitchSteps<'_, F> {
    // Another command may have changed the roles while this one asked.
    async fn may_go_on(&mut self) -> Result<()> {
        if self.is_promoted { Ok(()) } else { may_promote(self.context).await }
    }

    async fn already(&mut self, step: Step, journal: &mut Journal) -> Result<Option<Outcome>> {
        match step {
            Step::Promote => promoted_already(self.context, journal).await,
            _ => Ok(None),
        }
    }

    async fn take(&mut self, step: Step, journal: &mut Journal) -> Result<Outcome> {
        (self.take)(step, journal).await
    }
}

/// The steps that switchover and failover have in common.
pub async fn tail(context: &Context<'_>, step: Step, journal: &mut Journal) -> Result<Outcome> {
    match step {
        Step::RestartFirst | Step::RestartServices => restart_services(context, step, journal).await,
        Step::ClientPort => Ok(client_port(context).await),
        Step::DnsSwitch => dns_switch(context, &journal.run().id).await,
        Step::DnsVerify => dns_verify(context).await,
        Step::DnsInside => dns_inside(context).await,
        other => Ok(Outcome::Failed(format!("{} is no step of this command", other.name()))),
    }
}

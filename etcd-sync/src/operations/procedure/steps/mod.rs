//! The steps. Each looks first whether it is done already, and tells what it saw.

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

use super::Context;
use super::journal::Journal;

pub use compare::compare;
pub use demote::{clear_demoted, demoted_by, mark_primary_demoted};
pub use dns::inside;
use dns::{dns_inside, dns_switch, dns_verify};
pub use drain::drain;
use port::client_port;
pub use promote::{promote_drained, promote_lost, promoted_already, promoted_by, unfit};
use restart::restart_services;
pub use writers::stop_writers;

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

//! The failover commands: which steps they take, in which order, what is written down of each, and how a run that was
//! interrupted goes on.

mod loss;
mod missing;
mod orphans;
mod plan;
mod report;
mod run;
mod step;
#[cfg(test)]
mod tests;

pub use loss::Loss;
pub use missing::Missing;
pub use orphans::Orphans;
pub use plan::{DnsHow, Domain, Intent, WritersHow, plan};
pub use run::{Accepted, Attempt, Outcome, Planned, Recovery, Replanned, Run, State, StepRecord};
pub use step::{Command, Step};

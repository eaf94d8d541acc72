//! The failover commands: which steps they take, in which order, what is written down of each, and how a run that was
//! interrupted goes on.

pub mod decide;
mod loss;
mod missing;
mod orphans;
mod plan;
mod refusal;
mod report;
mod run;
mod step;
#[cfg(test)]
mod tests;

pub use decide::{Life, Question};
pub use loss::Loss;
pub use missing::Missing;
pub use orphans::Orphans;
pub use plan::{DnsHow, Domain, Intent, WritersHow, plan};
pub use refusal::{Alive, AliveAgain, DESPITE_LIVE_PRIMARY, MissedWhy, Refusal, Unknown};
pub use report::table;
pub use run::{Accepted, Attempt, Outcome, Planned, Recovery, Replanned, Run, State, StepRecord};
pub use step::{Command, Step};

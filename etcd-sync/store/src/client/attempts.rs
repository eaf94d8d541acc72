//! Trying one member after the other.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::client::error::Error;
use crate::client::fault::Fault;
use crate::client::options::Side;
use crate::client::pool::{Member, Pool};

/// A walk over the members until one does it, all have failed, or the time is up.
pub(crate) struct Attempts<'a> {
    side: Side,
    pool: &'a Pool,
    per_member: Duration,
    deadline: Instant,
    tried: Vec<Arc<Member>>,
    worst: Option<(bool, Error)>,
}

impl<'a> Attempts<'a> {
    /// At most `per_member` for each member, twice that for all.
    pub(crate) fn new(side: Side, pool: &'a Pool, per_member: Duration) -> Self {
        let deadline = Instant::now() + per_member * 2;
        Attempts { side, pool, per_member, deadline, tried: Vec::new(), worst: None }
    }

    /// The next member and the time it has; `None` when it is over.
    pub(crate) fn next(&mut self) -> Option<(Arc<Member>, Duration)> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return None;
        }
        let member = self.pool.pick(&self.tried)?;
        self.tried.push(Arc::clone(&member));
        Some((member, self.per_member.min(left)))
    }

    /// Remembers a member's failure.
    ///
    /// # Errors
    /// The failure, when another member would answer the same.
    pub(crate) fn failed(&mut self, member: &Member, fault: Fault) -> Result<(), Error> {
        let error = fault.error;
        if !error.is_of_endpoint() {
            return Err(error);
        }
        self.pool.failed(member, &error);
        // Of a member that nobody gave only when there is nothing to report of those given.
        let (given, weight) = (!member.is_listed(), error.weight());
        if self.worst.as_ref().is_none_or(|(known_given, known)| (given, weight) > (*known_given, known.weight())) {
            self.worst = Some((given, error));
        }
        Ok(())
    }

    /// Of the failures, the one that says most.
    pub(crate) fn error(self) -> Error {
        self.worst
            .map(|(_, error)| error)
            .or_else(|| self.pool.foreign())
            .unwrap_or(Error::NoEndpoints { side: self.side })
    }
}

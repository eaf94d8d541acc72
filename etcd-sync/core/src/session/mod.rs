//! One leader's work on one link, as a state machine without I/O, clock or threads: feed it what happened with
//! [`Session::handle`], do what [`Session::poll`] wants done. The daemon and the simulation drive the same machine.
//!
//! A session is in one stage at a time. A stage owns its state and its methods, and borrows what all stages need (`Shared`);
//! only `dispatch` knows which stage it is, and moves from one to the next:
//!
//! ```text
//! opening ── planning ── copying ── sweeping ── streaming        a copy by difference
//!         └───────────── copying ...                             the first copy: there is nothing to count
//! streaming                                                      resumed behind the checkpoint
//! ```
//!
//! A session is cheap to end: whenever something is unclear (an unknown outcome, a broken stream) the driver drops it,
//! reads the record from the standby again and begins another.

pub mod batch;
mod brake;
mod catch_up;
mod clock;
mod commit;
mod copy;
mod dispatch;
mod effect;
mod evidence;
mod examine;
mod facts;
pub mod families;
mod flight;
mod identity;
mod kinds;
mod losses;
mod planning;
mod refusal;
mod replay;
mod shared;
mod start;
mod stream;
mod sweep;
mod throttle;
mod trail;
pub mod walk;

pub use brake::{BrakeLimits, container_of_crd, directory_of};
pub use catch_up::{BACKLOG_LEAST, CatchUp};
pub use clock::Now;
pub use copy::BUFFERED_BYTES_MAX;
pub use dispatch::Session;
pub use effect::{Effect, Ended, Input, Note, ReadFailure, RequestId, Stats};
pub use facts::{HistoryFacts, RaftFacts, Trust};
pub use losses::{SAVED_BYTES_MAX, SAVED_KEYS_MAX};
pub use refusal::{Encrypted, Refusal};
pub use start::{Beginning, Carried, DeletionGuard, Diverged, SessionConfig, Start, init_role, open, role_allows};

/// Changes of the primary held in memory at most: by bytes, and by number.
const QUEUED_BYTES_MAX: usize = 4 * 1024 * 1024;
const QUEUED_EVENTS_MAX: usize = 20_000;

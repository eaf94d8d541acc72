//! Which history of a cluster this is. A cluster that was restored from a backup has the same cluster id (with the same token and
//! members), and soon a higher revision than before; it is another cluster all the same, and what it lacks must not be deleted
//! on the standby without the operator's word.
//!
//! There are three answers ([`Verdict`]): another history, proved; the same, proved; neither. What proves what, and the bounds
//! of the raft index: facts "History, found out the hard way", and `docs/decisions/0014-three-answers-about-a-history.md`.

mod raft;
mod recent;
mod record;
mod verdict;
mod witness;

pub use self::raft::{Contradiction, Observer, RaftMark, RaftReading, RaftStatus};
pub use self::recent::Recent;
pub use self::record::{Changed, Created, HistoryRecord};
pub use self::verdict::{Found, Sighting, Sightings, Verdict, judge, survivors};
pub use self::witness::{Witness, content_hash};

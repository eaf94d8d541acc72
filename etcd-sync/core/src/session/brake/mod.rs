//! What the brake on live updates counts, and by which limits: the pure part. When it stops what is in `stream/brake/`.

mod turnover;
mod window;

use bytes::Bytes;

pub use self::turnover::turns_over;
pub use self::window::{Contents, Counted, WINDOW_MS, container_of_crd, directory_of};
use crate::etcd::request::ReadRange;

/// What live updates may take away from the standby within 60 seconds before the brake pauses them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BrakeLimits {
    /// So many keys are always allowed; 0: any number is.
    pub keys: u64,
    /// And so many percent of the keys that the standby has below the synchronized prefixes.
    pub percent: u64,
    /// A resource with so many objects, or more, may not lose all of them; 0: it may.
    pub resource_keys: u64,
    /// A CRD that has objects may not go.
    pub crd: bool,
}

impl BrakeLimits {
    /// Unless the operator sets others.
    pub const DEFAULT: BrakeLimits = BrakeLimits { keys: 1_000, percent: 5, resource_keys: 20, crd: true };

    /// Nothing is stopped.
    pub const OFF: BrakeLimits = BrakeLimits { keys: 0, percent: 0, resource_keys: 0, crd: false };

    /// Whether nothing is stopped.
    pub fn is_off(&self) -> bool {
        self.keys == 0 && self.resource_keys == 0 && !self.crd
    }
}

/// A read of the standby that the brake waits for.
#[derive(Clone, Debug)]
pub struct Query {
    /// What its answer is for.
    pub about: About,
    /// The read, to be made again with fewer keys when the answer is too large.
    pub request: ReadRange,
}

/// What the brake must know of the standby.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum About {
    /// The Namespace or CRD that is to go, as the standby has it.
    Container,
    /// The next resource that the standby has.
    Resources,
    /// What it has in the Namespace, or of the CRD's kind.
    Contents,
    /// What is left of the resource in this directory.
    Rest(Bytes),
    /// How many keys it has.
    Size,
}

//! The steps. Each looks first whether it is done already, and tells what it saw.

mod compare;
mod drain;
mod fence;
mod port;
mod promote;
mod writers;

pub use compare::compare;
pub use drain::drain;
pub use fence::{fence_primary, unfence_primary};
pub use port::client_port;
pub use promote::{promote_drained, promote_lost};
pub use writers::stop_writers;

//! Both clusters of a link: its record in the standby, the exact comparison, and how fast it may read.

pub mod compare;
pub mod headroom;
pub mod pace;
pub mod pair;
mod prefixes;
pub mod record;
mod sample;

pub use sample::{ENCRYPTED, Wanted, resource};

//! The comparison of both clusters: what differs and how, what a copy would do, and which conflicts it would meet.

pub mod check;
pub mod conflicts;
pub mod drift;
pub mod plan;

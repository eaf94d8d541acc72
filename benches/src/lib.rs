//! What the measurements share: their data, what the system knows of a process, their tables.

pub mod data;
pub mod measure;
pub mod table;

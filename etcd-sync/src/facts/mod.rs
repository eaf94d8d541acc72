//! What is read of both clusters before anything begins: a session's facts, the preflight's, and what an API server tells.

pub mod apiserver;
pub mod comparison;
pub mod history;
pub mod identity;
pub mod preflight;
pub mod start;

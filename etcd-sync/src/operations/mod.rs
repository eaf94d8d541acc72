//! What the operator's commands do to clusters, name servers and files: the executor of journaled runs, its steps, rejoin,
//! the drill, and the gathering of facts before them.

pub mod accept;
pub mod dns;
pub mod drill;
pub mod procedure;
pub mod readiness;
pub mod rejoin;
pub mod saved_file;
pub mod saved_values;
mod shell;

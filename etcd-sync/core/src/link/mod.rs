//! One link between a primary and a standby: its two sides, its record in the standby, roles, and who wrote what.

pub mod fence;
pub mod history;
pub mod lag;
pub mod members;
pub mod overlap;
pub mod provenance;
pub mod question;
pub mod rejoining;
pub mod role;
pub mod side;
pub mod state;
pub mod too_large;

//! Real Kubernetes control planes: kube-apiserver and kube-controller-manager over an etcd of the harness. No nodes, but those that kwok
//! plays.
//!
//! Every method takes `&self`, as with [`crate::etcd::Cluster`]: a test can stop a program while a load runs.

mod api;
mod audit;
mod files;
mod kinds;
mod kwok;
pub mod load;
pub mod objects;
mod options;
mod pair;
mod plane;
pub mod pod;

pub use api::{Answer, Api, collection, path};
pub use audit::{AuditEvent, GARBAGE_COLLECTOR};
pub use kinds::{Identity, Kind, etcd_key};
pub use kwok::{Kwok, NODE, STUCK};
pub use options::PlaneOptions;
pub use pair::{KubePair, PairOptions};
pub use plane::ControlPlane;

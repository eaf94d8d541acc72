//! Runs the real programs against real etcds: clusters with faults, the daemon as a process, data as a management
//! cluster holds it, and exact comparisons. Values of keys never reach a message of this crate.

pub mod bind;
pub mod certs;
pub mod client;
pub mod compare;
pub mod daemon;
pub mod data;
pub mod docs;
pub mod etcd;
pub mod exact;
pub mod exposition;
pub mod http;
pub mod kms_plugin;
pub mod kube;
pub mod link;
pub mod load;
pub mod ports;
pub mod process;
pub mod saved_keys;
pub mod soak;
pub mod terminal;
pub mod tools;
pub mod toxiproxy;
pub mod transcript;
pub mod virtual_ip;

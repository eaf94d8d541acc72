//! Real control planes on both sides of the link, with kube-controller-manager running on the standby all the time.
//!
//! One program: pairs of control planes mostly wait, so two run at once, and that limit holds within a program.
//!
//! | variable | what | default |
//! |---|---|---|
//! | `ETCD_SYNC_TEST_SETTLE` | seconds that the standby's controllers get after a sync | 60 |
//! | `ETCD_SYNC_TEST_LOAD` | seconds of random load | 60 |
//! | `ETCD_SYNC_TEST_SEED` | the seed of that load | the time |

mod crds;
mod drill;
mod encryption;
mod failback;
mod fixture;
mod harness;
mod healing;
mod kill;
mod lease;
mod load;
mod namespaces;
mod owners;
mod prune;
mod readiness;
mod restart;
mod service;
mod untouched;
mod versions;
mod workloads;

use std::time::Duration;

use anyhow::{Context, Result};

/// What the standby's controllers get after a sync, to do what they will.
fn settle() -> Result<Duration> {
    seconds("ETCD_SYNC_TEST_SETTLE", 60)
}

fn seconds(variable: &str, default: u64) -> Result<Duration> {
    let seconds = match std::env::var(variable) {
        Ok(text) => text.parse().with_context(|| format!("{variable} must be whole seconds"))?,
        Err(_) => default,
    };
    Ok(Duration::from_secs(seconds))
}

//! Free loopback ports.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{LazyLock, Mutex};

use anyhow::{Result, bail};

/// Below the range Linux takes the ports of outgoing connections from (32768 and up). A killed member comes back on its
/// port, and inside that range another connection may hold it by then; worse, a client that keeps dialling a dead
/// loopback port there can in the end connect to itself.
const CANDIDATES: std::ops::Range<u16> = 20_000..32_000;

/// Ports this process has given out. Tests run as threads of one process, so they never get the same port.
static GIVEN: LazyLock<Mutex<HashSet<u16>>> = LazyLock::new(Mutex::default);

/// Finds `count` loopback ports that nobody listens on and that were not given out to another test of this process.
/// Another process can still take one before it is used: whoever starts a server retries with new ports.
pub fn free(count: usize) -> Result<Vec<u16>> {
    let span = u64::from(CANDIDATES.end - CANDIDATES.start);
    let first = RandomState::new().hash_one(std::process::id()) % span;
    let mut given = GIVEN.lock().expect("no panic while the lock is held");
    let mut found = Vec::with_capacity(count);
    for step in 0..span {
        if found.len() == count {
            break;
        }
        let port = CANDIDATES.start + ((first + step) % span) as u16;
        if !given.contains(&port) && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            found.push(port);
        }
    }
    if found.len() < count {
        bail!("no {count} free loopback ports in {CANDIDATES:?}");
    }
    given.extend(&found);
    Ok(found)
}

/// Gives ports back, for a later [`free`].
pub fn release(ports: impl IntoIterator<Item = u16>) {
    // Called from drops: a poisoned lock must not turn a failing test into an abort.
    let Ok(mut given) = GIVEN.lock() else { return };
    for port in ports {
        given.remove(&port);
    }
}

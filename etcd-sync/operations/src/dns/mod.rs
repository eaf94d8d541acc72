//! The name that users reach the platform by: what it must point at, what name servers say, and the change. No packets here.

mod change;
mod judge;
mod key_file;
mod name;
mod rejected;
mod report;
mod resolv_conf;
mod update;

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use serde::Serialize;

pub use change::{Change, Way};
pub use judge::{Judgement, Verdict};
pub use key_file::{Algorithm, KEY_FILE_MAX, KeyFileError, TsigKey};
pub use name::{BadName, below, name, parents};
pub use rejected::Rejected;
pub use report::{Line, Mark, Report};
pub use resolv_conf::nameservers;
pub use update::{Expect, InTheWay, NotInZone, Update};

/// The port that name servers listen on unless told otherwise.
pub const PORT: u16 = 53;

/// A name server, as people name it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NameServer {
    /// A name, or an address without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
}

/// What a name is to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The name as [`name`] gives it: lower case, no dot at its end.
    pub name: String,
    /// Every address it is to have; it is to have no other.
    pub addresses: BTreeSet<IpAddr>,
    /// How long others may keep an answer, in seconds.
    pub ttl_s: u32,
}

/// A kind of address, with a record type of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// IPv4: `A`.
    V4,
    /// IPv6: `AAAA`.
    V6,
}

/// What kind of server answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// It has the zone itself.
    Authoritative,
    /// It asks others and remembers their answers.
    Resolver,
}

/// What one server says about the name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The server, for people: a host and its port, or a host and the address that answered.
    pub server: String,
    /// What it is to us.
    pub kind: Kind,
    /// Its word.
    pub said: Said,
}

/// A server's word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// It answered; the name may have no address all the same.
    Records(Records),
    /// No answer that says anything, and why.
    Failed(String),
}

/// What a name has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Records {
    /// Its addresses, those behind an alias included.
    pub addresses: BTreeSet<IpAddr>,
    /// How long the answer about each family, in the order of [`Family::ALL`], may be kept: of its records, or of the word that
    /// there are none. Seconds.
    pub ttls_s: [u32; 2],
    /// The name is an alias (CNAME) of this one.
    pub alias: Option<String>,
    /// The server has the zone itself: the answer does not age.
    pub authoritative: bool,
}

impl fmt::Display for NameServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let NameServer { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

impl Family {
    /// Both.
    pub const ALL: [Family; 2] = [Family::V4, Family::V6];

    /// The type of its records.
    pub fn record(self) -> &'static str {
        match self {
            Family::V4 => "A",
            Family::V6 => "AAAA",
        }
    }

    /// Whether an address is of it.
    pub fn has(self, address: &IpAddr) -> bool {
        address.is_ipv4() == (self == Family::V4)
    }

    /// Those of it.
    pub fn of(self, addresses: &BTreeSet<IpAddr>) -> BTreeSet<IpAddr> {
        addresses.iter().filter(|address| self.has(address)).copied().collect()
    }
}

impl Kind {
    /// The name, as in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Authoritative => "authoritative",
            Kind::Resolver => "resolver",
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {}", self.name, list(&self.addresses))
    }
}

impl Records {
    /// How long the addresses may be kept, the longest of them; of the word that there are none if there are none. Seconds.
    pub fn ttl_s(&self) -> u32 {
        let present = self.of_families(|family| !family.of(&self.addresses).is_empty());
        present.or_else(|| self.of_families(|_| true)).unwrap_or(0)
    }

    /// How long what differs from the target may be kept. Seconds.
    pub fn differing_ttl_s(&self, target: &Target) -> Option<u32> {
        self.of_families(|family| family.of(&self.addresses) != family.of(&target.addresses))
    }

    fn of_families(&self, wanted: impl Fn(Family) -> bool) -> Option<u32> {
        Family::ALL.into_iter().zip(self.ttls_s).filter(|(family, _)| wanted(*family)).map(|(_, ttl_s)| ttl_s).max()
    }
}

/// Addresses for people; `no address` when there is none.
pub fn list(addresses: &BTreeSet<IpAddr>) -> String {
    if addresses.is_empty() {
        return "no address".to_owned();
    }
    addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(", ")
}

/// Seconds for people, as in `4m 10s`.
pub fn seconds(seconds: u32) -> String {
    humantime::format_duration(std::time::Duration::from_secs(seconds.into())).to_string()
}

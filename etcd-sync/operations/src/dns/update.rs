//! A change by RFC 2136: one message that replaces the addresses of a name if they are still what was seen.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::IpAddr;

use super::name::below;
use super::{Family, NameServer, Records, Target, list};

/// What one update message says. A server does all of it or, when an expectation fails, nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    /// The zone, as [`super::name`] gives it.
    pub zone: String,
    /// The name.
    pub name: String,
    /// What must hold.
    pub expects: Vec<Expect>,
    /// The families whose records go.
    pub deletes: Vec<Family>,
    /// The records that come.
    pub adds: BTreeSet<IpAddr>,
    /// Their time to live.
    pub ttl_s: u32,
}

/// A prerequisite (RFC 2136, 2.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expect {
    /// The name has exactly these addresses of their family; never empty.
    Is(Family, BTreeSet<IpAddr>),
    /// The name has no address of this family.
    None(Family),
    /// The name is no alias.
    NoAlias,
}

/// A name that no update of the zone can change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name} does not lie in the zone {zone}: --dns-zone must name the zone that --domain is in")]
pub struct NotInZone {
    /// The name.
    pub name: String,
    /// The zone.
    pub zone: String,
}

/// A record that is not to be changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InTheWay {
    /// An alias has no addresses of its own.
    #[error(
        "{name} is an alias (CNAME) of {alias}, and an alias can have no addresses: change {alias} instead (by hand, or with \
         --domain {alias} and its zone), or delete the CNAME and run this again"
    )]
    Alias {
        /// The name.
        name: String,
        /// What it stands for.
        alias: String,
    },
    /// A name that is to be removed was changed by somebody.
    #[error(
        "{name} says {found}, which this program did not write: it is left as it is; find out who needs it, then delete it by hand"
    )]
    NotOurs {
        /// The name.
        name: String,
        /// Its addresses.
        found: String,
    },
}

impl Update {
    /// From what the zone's server says now to the target: what is right already is expected too, so that the outcome is the
    /// target, whole. `None`: nothing is to be done.
    pub fn to_target(zone: &str, target: &Target, now: &Records) -> Result<Option<Update>, InTheWay> {
        Update::to(zone, target, &target.addresses, now)
    }

    /// Takes the name away, unless it has addresses that the target lacks. `None`: it is gone already.
    pub fn removal(zone: &str, target: &Target, now: &Records) -> Result<Option<Update>, InTheWay> {
        if !now.addresses.is_subset(&target.addresses) {
            return Err(InTheWay::NotOurs { name: target.name.clone(), found: list(&now.addresses) });
        }
        Update::to(zone, target, &BTreeSet::new(), now)
    }

    fn to(zone: &str, target: &Target, wanted: &BTreeSet<IpAddr>, now: &Records) -> Result<Option<Update>, InTheWay> {
        let name = &target.name;
        if *wanted == now.addresses {
            return Ok(None);
        }
        if let Some(alias) = &now.alias {
            return Err(InTheWay::Alias { name: name.clone(), alias: alias.clone() });
        }
        let mut update = Update {
            zone: zone.to_owned(),
            name: name.clone(),
            expects: vec![Expect::NoAlias],
            deletes: Vec::new(),
            adds: BTreeSet::new(),
            ttl_s: target.ttl_s,
        };
        for family in Family::ALL {
            let (old, new) = (family.of(&now.addresses), family.of(wanted));
            if old != new {
                if !old.is_empty() {
                    update.deletes.push(family);
                }
                update.adds.extend(&new);
            }
            update.expects.push(if old.is_empty() { Expect::None(family) } else { Expect::Is(family, old) });
        }
        Ok(Some(update))
    }

    /// The same as lines for `nsupdate`.
    pub fn nsupdate(&self, server: &NameServer) -> String {
        let Update { name, ttl_s, .. } = self;
        let mut text = format!("server {} {}\nzone {}.\n", server.host, server.port, self.zone);
        for expect in &self.expects {
            let _ = match expect {
                Expect::NoAlias => writeln!(text, "prereq nxrrset {name}. CNAME"),
                Expect::None(family) => writeln!(text, "prereq nxrrset {name}. {}", family.record()),
                Expect::Is(family, addresses) => addresses
                    .iter()
                    .try_for_each(|address| writeln!(text, "prereq yxrrset {name}. {} {address}", family.record())),
            };
        }
        for family in &self.deletes {
            let _ = writeln!(text, "update delete {name}. {}", family.record());
        }
        for address in &self.adds {
            let record = if address.is_ipv4() { "A" } else { "AAAA" };
            let _ = writeln!(text, "update add {name}. {ttl_s} {record} {address}");
        }
        text.push_str("send\n");
        text
    }
}

impl Target {
    /// Whether the zone can hold the name.
    pub fn check_zone(&self, zone: &str) -> Result<(), NotInZone> {
        if below(&self.name, zone) {
            return Ok(());
        }
        Err(NotInZone { name: self.name.clone(), zone: zone.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::judge::tests::{addresses, target};
    use super::*;

    fn now(of: &[&str]) -> Records {
        Records { addresses: addresses(of), ttls_s: [30; 2], alias: None, authoritative: true }
    }

    #[test]
    fn one_message_replaces_both_families() {
        let target = target(&["10.0.0.2", "fd00::2"]);
        let update = Update::to_target("example.com", &target, &now(&["10.0.0.1", "10.0.0.9", "fd00::1"])).unwrap();
        assert_eq!(
            update.unwrap().nsupdate(&NameServer { host: "10.1.0.2".into(), port: 53 }),
            "server 10.1.0.2 53\nzone example.com.\n\
             prereq nxrrset global.example.com. CNAME\n\
             prereq yxrrset global.example.com. A 10.0.0.1\n\
             prereq yxrrset global.example.com. A 10.0.0.9\n\
             prereq yxrrset global.example.com. AAAA fd00::1\n\
             update delete global.example.com. A\n\
             update delete global.example.com. AAAA\n\
             update add global.example.com. 60 A 10.0.0.2\n\
             update add global.example.com. 60 AAAA fd00::2\n\
             send\n"
        );
    }

    #[test]
    fn a_family_without_target_is_taken_away() {
        let update = Update::to_target("example.com", &target(&["10.0.0.2"]), &now(&["10.0.0.2", "fd00::1"])).unwrap();
        let update = update.unwrap();
        assert_eq!((update.deletes, update.adds.len()), (vec![Family::V6], 0));
        assert_eq!(update.expects[1], Expect::Is(Family::V4, addresses(&["10.0.0.2"])));
    }

    #[test]
    fn a_new_name_must_still_be_free() {
        let update = Update::to_target("example.com", &target(&["10.0.0.2"]), &now(&[])).unwrap().unwrap();
        assert_eq!(update.expects, [Expect::NoAlias, Expect::None(Family::V4), Expect::None(Family::V6)]);
        assert!(update.deletes.is_empty());
    }

    #[test]
    fn an_alias_is_refused_with_its_name() {
        let records = Records { alias: Some("b.example.com".into()), ..now(&["10.0.0.2"]) };
        let error = Update::to_target("example.com", &target(&["10.0.0.3"]), &records).unwrap_err().to_string();
        assert!(error.starts_with("global.example.com is an alias (CNAME) of b.example.com"), "{error}");
        // One that leads to the target already is in nobody's way.
        assert_eq!(Update::to_target("example.com", &target(&["10.0.0.2"]), &records).unwrap(), None);
    }

    #[test]
    fn a_removal_takes_only_what_is_there() {
        let target = target(&["10.0.0.2"]);
        let update = Update::removal("example.com", &target, &now(&["10.0.0.2"])).unwrap().unwrap();
        assert_eq!((update.deletes, update.adds.len()), (vec![Family::V4], 0));
        assert_eq!(Update::removal("example.com", &target, &now(&[])).unwrap(), None);
        let error = Update::removal("example.com", &target, &now(&["10.0.0.2", "10.0.0.9"])).unwrap_err().to_string();
        assert!(error.contains("10.0.0.2, 10.0.0.9"), "{error}");
    }

    fn some() -> impl Strategy<Value = BTreeSet<IpAddr>> {
        let one = prop_oneof![
            (0..4u8).prop_map(|n| IpAddr::from([10, 0, 0, n])),
            (0..4u16).prop_map(|n| { IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, n]) })
        ];
        proptest::collection::btree_set(one, 0..5)
    }

    proptest! {
        /// A model of a server: expectations hold for what was seen, and applying gives the target.
        #[test]
        fn applying_it_gives_the_target(before in some(), wanted in some()) {
            let target = Target { name: "a.b".into(), addresses: wanted.clone(), ttl_s: 1 };
            let records = Records { addresses: before.clone(), ..Records::default() };
            let Some(update) = Update::to_target("b", &target, &records).unwrap() else {
                prop_assert_eq!(before, wanted);
                return Ok(());
            };
            for expect in &update.expects {
                match expect {
                    Expect::NoAlias => {}
                    Expect::None(family) => prop_assert!(family.of(&before).is_empty()),
                    Expect::Is(family, addresses) => {
                        prop_assert!(!addresses.is_empty());
                        prop_assert_eq!(&family.of(&before), addresses);
                    }
                }
            }
            let kept = before.into_iter().filter(|address| !update.deletes.iter().any(|family| family.has(address)));
            let after: BTreeSet<IpAddr> = kept.chain(update.adds).collect();
            prop_assert_eq!(after, wanted);
        }
    }
}

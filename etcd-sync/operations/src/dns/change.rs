//! The change of a name in words, complete enough to be done by hand.

use std::fmt::Write;
use std::net::IpAddr;

use serde_json::{Value, json};

use super::{Family, NameServer, Records, Target, Update, list, seconds};

use crate::text::{redacted_command, wrap};

/// How the name is changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// With an update message (RFC 2136).
    Update {
        /// The zone's primary server.
        server: NameServer,
        /// The zone.
        zone: String,
        /// The name of the key that signs it.
        key: Option<String>,
        /// The file with the key.
        key_file: Option<String>,
    },
    /// With a command of the operator's.
    Command(String),
    /// By people.
    Manual,
}

/// The change.
#[derive(Clone, Debug)]
pub struct Change<'a> {
    /// What the name is to say.
    pub target: &'a Target,
    /// How that is done.
    pub way: &'a Way,
    /// What the zone's server says now, if it was asked.
    pub now: Option<&'a Records>,
}

impl Change<'_> {
    /// For people, at 80 columns, with what to type to do it by hand.
    pub fn text(&self) -> String {
        let Target { name, addresses, ttl_s } = self.target;
        let mut text = labelled("Change: ", &format!("{name} must point at {} and nothing else.", list(addresses)));
        if let Some(now) = self.now {
            text.push_str(&labelled("Now:    ", &said(now)));
        }
        text.push_str("Records afterwards:\n");
        for address in addresses {
            let _ = writeln!(text, "  {name}. {ttl_s} IN {} {address}", record(address));
        }
        for family in Family::ALL.into_iter().filter(|family| family.of(addresses).is_empty()) {
            let _ = writeln!(text, "  (no {} record)", family.record());
        }
        match self.way {
            Way::Update { server, key, .. } => {
                let signed =
                    key.as_ref().map_or("not signed".to_owned(), |key| format!("signed with the TSIG key {key}"));
                let how =
                    format!("one update message (RFC 2136) to {server}, {signed}; all of it is done, or nothing.");
                text.push_str(&labelled("How:    ", &how));
            }
            Way::Command(command) => {
                text.push_str(&labelled(
                    "How:    ",
                    &format!("your command {} (--dns-command)", redacted_command(command)),
                ));
            }
            Way::Manual => {
                let how = "you, where the zone is kept (neither --dns-server nor --dns-command is given). This command changes nothing: \
                           it waits until the name servers say so.";
                text.push_str(&labelled("How:    ", how));
            }
        }
        text.push_str("By hand, where the zone takes updates:\n");
        // Not indented: the shell ends its input only at a line that begins so.
        text + &self.script()
    }

    /// A shell command that does it: `nsupdate` with its input.
    pub fn script(&self) -> String {
        let (options, lines) = match self.way {
            Way::Update { server, zone, key_file, .. } => {
                let options = key_file.as_ref().map_or(String::new(), |file| format!(" -k {file}"));
                let update = self.now.and_then(|now| Update::to_target(zone, self.target, now).ok().flatten());
                let lines = update.map_or_else(
                    || format!("server {} {}\nzone {zone}.\n{}", server.host, server.port, self.blind()),
                    |update| update.nsupdate(server),
                );
                (options, lines)
            }
            _ => (" -k KEYFILE".to_owned(), self.blind()),
        };
        format!("nsupdate{options} <<'END'\n{lines}END\n")
    }

    /// Without knowing what the name says now.
    fn blind(&self) -> String {
        let Target { name, addresses, ttl_s } = self.target;
        let mut text = String::new();
        for family in Family::ALL {
            let _ = writeln!(text, "update delete {name}. {}", family.record());
        }
        for address in addresses {
            let _ = writeln!(text, "update add {name}. {ttl_s} {} {address}", record(address));
        }
        text.push_str("send\n");
        text
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let way = match self.way {
            Way::Update { server, zone, key, .. } => {
                json!({ "kind": "update", "server": server.to_string(), "zone": zone, "tsigKey": key })
            }
            Way::Command(command) => json!({ "kind": "command", "command": redacted_command(command) }),
            Way::Manual => json!({ "kind": "manual" }),
        };
        json!({
            "name": self.target.name,
            "addresses": self.target.addresses,
            "ttlSeconds": self.target.ttl_s,
            "way": way,
            "now": self.now.map(|now| json!({ "addresses": now.addresses, "ttlSeconds": now.ttl_s(), "alias": now.alias })),
            "script": self.script(),
        })
    }
}

/// Behind a word of eight columns.
fn labelled(label: &str, text: &str) -> String {
    wrap(text, label, "        ")
}

fn record(address: &IpAddr) -> &'static str {
    if address.is_ipv4() { "A" } else { "AAAA" }
}

/// What a name has, for people.
pub(super) fn said(records: &Records) -> String {
    let addresses = list(&records.addresses);
    match &records.alias {
        Some(alias) if records.addresses.is_empty() => format!("an alias of {alias}, whose addresses it does not have"),
        Some(alias) => format!("{addresses}, as an alias of {alias} (TTL {})", seconds(records.ttl_s())),
        None if records.addresses.is_empty() => addresses,
        None => format!("{addresses} (TTL {})", seconds(records.ttl_s())),
    }
}

#[cfg(test)]
mod tests {
    use super::super::judge::tests::{addresses, target};
    use super::*;

    #[test]
    fn an_update_in_words() {
        let target = target(&["10.0.0.2", "fd00::2"]);
        let way = Way::Update {
            server: NameServer { host: "10.1.0.2".into(), port: 53 },
            zone: "example.com".into(),
            key: Some("ddns".into()),
            key_file: Some("/etc/etcd-sync/ddns.key".into()),
        };
        let now = Records { addresses: addresses(&["10.0.0.1"]), ttls_s: [300; 2], alias: None, authoritative: true };
        let change = Change { target: &target, way: &way, now: Some(&now) };
        assert_eq!(
            change.text(),
            "\
Change: global.example.com must point at 10.0.0.2, fd00::2 and nothing else.
Now:    10.0.0.1 (TTL 5m)
Records afterwards:
  global.example.com. 60 IN A 10.0.0.2
  global.example.com. 60 IN AAAA fd00::2
How:    one update message (RFC 2136) to 10.1.0.2:53, signed with the TSIG key
        ddns; all of it is done, or nothing.
By hand, where the zone takes updates:
nsupdate -k /etc/etcd-sync/ddns.key <<'END'
server 10.1.0.2 53
zone example.com.
prereq nxrrset global.example.com. CNAME
prereq yxrrset global.example.com. A 10.0.0.1
prereq nxrrset global.example.com. AAAA
update delete global.example.com. A
update add global.example.com. 60 A 10.0.0.2
update add global.example.com. 60 AAAA fd00::2
send
END
"
        );
    }

    #[test]
    fn a_change_for_people_in_words() {
        let target = target(&["10.0.0.2"]);
        let change = Change { target: &target, way: &Way::Manual, now: None };
        assert_eq!(
            change.text(),
            "\
Change: global.example.com must point at 10.0.0.2 and nothing else.
Records afterwards:
  global.example.com. 60 IN A 10.0.0.2
  (no AAAA record)
How:    you, where the zone is kept (neither --dns-server nor --dns-command is
        given). This command changes nothing: it waits until the name servers
        say so.
By hand, where the zone takes updates:
nsupdate -k KEYFILE <<'END'
update delete global.example.com. A
update delete global.example.com. AAAA
update add global.example.com. 60 A 10.0.0.2
send
END
"
        );
        let command = Way::Command("/opt/dns.sh \"$@\"".into());
        let change = Change { way: &command, ..change };
        assert!(change.text().contains("How:    your command `/opt/dns.sh …` ("), "{}", change.text());
        assert_eq!(change.json()["way"]["kind"], "command");
    }
}

//! What a server's refusal of an update means for the operator (RFC 2136, 2.2; RFC 8945, 3 and 5.3).

/// Why a server did not do an update, and what to do. `key` is the name of the TSIG key, if one signed it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// TSIG error BADKEY.
    #[error(
        "{server} does not know the TSIG key {key} with that algorithm (BADKEY): compare name and algorithm in \
         --dns-tsig-key-file with the key statement in that server's configuration, or check that --dns-server is the right one"
    )]
    UnknownKey {
        /// The server.
        server: String,
        /// The key.
        key: String,
    },
    /// TSIG error BADSIG.
    #[error(
        "{server} knows the TSIG key {key}, but with another secret (BADSIG): copy the key statement of that server's \
         configuration into --dns-tsig-key-file again"
    )]
    WrongSecret {
        /// The server.
        server: String,
        /// The key.
        key: String,
    },
    /// TSIG error BADTIME.
    #[error(
        "the clocks of this machine and of {server} are more than five minutes apart (BADTIME): set the clock of the one that is wrong \
         (timedatectl, chronyc tracking), then run this again"
    )]
    Clock {
        /// The server.
        server: String,
    },
    /// NOTAUTH without an error of TSIG, or NOTZONE.
    #[error(
        "{server} does not have the zone {zone} ({code}): --dns-server must be the zone's primary server (the first name of its \
         SOA record), and --dns-zone the zone itself"
    )]
    NotItsZone {
        /// The server.
        server: String,
        /// The zone.
        zone: String,
        /// NOTAUTH or NOTZONE.
        code: &'static str,
    },
    /// REFUSED.
    #[error(
        "{server} refuses to change the zone {zone} {for_key} (REFUSED): allow it there (allow-update or update-policy), or, if \
         the zone is frozen, thaw it (rndc thaw {zone})"
    )]
    Refused {
        /// The server.
        server: String,
        /// The zone.
        zone: String,
        /// `for the TSIG key NAME`, or that none was given.
        for_key: String,
    },
    /// NXRRSET, YXRRSET, NXDOMAIN or YXDOMAIN: an expectation failed.
    #[error("the record was changed by somebody else at the same time ({code}), and was left as it is")]
    Changed {
        /// The code's name.
        code: &'static str,
    },
    /// SERVFAIL.
    #[error(
        "{server} could not write the zone {zone} (SERVFAIL): its log says why; often its directory is not writable or its disk full"
    )]
    Failed {
        /// The server.
        server: String,
        /// The zone.
        zone: String,
    },
    /// NOTIMP.
    #[error(
        "{server} takes no updates at all (NOTIMP): change the record where its zone is kept, or with --dns-command"
    )]
    NoUpdates {
        /// The server.
        server: String,
    },
    /// Anything else.
    #[error("{server} rejects the update with code {code}: its log says why")]
    Other {
        /// The server.
        server: String,
        /// The response code.
        code: u16,
    },
}

impl Rejected {
    /// Reads the codes of a response; `None`: the update is done.
    pub fn from_codes(server: &str, zone: &str, key: Option<&str>, rcode: u16, tsig: Option<u16>) -> Option<Rejected> {
        let server = server.to_owned();
        let zone = zone.to_owned();
        let key_name = key.unwrap_or("(none)").to_owned();
        // The error of TSIG is the better word; the other code is NOTAUTH then.
        Some(match (tsig.unwrap_or(0), rcode) {
            (17, _) | (0, 17) => Rejected::UnknownKey { server, key: key_name },
            (16, _) | (0, 16) => Rejected::WrongSecret { server, key: key_name },
            (18, _) | (0, 18) => Rejected::Clock { server },
            (_, 0) => return None,
            (_, 2) => Rejected::Failed { server, zone },
            (_, 3) => Rejected::Changed { code: "NXDOMAIN" },
            (_, 4) => Rejected::NoUpdates { server },
            (_, 5) => {
                let without = "for updates without a key; is --dns-tsig-key-file missing?".to_owned();
                Rejected::Refused {
                    server,
                    zone,
                    for_key: key.map_or(without, |key| format!("for the TSIG key {key}")),
                }
            }
            (_, 6) => Rejected::Changed { code: "YXDOMAIN" },
            (_, 7) => Rejected::Changed { code: "YXRRSET" },
            (_, 8) => Rejected::Changed { code: "NXRRSET" },
            (_, 9) => Rejected::NotItsZone { server, zone, code: "NOTAUTH" },
            (_, 10) => Rejected::NotItsZone { server, zone, code: "NOTZONE" },
            (_, code) => Rejected::Other { server, code },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_says_what_to_do() {
        let text =
            |rcode, tsig| Rejected::from_codes("ns1:53", "example.com", Some("k"), rcode, tsig).unwrap().to_string();
        for (rcode, tsig, part) in [
            (9, Some(17), "does not know the TSIG key k"),
            (9, Some(16), "another secret"),
            (9, Some(18), "clock"),
            (9, None, "must be the zone's primary server"),
            (9, Some(0), "must be the zone's primary server"),
            (10, Some(0), "NOTZONE"),
            (5, None, "REFUSED"),
            (2, None, "its log says why"),
            (4, None, "--dns-command"),
            (8, None, "NXRRSET"),
            (7, None, "somebody else"),
            (99, None, "code 99"),
        ] {
            assert!(text(rcode, tsig).contains(part), "{rcode} {tsig:?}: {}", text(rcode, tsig));
        }
        assert_eq!(Rejected::from_codes("s", "z", None, 0, None), None);
        let unsigned = Rejected::from_codes("s", "z", None, 5, None).unwrap().to_string();
        assert!(unsigned.contains("is --dns-tsig-key-file missing?"), "{unsigned}");
    }
}

//! What `nslookup` prints, in BIND's form and in both of busybox's.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::Serialize;

/// What one run of `nslookup NAME` said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Nslookup {
    /// The name server that was asked, without its port.
    pub server: Option<IpAddr>,
    /// The addresses of the name.
    pub addresses: BTreeSet<IpAddr>,
    /// What it complains about. There may be addresses too: a name has one of A and AAAA as a rule.
    pub trouble: Option<Trouble>,
}

/// The pod to ask in, written `NAMESPACE/KIND/NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodRef {
    /// Its namespace.
    pub namespace: String,
    /// What `name` names.
    pub kind: PodKind,
    /// The pod's name, or its owner's: one of its ready pods is taken then.
    pub name: String,
}

/// What can name a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PodKind {
    /// The pod itself.
    Pod,
    /// A Deployment.
    Deployment,
    /// A StatefulSet.
    StatefulSet,
    /// A DaemonSet.
    DaemonSet,
}

impl PodKind {
    /// The plural, as in paths.
    pub fn plural(self) -> &'static str {
        match self {
            PodKind::Pod => "pods",
            PodKind::Deployment => "deployments",
            PodKind::StatefulSet => "statefulsets",
            PodKind::DaemonSet => "daemonsets",
        }
    }
}

impl FromStr for PodRef {
    type Err = String;

    fn from_str(text: &str) -> Result<PodRef, String> {
        let parts: Vec<&str> = text.split('/').collect();
        let kind = match parts.get(1).copied().unwrap_or_default() {
            "pods" | "pod" => Some(PodKind::Pod),
            "deployments" | "deployment" => Some(PodKind::Deployment),
            "statefulsets" | "statefulset" => Some(PodKind::StatefulSet),
            "daemonsets" | "daemonset" => Some(PodKind::DaemonSet),
            _ => None,
        };
        match (parts.as_slice(), kind) {
            ([namespace, _, name], Some(kind)) if !namespace.is_empty() && !name.is_empty() => {
                Ok(PodRef { namespace: (*namespace).to_owned(), kind, name: (*name).to_owned() })
            }
            _ => Err("expected NAMESPACE/KIND/NAME with the kind pods, deployments, statefulsets or daemonsets".into()),
        }
    }
}

impl fmt::Display for PodRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.namespace, self.kind.plural(), self.name)
    }
}

/// Why a name has no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trouble {
    /// The name has no record of the type asked for.
    NoAnswer,
    /// There is no such name.
    NoSuchName,
    /// The server is in trouble, or refuses.
    ServerFailed,
    /// No server answers.
    NoServer,
}

impl Trouble {
    /// For people.
    pub fn text(self) -> &'static str {
        match self {
            Trouble::NoAnswer => "the name has no address",
            Trouble::NoSuchName => "there is no such name",
            Trouble::ServerFailed => "the name server failed or refused",
            Trouble::NoServer => "no name server answered",
        }
    }
}

/// Reads everything that `nslookup` printed, on both of its outputs. Lines that say nothing known are passed over.
pub fn parse(text: &str) -> Nslookup {
    let mut found = Nslookup::default();
    // Before the first name the addresses are the server's.
    let mut named = false;
    for line in text.lines().map(str::trim) {
        let (label, value) = line.split_once(':').map_or(("", line), |(label, value)| (label.trim(), value.trim()));
        if label.eq_ignore_ascii_case("name") {
            named = true;
        } else if is_address(label) {
            let address = value.split_whitespace().next().and_then(address);
            match address {
                Some(address) if named => drop(found.addresses.insert(address)),
                Some(address) => found.server = found.server.or(Some(address)),
                None => {}
            }
        } else if let Some(trouble) = trouble(line) {
            found.trouble = found.trouble.max(Some(trouble));
        }
    }
    found
}

/// `Address`, `Addresses`, and busybox's `Address 1`.
fn is_address(label: &str) -> bool {
    let rest = label.strip_prefix("Address").map(|rest| rest.strip_prefix("es").unwrap_or(rest));
    rest.is_some_and(|rest| rest.trim().bytes().all(|byte| byte.is_ascii_digit()))
}

/// An address, perhaps with a port: BIND writes `10.0.0.1#53`, busybox `10.0.0.1:53` or `[::1]:53`.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.split_once('#').map_or(text, |(address, _)| address);
    // The zone of a link-local address says nothing outside of its host.
    let bare = |text: &str| text.split_once('%').map_or(text, |(address, _)| address).parse().ok();
    let bracketed = || bare(text.strip_prefix('[')?.split_once(']')?.0);
    let with_port = || text.rsplit_once(':').and_then(|(address, _)| address.parse().ok().filter(IpAddr::is_ipv4));
    bare(text).or_else(bracketed).or_else(with_port)
}

fn trouble(line: &str) -> Option<Trouble> {
    let line = line.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| line.contains(word));
    if says(&["no servers could be reached", "no response from server", "temporary failure in name resolution"]) {
        Some(Trouble::NoServer)
    } else if says(&["nxdomain", "name does not resolve", "name or service not known"]) {
        Some(Trouble::NoSuchName)
    } else if says(&["no answer"]) {
        Some(Trouble::NoAnswer)
    } else if says(&["can't find", "servfail", "refused"]) {
        Some(Trouble::ServerFailed)
    } else if says(&["can't resolve"]) {
        Some(Trouble::NoSuchName)
    } else if says(&["timed out"]) {
        Some(Trouble::NoServer)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(found: &Nslookup) -> Vec<String> {
        found.addresses.iter().map(IpAddr::to_string).collect()
    }

    #[test]
    fn bind_prints_names_with_addresses() {
        let text = "Server:\t\t10.96.0.10\nAddress:\t10.96.0.10#53\n\nNon-authoritative answer:\nacp.example.com\tcanonical name = vip.example.com.\n\
                    Name:\tvip.example.com\nAddress: 192.0.2.10\nName:\tvip.example.com\nAddress: 2001:db8::10\n\n";
        let found = parse(text);
        assert_eq!(addresses(&found), ["192.0.2.10", "2001:db8::10"]);
        assert_eq!((found.server, found.trouble), (Some("10.96.0.10".parse().unwrap()), None));
        let dual = parse("Server:\t\tfd00::10\nAddress:\tfd00::10#53\n\nName:\ta\nAddress: 2001:db8::1\n");
        assert_eq!(
            (dual.server, addresses(&dual)),
            (Some("fd00::10".parse().unwrap()), vec!["2001:db8::1".to_owned()])
        );
    }

    #[test]
    fn busybox_prints_two_forms() {
        let old = "Server:    10.96.0.10\nAddress 1: 10.96.0.10 kube-dns.kube-system.svc.cluster.local\n\n\
                   Name:      acp.example.com\nAddress 1: 192.0.2.10 vip.example.com\nAddress 2: 2001:db8::10\n";
        assert_eq!(addresses(&parse(old)), ["192.0.2.10", "2001:db8::10"]);
        let new = "Server:\t\t10.96.0.10\nAddress:\t10.96.0.10:53\n\nName:\tacp.example.com\nAddress: 192.0.2.10\n\n\
                   *** Can't find acp.example.com: No answer\n\n";
        let found = parse(new);
        assert_eq!((addresses(&found), found.trouble), (vec!["192.0.2.10".to_owned()], Some(Trouble::NoAnswer)));
        let bracketed = parse("Server:\t\t[fd00::10]:53\nAddress:\t[fd00::10]:53\n\nName:\ta\nAddress: 192.0.2.1\n");
        assert_eq!((bracketed.server, addresses(&bracketed).len()), (Some("fd00::10".parse().unwrap()), 1));
    }

    #[test]
    fn every_trouble_has_its_name() {
        for (text, expected) in [
            ("Server:\t\t10.0.0.1\nAddress:\t10.0.0.1#53\n\n** server can't find a.b: NXDOMAIN\n", Trouble::NoSuchName),
            ("** server can't find a.b: SERVFAIL\n", Trouble::ServerFailed),
            ("** server can't find a.b: REFUSED\n", Trouble::ServerFailed),
            ("*** Can't find a.b: No answer\n", Trouble::NoAnswer),
            (
                "nslookup: can't resolve '(null)': Name does not resolve\n\nnslookup: can't resolve 'a.b'\n",
                Trouble::NoSuchName,
            ),
            (";; connection timed out; no servers could be reached\n\n", Trouble::NoServer),
            (";; communications error to 10.0.0.1#53: timed out\n;; no servers could be reached\n", Trouble::NoServer),
            (
                "nslookup: write to '10.0.0.1': Connection refused\n;; connection timed out; no servers could be reached\n",
                Trouble::NoServer,
            ),
        ] {
            let found = parse(text);
            assert_eq!((found.trouble, addresses(&found)), (Some(expected), vec![]), "{text}");
        }
    }

    #[test]
    fn a_pod_is_named_by_three_parts() {
        let sentry: PodRef = "cpaas-system/deployment/sentry".parse().unwrap();
        assert_eq!(
            (sentry.kind, sentry.to_string().as_str()),
            (PodKind::Deployment, "cpaas-system/deployments/sentry")
        );
        for bad in ["", "sentry", "a/deployments", "a/jobs/b", "a/pods/b/c", "/pods/b", "a/pods/"] {
            assert!(bad.parse::<PodRef>().is_err(), "{bad}");
        }
    }

    #[test]
    fn nothing_known_is_nothing_found() {
        for text in [
            "",
            "\n\n",
            "Address: 10.0.0.1",
            "Name: a\nAddress: what",
            "Name:\nAddress 1:",
            "Server: x\nAddress: [::1",
            "Address: a#b#c",
        ] {
            assert!(parse(text).addresses.is_empty(), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read(text in "(Name:|Address( 1)?:|Server:|[#%:\\[\\]0-9a-f. \n]|\\PC){0,40}") {
            parse(&text);
        }
    }
}

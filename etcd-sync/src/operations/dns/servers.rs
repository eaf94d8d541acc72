//! Servers queried: the servers of the zone, and the resolvers.

use std::net::SocketAddr;

use etcd_sync_operations::dns::{Answer, Family, Kind, NameServer, PORT, Records, Said, nameservers, parents};
use futures_util::future::join_all;
use hickory_proto::op::Message;
use hickory_proto::rr::RecordType;
use tokio::net::lookup_host;
use tokio::time::timeout;

use super::{message, wire};

const RESOLV_CONF: &str = "/etc/resolv.conf";

/// A server that can be asked.
#[derive(Clone, Debug)]
pub struct Server {
    /// How people call it.
    pub label: String,
    /// Its addresses; the first that answers does. Or why there are none.
    pub addresses: Result<Vec<SocketAddr>, String>,
}

impl Server {
    /// One that people named.
    pub async fn named(server: &NameServer) -> Server {
        let found = timeout(wire::TIMEOUT, lookup_host((server.host.as_str(), server.port))).await;
        let addresses = match found {
            Ok(Ok(addresses)) => Ok(addresses.collect()),
            Ok(Err(error)) => Err(format!("its address is not found: {error}")),
            Err(_) => Err("its address is not found: this machine's own resolver does not answer".to_owned()),
        };
        Server { label: server.to_string(), addresses }
    }

    /// Asks for a name's addresses.
    pub async fn ask(&self, kind: Kind, name: &str) -> Answer {
        let (label, said) = match self.records(kind, name).await {
            Ok((address, records)) => (self.label_with(address), Said::Records(records)),
            Err(why) => (self.label.clone(), Said::Failed(why)),
        };
        Answer { server: label, kind, said }
    }

    /// What it has for a name, and which of its addresses said so.
    ///
    /// # Errors
    /// No answer that says anything, in words.
    pub async fn records(&self, kind: Kind, name: &str) -> Result<(SocketAddr, Records), String> {
        let name = message::fqdn(name)?;
        let recursive = kind == Kind::Resolver;
        let both = Family::ALL.map(|family| message::question(&name, message::record_type(family), recursive));
        let (address, answers) = self.answers(&both).await?;
        let records = message::records(&name, &answers)?;
        if kind == Kind::Authoritative && !records.authoritative {
            return Err("it does not have the zone itself: its answer is not authoritative".to_owned());
        }
        Ok((address, records))
    }

    /// Both answers of the first address that gives them.
    async fn answers(&self, questions: &[Message; 2]) -> Result<(SocketAddr, [Message; 2]), String> {
        let mut why = "it has no address".to_owned();
        for address in self.addresses.as_ref().map_err(Clone::clone)? {
            let [v4, v6] = questions;
            match tokio::try_join!(wire::ask(*address, v4), wire::ask(*address, v6)) {
                Ok((v4, v6)) => return Ok((*address, [v4, v6])),
                Err(error) => why = error.to_string(),
            }
        }
        Err(why)
    }

    async fn answer(&self, question: &Message) -> Option<Message> {
        for address in self.addresses.as_ref().ok()? {
            if let Ok(answer) = wire::ask(*address, question).await {
                return Some(answer);
            }
        }
        None
    }

    /// A name alone does not say which machine answered.
    fn label_with(&self, address: SocketAddr) -> String {
        let known = address.to_string();
        if self.label == known { known } else { format!("{} ({known})", self.label) }
    }
}

/// The resolvers: those given, else this machine's.
///
/// # Errors
/// There are none, in words.
pub async fn resolvers(given: &[NameServer]) -> Result<Vec<Server>, String> {
    let found = match given {
        [] => {
            let text = std::fs::read_to_string(RESOLV_CONF)
                .map_err(|error| format!("cannot read {RESOLV_CONF}: {error}: give --dns-resolver"))?;
            nameservers(&text).into_iter().map(|host| NameServer { host, port: PORT }).collect()
        }
        given => given.to_vec(),
    };
    if found.is_empty() {
        return Err(format!("{RESOLV_CONF} names no resolver: give --dns-resolver"));
    }
    Ok(join_all(found.iter().map(Server::named)).await)
}

/// The servers that the zone's NS records name, as the resolvers tell. `zone`: where it is known.
///
/// # Errors
/// They are not found, in words.
pub async fn of_zone(name: &str, zone: Option<&str>, resolvers: &[Server]) -> Result<Vec<Server>, String> {
    let mut zones: Vec<&str> = zone.into_iter().collect();
    if zones.is_empty() {
        zones.extend(parents(name));
    }
    for zone in zones {
        let zone_name = message::fqdn(zone)?;
        for resolver in resolvers {
            let Some(answer) = resolver.answer(&message::question(&zone_name, RecordType::NS, true)).await else {
                continue;
            };
            let servers = message::name_servers(&zone_name, &answer);
            if !servers.is_empty() {
                return Ok(join_all(servers.iter().map(|server| through(server, resolvers))).await);
            }
            // One who answers knows: the next one would say the same.
            break;
        }
    }
    Err("the resolvers name no NS records for its zone: give --dns-authoritative".to_owned())
}

/// A server whose addresses the resolvers tell.
async fn through(server: &str, resolvers: &[Server]) -> Server {
    let mut addresses = Err("the resolvers know no address of it".to_owned());
    for resolver in resolvers {
        if let Ok((_, records)) = resolver.records(Kind::Resolver, server).await
            && !records.addresses.is_empty()
        {
            addresses = Ok(records.addresses.into_iter().map(|address| SocketAddr::new(address, PORT)).collect());
            break;
        }
    }
    Server { label: server.to_owned(), addresses }
}

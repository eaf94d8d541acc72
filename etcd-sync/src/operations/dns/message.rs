//! DNS messages: what is asked and understood.

use std::net::IpAddr;

use etcd_sync_operations::dns::{Algorithm, Expect, Family, Records, TsigKey, Update};
use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::tsig::TsigAlgorithm;
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType, TSigner};

/// Seconds that the two clocks may differ (RFC 8945, 10).
const FUDGE_S: u16 = 300;

/// A name of ours, complete.
///
/// # Errors
/// It is no name for a message.
pub fn fqdn(name: &str) -> Result<Name, String> {
    let mut name = Name::from_ascii(name).map_err(|error| error.to_string())?;
    name.set_fqdn(true);
    Ok(name)
}

/// A question. `recursive`: others may be asked for the answer.
pub fn question(name: &Name, record: RecordType, recursive: bool) -> Message {
    let mut message = Message::query();
    message.metadata.recursion_desired = recursive;
    message.add_query(Query::query(name.clone(), record));
    message
}

/// The record type of a family.
pub fn record_type(family: Family) -> RecordType {
    match family {
        Family::V4 => RecordType::A,
        Family::V6 => RecordType::AAAA,
    }
}

/// What the answers about both families, in the order of [`Family::ALL`], say about a name, aliases followed.
///
/// # Errors
/// A response code that says nothing about the name, in words.
pub fn records(name: &Name, answers: &[Message; 2]) -> Result<Records, String> {
    let mut records =
        Records { authoritative: answers.iter().all(|answer| answer.authoritative), ..Records::default() };
    for (at, answer) in answers.iter().enumerate() {
        if !matches!(answer.response_code, ResponseCode::NoError | ResponseCode::NXDomain) {
            return Err(format!("it answers with an error: {}", code_text(answer.response_code)));
        }
        let (owner, mut ttl_s) = owner(name, answer, &mut records);
        let mut found = false;
        for record in answer.answers.iter().filter(|record| record.name == owner) {
            let address: IpAddr = match &record.data {
                RData::A(address) => address.0.into(),
                RData::AAAA(address) => address.0.into(),
                _ => continue,
            };
            found = true;
            ttl_s = ttl_s.min(record.ttl);
            records.addresses.insert(address);
        }
        records.ttls_s[at] = match found {
            true => ttl_s,
            false => negative_ttl_s(answer).min(ttl_s),
        };
    }
    Ok(records)
}

/// Follows the aliases of an answer: the name at their end, and the shortest of their times to live.
fn owner(name: &Name, answer: &Message, records: &mut Records) -> (Name, u32) {
    let (mut owner, mut ttl_s) = (name.clone(), u32::MAX);
    // Each step uses up one record, so a circle ends.
    for _ in 0..answer.answers.len() {
        let alias = answer.answers.iter().find_map(|record| match &record.data {
            RData::CNAME(alias) if record.name == owner => Some((alias.0.clone(), record.ttl)),
            _ => None,
        });
        let Some((alias, alias_ttl_s)) = alias else { break };
        if owner == *name {
            records.alias = Some(plain(&alias));
        }
        (owner, ttl_s) = (alias, ttl_s.min(alias_ttl_s));
    }
    (owner, ttl_s)
}

/// How long the word that there is nothing may be kept (RFC 2308, 5); 0 when it may not.
fn negative_ttl_s(answer: &Message) -> u32 {
    let soa = answer.authorities.iter().find_map(|record| match &record.data {
        RData::SOA(soa) => Some(record.ttl.min(soa.minimum)),
        _ => None,
    });
    soa.unwrap_or(0)
}

/// The names that the records of this type at `name` give.
pub fn name_servers(name: &Name, answer: &Message) -> Vec<String> {
    let names = answer.answers.iter().filter(|record| record.name == *name).filter_map(|record| match &record.data {
        RData::NS(server) => Some(plain(&server.0)),
        _ => None,
    });
    names.collect()
}

/// The update as a message.
///
/// # Errors
/// A name that cannot stand in a message.
pub fn update(update: &Update) -> Result<Message, String> {
    let name = fqdn(&update.name)?;
    let mut message = Message::query();
    message.metadata.message_type = MessageType::Query;
    message.metadata.op_code = OpCode::Update;
    message.metadata.recursion_desired = false;
    message.add_query(Query::query(fqdn(&update.zone)?, RecordType::SOA));
    // The sections of an update lie where a question has answers and authorities (RFC 2136, 2).
    for expect in &update.expects {
        match expect {
            Expect::NoAlias => message.add_answer(bare(&name, RecordType::CNAME, DNSClass::NONE)),
            Expect::None(family) => message.add_answer(bare(&name, record_type(*family), DNSClass::NONE)),
            Expect::Is(_, addresses) => message.add_answers(addresses.iter().map(|address| record(&name, 0, *address))),
        };
    }
    for family in &update.deletes {
        message.add_authority(bare(&name, record_type(*family), DNSClass::ANY));
    }
    message.add_authorities(update.adds.iter().map(|address| record(&name, update.ttl_s, *address)));
    Ok(message)
}

/// What signs with a key.
///
/// # Errors
/// The key cannot be used, in words.
pub fn signer(key: &TsigKey) -> Result<TSigner, String> {
    let algorithm = match key.algorithm {
        Algorithm::HmacSha256 => TsigAlgorithm::HmacSha256,
        Algorithm::HmacSha384 => TsigAlgorithm::HmacSha384,
        Algorithm::HmacSha512 => TsigAlgorithm::HmacSha512,
    };
    TSigner::new(key.secret.to_vec(), algorithm, fqdn(&key.name)?, FUDGE_S).map_err(|error| error.to_string())
}

/// The response code, and the error of TSIG if there is one.
pub fn codes(answer: &Message) -> (u16, Option<u16>) {
    (answer.response_code.into(), answer.signature().and_then(|record| record.data.error).map(u16::from))
}

/// A response code as other tools name it.
fn code_text(code: ResponseCode) -> String {
    match code {
        ResponseCode::FormErr => "FORMERR".into(),
        ResponseCode::ServFail => "SERVFAIL".into(),
        ResponseCode::NotImp => "NOTIMP".into(),
        ResponseCode::Refused => "REFUSED (it does not answer questions of this machine about this name)".into(),
        other => format!("code {}", u16::from(other)),
    }
}

fn record(name: &Name, ttl_s: u32, address: IpAddr) -> Record {
    let data = match address {
        IpAddr::V4(address) => RData::A(address.into()),
        IpAddr::V6(address) => RData::AAAA(address.into()),
    };
    Record::from_rdata(name.clone(), ttl_s, data)
}

/// A record without data; its class says what is meant.
fn bare(name: &Name, record: RecordType, class: DNSClass) -> Record {
    let mut bare = Record::update0(name.clone(), 0, record);
    bare.dns_class = class;
    bare
}

fn plain(name: &Name) -> String {
    let mut text = name.to_ascii().to_ascii_lowercase();
    if text.ends_with('.') && text.len() > 1 {
        text.pop();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use hickory_proto::rr::rdata::{CNAME, SOA};

    use super::*;

    fn name(text: &str) -> Name {
        fqdn(text).unwrap()
    }

    fn a(owner: &str, ttl_s: u32, address: &str) -> Record {
        record(&name(owner), ttl_s, address.parse().unwrap())
    }

    fn answer(records: Vec<Record>) -> Message {
        let mut message = Message::query();
        message.add_answers(records);
        message
    }

    #[test]
    fn aliases_are_followed_and_other_names_are_ignored() {
        let alias = |from: &str, to: &str| Record::from_rdata(name(from), 20, RData::CNAME(CNAME(name(to))));
        let v4 = answer(vec![
            a("c.x", 50, "10.0.0.1"),
            alias("B.x", "c.x"),
            alias("a.x", "b.X"),
            a("other.x", 1, "10.0.0.9"),
        ]);
        let mut v6 = answer(vec![]);
        let soa = SOA::new(name("x"), name("x"), 1, 1, 1, 1, 7);
        v6.add_authority(Record::from_rdata(name("x"), 30, RData::SOA(soa)));
        let made = records(&name("a.x"), &[v4, v6]).unwrap();
        assert_eq!(made.addresses, BTreeSet::from(["10.0.0.1".parse().unwrap()]));
        assert_eq!((made.alias.as_deref(), made.ttls_s), (Some("b.x"), [20, 7]));
        let circle = answer(vec![alias("a.x", "b.x"), alias("b.x", "a.x")]);
        assert!(records(&name("a.x"), &[circle.clone(), circle]).unwrap().addresses.is_empty());
    }

    #[test]
    fn an_error_is_no_word_about_the_name_but_nxdomain_is() {
        let with = |code| {
            let mut message = answer(vec![]);
            message.metadata.response_code = code;
            message
        };
        let error = records(&name("a.x"), &[with(ResponseCode::NoError), with(ResponseCode::ServFail)]).unwrap_err();
        assert_eq!(error, "it answers with an error: SERVFAIL");
        let none = records(&name("a.x"), &[with(ResponseCode::NXDomain), with(ResponseCode::NXDomain)]).unwrap();
        assert!(none.addresses.is_empty() && none.alias.is_none());
    }
}

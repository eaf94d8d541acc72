//! Gathers what the preflight judges. Only reads, on both sides.

use std::time::Duration;

use bytes::Bytes;
use etcd_sync_cluster::Cluster;
use etcd_sync_core::etcd::kv::{KeyValue, printable};
use etcd_sync_core::link::state::StateKeys;
use etcd_sync_core::object::encryption::{EncryptedBy, EncryptionConfig, Keyring, Undecryptable};
use etcd_sync_core::object::header;
use etcd_sync_core::object::object_key::ObjectKey;
use etcd_sync_core::scope::Scope;
use etcd_sync_kms::Encryption;
use etcd_sync_operations::api_server::ApiServers;
use etcd_sync_operations::preflight::{Decrypts, Facts, Member, PrefixFact, Sample};
use etcd_sync_program::config::Config;
use etcd_sync_store::link::pair;
use etcd_sync_store::{ENCRYPTED, Error, Etcd, Wanted, resource, version_warning};

use crate::facts::apiserver;
use crate::facts::start::overlap;

/// How long a member may take to tell its state.
const MEMBER_PATIENCE: Duration = Duration::from_secs(1);

/// The pair to look at.
#[derive(Clone, Copy)]
pub struct Pair<'a> {
    /// The cluster that is read.
    pub primary: &'a Etcd,
    /// The cluster that is written.
    pub standby: &'a Etcd,
    /// What is synchronized.
    pub scope: &'a Scope,
    /// Their API servers.
    pub api_servers: &'a ApiServers,
    /// What decrypts their values.
    pub encryption: &'a Encryption,
    /// The link's state keys, in the standby.
    pub keys: &'a StateKeys,
    /// No synchronizer has ever written into this standby.
    pub first: bool,
}

impl<'a> Pair<'a> {
    /// What a command's flags name.
    pub fn new(config: &'a Config, pair: &'a pair::Pair, encryption: &'a Encryption, first: bool) -> Pair<'a> {
        let (scope, api_servers) = (&*config.scope, &config.api_servers);
        Pair { primary: &pair.primary, standby: &pair.standby, scope, api_servers, encryption, keys: &pair.keys, first }
    }
}

/// Looks at both clusters, at everything at the same time.
///
/// # Errors
/// Why one of the etcds cannot be read. An API server or a member that does not answer is a fact, no error.
pub async fn facts(pair: Pair<'_>, allow_unproved_encryption: bool) -> Result<Facts, Error> {
    let Pair { primary, standby, api_servers, .. } = pair;
    let etcds = async { tokio::try_join!(samples(pair), prefixes(pair), overlap(standby, pair.keys, pair.scope)) };
    let (etcds, primary_api, standby_api, primary_members, standby_members) = tokio::join!(
        etcds,
        apiserver::facts(Cluster::primary(api_servers)),
        async { apiserver::facts(Cluster::standby(api_servers).await).await },
        members(primary),
        members(standby),
    );
    let ((primary_samples, standby_samples), (prefixes, other_prefixes), overlap) = etcds?;
    Ok(Facts {
        first: pair.first,
        encryption_config: pair.encryption.config.is_some(),
        allow_unproved_encryption,
        primary_samples,
        standby_samples,
        prefixes,
        other_prefixes,
        overlap,
        primary_api,
        standby_api,
        primary_members,
        standby_members,
    })
}

/// As [`facts`], of the standby alone: the primary is silent. What was copied from it stands for its values.
///
/// # Errors
/// Why the standby cannot be read.
pub async fn facts_of_standby(pair: Pair<'_>, allow_unproved_encryption: bool) -> Result<Facts, Error> {
    let Pair { standby, scope, api_servers, encryption, .. } = pair;
    let samples = async {
        let (mut copies, mut own) = (Vec::new(), Vec::new());
        for prefix in scope.kubernetes_prefixes() {
            let (in_scope, out_of_scope) = tokio::try_join!(
                standby.sample(prefix, scope, Wanted::InScope),
                standby.sample(prefix, scope, Wanted::OutOfScope)
            )?;
            tokio::join!(encryption.unwrap_keys(&in_scope), encryption.unwrap_keys(&out_of_scope));
            let copied = in_scope.iter().filter(|kv| scope.in_scope(&kv.key));
            copies.extend(copied.filter_map(|kv| sample(prefix, kv, true, encryption)));
            let others = out_of_scope.iter().filter(|kv| !scope.in_scope(&kv.key));
            own.extend(others.filter_map(|kv| sample(prefix, kv, true, encryption)));
        }
        Ok((copies, own))
    };
    let asked = async { apiserver::facts(Cluster::standby(api_servers).await).await };
    let (samples, standby_api, standby_members) = tokio::join!(samples, asked, members(standby));
    let (primary_samples, standby_samples) = samples?;
    let mut prefixes = Vec::new();
    for prefix in scope.kubernetes_prefixes() {
        let holds = standby.holds_kubernetes(prefix.as_bytes()).await?;
        prefixes.push(PrefixFact { prefix: prefix.to_owned(), primary: false, standby: holds });
    }
    Ok(Facts {
        encryption_config: encryption.config.is_some(),
        allow_unproved_encryption,
        primary_samples,
        standby_samples,
        prefixes,
        standby_api,
        standby_members,
        ..Facts::default()
    })
}

async fn samples(pair: Pair<'_>) -> Result<(Vec<Sample>, Vec<Sample>), Error> {
    let Pair { primary, standby, scope, encryption, .. } = pair;
    let (mut here, mut there) = (Vec::new(), Vec::new());
    // What was copied here says nothing about the standby's own API server.
    let own = |kv: &KeyValue| pair.first || !scope.in_scope(&kv.key);
    let wanted = if pair.first { Wanted::Any } else { Wanted::OutOfScope };
    for prefix in scope.kubernetes_prefixes() {
        let (of_primary, of_standby) =
            tokio::try_join!(primary.sample(prefix, scope, Wanted::InScope), standby.sample(prefix, scope, wanted))?;
        tokio::join!(encryption.unwrap_keys(&of_primary), encryption.unwrap_keys(&of_standby));
        let in_scope = of_primary.iter().filter(|kv| scope.in_scope(&kv.key) && kv.lease == 0);
        there.extend(in_scope.filter_map(|kv| sample(prefix, kv, true, encryption)));
        here.extend(of_standby.iter().filter_map(|kv| sample(prefix, kv, own(kv), encryption)));
    }
    Ok((there, here))
}

fn sample(prefix: &str, kv: &KeyValue, own: bool, encryption: &Encryption) -> Option<Sample> {
    let resource = resource(prefix, &kv.key)?;
    let opened = encryption.keyring.decrypt(&kv.key, &kv.value);
    let api_version = opened.as_ref().ok().and_then(|plain| Some(header(plain).ok()?.api_version));
    let seal = seal(&kv.value);
    let opens = match (&encryption.config, opened) {
        (None, _) => Decrypts::NotTried,
        (Some(_), Err(locked)) => closed(&locked),
        (Some(config), Ok(_)) if seal.is_none() => plain(config, prefix, kv, api_version.as_deref()),
        (Some(_), Ok(_)) => Decrypts::Yes,
    };
    let api_version = api_version.filter(|_| is_built_in(resource));
    Some(Sample { key: printable(&kv.key), resource: printable(resource), own, seal, opens, api_version })
}

fn seal(value: &Bytes) -> Option<EncryptedBy> {
    let unknown = || EncryptedBy { provider: "an unknown provider's".to_owned(), key: "unknown".to_owned() };
    value.starts_with(ENCRYPTED).then(|| Keyring::encrypted_by(value).unwrap_or_else(unknown))
}

fn closed(locked: &Undecryptable) -> Decrypts {
    match locked {
        Undecryptable::NeedsKms(request) => {
            Decrypts::Unknown(format!("the KMS plugin {} did not unwrap its key", request.provider))
        }
        Undecryptable::UnknownKey(_) | Undecryptable::NoConfig(_) => Decrypts::No("it has no such key".to_owned()),
        Undecryptable::WrongKey(_) => Decrypts::No("its key of this name is another one".to_owned()),
        Undecryptable::Malformed(_) => Decrypts::No("the value is broken".to_owned()),
    }
}

/// Whether an API server takes a value that is not encrypted.
fn plain(config: &EncryptionConfig, prefix: &str, kv: &KeyValue, api_version: Option<&str>) -> Decrypts {
    let key = kv.key.strip_prefix(prefix.as_bytes()).and_then(ObjectKey::parse);
    let Some(key) = key else { return Decrypts::Yes };
    // The key of a built-in object does not tell its group, but the object does.
    let group = key.group.or_else(|| Some(api_version?.rsplit_once('/').map_or("", |(group, _)| group)));
    match group {
        Some(group) if !config.reads_plain(key.resource, group) => {
            Decrypts::No(format!("it does not list the provider identity for {}", key.resource))
        }
        _ => Decrypts::Yes,
    }
}

/// What an API server serves by itself: the definitions of all others are synchronized with them.
fn is_built_in(resource: &[u8]) -> bool {
    let group = resource.split(|&byte| byte == b'/').next().unwrap_or_default();
    !group.contains(&b'.') || matches!(group, b"apiextensions.k8s.io" | b"apiregistration.k8s.io")
}

async fn prefixes(pair: Pair<'_>) -> Result<(Vec<PrefixFact>, Vec<String>), Error> {
    let known: Vec<&str> = pair.scope.kubernetes_prefixes().collect();
    let mut facts = Vec::new();
    for prefix in &known {
        let bytes = prefix.as_bytes();
        let (primary, standby) =
            tokio::try_join!(pair.primary.holds_kubernetes(bytes), pair.standby.holds_kubernetes(bytes))?;
        facts.push(PrefixFact { prefix: (*prefix).to_owned(), primary, standby });
    }
    let other = match facts.iter().any(|fact| fact.primary && !fact.standby) {
        true => pair.standby.other_prefixes(&known).await?,
        false => Vec::new(),
    };
    Ok((facts, other))
}

async fn members(etcd: &Etcd) -> Vec<Member> {
    let answers = etcd.answering_members(MEMBER_PATIENCE).await.into_iter();
    let members = answers.map(|(endpoint, status)| Member {
        endpoint,
        version_warning: version_warning(&status.version),
        in_use_bytes: status.db_size_in_use_bytes,
        quota_bytes: status.db_quota_bytes,
        // "no leader" and the like pass; alarms stay until somebody clears them.
        alarms: status.errors.into_iter().filter(|error| error.contains("alarm:")).collect(),
    });
    members.collect()
}

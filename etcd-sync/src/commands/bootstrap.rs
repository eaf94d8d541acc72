//! `etcd-sync bootstrap`: what the Helm chart's hook does before the pods start. The pods may read no file of their host, so what
//! they need of it is put into Secrets; and what would hold a copy is told while the installer still looks.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Error, Result, bail, ensure};
use etcd_sync_cluster::secrets::{Written, write};
use etcd_sync_core::link::role::Role;
use etcd_sync_core::link::state::{Phase, ROLE_STANDBY, StateKeys, cluster_id_text};
use etcd_sync_operations::preflight::{judge, refusal, text};
use etcd_sync_program::config::{BootstrapConfig, Config};
use etcd_sync_program::{certificates, now_ms};
use etcd_sync_store::link::pair::Pair;
use etcd_sync_store::link::record::Record;
use k8s_openapi::ByteString;

use crate::cluster::Cluster;
use crate::facts::preflight;
use crate::facts::start::links;
use crate::output::{Outcome, print, refused};

/// The EncryptionConfiguration of a cluster that encrypts nothing: the pods are given some file in any case.
const NOTHING: &str = "\
apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
- resources: ['*.*']
  providers:
  - identity: {}
";

/// Behind what would hold a first copy.
const SETTLED: &str =
    "This holds nothing here: the link goes on from its checkpoint, or this cluster is no standby any more.\n";

/// Behind what a running link refuses.
const INSIST: &str = "to change the installation all the same, give bootstrap.skipPreflight=true this once";

/// How old the last contact with the primary may be; a leader records one every few seconds.
const CONTACT_AGE_MAX: Duration = Duration::from_secs(30);

/// Files for a Secret: its keys, and where each file is.
type Files<'a> = Vec<(&'static str, Option<&'a Path>, &'static str)>;

/// What a Secret holds.
type Content = BTreeMap<String, ByteString>;

/// Makes the Secrets, then looks at both clusters. Exit code 1: something would hold the copy, or nothing could be renewed.
pub async fn run(mut config: Config, options: BootstrapConfig) -> Result<Outcome> {
    config.api_servers = config.api_servers.of_pod();
    in_order(&config, &options).await?;
    let mut foreign = Vec::new();
    if let Some(secret) = &options.standby_secret {
        let files = config.standby.files();
        let files = vec![
            ("ca.crt", files.cacert, "--standby-cacert"),
            ("tls.crt", files.cert, "--standby-cert"),
            ("tls.key", files.key, "--standby-key"),
        ];
        let content = read(secret, files)?;
        let new = content.clone();
        if !put(&config, &options, secret, content, |old| lasts_longer(old, &new)).await? {
            foreign.push(secret.as_str());
        }
    }
    if let Some(secret) = &options.encryption_secret {
        let named = config.encryption_config.take();
        let there = |file: &PathBuf| file.try_exists().with_context(|| format!("cannot look for {}", file.display()));
        let file = match named {
            Some(file) if there(&file)? => Some(file),
            _ => None,
        };
        let (key, flag) = ("encryption-provider.conf", "--encryption-config");
        let own = match file.as_deref() {
            Some(file) => {
                let content = read(secret, vec![(key, Some(file), flag)])?;
                put(&config, &options, secret, content, |_| false).await?
            }
            None => {
                print(
                    "This node has no file of --encryption-config: it is taken for a cluster that encrypts nothing.\n",
                );
                let content = BTreeMap::from([(key.to_owned(), NOTHING.as_bytes().to_vec())]);
                // Another node may have had it: what the pods read now is not taken from them.
                put(&config, &options, secret, content, |_| true).await?
            }
        };
        if !own {
            foreign.push(secret);
        }
        // What is encrypted all the same is found by the preflight.
        config.encryption_config = file;
    }
    if options.renew {
        return Ok(match foreign[..] {
            [] => Outcome::Success,
            _ => refused(&format!("not renewed, for somebody else made it: {}", foreign.join(", "))),
        });
    }
    if options.skip_preflight {
        return Ok(Outcome::Success);
    }
    let (pair, encryption) = (config.pair()?, config.encryption()?);
    let record = Record::read(&pair.standby, &pair.keys).await.context("the standby's etcd cannot be read")?;
    if let Some(why) = other_link(&pair, &record).await? {
        return Ok(refused(&why));
    }
    let looked_at = preflight::Pair::new(&config, &pair, &encryption, record.checkpoint.is_none());
    let settled = is_settled(&record)?;
    let findings = match preflight::facts(looked_at, options.accept_unproved_encryption).await {
        Ok(facts) => {
            if let Some(why) = other_primary(&pair, &record).await? {
                return Ok(refused(&why));
            }
            judge(&facts)
        }
        Err(error) if !settled => return Err(Error::new(error).context("the preflight is incomplete")),
        Err(error) if is_receiving(&record) => {
            return Ok(refused(&format!(
                "the running synchronizer is connected to the primary, and this Job is not: with these values replication would stop; \
                 if the primary is down since, try again in a minute: {error}"
            )));
        }
        Err(error) => {
            print(&format!("warn: the preflight is incomplete: {error}\n{SETTLED}"));
            return Ok(Outcome::Success);
        }
    };
    print(&text(&findings));
    Ok(match refusal(&findings) {
        Some(why) if settled && is_receiving(&record) => {
            refused(&format!("{why}; what is running continues unchanged; {INSIST}"))
        }
        Some(_) if settled => {
            print(SETTLED);
            Outcome::Success
        }
        Some(why) => refused(&why),
        None => Outcome::Success,
    })
}

/// Whether nothing is about to be copied: who goes on from a checkpoint was looked at before the copy, and a cluster with another
/// role than a standby's gets none. On the worst day it must still be possible to change the installation.
fn is_settled(record: &Record) -> Result<bool> {
    let standby = record.role.as_ref().is_none_or(|role| role.value == ROLE_STANDBY);
    Ok(!standby || record.checkpoint()?.is_some_and(|checkpoint| checkpoint.phase == Phase::Streaming))
}

/// Whether a synchronizer had contact with the primary a moment ago.
fn is_receiving(record: &Record) -> bool {
    let seen = record.primary_contact.as_ref().filter(|_| !record.candidates.is_empty());
    seen.is_some_and(|seen| {
        now_ms().abs_diff(seen.at_ms) < u64::try_from(CONTACT_AGE_MAX.as_millis()).unwrap_or(u64::MAX)
    })
}

/// While a synchronizer receives from its primary, it must not be pointed at another one by mistake.
async fn other_primary(pair: &Pair, record: &Record) -> Result<Option<String>> {
    let Some(checkpoint) = record.checkpoint()?.filter(|_| is_receiving(record)) else { return Ok(None) };
    let found = cluster_id_text(pair.primary.identity().await?.cluster_id);
    let other = found != checkpoint.primary;
    Ok(other.then(|| {
        let connected = &checkpoint.primary;
        format!(
            "the running synchronizer is connected to the primary {connected}, and these values name another cluster, {found}"
        )
    }))
}

/// A link that has never run, beside one that copies from the same primary: its name is missing in the values.
async fn other_link(pair: &Pair, record: &Record) -> Result<Option<String>> {
    if record.role.is_some() || record.checkpoint.is_some() {
        return Ok(None);
    }
    for (link, role) in links(&pair.standby).await? {
        let other = Record::read(&pair.standby, &StateKeys::new(&link)).await?;
        let Some(checkpoint) = other.checkpoint()?.filter(|_| role == Role::Standby && is_receiving(&other)) else {
            continue;
        };
        if cluster_id_text(pair.primary.identity().await?.cluster_id) == checkpoint.primary {
            return Ok(Some(format!(
                "a synchronizer copies from this primary already, with the link {link}: is --link (`link` in the chart) missing or misspelled? \
                 For a second link with another scope, {INSIST}"
            )));
        }
    }
    Ok(None)
}

/// Tries the files before they take the place of others that work: an expired certificate, one with another key or an empty file
/// would end the synchronization.
async fn in_order(config: &Config, options: &BootstrapConfig) -> Result<()> {
    let kept = "nothing was renewed: the files of this node are not in order";
    if options.encryption_secret.is_some() && config.encryption_config.as_deref().is_some_and(Path::exists) {
        config.encryption().context(kept)?;
    }
    if options.standby_secret.is_some() && (options.renew || !options.skip_preflight) {
        Record::read(&config.standby.etcd().context(kept)?, &StateKeys::new(&config.link)).await.context(kept)?;
    }
    Ok(())
}

/// Whether the certificate of a Secret is signed by the same authority as another one, and ends later: each node has its own.
fn lasts_longer(old: &Content, new: &BTreeMap<String, Vec<u8>>) -> bool {
    let (Some(old_ca), Some(old_cert)) = (old.get("ca.crt"), old.get("tls.crt")) else { return false };
    let (Some(new_ca), Some(new_cert)) = (new.get("ca.crt"), new.get("tls.crt")) else { return false };
    old_ca.0 == *new_ca && certificates::end(&old_cert.0) > certificates::end(new_cert)
}

/// The content of a Secret.
fn read(secret: &str, files: Files<'_>) -> Result<BTreeMap<String, Vec<u8>>> {
    let read = |(key, file, flag): (&str, Option<&Path>, &str)| {
        let file = file.with_context(|| format!("{flag} is missing: the Secret {secret} is made of its file"))?;
        let bytes = std::fs::read(file).with_context(|| format!("cannot read {} ({flag})", file.display()))?;
        ensure!(!bytes.is_empty(), "{} ({flag}) is empty", file.display());
        Ok((key.to_owned(), bytes))
    };
    files.into_iter().map(read).collect()
}

/// Returns whether the Secret is one of ours.
async fn put(
    config: &Config,
    options: &BootstrapConfig,
    secret: &str,
    content: BTreeMap<String, Vec<u8>>,
    better: impl Fn(&Content) -> bool,
) -> Result<bool> {
    let Some(namespace) = &options.namespace else {
        bail!(
            "a Secret can only be made by a pod, in its own namespace: run this in the cluster, with POD_NAMESPACE set"
        );
    };
    let cluster =
        Cluster::standby(&config.api_servers).await?.context("the API server of this cluster is not known")?;
    let written = write(&cluster, namespace, secret, content, better).await?;
    let what = match written {
        Written::Created => "made",
        Written::Updated => "renewed",
        Written::Unchanged => "stays as it is",
        Written::Kept => "stays as it is: what it holds is better than the files of this node",
        Written::Foreign => "somebody else's, and left as it is: delete it to have it created again",
    };
    print(&format!("Secret {namespace}/{secret}: {what}\n"));
    Ok(written != Written::Foreign)
}

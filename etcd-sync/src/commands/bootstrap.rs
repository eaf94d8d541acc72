//! `etcd-sync bootstrap`: what the Helm chart's hook does before the pods start. The pods may read no file of their host, so what
//! they need of it is put into Secrets; and what would pause a copy is reported while the installer still watches.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Error, Result, bail, ensure};
use etcd_sync_cluster::secrets::{Written, write};
use etcd_sync_core::link::role::Role;
use etcd_sync_core::link::state::{StateKeys, cluster_id_text};
use etcd_sync_operations::bootstrap::{self, Link, Refusal, Verdict};
use etcd_sync_operations::preflight::{judge, refusal, text};
use etcd_sync_program::config::{BootstrapConfig, Config};
use etcd_sync_program::{certificates, now_ms};
use etcd_sync_store::link::pair::Pair;
use etcd_sync_store::link::record::Record;
use k8s_openapi::ByteString;

use crate::cluster::Cluster;
use crate::facts::preflight;
use crate::facts::start::links;
use crate::output::{Outcome, print, refuse};

/// The EncryptionConfiguration of a cluster that encrypts nothing: the pods are given some file in any case.
const NOTHING: &str = "\
apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
- resources: ['*.*']
  providers:
  - identity: {}
";

/// Behind what would pause a first copy.
const SETTLED: &str =
    "This pauses nothing here: the link goes on from its checkpoint, or this cluster is no longer a standby.\n";

/// Files for a Secret: its keys, and where each file is.
type Files<'a> = Vec<(&'static str, Option<&'a Path>, &'static str)>;

/// What a Secret holds.
type Content = BTreeMap<String, ByteString>;

/// Makes the Secrets, then checks both clusters. Exit code 1: something would pause the copy, or nothing could be renewed.
pub async fn run(mut config: Config, options: BootstrapConfig) -> Result<Outcome> {
    config.api_servers = config.api_servers.of_pod();
    in_order(&config, &options).await?;
    let mut foreign = Vec::new();
    if let Some(secret) = &options.standby_secret
        && !standby_secret(&config, &options, secret).await?
    {
        foreign.push(secret.as_str());
    }
    if let Some(secret) = &options.encryption_secret
        && !encryption_secret(&mut config, &options, secret).await?
    {
        foreign.push(secret);
    }
    if options.renew && !foreign.is_empty() {
        return refuse(Refusal::Foreign(foreign.join(", ")));
    }
    match options.renew || options.skip_preflight {
        true => Ok(Outcome::Success),
        false => check(&config, &options).await,
    }
}

/// The Secret of this node's etcd certificates; whether it is one of ours.
async fn standby_secret(config: &Config, options: &BootstrapConfig, secret: &str) -> Result<bool> {
    let files = config.standby.files();
    let files = vec![
        ("ca.crt", files.cacert, "--standby-cacert"),
        ("tls.crt", files.cert, "--standby-cert"),
        ("tls.key", files.key, "--standby-key"),
    ];
    let content = read(secret, files)?;
    let new = content.clone();
    put(config, options, secret, content, |old| lasts_longer(old, &new)).await
}

/// The Secret of this node's encryption config; whether it is one of ours. Afterwards the config names the file only if there
/// is one: what is encrypted all the same is found by the preflight.
async fn encryption_secret(config: &mut Config, options: &BootstrapConfig, secret: &str) -> Result<bool> {
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
            put(config, options, secret, content, |_| false).await?
        }
        None => {
            print("This node has no file of --encryption-config: it is taken for a cluster that encrypts nothing.\n");
            let content = BTreeMap::from([(key.to_owned(), NOTHING.as_bytes().to_vec())]);
            // Another node may have had it: what the pods read now is not taken from them.
            put(config, options, secret, content, |_| true).await?
        }
    };
    config.encryption_config = file;
    Ok(own)
}

/// Checks both clusters; refuses what would stop a running link or pause a copy.
async fn check(config: &Config, options: &BootstrapConfig) -> Result<Outcome> {
    let (pair, encryption) = (config.pair()?, config.encryption()?);
    let record = Record::read(&pair.standby, &pair.keys).await.context("the standby's etcd cannot be read")?;
    let link = link_of(&record)?;
    if link.is_new()
        && let Some(link) = other_link(&pair).await?
    {
        return refuse(Refusal::OtherLink { link });
    }
    let both = preflight::Pair::new(config, &pair, &encryption, record.checkpoint.is_none());
    let facts = match preflight::facts(both, options.allow_unproved_encryption).await {
        Ok(facts) => facts,
        Err(error) if !link.is_settled() => return Err(Error::new(error).context("the preflight is incomplete")),
        Err(error) if link.is_receiving(now_ms()) => {
            return refuse(Refusal::Disconnects { error: error.to_string() });
        }
        Err(error) => {
            print(&format!("warn: the preflight is incomplete: {error}\n{SETTLED}"));
            return Ok(Outcome::Success);
        }
    };
    if link.is_receiving(now_ms()) {
        let found = cluster_id_text(pair.primary.identity().await?.cluster_id);
        link.same_primary(&found, now_ms()).or_else(refuse)?;
    }
    let findings = judge(&facts);
    print(&text(&findings));
    match bootstrap::judge(refusal(&findings), &link, now_ms()).or_else(refuse)? {
        Verdict::Good => {}
        Verdict::Harmless => print(SETTLED),
    }
    Ok(Outcome::Success)
}

/// What decides, of a link's record.
fn link_of(record: &Record) -> Result<Link> {
    let role = Role::of_key(record.role.as_ref());
    let checkpoint = match role {
        Role::None | Role::Standby => record.checkpoint()?,
        // Nothing is synchronized into it: what is left of its record must not stop a change of the installation.
        _ => record.checkpoint().ok().flatten(),
    };
    Ok(Link { role, checkpoint, contact: record.primary_contact.clone(), runs: !record.candidates.is_empty() })
}

/// Another link that copies from the same primary: then the name of this one is missing in the values.
async fn other_link(pair: &Pair) -> Result<Option<String>> {
    for (name, role) in links(&pair.standby).await? {
        let link = link_of(&Record::read(&pair.standby, &StateKeys::new(&name)).await?)?;
        if role != Role::Standby || !link.is_receiving(now_ms()) {
            continue;
        }
        let primary = cluster_id_text(pair.primary.identity().await?.cluster_id);
        if link.copies_from(&primary, now_ms()) {
            return Ok(Some(name));
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
        Written::Created => "created",
        Written::Updated => "renewed",
        Written::Unchanged => "stays as it is",
        Written::Kept => "stays as it is: what it holds is better than the files of this node",
        Written::Foreign => "not created by this chart, and left as it is: delete it to have it created again",
    };
    print(&format!("Secret {namespace}/{secret}: {what}\n"));
    Ok(written != Written::Foreign)
}

//! `etcd-sync bootstrap`: what the Helm chart's hook does before the pods start. The pods may read no file of their host, so what
//! they need of it is put into Secrets; and what would hold a copy is told while the installer still looks.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use etcd_sync_cluster::secrets::{Written, write};
use etcd_sync_core::preflight::{judge, refusal, text};
use etcd_sync_program::config::{BootstrapConfig, Config};
use etcd_sync_store::record::Record;

use super::{Outcome, print, refused};
use crate::cluster::Cluster;
use crate::preflight;

/// The EncryptionConfiguration of a cluster that encrypts nothing: the pods are given some file in any case.
const NOTHING: &str = "\
apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
- resources: ['*.*']
  providers:
  - identity: {}
";

/// Files for a Secret: its keys, and where each file is.
type Files<'a> = Vec<(&'static str, Option<&'a Path>, &'static str)>;

/// Makes the Secrets, then looks at both clusters. Exit code 1: something would hold the copy.
pub async fn run(mut config: Config, options: BootstrapConfig) -> Result<Outcome> {
    config.api_servers = config.api_servers.of_pod();
    if let Some(secret) = &options.standby_secret {
        let files = config.standby.files();
        let files = vec![
            ("ca.crt", files.cacert, "--standby-cacert"),
            ("tls.crt", files.cert, "--standby-cert"),
            ("tls.key", files.key, "--standby-key"),
        ];
        fill(&config, &options, secret, files).await?;
    }
    if let Some(secret) = &options.encryption_secret {
        let named = config.encryption_config.take();
        let there = |file: &PathBuf| file.try_exists().with_context(|| format!("cannot look for {}", file.display()));
        let file = match named {
            Some(file) if there(&file)? => Some(file),
            _ => None,
        };
        let (key, flag) = ("encryption-provider.conf", "--encryption-config");
        match file.as_deref() {
            Some(file) => fill(&config, &options, secret, vec![(key, Some(file), flag)]).await?,
            None => {
                print(
                    "This node has no file of --encryption-config: it is taken for a cluster that encrypts nothing.\n",
                );
                let content = BTreeMap::from([(key.to_owned(), NOTHING.as_bytes().to_vec())]);
                // Another node may have had it: what the pods read now is not taken from them.
                put(&config, &options, secret, content, false).await?;
            }
        }
        // What is encrypted all the same is found by the preflight.
        config.encryption_config = file;
    }
    if options.skip_preflight {
        return Ok(Outcome::Success);
    }
    let (pair, encryption) = (config.pair()?, config.encryption()?);
    let record = Record::read(&pair.standby, &pair.keys).await.context("the standby's etcd cannot be read")?;
    let looked_at = preflight::Pair::new(&config, &pair, &encryption, record.checkpoint.is_none());
    let facts = preflight::facts(looked_at, false).await.context("the preflight is incomplete")?;
    let findings = judge(&facts);
    print(&text(&findings));
    Ok(match refusal(&findings) {
        Some(why) => refused(&why),
        None => Outcome::Success,
    })
}

async fn fill(config: &Config, options: &BootstrapConfig, secret: &str, files: Files<'_>) -> Result<()> {
    let mut content = BTreeMap::new();
    for (key, file, flag) in files {
        let file = file.with_context(|| format!("{flag} is missing: the Secret {secret} is made of its file"))?;
        let bytes = std::fs::read(file).with_context(|| format!("cannot read {} ({flag})", file.display()))?;
        content.insert(key.to_owned(), bytes);
    }
    put(config, options, secret, content, true).await
}

async fn put(
    config: &Config,
    options: &BootstrapConfig,
    secret: &str,
    content: BTreeMap<String, Vec<u8>>,
    renew: bool,
) -> Result<()> {
    let Some(namespace) = &options.namespace else {
        bail!(
            "a Secret can only be made by a pod, in its own namespace: run this in the cluster, with POD_NAMESPACE set"
        );
    };
    let cluster =
        Cluster::standby(&config.api_servers).await?.context("the API server of this cluster is not known")?;
    let what = match write(&cluster, namespace, secret, content, renew).await? {
        Written::Created => "made",
        Written::Updated => "renewed",
        Written::Unchanged => "stays as it is",
        Written::Foreign => "somebody else's, and left as it is: delete it to have it made anew",
    };
    print(&format!("Secret {namespace}/{secret}: {what}\n"));
    Ok(())
}

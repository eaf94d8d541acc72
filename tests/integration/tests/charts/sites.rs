//! Two sites as the platform has them: a virtual IP in front of the primary, a control-plane node with kubeadm's files in the standby,
//! certificates that carry both addresses, and one encryption configuration.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use etcd_sync_integration::compare::await_until;
use etcd_sync_integration::etcd::{Cluster, ClusterOptions};
use etcd_sync_integration::exact::PATIENCE;
use etcd_sync_integration::kube::objects::{APPS, namespace};
use etcd_sync_integration::kube::pod::Node;
use etcd_sync_integration::kube::{KubePair, PairOptions, path};
use etcd_sync_integration::virtual_ip::VirtualIp;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::NAMESPACE;

/// Where etcd and API servers listen.
pub const ETCD: u16 = 2379;
const API: u16 = 6443;
/// The Secret with a token of the primary.
pub const TOKEN_SECRET: &str = "primary-token";
/// The file on a node.
pub const ENCRYPTION_FILE: &str = "/etc/kubernetes/encryption-provider.conf";

const ENCRYPTION: &str = "\
apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
- resources: [secrets, configmaps]
  providers:
  - secretbox: {keys: [{name: key1, secret: b2xkIG9sZCBvbGQgb2xkIG9sZCBvbGQgb2xkIG9sZC4=}]}
  - identity: {}
";

pub struct Sites {
    pub pair: KubePair,
    /// Of the primary.
    pub vip: VirtualIp,
    /// The standby's node.
    pub host: VirtualIp,
    pub node: Node,
    // The node's files.
    _folder: TempDir,
}

impl Sites {
    /// All that people do before they install: the namespace, the Secrets of the primary's etcd and of its API server.
    pub async fn start() -> Result<Sites> {
        let (mut vip, mut host) = (VirtualIp::new(), VirtualIp::new());
        let etcd =
            |vip: &VirtualIp| ClusterOptions { tls: true, addresses: vec![vip.address().into()], ..Default::default() };
        let mut options = PairOptions { primary_etcd: etcd(&vip), standby_etcd: etcd(&host), ..PairOptions::new() };
        options.primary.addresses = vec![vip.address().into()];
        // Whom it answers has a token.
        options.primary.apiserver_args = vec!["--anonymous-auth=false".to_owned()];
        (options.primary.encryption, options.standby.encryption) = (Some(ENCRYPTION.into()), Some(ENCRYPTION.into()));
        let pair = KubePair::start(options).await?;
        vip.open(ETCD, member(&pair.link.primary)?).await?;
        vip.open(API, pair.primary.address().parse()?).await?;
        host.open(ETCD, member(&pair.link.standby)?).await?;

        let folder = tempfile::tempdir()?;
        let pki = folder.path().join("pki/etcd");
        let node = Node {
            address: host.address().into(),
            folders: vec![
                ("/etc/kubernetes/pki/etcd".to_owned(), pki.clone()),
                ("/etc/kubernetes".to_owned(), folder.path().to_owned()),
            ],
        };
        let certs = pair.link.standby.certs().context("the standby has certificates")?;
        let files = [("ca.crt", &certs.ca), ("server.crt", &certs.server_cert), ("server.key", &certs.server_key)];
        let files = files.map(|(name, from)| (pki.join(name), from.clone()));
        let encryption = folder.path().join("encryption-provider.conf");
        fs::create_dir_all(&pki)?;
        for (to, from) in files.into_iter().chain([(encryption, pair.standby.encryption_file()?)]) {
            fs::copy(from, &to)?;
            fs::set_permissions(&to, fs::Permissions::from_mode(0o600))?;
        }
        pair.standby.api().create(&namespace(NAMESPACE)).await?;
        pair.primary.api().create(&namespace(APPS)).await?;
        primary_secrets(&pair).await?;
        let token = account_token(&pair).await?;
        secret(&pair, TOKEN_SECRET, &token).await?;
        Ok(Sites { pair, vip, host, node, _folder: folder })
    }

    /// What the platform's form gives at least, as Helm's values.
    pub fn least(&self) -> String {
        format!(
            "active_cluster_vip: {}\nactive_cluster_token_secret_ref: {TOKEN_SECRET}\nencryption: {{hostFile: {ENCRYPTION_FILE}}}\n",
            self.vip.address()
        )
    }
}

/// The Secrets with the way into the primary's etcd.
pub async fn primary_secrets(pair: &KubePair) -> Result<()> {
    let certs = pair.link.primary.certs().context("the primary has certificates")?;
    let read = |file: &Path| fs::read(file).with_context(|| format!("{file:?}"));
    secret(pair, "remote-etcd-ca", &[("ca.crt", read(&certs.ca)?)]).await?;
    let client = [("tls.crt", read(&certs.client_cert)?), ("tls.key", read(&certs.client_key)?)];
    secret(pair, "remote-etcd-client", &client).await
}

/// Makes a Secret on the standby, in the release's namespace.
pub async fn secret(pair: &KubePair, name: &str, files: &[(&str, Vec<u8>)]) -> Result<()> {
    let data: BTreeMap<&str, String> = files.iter().map(|(key, content)| (*key, STANDARD.encode(content))).collect();
    let metadata = json!({ "name": name, "namespace": NAMESPACE });
    let object = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data });
    pair.standby.api().create(&object).await.map(drop)
}

/// Token and authorities of a service account of the primary that may do nothing, as its Secret there holds them.
async fn account_token(pair: &KubePair) -> Result<Vec<(&'static str, Vec<u8>)>> {
    let (api, metadata) = (pair.primary.api(), json!({ "name": "reader", "namespace": "kube-public" }));
    api.create(&json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata })).await?;
    let annotations = json!({ "kubernetes.io/service-account.name": "reader" });
    let metadata = json!({ "name": "reader-token", "namespace": "kube-public", "annotations": annotations });
    let kind = "kubernetes.io/service-account-token";
    let made = api.create(&json!({ "apiVersion": "v1", "kind": "Secret", "type": kind, "metadata": metadata })).await?;
    let place = path(&made)?;
    await_until("the Secret of the service account is filled", PATIENCE, || async {
        let data = &api.need(&place).await?["data"];
        Ok((!data["token"].is_string() || !data["ca.crt"].is_string()).then(|| "it is empty".to_owned()))
    })
    .await?;
    let object = api.need(&place).await?;
    ["token", "ca.crt"].into_iter().map(|key| Ok((key, decoded(&object, key)?))).collect()
}

/// What a Secret has under a key.
pub fn decoded(secret: &Value, key: &str) -> Result<Vec<u8>> {
    Ok(STANDARD.decode(secret["data"][key].as_str().with_context(|| format!("no {key}"))?)?)
}

fn member(etcd: &Cluster) -> Result<SocketAddr> {
    Ok(etcd.endpoint(0).trim_start_matches("https://").parse()?)
}

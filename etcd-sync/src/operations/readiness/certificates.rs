//! The certificates in the files that flags name.

use std::path::Path;

use etcd_sync_cluster::{Access, Cluster, KubeconfigFile, authorities};
use etcd_sync_operations::api_server::ApiServer;
use etcd_sync_operations::preflight::switch::{Certificate, CertificateFact, CertificateUse};
use etcd_sync_program::certificates::{of_pem, parse, read};
use etcd_sync_program::config::Config;
use etcd_sync_store::Side;

use super::Clusters;

/// Every certificate of every file that a connection is made with.
pub fn of_files(config: &Config, clusters: &Clusters, now_ms: u64) -> Vec<CertificateFact> {
    let mut facts = Vec::new();
    for (side, connection) in [(Side::Primary, &config.primary), (Side::Standby, &config.standby)] {
        let files = connection.options().tls.unwrap_or_default();
        if let Some(file) = &files.ca {
            facts.extend(of_authorities(&format!("--{side}-cacert"), file, now_ms));
        }
        if let Some(file) = &files.cert {
            let found = |found| fact(&format!("--{side}-cert"), file, CertificateUse::Identity, found);
            facts.extend(read(file).into_iter().map(found));
        }
    }
    for (_, cluster) in clusters.each() {
        match cluster.as_ref().ok().and_then(Option::as_ref).map(Cluster::access) {
            Some(Access::Server(server)) => facts.extend(of_server(server, now_ms)),
            Some(Access::Kubeconfig(held)) => facts.extend(of_kubeconfig(held, now_ms)),
            None => {}
        }
    }
    facts
}

fn of_server(server: &ApiServer, now_ms: u64) -> Vec<CertificateFact> {
    let flag = match server.flag {
        Some("active-cluster-vip") => "--active-cluster-cacert",
        Some(_) => "--standby-api-cacert",
        None => "the service account's",
    };
    authorities(server).map(|file| of_authorities(flag, &file, now_ms)).unwrap_or_default()
}

fn of_kubeconfig(held: &KubeconfigFile, now_ms: u64) -> Vec<CertificateFact> {
    let flag = "--standby-kubeconfig";
    let authorities = held.authorities.iter().map(|der| parse(der)).collect();
    let mut facts = judged_together(flag, &held.file, authorities, now_ms);
    let client =
        held.client.as_ref().map(|pem| pem.as_ref().map_or_else(|why| vec![Err(why.clone())], |pem| of_pem(pem)));
    let identity = |found| fact(flag, &held.file, CertificateUse::Identity, found);
    facts.extend(client.into_iter().flatten().map(identity));
    facts
}

fn of_authorities(flag: &str, file: &Path, now_ms: u64) -> Vec<CertificateFact> {
    judged_together(flag, file, read(file), now_ms)
}

/// Of authorities that lie together, one that has expired may be a leftover.
fn judged_together(
    flag: &str,
    file: &Path,
    found: Vec<Result<Certificate, String>>,
    now_ms: u64,
) -> Vec<CertificateFact> {
    let now_s = (now_ms / 1_000) as i64;
    let valid = |one: &Certificate| (one.not_before_s..=one.not_after_s).contains(&now_s);
    let others_valid = found.iter().flatten().any(valid);
    let use_ = CertificateUse::Authority { others_valid };
    found.into_iter().map(|found| fact(flag, file, use_, found)).collect()
}

fn fact(flag: &str, file: &Path, use_: CertificateUse, found: Result<Certificate, String>) -> CertificateFact {
    CertificateFact { place: format!("{flag} {}", file.display()), use_, found }
}

//! The Lease that names the leader, by a service account with the rights it needs and no others.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use etcd_sync_integration::compare::{await_true, await_until};
use etcd_sync_integration::daemon::{Daemon, run_command_with};
use etcd_sync_integration::exact::PATIENCE;
use etcd_sync_integration::kube::objects::namespace;
use etcd_sync_integration::kube::{ControlPlane, KubePair, PairOptions};
use serde_json::{Value, json};

const NAMESPACE: &str = "cpaas-system";
const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/cpaas-system/leases/etcd-sync-mirror";

/// A service account with a role of these rules. Gives the file with its token.
pub async fn account(plane: &ControlPlane, folder: &Path, name: &str, rules: Value) -> Result<PathBuf> {
    let metadata = json!({ "name": name, "namespace": NAMESPACE });
    let subject = json!({ "kind": "ServiceAccount", "name": name, "namespace": NAMESPACE });
    let role = json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name });
    let rbac = "rbac.authorization.k8s.io/v1";
    for object in [
        json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata }),
        json!({ "apiVersion": rbac, "kind": "Role", "metadata": metadata, "rules": rules }),
        json!({ "apiVersion": rbac, "kind": "RoleBinding", "metadata": metadata, "roleRef": role, "subjects": [subject] }),
    ] {
        plane.api().create(&object).await?;
    }
    // The API server knows new permissions a moment after they are made.
    let first = |list: &str| rules[0][list][0].as_str().map(str::to_owned);
    if let (Some(verb), Some(resource), Some(group)) = (first("verbs"), first("resources"), first("apiGroups")) {
        let what = if group.is_empty() { resource } else { format!("{resource}.{group}") };
        await_true("the account has its rights", PATIENCE, || {
            plane.api().may((NAMESPACE, name), &verb, &what, NAMESPACE)
        })
        .await?;
    }
    let file = folder.join(format!("{name}.token"));
    std::fs::write(&file, plane.api().token(NAMESPACE, name).await?)?;
    Ok(file)
}

/// A process as in a pod: the API server around it is told by the environment, the service account by files.
struct Pod<'a> {
    plane: &'a ControlPlane,
    token: PathBuf,
}

impl Pod<'_> {
    fn flags(&self) -> Vec<String> {
        vec![
            format!("--standby-api-server=https://{}", self.plane.address()),
            format!("--standby-api-token-file={}", self.token.display()),
            format!("--standby-api-cacert={}", self.plane.authority_file().display()),
            // As a shared --config has it: a file of the operators' machines.
            "--standby-kubeconfig=/not/in/this/pod".to_owned(),
        ]
    }

    fn environment(name: &str) -> [(&str, &str); 3] {
        [("POD_NAME", name), ("POD_NAMESPACE", NAMESPACE), ("KUBERNETES_SERVICE_HOST", "127.0.0.1")]
    }

    fn daemon(&self, pair: &KubePair, name: &str) -> Result<Daemon> {
        let mut flags = pair.flags(&[])?;
        flags.extend(self.flags());
        Daemon::start(&flags, &Self::environment(name))
    }
}

fn lease_rules() -> Value {
    let named = json!(["etcd-sync-mirror"]);
    json!([
        { "apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create"] },
        { "apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "resourceNames": named, "verbs": ["get", "update"] },
    ])
}

async fn await_holder(plane: &ControlPlane, holder: &str) -> Result<Value> {
    await_until(&format!("the Lease names {holder:?}"), PATIENCE, || async {
        let lease = plane.api().get(LEASE).await?;
        let named = lease.as_ref().and_then(|lease| lease["spec"]["holderIdentity"].as_str());
        Ok((named != Some(holder)).then(|| format!("{lease:?}")))
    })
    .await?;
    Ok(plane.api().need(LEASE).await?["spec"].clone())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lease_names_the_leader_and_nobody_when_it_ends() -> Result<()> {
    let pair = KubePair::start(PairOptions::new()).await?;
    let (plane, folder) = (&pair.standby, tempfile::tempdir()?);
    plane.api().create(&namespace(NAMESPACE)).await?;
    let pod = Pod { plane, token: account(plane, folder.path(), "etcd-sync", lease_rules()).await? };
    let first = pod.daemon(&pair, "etcd-sync-7d9c5-aaaaa")?;
    first.wait_line("Acquired leader lease", PATIENCE).await?;
    let spec = await_holder(plane, "etcd-sync-7d9c5-aaaaa").await?;
    ensure!(spec["leaseTransitions"] == 0 && spec["leaseDurationSeconds"] == 15, "{spec}");
    let renewed = spec["renewTime"].clone();
    await_until("it is renewed", PATIENCE, || async {
        let now = plane.api().need(LEASE).await?["spec"]["renewTime"].clone();
        Ok((now == renewed).then(|| now.to_string()))
    })
    .await?;
    let second = pod.daemon(&pair, "etcd-sync-7d9c5-bbbbb")?;
    first.kill()?;
    second.wait_line("Acquired leader lease", PATIENCE).await?;
    let spec = await_holder(plane, "etcd-sync-7d9c5-bbbbb").await?;
    ensure!(spec["leaseTransitions"] == 1, "{spec}");
    second.terminate(PATIENCE).await?;
    await_holder(plane, "").await?;

    // The same without the right: the synchronization goes on, and says what is missing.
    let token = account(plane, folder.path(), "nobody", json!([])).await?;
    let third = Pod { plane, token }.daemon(&pair, "etcd-sync-7d9c5-ccccc")?;
    third.wait_line("cannot write the Lease of the leader", PATIENCE).await?;
    third.wait_line("Start Sync update", PATIENCE).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bootstrap_puts_the_hosts_files_into_secrets_and_looks_at_both_clusters() -> Result<()> {
    let pair = KubePair::start(PairOptions::new()).await?;
    let (plane, folder) = (&pair.standby, tempfile::tempdir()?);
    plane.api().create(&namespace(NAMESPACE)).await?;
    let names = json!(["standby-etcd", "encryption", "foreign"]);
    let rules = json!([
        { "apiGroups": [""], "resources": ["secrets"], "verbs": ["create"] },
        { "apiGroups": [""], "resources": ["secrets"], "resourceNames": names, "verbs": ["get", "update"] },
    ]);
    let pod = Pod { plane, token: account(plane, folder.path(), "bootstrap", rules).await? };
    let encryption = folder.path().join("encryption-provider.conf");
    let config = "kind: EncryptionConfiguration\napiVersion: apiserver.config.k8s.io/v1\nresources:\n\
                  - resources: [secrets]\n  providers: [{identity: {}}]\n";
    std::fs::write(&encryption, config)?;
    let bootstrap = async |more: &[&str]| {
        let mut args = vec!["bootstrap".to_owned(), format!("--encryption-config={}", encryption.display())];
        args.extend(pair.link.flags(more));
        args.extend(pod.flags());
        run_command_with(&args, &Pod::environment("etcd-sync-bootstrap"), PATIENCE).await
    };
    let done = bootstrap(&["--encryption-secret=encryption"]).await?;
    ensure!(done.code == Some(0) && done.stdout.contains("Secret cpaas-system/encryption: created"), "{done:?}");
    ensure!(done.stdout.contains("pass  etcd-versions"), "{done:?}");
    let secret = plane.api().need("/api/v1/namespaces/cpaas-system/secrets/encryption").await?;
    ensure!(secret["data"]["encryption-provider.conf"].is_string(), "it holds nothing");
    let again = bootstrap(&["--encryption-secret=encryption", "--skip-preflight"]).await?;
    ensure!(again.stdout.contains("stays as it is") && !again.stdout.contains("pass"), "{again:?}");
    std::fs::write(&encryption, format!("{config}# renewed\n"))?;
    let again = bootstrap(&["--encryption-secret=encryption", "--skip-preflight"]).await?;
    ensure!(again.stdout.contains("renewed"), "{again:?}");

    // A node without the file: a cluster that encrypts nothing.
    std::fs::remove_file(&encryption)?;
    let without = bootstrap(&["--encryption-secret=encryption"]).await?;
    ensure!(without.code == Some(0) && without.stdout.contains("encrypts nothing"), "{without:?}");
    let kept = plane.api().need("/api/v1/namespaces/cpaas-system/secrets/encryption").await?;
    ensure!(kept["data"] != secret["data"] && without.stdout.contains("stays as it is"), "the keys were taken away");
    plane.api().delete("/api/v1/namespaces/cpaas-system/secrets/encryption").await?;
    let without = bootstrap(&["--encryption-secret=encryption"]).await?;
    ensure!(without.code == Some(0) && without.stdout.contains("encryption: created"), "{without:?}");
    std::fs::write(&encryption, config)?;

    // Somebody else's is left alone; what is not there is named; a right that is missing too.
    let foreign =
        json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "foreign", "namespace": NAMESPACE } });
    plane.api().create(&foreign).await?;
    let left = bootstrap(&["--encryption-secret=foreign", "--skip-preflight"]).await?;
    ensure!(left.stdout.contains("left as it is"), "{left:?}");
    let missing = bootstrap(&["--standby-secret=standby-etcd"]).await?;
    ensure!(missing.code == Some(2) && missing.stderr.contains("--standby-cacert is missing"), "{missing:?}");
    let forbidden = bootstrap(&["--encryption-secret=another"]).await?;
    ensure!(forbidden.code == Some(2) && forbidden.stderr.contains("cannot write the Secret"), "{forbidden:?}");
    for output in [done, again, left, missing, forbidden] {
        ensure!(!(output.stdout + &output.stderr).contains("providers"), "a content is in an output");
    }
    Ok(())
}

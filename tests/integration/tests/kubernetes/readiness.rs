//! `etcd-sync preflight` where API servers answer, or do not: their readiness, clocks, certificates, and Machines.

use std::time::Duration;

use anyhow::{Context, Result};
use etcd_sync_integration::daemon::run_command;
use etcd_sync_integration::kube::{ControlPlane, KubePair, PairOptions};
use serde_json::{Value, json};

const GROUP: &str = "platform.tkestack.io";

const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const OTHER_KEY: &str = "/wECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// An EncryptionConfiguration for Secrets with this key.
fn encryption(secret: &str) -> String {
    format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: [secrets]\n  \
         providers:\n  - secretbox: {{keys: [{{name: key-1, secret: {secret}}}]}}\n  - identity: {{}}\n"
    )
}

/// What the platform calls a node of one of its clusters.
fn machine_crd() -> Value {
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("machines.{GROUP}")},
        "spec": {
            "group": GROUP, "scope": "Cluster",
            "names": {"kind": "Machine", "listKind": "MachineList", "plural": "machines", "singular": "machine"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}],
        },
    })
}

/// A token of the plane's service account that may do anything, in a folder with the authorities beside it.
async fn token(plane: &ControlPlane) -> Result<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "preflight"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "ServiceAccount", "name": "default", "namespace": "kube-system"}],
    });
    plane.api().request("POST", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", Some(&binding)).await?;
    std::fs::write(folder.path().join("token"), plane.api().token("kube-system", "default").await?)?;
    std::fs::copy(plane.authority_file(), folder.path().join("ca.crt"))?;
    Ok(folder)
}

/// The findings of one check, worst first: (level, evidence).
async fn found(args: &[String], check: &str) -> Result<(String, String)> {
    let output = run_command(args).await?;
    let document: Value = serde_json::from_str(&output.stdout).with_context(|| output.stderr)?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let findings = document["findings"].as_array().into_iter().flatten().filter(|finding| finding["check"] == check);
    let mut all: Vec<_> = findings.map(|finding| (text(&finding["level"]), text(&finding["evidence"]))).collect();
    all.sort();
    all.into_iter().next().with_context(|| format!("nothing of {check}: {document:#}"))
}

#[track_caller]
fn assert_found((level, evidence): &(String, String), expected: &str, parts: &[&str]) {
    assert_eq!(level, expected, "{evidence}");
    for part in parts {
        assert!(evidence.contains(part), "no {part:?} in: {evidence}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn api_servers_and_machines_are_asked() -> Result<()> {
    let mut options = PairOptions::new();
    (options.primary.encryption, options.standby.encryption) = (Some(encryption(KEY)), Some(encryption(KEY)));
    let pair = KubePair::start(options).await?;
    let secret = |namespace: &str| {
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": namespace},
               "stringData": {"password": "hunter2"}})
    };
    let team = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team-a"}});
    pair.primary.api().create(&team).await?;
    pair.primary.api().create(&secret("team-a")).await?;
    pair.standby.api().create(&secret("kube-system")).await?;
    let (primary, standby) = (token(&pair.primary).await?, token(&pair.standby).await?);
    let file = |folder: &tempfile::TempDir| folder.path().join("token").display().to_string();
    let mut args = vec!["preflight".to_owned()];
    args.extend(pair.flags(&["-o=json"])?);
    args.extend([
        format!("--active-cluster-vip={}", pair.primary.address()),
        format!("--active-cluster-token-file={}", file(&primary)),
        format!("--standby-api-server=https://{}", pair.standby.address()),
        format!("--standby-api-token-file={}", file(&standby)),
    ]);
    let by_kubeconfig: Vec<String> = args
        .iter()
        .filter(|flag| !flag.starts_with("--standby-api-"))
        .cloned()
        .chain([format!("--standby-kubeconfig={}", pair.standby.kubeconfig_file().display())])
        .collect();
    let daemon = pair.sync(&[]).await?;
    let outcome = async {
        asked_by_kubeconfig(&pair, &by_kubeconfig).await?;
        assert_found(&found(&args, "api-servers").await?, "pass", &["ready: the primary's", "the standby's"]);
        assert_found(&found(&args, "clocks").await?, "pass", &["the clocks of 4 others agree"]);
        assert_found(&found(&args, "certificates").await?, "pass", &["all 4 are valid"]);
        assert_found(&found(&args, "machines").await?, "pass", &["there are no Machines"]);
        assert_found(&found(&args, "encryption").await?, "pass", &["decrypts with the config given"]);
        let wrong = primary.path().join("wrong.yaml");
        std::fs::write(&wrong, encryption(OTHER_KEY))?;
        let mut with_wrong_key: Vec<String> =
            args.iter().filter(|flag| !flag.starts_with("--encryption-config=")).cloned().collect();
        with_wrong_key.push(format!("--encryption-config={}", wrong.display()));
        let parts = ["/registry/secrets/team-a/s", "its key of this name is another one"];
        assert_found(&found(&with_wrong_key, "encryption").await?, "fail", &parts);

        pair.primary.api().create(&machine_crd()).await?;
        let machine = |name: &str, phase: &str| {
            json!({"apiVersion": format!("{GROUP}/v1"), "kind": "Machine", "metadata": {"name": name},
                   "status": {"phase": phase}})
        };
        let served = || async {
            let path = format!("/apis/{GROUP}/v1/machines");
            Ok(pair.primary.api().get(&path).await?.is_some() && pair.standby.api().get(&path).await?.is_some())
        };
        let wait = Duration::from_secs(60);
        etcd_sync_integration::compare::await_true("both serve Machines", wait, served).await?;
        pair.primary.api().create(&machine("m1", "Running")).await?;
        pair.caught_up().await?;
        assert_found(&found(&args, "machines").await?, "pass", &["all run (2 on both sides together)"]);
        pair.primary.api().create(&machine("m2", "Initializing")).await?;
        assert_found(
            &found(&args, "machines").await?,
            "fail",
            &["on the primary 1 Machine is not running: m2 (Initializing)"],
        );

        pair.standby.kill_apiserver()?;
        for args in [&args, &by_kubeconfig] {
            assert_found(&found(args, "api-servers").await?, "fail", &["the standby's API server does not answer"]);
        }
        anyhow::Ok(())
    };
    pair.explain(Some(&daemon), outcome.await)
}

/// A kubeconfig is enough for every line about the standby's API server, and its own certificates count.
async fn asked_by_kubeconfig(pair: &KubePair, args: &[String]) -> Result<()> {
    let url = format!("the standby's (https://{})", pair.standby.address());
    assert_found(&found(args, "api-servers").await?, "pass", &["ready: the primary's", &url]);
    assert_found(&found(args, "clocks").await?, "pass", &["the clocks of 4 others agree"]);
    // What the servers present, the primary's authority, and the authority and the client of the kubeconfig.
    assert_found(&found(args, "certificates").await?, "pass", &["all 5 are valid"]);
    assert_found(&found(args, "machines").await?, "pass", &["there are no Machines"]);
    assert_found(&found(args, "api-versions").await?, "pass", &["Kubernetes v", " and v"]);

    let with = |file: &std::path::Path| -> Vec<String> {
        let others = args.iter().filter(|flag| !flag.starts_with("--standby-kubeconfig"));
        others.cloned().chain([format!("--standby-kubeconfig={}", file.display())]).collect()
    };
    // All of it in one file, as on a node of kubeadm.
    let folder = tempfile::tempdir()?;
    let flat = folder.path().join("flat.conf");
    std::fs::write(&flat, pair.standby.kubectl(&["config", "view", "--raw", "--flatten"]).await?)?;
    assert_found(&found(&with(&flat), "api-servers").await?, "pass", &[&url]);
    assert_found(&found(&with(&flat), "certificates").await?, "pass", &["all 5 are valid"]);
    let broken = folder.path().join("broken.conf");
    std::fs::write(&broken, "no kubeconfig")?;
    assert_found(&found(&with(&broken), "api-servers").await?, "fail", &["broken.conf cannot be used"]);
    Ok(())
}

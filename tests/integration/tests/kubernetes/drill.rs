//! `etcd-sync drill` on two real control planes and a real name server: what it finds, and that it changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use etcd_sync_core::etcd::kv::{KeyRange, Revision};
use etcd_sync_core::object::object_key::ObjectKey;
use etcd_sync_integration::bind::{Bind, Key, Zone};
use etcd_sync_integration::compare::{await_true, await_until, dump};
use etcd_sync_integration::daemon::{Daemon, Output, run_command};
use etcd_sync_integration::etcd::Cluster;
use etcd_sync_integration::exact::PATIENCE;
use etcd_sync_integration::kube::objects::{APPS, GROUP, create_crds, create_families};
use etcd_sync_integration::kube::{ControlPlane, PairOptions};
use etcd_sync_integration::process::Process;
use etcd_sync_integration::{tools, transcript};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::fixture::{Fixture, NAME, Sites, ZONE};

const SCRATCH: &str = "drill.example.test";
const SYSTEM: &str = "cpaas-system";

/// Keys with the revision of their last change and their value.
type Held = BTreeMap<Bytes, (Revision, Bytes)>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_healthy_pair_passes_and_nothing_is_changed() -> Result<()> {
    let fixture = Fixture::start().await?;
    let sites = fixture.sites();
    fill(&fixture).await?;
    let daemon = sites.sync(sites.a, sites.b).await?;
    let outcome = async {
        fixture.pair.caught_up().await?;
        ready(sites.b.plane).await?;
        passes(&fixture, &sites).await?;
        without_the_name(&fixture).await?;
        with_a_token(&sites).await?;
        ended_by_a_signal(&sites).await
    };
    let outcome = outcome.await;
    fixture.pair.explain(Some(&daemon), outcome)
}

async fn passes(fixture: &Fixture, sites: &Sites<'_>) -> Result<()> {
    let (markdown, file) = (sites.folder.join("drill.md"), sites.folder.join("drill.json"));
    let (before, domain) = (settled(sites).await?, sites.bind.lookup(NAME).await);
    let files = [format!("--markdown={}", markdown.display()), format!("--json={}", file.display())];
    let output = drill(sites, &[&files[0], &files[1]]).await?;
    let after = [objects(sites.a.etcd).await?, objects(sites.b.etcd).await?];
    println!("{}", output.stdout);
    ensure!(output.code == Some(0), "{output:?}");
    ensure!(output.stdout.contains("\nREADY: score "), "{}", output.stdout);
    transcript::quoted("drill", &output.stdout, |text| sites.told(text))?;

    // Nothing that serves is changed, and nothing is written down.
    for (before, after) in before.iter().zip(&after) {
        let keys = before.keys().chain(after.keys()).filter(|key| before.get(*key) != after.get(*key));
        let changed: BTreeSet<_> = keys.collect();
        ensure!(changed.is_empty(), "changed: {changed:?}");
    }
    for site in [sites.a, sites.b] {
        let own = held(site.etcd, "/etcd-sync/").await?;
        let names = own.keys().map(|key| String::from_utf8_lossy(key).into_owned());
        let traces: Vec<_> =
            names.filter(|key| ["journal", "promotion", "run"].iter().any(|word| key.contains(word))).collect();
        ensure!(traces.is_empty(), "{traces:?}");
    }
    let role = sites.b.etcd.get("/etcd-sync/default/role").await?.context("it has a role")?;
    ensure!(role.value == "standby", "{role:?}");
    ensure!(sites.bind.lookup(NAME).await == domain && domain.len() == 1, "{domain:?}");
    ensure!(sites.bind.count_lines(&format!("RR at '{NAME}'")) == 0, "{}", sites.bind.tail());
    ensure!(sites.bind.count_lines(&format!("adding an RR at '{SCRATCH}'")) == 1, "{}", sites.bind.tail());
    ensure!(sites.bind.lookup(SCRATCH).await.is_empty(), "{SCRATCH} is still there");

    let text = std::fs::read_to_string(&markdown)?;
    for part in ["# Drill of link default", "**READY: score ", "## kinds", "## What a switchover would do", "1. "] {
        ensure!(text.contains(part), "no {part:?} in {text}");
    }
    println!("{text}");
    let report: Value = serde_json::from_str(&std::fs::read_to_string(&file)?)?;
    ensure!(report["ready"] == true && report["score"].as_u64() > Some(50), "{report:#}");
    for part in ["dns-switch", "dns-verify", "dns-inside", "dns-remove", "restart"] {
        all_pass(&report, part)?;
    }
    let restart = &trials(&report, "restart")[0];
    ensure!(restart["what"].as_str().is_some_and(|what| what.contains("1 pod (service_name=cluster-transformer)")));
    everything_is_served(fixture, &report).await
}

/// Every resource that was synchronized was read, and counted equal.
async fn everything_is_served(fixture: &Fixture, report: &Value) -> Result<()> {
    all_pass(report, "kinds")?;
    let kinds = trials(report, "kinds");
    let read: BTreeSet<_> = kinds.iter().filter_map(|trial| trial["name"].as_str()).collect();
    // Whatever the synchronizer has written, by the API's own name.
    let written = fixture.pair.synchronized(1).await?;
    let written = written.iter().filter_map(|event| ObjectKey::parse(event.key().strip_prefix(b"/registry/")?));
    let written: BTreeSet<String> = written.map(|object| object.resource_name()).collect();
    let unread: Vec<_> = written.iter().filter(|name| !read.contains(name.as_str())).collect();
    ensure!(unread.is_empty() && written.len() > 5, "not read: {unread:?} of {written:?}");
    let widgets = format!("widgets.{GROUP}");
    let crds = "customresourcedefinitions.apiextensions.k8s.io";
    for expected in ["services", "ingresses", "secrets", "configmaps", "namespaces", "roles", crds, &widgets] {
        ensure!(read.contains(expected), "no {expected} in {read:?}");
    }
    let count = kinds.iter().find(|trial| trial["name"] == widgets.as_str());
    ensure!(count.context("it is there")?["what"].as_str().is_some_and(|what| what.starts_with("4 objects served")));
    Ok(())
}

/// A drill that skips parts is no full pass.
async fn without_the_name(fixture: &Fixture) -> Result<()> {
    let sites = Sites { domain: false, ..fixture.sites() };
    let output = sites.command("drill", sites.a, sites.b, &[]).await?;
    ensure!(output.code == Some(0), "{output:?}");
    let headline = output.stdout.lines().nth(1).unwrap_or_default();
    ensure!(
        headline.starts_with("READY IN PART: score ") && headline.ends_with("; 4 of 7 parts not rehearsed"),
        "{}",
        output.stdout
    );
    let json = sites.command("drill", sites.a, sites.b, &["-o=json"]).await?;
    let report: Value = serde_json::from_str(&json.stdout).with_context(|| json.stderr)?;
    ensure!(report["verdict"] == "ready-in-part" && report["partsNotRehearsed"] == 4, "{report:#}");
    Ok(())
}

/// From within a pod: a token that may do what docs/drills.md says, and nothing else.
async fn with_a_token(sites: &Sites<'_>) -> Result<()> {
    let plane = sites.b.plane;
    let role = |kind: &str, namespace: Option<&str>, rules: Value| {
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind,
               "metadata": {"name": "etcd-sync-drill", "namespace": namespace}, "rules": rules})
    };
    let binding = |kind: &str, of: &str, namespace: Option<&str>| {
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind,
               "metadata": {"name": "etcd-sync-drill", "namespace": namespace},
               "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": of, "name": "etcd-sync-drill"},
               "subjects": [{"kind": "ServiceAccount", "name": "etcd-sync-drill", "namespace": SYSTEM}]})
    };
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount",
                         "metadata": {"name": "etcd-sync-drill", "namespace": SYSTEM}});
    let read = json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["get", "list"]}]);
    let exec = json!([{"apiGroups": [""], "resources": ["pods/exec"], "verbs": ["get", "create"]}]);
    let api = plane.api();
    api.create(&account).await?;
    api.create(&role("Role", Some(SYSTEM), exec)).await?;
    api.create(&binding("RoleBinding", "Role", Some(SYSTEM))).await?;
    let token = sites.folder.join("token");
    std::fs::write(&token, plane.kubectl(&["create", "token", "etcd-sync-drill", "-n", SYSTEM]).await?)?;
    let flags = [
        format!("--standby-api-server=https://{}", plane.address()),
        format!("--standby-api-token-file={}", token.display()),
        format!("--standby-api-cacert={}", plane.authority_file().display()),
        "-o=json".to_owned(),
        "--dns-verify-timeout=5s".to_owned(),
        format!("--drill-name={SCRATCH}"),
    ];
    let mut args = vec!["drill".to_owned()];
    let known = sites.flags(sites.a, sites.b).into_iter();
    args.extend(known.filter(|flag| !flag.starts_with("--standby-kubeconfig") && !flag.starts_with("--journal")));
    args.extend(flags);

    let refused = run_command(&args).await?;
    let report: Value = serde_json::from_str(&refused.stdout).with_context(|| refused.stderr.clone())?;
    ensure!(refused.code == Some(1) && report["ready"] == false, "{report:#}");
    let forbidden = found(&report, "kinds", "secrets")?;
    ensure!(forbidden.0 == "fail" && forbidden.1.contains("forbidden"), "{forbidden:?}");

    api.create(&role("ClusterRole", None, read)).await?;
    api.create(&binding("ClusterRoleBinding", "ClusterRole", None)).await?;
    await_until("the right to read is known", PATIENCE, || async {
        let output = run_command(&args).await?;
        let report: Value = serde_json::from_str(&output.stdout).with_context(|| output.stderr.clone())?;
        Ok((output.code != Some(0)).then(|| format!("{report:#}")))
    })
    .await
}

/// The scratch name goes, too, when the drill is ended while it waits for a name server.
async fn ended_by_a_signal(sites: &Sites<'_>) -> Result<()> {
    let zone = Zone::Primary { name: ZONE.into(), records: String::new(), update: None };
    let behind = Bind::start(&[], &[zone]).await?;
    let mut command = Command::new(tools::etcd_sync()?);
    command.env_clear().arg("drill").args(
        sites
            .flags(sites.a, sites.b)
            .iter()
            .filter(|flag| !flag.starts_with("--dns-resolver") && !flag.starts_with("--journal")),
    );
    command.args([format!("--drill-name={SCRATCH}"), format!("--dns-resolver={}", behind.address())]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut drill = Process::spawn("etcd-sync drill", command)?;
    await_true("the name is there", PATIENCE, || async { Ok(!sites.bind.lookup(SCRATCH).await.is_empty()) }).await?;
    drill.signal(Signal::SIGTERM)?;
    let status = drill.wait(PATIENCE).await?;
    ensure!(status.code() == Some(1), "{status}");
    ensure!(sites.bind.lookup(SCRATCH).await.is_empty(), "{SCRATCH} is still there");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_broken_is_named() -> Result<()> {
    let mut options = PairOptions::new();
    for plane in [&mut options.primary, &mut options.standby] {
        "/kubernetes.io".clone_into(&mut plane.etcd_prefix);
    }
    let fixture = Fixture::start_with(options).await?;
    let sites = fixture.sites();
    fill(&fixture).await?;
    let daemon = sites.sync(sites.a, sites.b).await?;
    let outcome = async {
        fixture.pair.caught_up().await?;
        ready(sites.b.plane).await?;
        broken(&sites, &daemon).await
    };
    let outcome = outcome.await;
    fixture.pair.explain(Some(&daemon), outcome)
}

async fn broken(sites: &Sites<'_>, daemon: &Daemon) -> Result<()> {
    let output = drill(sites, &[]).await?;
    ensure!(output.code == Some(0), "{output:?}");

    // The name server knows another key.
    let other = sites.folder.join("other");
    Key::new("other")?.write(&other)?;
    let (text, report) = fails(sites, &[&format!("--dns-tsig-key-file={}", other.display())]).await?;
    ensure!(failures(&report) == [SCRATCH], "{text}");
    ensure!(text.contains("dns-verify") && text.contains("not rehearsed: the name could not be switched"), "{text}");
    println!("{text}");
    // And a name that somebody uses is left alone.
    let used = "ns1.example.test";
    let (text, report) = fails(sites, &[&format!("--drill-name={used}")]).await?;
    ensure!(failures(&report) == [used] && text.contains("it exists already (127.0.0.1)"), "{text}");
    ensure!(sites.bind.lookup(used).await.len() == 1, "{used} is gone");
    let same = drill(sites, &[&format!("--drill-name={NAME}")]).await?;
    ensure!(same.code == Some(2) && same.stderr.contains("it is the domain itself"), "{same:?}");

    // An API server of its own that is down serves nothing that is synchronized.
    let service = json!({
        "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": "v1.down.example.com"},
        "spec": {"group": "down.example.com", "version": "v1", "groupPriorityMinimum": 1000, "versionPriority": 10,
                 "service": {"name": "none", "namespace": "default"}, "insecureSkipTLSVerify": true},
    });
    sites.b.plane.api().create(&service).await?;
    await_until("the group is known to be silent", PATIENCE, || async {
        let output = drill(sites, &["-o=json"]).await?;
        let report: Value = serde_json::from_str(&output.stdout)?;
        let seen = found(&report, "kinds", "down.example.com/v1").is_ok_and(|(level, _)| level == "warn");
        Ok((output.code != Some(0) || !seen).then(|| format!("{output:?}")))
    })
    .await?;

    let key = format!("{}/configmaps/{APPS}/broken", sites.prefix);
    sites.b.etcd.put(&key, "k8s:enc:aescbc:v1:key1:nonsense").await?;
    let (text, report) = fails(sites, &[]).await?;
    println!("{text}");
    ensure!(found(&report, "kinds", "configmaps")?.0 == "fail", "{text}");
    ensure!(found(&report, "kinds", "secrets")?.0 == "pass", "{text}");

    let widgets = format!("widgets.{GROUP}");
    let crd = format!("{}/apiextensions.k8s.io/customresourcedefinitions/{widgets}", sites.prefix);
    // Else it is put back at once.
    daemon.pause()?;
    sites.b.etcd.delete(&crd).await?;
    let path = format!("/apis/{GROUP}/v1/widgets");
    let api = sites.b.plane.api();
    await_true("nobody serves widgets", PATIENCE, || async { Ok(api.get(&path).await?.is_none()) }).await?;
    let (text, report) = fails(sites, &[]).await?;
    println!("{text}");
    let missing = found(&report, "kinds", &widgets)?;
    ensure!(missing.0 == "fail" && missing.1.contains("CRD"), "{missing:?}");
    ensure!(found(&report, "kinds", &format!("apples.{GROUP}"))?.0 == "pass", "{text}");
    Ok(())
}

/// Some of everything on the primary: families with custom resources, and what keys call by another name.
async fn fill(fixture: &Fixture) -> Result<()> {
    let api = fixture.pair.primary.api();
    create_crds(api).await?;
    create_families(api, 0..4).await?;
    let meta = json!({"name": "web", "namespace": APPS});
    let backend = json!({"service": {"name": "web", "port": {"number": 80}}});
    let role = "rbac.authorization.k8s.io/v1";
    let objects = [
        json!({"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": {"ports": [{"port": 80}]}}),
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": meta,
               "spec": {"defaultBackend": backend}}),
        json!({"apiVersion": role, "kind": "Role", "metadata": meta, "rules": []}),
        json!({"apiVersion": "v1", "kind": "Event", "metadata": meta, "reason": "Tried", "type": "Normal",
               "involvedObject": {"kind": "Service", "name": "web", "namespace": APPS}}),
    ];
    api.create_all(&objects).await.map(drop)
}

async fn ready(plane: &ControlPlane) -> Result<()> {
    await_true("the pods of the standby are ready", PATIENCE, || async {
        let pods = plane.api().need(&format!("/api/v1/namespaces/{SYSTEM}/pods")).await?;
        let pods = pods["items"].as_array().context("a list has items")?.clone();
        Ok(pods.len() == 2 && pods.iter().all(|pod| pod["status"]["phase"] == "Running"))
    })
    .await
}

async fn drill(sites: &Sites<'_>, more: &[&str]) -> Result<Output> {
    let scratch = format!("--drill-name={SCRATCH}");
    let mut flags = vec!["--dns-verify-timeout=20s"];
    if more.iter().all(|flag| !flag.starts_with("--drill-name")) {
        flags.push(&scratch);
    }
    flags.extend(more);
    sites.command("drill", sites.a, sites.b, &flags).await
}

/// The text and the report of a drill that ends badly.
async fn fails(sites: &Sites<'_>, more: &[&str]) -> Result<(String, Value)> {
    let file = sites.folder.join("failed.json");
    let json = format!("--json={}", file.display());
    let output = drill(sites, &[more, &[&json]].concat()).await?;
    ensure!(output.code == Some(1) && output.stdout.contains("\nNOT READY: score "), "{output:?}");
    ensure!(output.stdout.lines().all(fits), "{}", output.stdout);
    let report: Value = serde_json::from_str(&std::fs::read_to_string(&file)?)?;
    ensure!(report["ready"] == false, "{report:#}");
    ensure!(sites.bind.lookup(SCRATCH).await.is_empty(), "{SCRATCH} is still there");
    Ok((output.stdout, report))
}

/// A key that is longer than a line stays whole.
fn fits(line: &str) -> bool {
    line.chars().count() <= 80 || !line.trim().contains(' ')
}

fn trials(report: &Value, part: &str) -> Vec<Value> {
    let parts = report["drill"]["parts"].as_array().into_iter().flatten();
    let part = parts.filter(|one| one["name"] == part).find_map(|one| one["trials"].as_array());
    part.cloned().unwrap_or_default()
}

fn all_pass(report: &Value, part: &str) -> Result<()> {
    let trials = trials(report, part);
    ensure!(!trials.is_empty() && trials.iter().all(|trial| trial["level"] == "pass"), "{part}: {trials:#?}");
    Ok(())
}

/// What was seen of one thing: the level, and in words.
fn found(report: &Value, part: &str, name: &str) -> Result<(String, String)> {
    let trial = trials(report, part).into_iter().find(|trial| trial["name"] == name);
    let trial = trial.with_context(|| format!("nothing of {name}: {report:#}"))?;
    let text = |field: &str| trial[field].as_str().unwrap_or_default().to_owned();
    Ok((text("level"), text("what")))
}

/// The names of everything that failed.
fn failures(report: &Value) -> Vec<String> {
    let parts = report["drill"]["parts"].as_array().into_iter().flatten();
    let trials = parts.flat_map(|part| part["trials"].as_array().into_iter().flatten());
    let failed = trials.filter(|trial| trial["level"] == "fail");
    failed.filter_map(|trial| trial["name"].as_str().map(str::to_owned)).collect()
}

async fn held(etcd: &Cluster, prefix: &str) -> Result<Held> {
    let all = dump(&etcd.client(), &KeyRange::prefix(prefix.as_bytes()), 0).await?;
    Ok(all.into_iter().map(|(key, kv)| (key, (kv.mod_revision, kv.value))).collect())
}

/// Everything but what comes and goes by itself, and the link's own state.
async fn objects(etcd: &Cluster) -> Result<Held> {
    let mut all = held(etcd, "/").await?;
    let passing = [
        "/etcd-sync/",
        "/registry/events/",
        "/registry/leases/",
        "/registry/masterleases/",
        "/registry/peerserverleases/",
    ];
    all.retain(|key, _| passing.iter().all(|prefix| !key.starts_with(prefix.as_bytes())));
    Ok(all)
}

/// What both etcds hold once their controllers rest.
async fn settled(sites: &Sites<'_>) -> Result<[Held; 2]> {
    let (begun, mut rested, mut last) = (Instant::now(), 0, [Held::new(), Held::new()]);
    while begun.elapsed() < PATIENCE {
        let now = [objects(sites.a.etcd).await?, objects(sites.b.etcd).await?];
        rested = if now == last { rested + 1 } else { 0 };
        if rested == 3 {
            return Ok(now);
        }
        last = now;
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    anyhow::bail!("the controllers never rest")
}

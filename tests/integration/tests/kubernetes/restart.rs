//! `restart-services` and what else the failover commands ask of API servers, on real control planes whose node kwok plays.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, anyhow, ensure};
use etcd_sync_cluster::Cluster;
use etcd_sync_cluster::kinds::read_every_kind;
use etcd_sync_cluster::lookup::nslookup;
use etcd_sync_cluster::machines::{Machine, machines};
use etcd_sync_cluster::restart::{execute, plan, restart_coredns};
use etcd_sync_core::etcd::kv::KeyRange;
use etcd_sync_integration::compare::{await_true, await_until, dump};
use etcd_sync_integration::daemon::{Output, run_command};
use etcd_sync_integration::etcd::{Cluster as Etcd, ClusterOptions};
use etcd_sync_integration::exact::PATIENCE;
use etcd_sync_integration::kube::objects::{config_map, namespace};
use etcd_sync_integration::kube::{Api, ControlPlane, Kwok, NODE, PlaneOptions, STUCK, etcd_key};
use etcd_sync_integration::terminal::Terminal;
use etcd_sync_integration::transcript;
use etcd_sync_operations::nslookup::Trouble;
use etcd_sync_store::Side;
use serde_json::{Value, json};

const SYSTEM: &str = "cpaas-system";

/// A control plane with a node.
pub struct Site {
    kwok: Kwok,
    pub plane: ControlPlane,
    pub etcd: Etcd,
}

impl Site {
    pub async fn start(name: &str) -> Result<Site> {
        let etcd = Etcd::start(ClusterOptions::default()).await?;
        let plane = ControlPlane::start(name, &etcd, PlaneOptions::default()).await?;
        let kwok = Kwok::start(&plane).await?;
        plane.api().create(&namespace(SYSTEM)).await?;
        Ok(Site { kwok, plane, etcd })
    }

    pub fn api(&self) -> &Api {
        self.plane.api()
    }

    async fn cluster(&self) -> Result<Cluster> {
        Ok(Cluster::from_kubeconfig("standby", &self.plane.kubeconfig_file()).await?)
    }

    fn explain<T>(&self, outcome: Result<T>) -> Result<T> {
        outcome.map_err(|error| anyhow!("{error:#}\n--- kwok ---\n{}\n{}", self.kwok.log(), self.plane.tail()))
    }

    async fn ready(&self, selector: &str) -> Result<BTreeSet<String>> {
        ready(self.api(), selector).await
    }

    async fn await_ready(&self, selector: &str, count: usize) -> Result<BTreeSet<String>> {
        await_ready(self.api(), selector, count).await
    }

    fn deletions(&self) -> Result<usize> {
        deletions(&self.plane)
    }

    fn flag(&self) -> String {
        format!("--standby-kubeconfig={}", self.plane.kubeconfig_file().display())
    }
}

/// The UIDs of the pods with a label that are ready and stay.
pub async fn ready(api: &Api, selector: &str) -> Result<BTreeSet<String>> {
    let pods = pods(api, selector).await?;
    let good = pods.iter().filter(|pod| is_ready(pod) && pod["metadata"]["deletionTimestamp"].is_null());
    Ok(good.filter_map(|pod| pod["metadata"]["uid"].as_str().map(str::to_owned)).collect())
}

/// Waits until so many pods with a label are ready and stay; gives their UIDs.
pub async fn await_ready(api: &Api, selector: &str, count: usize) -> Result<BTreeSet<String>> {
    await_until(&format!("{count} pods with {selector} are ready"), PATIENCE, || async {
        if ready(api, selector).await?.len() == count {
            return Ok(None);
        }
        let told = |pod: &Value| format!("{} {}", pod["metadata"], pod["status"]);
        Ok(Some(pods(api, selector).await?.iter().map(told).collect::<Vec<_>>().join("; ")))
    })
    .await?;
    ready(api, selector).await
}

/// How many deletions of pods the API server has carried out for operators.
pub fn deletions(plane: &ControlPlane) -> Result<usize> {
    let events = plane.audit()?;
    let ours = |user: &str| user == "admin" || user.contains("masters");
    Ok(events.iter().filter(|e| e.verb == "delete" && e.resource == "pods" && ours(&e.user) && e.status == 200).count())
}

pub async fn pods(api: &Api, selector: &str) -> Result<Vec<Value>> {
    let found = api.need(&format!("/api/v1/pods?labelSelector={}", selector.replace('=', "%3D"))).await?;
    Ok(found["items"].as_array().cloned().unwrap_or_default())
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|one| one["type"] == "Ready" && one["status"] == "True")
}

/// A Deployment or StatefulSet whose pods have this label, on the node.
pub fn workload(kind: &str, name: &str, label: (&str, &str), replicas: usize) -> Value {
    let labels = json!({label.0: label.1, "name": name});
    let mut object = json!({
        "apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name, "namespace": SYSTEM},
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": {"name": name}},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"nodeName": NODE, "containers": [{"name": "main", "image": "none"}]},
            },
        },
    });
    if kind == "StatefulSet" {
        object["spec"]["serviceName"] = json!(name);
    }
    object
}

async fn restart_services(args: &[&str]) -> Result<Output> {
    let args: Vec<String> = ["restart-services"].iter().chain(args).map(|arg| (*arg).to_owned()).collect();
    run_command(&args).await
}

pub const ES: &str = "service_name=cpaas-elasticsearch";
pub const WARLOCK: &str = "service_name=warlock";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_holds_old_state_is_restarted_and_waited_for() -> Result<()> {
    let (site, east) = tokio::try_join!(Site::start("standby"), Site::start("east"))?;
    let outcome = restarted(&site, &east).await;
    site.explain(east.explain(outcome))
}

async fn restarted(site: &Site, east: &Site) -> Result<()> {
    // Not ready before, and so after.
    let mut broken = workload("Deployment", "vminsert", ("service_name", "vminsert"), 1);
    broken["spec"]["template"]["metadata"]["labels"][STUCK] = json!("yes");
    let objects = [
        workload("StatefulSet", "cpaas-elasticsearch", ("service_name", "cpaas-elasticsearch"), 2),
        workload("Deployment", "alertmanager", ("service_name", "alertmanager"), 1),
        workload("Deployment", "other", ("service_name", "other"), 1),
        broken,
    ];
    site.api().create_all(&objects).await?;
    east.api().create(&workload("Deployment", "warlock", ("service_name", "warlock"), 2)).await?;
    let es = site.await_ready(ES, 2).await?;
    let alert = site.await_ready("service_name=alertmanager", 1).await?;
    let other = site.await_ready("service_name=other", 1).await?;
    let warlock = east.await_ready(WARLOCK, 2).await?;
    await_true("the broken pod is made", PATIENCE, || async {
        Ok(pods(site.api(), "service_name=vminsert").await?.len() == 1)
    })
    .await?;
    let workload = format!("--workload-kubeconfig={}", east.plane.kubeconfig_file().display());
    let flags = [site.flag(), workload];
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();

    let mut names = all_names(site.api()).await?;
    names.extend(all_names(east.api()).await?);
    let planned = restart_services(&[&flags[..], &["--dry-run"]].concat()).await?;
    println!("{}", planned.stdout);
    ensure!(planned.code == Some(0), "{planned:?}");
    for part in [
        "cpaas-elasticsearch-0",
        "cpaas-elasticsearch-1",
        "StatefulSet/cpaas-elasticsearch",
        "Deployment/alertmanager",
        "Deployment/warlock",
        "Deployment/vminsert",
        " (not ready)",
    ] {
        ensure!(planned.stdout.contains(part), "{part}: {}", planned.stdout);
    }
    let skipped = "Skipped: no pod has service_name=cluster-transformer.";
    ensure!(planned.stdout.contains(skipped) && !planned.stdout.contains("other"), "{}", planned.stdout);
    let refused = restart_services(&flags).await?;
    ensure!(refused.code == Some(1) && refused.stderr.contains("give --yes"), "{refused:?}");
    ensure!(site.ready(ES).await? == es && site.deletions()? == 0, "a plan deletes nothing");

    let done = restart_services(&[&flags[..], &["--yes"]].concat()).await?;
    println!("{}{}", done.stdout, done.stderr);
    ensure!(done.code == Some(0), "{done:?}");
    for part in [
        "standby: 4 pods deleted.",
        "cpaas-system/StatefulSet/cpaas-elasticsearch: 2 ready",
        "cpaas-system/Deployment/vminsert: 0 of 1 ready, as many as before",
        "Everything that was deleted is ready again",
    ] {
        ensure!(done.stdout.contains(part), "{part}: {}", done.stdout);
    }
    transcript::quoted("restart-services", &done.stdout, |text| told(text, &names))?;
    for (site, selector, before, count) in
        [(site, ES, &es, 2), (site, "service_name=alertmanager", &alert, 1), (east, WARLOCK, &warlock, 2)]
    {
        // The program has waited. But the played node deletes by name, and now and then hits the next pod of a StatefulSet.
        let after = site.await_ready(selector, count).await?;
        ensure!(after.is_disjoint(before), "{selector}: {before:?} {after:?}");
    }
    ensure!(site.ready("service_name=other").await? == other, "another service was restarted");

    let json = restart_services(&[&flags[..], &["--yes", "-o", "json"]].concat()).await?;
    let json: Value = serde_json::from_str(&json.stdout)?;
    ensure!(json["result"]["clusters"][0]["deleted"] == 4, "{json:#}");
    ensure!(json["plan"]["clusters"][1]["services"][0]["pods"][0]["owner"]["name"] == "warlock", "{json:#}");
    Ok(())
}

/// The names of all pods, in their order.
async fn all_names(api: &Api) -> Result<Vec<String>> {
    let found = api.need("/api/v1/pods").await?;
    let found = found["items"].as_array().context("a list has items")?;
    Ok(found.iter().filter_map(|pod| pod["metadata"]["name"].as_str().map(str::to_owned)).collect())
}

/// A transcript as the runbook tells it: what was made up for the end of a pod's name is another thing every time.
fn told(text: &str, pods: &[String]) -> String {
    let ends = ["4k7xz", "m2q9d", "x8x2p", "z5t4w", "zw6hn"];
    let made_up = pods.iter().filter_map(|pod| Some((pod, pod.rsplit_once('-').filter(|(_, end)| end.len() == 5)?.0)));
    let text = text.replace("admin.kubeconfig", "workload-1.conf");
    made_up.zip(ends).fold(text, |text, ((pod, set), end)| text.replace(pod, &format!("{set}-{end}")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_asks_on_a_terminal_and_says_what_is_not_ready() -> Result<()> {
    let site = Site::start("standby").await?;
    let outcome = asked(&site).await;
    site.explain(outcome)
}

async fn asked(site: &Site) -> Result<()> {
    let empty = restart_services(&[&site.flag(), "--yes"]).await?;
    ensure!(empty.code == Some(0) && empty.stdout.starts_with("No pod is to be restarted."), "{empty:?}");

    site.api().create(&workload("StatefulSet", "es", ("service_name", "cpaas-elasticsearch"), 1)).await?;
    let lone = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "lone", "namespace": SYSTEM, "labels": {"service_name": "cluster-transformer"}},
        "spec": {"nodeName": NODE, "containers": [{"name": "main", "image": "none"}]},
    });
    site.api().create(&lone).await?;
    let before = site.await_ready(ES, 1).await?;
    let args = ["restart-services", &site.flag(), "--restart-timeout=3s"].map(str::to_owned);
    let mut terminal = Terminal::start(&args)?;
    terminal.wait_for("Type the number of pods (1) to restart them", PATIENCE).await?;
    terminal.type_line("2")?;
    let (status, shown) = terminal.wait(PATIENCE).await?;
    ensure!(status.code() == Some(1) && shown.contains("nothing was restarted"), "{shown}");
    ensure!(site.ready(ES).await? == before, "it was restarted in spite of the answer");

    // The node dies: nothing on it ends or becomes ready any more.
    site.kwok.kill()?;
    let mut terminal = Terminal::start(&args)?;
    terminal.wait_for("Type the number of pods (1) to restart them", PATIENCE).await?;
    terminal.type_line("1")?;
    let (status, shown) = terminal.wait(PATIENCE).await?;
    println!("{shown}");
    ensure!(status.code() == Some(1), "{shown}");
    for part in [
        "NOT READY within 3.0 s: 0 of 1 ready",
        "deleted: es-0",
        "kubectl -n cpaas-system get pods -l 'service_name=cpaas-elasticsearch'",
        "Warning: cpaas-system/lone stays: no controller owns it",
    ] {
        ensure!(shown.contains(part), "{part}: {shown}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_that_is_carried_out_twice_deletes_nothing_twice() -> Result<()> {
    let site = Site::start("standby").await?;
    let outcome = twice(&site).await;
    site.explain(outcome)
}

async fn twice(site: &Site) -> Result<()> {
    // No StatefulSet: the played node deletes by name, now and then twice, and would hit the pod of the same name.
    let objects = ["es", "web"].map(|name| workload("Deployment", name, ("service_name", "cpaas-elasticsearch"), 2));
    site.api().create_all(&objects).await?;
    site.await_ready(ES, 4).await?;
    let cluster = site.cluster().await?;
    let labels = [ES.to_owned()];
    let made = plan(&[(&cluster, &labels)]).await;
    ensure!(made.count() == 4, "{made:?}");
    // As a journal keeps it.
    let kept = serde_json::from_str(&serde_json::to_string(&made)?)?;
    let first = execute(&[&cluster], &made, PATIENCE, &|_| {}).await?;
    ensure!(first.is_complete() && first.clusters[0].deleted == 4, "{first:?}");
    let after = site.ready(ES).await?;
    let second = execute(&[&cluster], &kept, PATIENCE, &|_| {}).await?;
    ensure!(second.is_complete() && second.clusters[0].deleted == 0 && second.clusters[0].gone == 4, "{second:?}");
    ensure!(site.ready(ES).await? == after, "pods of the second generation were deleted");
    ensure!(site.deletions()? >= 4, "{}", site.deletions()?);

    // A Deployment that rolls out between plan and action gets its pods from another ReplicaSet.
    let made = plan(&[(&cluster, &labels)]).await;
    let web = format!("/apis/apps/v1/namespaces/{SYSTEM}/deployments/web");
    let image = json!({"spec": {"replicas": 1, "template": {"metadata": {"annotations": {"round": "2"}}}}});
    site.api().patch(&web, &image).await?;
    let rolled = execute(&[&cluster], &made, PATIENCE, &|_| {}).await?;
    ensure!(rolled.is_complete(), "{rolled:?}");
    // And one that is gone is not waited for.
    let made = plan(&[(&cluster, &labels)]).await;
    site.api().delete(&web).await?;
    let gone = execute(&[&cluster], &made, PATIENCE, &|_| {}).await?;
    ensure!(gone.is_complete() && gone.text().contains("Deployment/web: gone since the plan"), "{}", gone.text());
    let other = execute(&[], &made, PATIENCE, &|_| {}).await.unwrap_err();
    ensure!(other.to_string().contains("names the cluster standby"), "{other}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_are_looked_up_in_a_pod_and_coredns_is_restarted() -> Result<()> {
    let site = Site::start("standby").await?;
    let outcome = looked_up(&site).await;
    site.explain(outcome)
}

async fn looked_up(site: &Site) -> Result<()> {
    let mut dns = workload("Deployment", "coredns", ("k8s-app", "kube-dns"), 2);
    dns["metadata"]["namespace"] = json!("kube-system");
    site.api().create_all(&[workload("Deployment", "sentry", ("app", "sentry"), 1), dns]).await?;
    site.await_ready("app=sentry", 1).await?;
    let before = site.await_ready("k8s-app=kube-dns", 2).await?;
    let cluster = site.cluster().await?;
    let pod = format!("{SYSTEM}/deployments/sentry").parse().map_err(|error: String| anyhow!(error))?;

    let lacking = nslookup(&cluster, &pod, "acp.example.com").await.unwrap_err();
    println!("{lacking}");
    ensure!(lacking.to_string().contains("--lookup-pod"), "{lacking}");
    site.kwok.install("nslookup", r#"printf 'Server:\t\t10.96.0.10\nAddress:\t10.96.0.10#53\n\nName:\t%s\nAddress: 192.0.2.10\nName:\t%s\nAddress: 2001:db8::10\n' "$1" "$1""#)?;
    let found = nslookup(&cluster, &pod, "acp.example.com").await?;
    ensure!(found.output.contains("acp.example.com"), "{found:?}");
    ensure!(found.said.addresses.len() == 2 && found.pod.starts_with("cpaas-system/sentry-"), "{found:?}");
    let none = r#"printf 'Server:\t\t10.96.0.10\nAddress:\t10.96.0.10#53\n\n** server cannot find %s\n' "$1"; printf "** server can't find %s: NXDOMAIN\n" "$1"; exit 1"#;
    site.kwok.install("nslookup", none)?;
    let found = nslookup(&cluster, &pod, "acp.example.com").await?;
    ensure!(found.said.trouble == Some(Trouble::NoSuchName) && found.said.addresses.is_empty(), "{found:?}");
    let absent = format!("{SYSTEM}/deployments/absent").parse().map_err(|error: String| anyhow!(error))?;
    let absent = nslookup(&cluster, &absent, "a").await.unwrap_err();
    ensure!(absent.to_string().contains("has no ready pod"), "{absent}");

    let (plan, report) = restart_coredns(&cluster, PATIENCE, &|_| {}).await?;
    ensure!(plan.count() == 2 && report.is_complete(), "{}", report.text());
    let after = site.ready("k8s-app=kube-dns").await?;
    ensure!(after.len() == 2 && after.is_disjoint(&before), "{before:?} {after:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn machines_and_every_kind_are_listed() -> Result<()> {
    let site = Site::start("standby").await?;
    let outcome = listed(&site).await;
    site.explain(outcome)
}

async fn listed(site: &Site) -> Result<()> {
    let (cluster, api) = (site.cluster().await?, site.api());
    ensure!(machines(&cluster).await?.is_none(), "there is no CRD");
    let anything = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let schema = json!({"openAPIV3Schema": {"type": "object", "properties": {"spec": anything, "status": anything}}});
    let crd = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "machines.platform.tkestack.io"},
        "spec": {
            "group": "platform.tkestack.io", "scope": "Cluster",
            "names": {"kind": "Machine", "listKind": "MachineList", "plural": "machines", "singular": "machine"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": schema}],
        },
    });
    api.create(&crd).await?;
    await_true("machines are served", PATIENCE, || async { Ok(machines(&cluster).await?.is_some()) }).await?;
    ensure!(machines(&cluster).await? == Some(vec![]));
    for (name, phase) in [("m-1", "Running"), ("m-2", "Failed")] {
        let machine = json!({
            "apiVersion": "platform.tkestack.io/v1", "kind": "Machine", "metadata": {"name": name},
            "status": {"phase": phase},
        });
        api.create(&machine).await?;
    }
    let found = machines(&cluster).await?.context("there is a CRD")?;
    let machine = |name: &str, phase: &str| Machine { name: name.into(), phase: phase.into() };
    ensure!(found == [machine("m-1", "Running"), machine("m-2", "Failed")], "{found:?}");

    // More than two pages.
    let maps: Vec<Value> = (0..1_100).map(|n| config_map(SYSTEM, &format!("map-{n}"), &[])).collect();
    api.create_all(&maps).await?;
    // Events and leases come and go, and so may kinds.
    await_until("every kind is read as etcd holds it", PATIENCE, || async {
        let kinds = api.kinds().await?;
        let reads = read_every_kind(&cluster, &|_, _| true, &|_| {}).await?;
        ensure!(reads.len() == kinds.len(), "{} kinds read, {} served", reads.len(), kinds.len());
        let keys = dump(&site.etcd.store(Side::Standby)?, &KeyRange::prefix(b"/registry/"), 0).await?;
        let wrong = reads.iter().filter_map(|read| {
            let group = read.api_version.rsplit_once('/').map_or("", |(group, _)| group);
            let prefix = etcd_key(group, &read.resource, None, "");
            let expected = keys.keys().filter(|key| key.starts_with(prefix.as_bytes())).count() as u64;
            (read.error.is_some() || read.count != expected).then(|| format!("{prefix} has {expected} keys: {read:?}"))
        });
        let wrong: Vec<String> = wrong.collect();
        ensure!(reads.iter().any(|read| read.resource == "machines" && read.count == 2), "no machines");
        Ok((!wrong.is_empty()).then(|| wrong.join("; ")))
    })
    .await?;

    // A value that nobody can decode ends the list of its kind and of no other.
    site.etcd.put(format!("/registry/configmaps/{SYSTEM}/broken"), "k8s:enc:aescbc:v1:key1:nonsense").await?;
    let few = |group: &str, resource: &str| group.is_empty() && matches!(resource, "configmaps" | "secrets" | "nodes");
    await_until("the broken kind has an error", PATIENCE, || async {
        let reads = read_every_kind(&cluster, &few, &|_| {}).await?;
        let good: BTreeMap<&str, bool> =
            reads.iter().map(|read| (read.resource.as_str(), read.error.is_none())).collect();
        let expected = BTreeMap::from([("configmaps", false), ("nodes", true), ("secrets", true)]);
        Ok((good != expected).then(|| format!("{reads:?}")))
    })
    .await?;
    let reads = read_every_kind(&cluster, &few, &|_| {}).await?;
    println!("{reads:#?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_forbidden_or_cannot_be_reached_is_told() -> Result<()> {
    let site = Site::start("standby").await?;
    let outcome = forbidden(&site).await;
    site.explain(outcome)
}

async fn forbidden(site: &Site) -> Result<()> {
    site.api().create(&workload("Deployment", "alert", ("service_name", "alertmanager"), 1)).await?;
    let before = site.await_ready("service_name=alertmanager", 1).await?;
    let folder = tempfile::tempdir()?;
    let token = folder.path().join("token");
    std::fs::write(&token, site.plane.kubectl(&["create", "token", "default", "-n", SYSTEM]).await?)?;
    let workload = format!("--workload-kubeconfig={}", site.plane.kubeconfig_file().display());
    let labels = "--workload-restart-labels=service_name=alertmanager";
    let server = format!("--standby-api-server=https://{}", site.plane.address());
    let token = format!("--standby-api-token-file={}", token.display());
    let cacert = format!("--standby-api-cacert={}", site.plane.authority_file().display());
    let done = restart_services(&[&server, &token, &cacert, &workload, labels, "--yes"]).await?;
    println!("{}{}", done.stdout, done.stderr);
    // The other cluster is restarted all the same.
    ensure!(done.code == Some(2) && done.stderr.contains("standby"), "{done:?}");
    ensure!(done.stdout.contains("pods is forbidden") && done.stdout.contains("1 pod deleted"), "{done:?}");
    ensure!(site.ready("service_name=alertmanager").await?.is_disjoint(&before), "{done:?}");

    let nowhere = restart_services(&["--standby-api-server=https://127.0.0.1:1", "--yes"]).await?;
    ensure!(nowhere.code == Some(2) && nowhere.stdout.contains("Connection refused"), "{nowhere:?}");
    let nobody = restart_services(&[]).await?;
    ensure!(nobody.code == Some(2) && nobody.stderr.contains("give --standby-kubeconfig FILE"), "{nobody:?}");
    let absent = restart_services(&["--standby-kubeconfig=/nonexistent/file"]).await?;
    ensure!(absent.code == Some(2) && absent.stderr.contains("/nonexistent/file cannot be used"), "{absent:?}");
    let wrong = restart_services(&[&site.flag(), "--restart-labels=a b"]).await?;
    println!("{}{}", wrong.stdout, wrong.stderr);
    ensure!(wrong.code == Some(2), "{wrong:?}");
    Ok(())
}

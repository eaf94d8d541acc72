//! The script that operators know, word for word, against the monitor's Service on a real API server.
//!
//! No nodes, so no kube-proxy: the test plays it. The Service's addresses, which the API server chose, become addresses of
//! this machine's loopback interface while the test runs, and what arrives there at the Service's port goes to the endpoint
//! that the EndpointSlice names. That takes CAP_NET_ADMIN and Linux's `ip`; without them the test fails and says so.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use etcd_sync_integration::compare::await_until;
use etcd_sync_integration::daemon::Daemon;
use etcd_sync_integration::exact::PATIENCE;
use etcd_sync_integration::kube::objects::{APPS, config_map, namespace};
use etcd_sync_integration::kube::{Api, ControlPlane, KubePair, PairOptions, path};
use etcd_sync_integration::tools::{self, HelmVersion};
use etcd_sync_integration::virtual_ip::forward;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// Longest run of a script.
const SCRIPT_TIMEOUT: Duration = Duration::from_secs(180);

/// Every object of the Service is here.
const NAMESPACE: &str = "cpaas-system";
const NAME: &str = "etcd-sync-monitor";

/// What operators type, on a cluster with IPv4 or IPv6 Services. `$accept` is empty or a header.
const IPV4: &str = r#"
svc=$(kubectl get svc -n cpaas-system etcd-sync-monitor -o jsonpath='{.spec.clusterIP}')
curl $accept http://$svc/check
"#;
const IPV6: &str = r#"
svc=$(kubectl get svc -n cpaas-system etcd-sync-monitor -o jsonpath='{.spec.clusterIP}')
curl $accept -g "http://[$svc]/check"
"#;
/// The second address of a Service that has both.
const SECOND: &str = r#"
svc=$(kubectl get svc -n cpaas-system etcd-sync-monitor -o jsonpath='{.spec.clusterIPs[1]}')
curl $accept -g "http://[$svc]/check"
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_known_script_works_over_ipv4_and_ipv6() -> Result<()> {
    // Of its own for each process: the addresses are the whole machine's.
    let net = 100 + std::process::id() % 100;
    let mut options = PairOptions::new();
    options.standby.service_cidr = format!("10.{net}.0.0/17,fd00:{net}::/112");
    let pods = [format!("10.{net}.128.1").parse()?, format!("fd00:{net}:1::1").parse()?];
    let pair = KubePair::start(options).await?;
    pair.primary.api().create(&namespace(APPS)).await?;
    pair.primary.api().create_all(&["kept", "lost"].map(|name| config_map(APPS, name, &[]))).await?;
    let daemon = pair.sync(&[]).await?;
    pair.caught_up().await?;
    let monitor = Daemon::start_monitor("[::]", &pair.flags(&[])?, &[])?;
    let outcome = scripts(&pair, &daemon, &monitor, pods).await;
    let told = pair.explain(Some(&daemon), outcome);
    told.with_context(|| format!("--- etcd-sync-monitor ---\n{}", monitor.tail()))
}

async fn scripts(pair: &KubePair, daemon: &Daemon, monitor: &Daemon, pods: [IpAddr; 2]) -> Result<()> {
    let (standby, api) = (&pair.standby, pair.standby.api());
    if api.get(&format!("/api/v1/namespaces/{NAMESPACE}")).await?.is_none() {
        api.create(&namespace(NAMESPACE)).await?;
    }
    let mut addresses = Addresses::default();
    for pod in pods {
        addresses.add(pod)?;
        api.create(&slice(pod, monitor.port())).await?;
    }
    let service = api.create(&service(json!(["IPv4", "IPv6"]))?).await?;
    let proxy = proxy(api, &service, &mut addresses).await?;
    for script in [IPV4, SECOND] {
        await_counts(standby, script, (0, 0)).await?;
    }

    daemon.terminate(PATIENCE).await?;
    standby.kubectl(&["delete", "configmap", "-n", APPS, "lost"]).await?;
    standby.kubectl(&["create", "configmap", "-n", APPS, "only-here"]).await?;
    let (lost, only_here) =
        (format!("/registry/configmaps/{APPS}/lost"), format!("/registry/configmaps/{APPS}/only-here"));
    for script in [IPV4, SECOND] {
        let text = run(standby, script, "").await?;
        ensure!(under(&text, "LOCAL ETCD missed keys") == Some(vec![lost.as_str()]), "{text}");
        ensure!(under(&text, "LOCAL ETCD surplus keys") == Some(vec![only_here.as_str()]), "{text}");
        let json = run(standby, script, "-H Accept:application/json").await?;
        let json: Value = serde_json::from_str(&json).with_context(|| json)?;
        ensure!(json["localMissedKeys"] == json!([lost]), "{json:#}");
        ensure!(json["localSurplusKeys"] == json!([only_here]), "{json:#}");
    }

    let _daemon = pair.sync(&[]).await?;
    await_counts(standby, IPV4, (0, 1)).await?;
    standby.kubectl(&["delete", "configmap", "-n", APPS, "only-here"]).await?;
    await_counts(standby, SECOND, (0, 0)).await?;

    // A cluster that has IPv6 Services alone.
    drop(proxy);
    api.delete(&path(&service)?).await?;
    let service = api.create(&self::service(json!(["IPv6"]))?).await?;
    let _proxy = self::proxy(api, &service, &mut addresses).await?;
    await_counts(standby, IPV6, (0, 0)).await
}

/// Runs a script until both headings are there with so many keys.
async fn await_counts(plane: &ControlPlane, script: &str, expected: (usize, usize)) -> Result<()> {
    let what = format!("{} missed and {} surplus keys", expected.0, expected.1);
    await_until(&what, PATIENCE, || async {
        let text = run(plane, script, "").await?;
        let count = |heading| under(&text, heading).map(|keys| keys.len());
        let found = (count("LOCAL ETCD missed keys"), count("LOCAL ETCD surplus keys"));
        Ok((found != (Some(expected.0), Some(expected.1))).then_some(text))
    })
    .await
}

/// The keys below a heading; `None` without the heading, or when it counts other than there are.
fn under<'a>(text: &'a str, heading: &str) -> Option<Vec<&'a str>> {
    let mut lines = text.lines().skip_while(|line| !line.starts_with(heading));
    let count: usize = lines.next()?.strip_prefix(heading)?.strip_prefix(": ")?.parse().ok()?;
    let keys =
        lines.take_while(|line| line.starts_with(' ')).map(str::trim_start).filter(|line| !line.starts_with('#'));
    let keys: Vec<&str> = keys.filter_map(|line| line.split(' ').next()).collect();
    (keys.len() == count).then_some(keys)
}

/// What a script prints, run by a shell that has nothing but kubectl, its configuration and the system's programs.
async fn run(plane: &ControlPlane, script: &str, accept: &str) -> Result<String> {
    let kubectl = plane.options().version.directory()?;
    let search = format!("{}:{}", kubectl.display(), std::env::var("PATH").unwrap_or_default());
    let config = plane.kubeconfig_file();
    let mut shell = tokio::process::Command::new("bash");
    shell.env_clear().env("PATH", search).env("KUBECONFIG", &config).env("accept", accept);
    // kubectl keeps a cache at home: that is the control plane's folder, which goes with it.
    shell.env("HOME", config.parent().context("a file lies in a folder")?);
    shell.args(["-euo", "pipefail", "-c", script]).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(SCRIPT_TIMEOUT, shell.output()).await;
    let output = output.with_context(|| format!("longer than {SCRIPT_TIMEOUT:?}: {script}"))?.context("run bash")?;
    ensure!(output.status.success(), "{script}{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).context("the script printed bytes that are not UTF-8")
}

/// The chart's Service, in these families.
fn service(families: Value) -> Result<Value> {
    let policy =
        if families.as_array().is_some_and(|families| families.len() > 1) { "PreferDualStack" } else { "SingleStack" };
    let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../charts/etcd-sync");
    let mut helm = Command::new(tools::helm(HelmVersion::default())?);
    helm.args(["template", "etcd-sync", "--namespace", NAMESPACE, "--show-only=templates/service.yaml"]);
    helm.args(["--set=active_cluster_vip=192.0.2.1", &format!("--set=monitor.service.ipFamilyPolicy={policy}")]);
    let output = helm.arg(chart).stdin(Stdio::null()).output()?;
    let text = String::from_utf8(output.stdout)?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let documents: Vec<Value> = text.split("\n---\n").map(serde_saphyr::from_str).collect::<Result<_, _>>()?;
    let mut service =
        documents.into_iter().find(|document| document["metadata"]["name"] == NAME).context("it is there")?;
    service["spec"]["ipFamilies"] = families;
    Ok(service)
}

/// Where the monitor listens, in one family.
fn slice(pod: IpAddr, port: u16) -> Value {
    let family = if pod.is_ipv4() { "IPv4" } else { "IPv6" };
    let name = format!("{NAME}-{}", family.to_lowercase());
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"kubernetes.io/service-name": NAME}},
        "addressType": family, "endpoints": [{"addresses": [pod]}], "ports": [{"name": "http", "port": port}],
    })
}

/// What kube-proxy does for this Service, until the value is dropped.
async fn proxy(api: &Api, service: &Value, addresses: &mut Addresses) -> Result<JoinSet<()>> {
    let selector = format!("labelSelector=kubernetes.io/service-name%3D{NAME}");
    let listed = format!("/apis/discovery.k8s.io/v1/namespaces/{NAMESPACE}/endpointslices?{selector}");
    let slices = api.need(&listed).await?;
    let mut proxy = JoinSet::new();
    for ip in service["spec"]["clusterIPs"].as_array().context("a Service has addresses")? {
        let ip: IpAddr = ip.as_str().context("an address is a text")?.parse()?;
        let family = if ip.is_ipv4() { "IPv4" } else { "IPv6" };
        // The controller's own, for pods that the Service selects, is empty here.
        let of_family = |slice: &&Value| slice["addressType"] == family && slice["endpoints"][0].is_object();
        let slice = slices["items"].as_array().into_iter().flatten().find(of_family);
        let slice = slice.with_context(|| format!("no EndpointSlice for {ip}"))?;
        let address = slice["endpoints"][0]["addresses"][0].as_str().context("an endpoint has an address")?;
        let port = u16::try_from(slice["ports"][0]["port"].as_u64().context("a slice has a port")?)?;
        let endpoint = SocketAddr::new(address.parse()?, port);
        let port = u16::try_from(service["spec"]["ports"][0]["port"].as_u64().context("a Service has a port")?)?;
        addresses.add(ip)?;
        let listener = TcpListener::bind((ip, port)).await;
        let listener = listener.with_context(|| format!("listen on {ip}, port {port} (below 1024: as root)"))?;
        proxy.spawn(forward(listener, endpoint));
    }
    Ok(proxy)
}

/// Addresses of the loopback interface for as long as this lives, on a panic too.
#[derive(Default)]
struct Addresses(Vec<IpAddr>);

impl Addresses {
    fn add(&mut self, address: IpAddr) -> Result<()> {
        let output = ip("replace", address).output().context("run `ip` (package iproute2), to play kube-proxy")?;
        if !output.status.success() {
            bail!(
                "this test plays kube-proxy and needs {address} on the loopback interface, but `ip` says: {}. \
                 Run it as root or with CAP_NET_ADMIN (in a container: --cap-add NET_ADMIN), with IPv6 switched on",
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        self.0.push(address);
        Ok(())
    }
}

impl Drop for Addresses {
    fn drop(&mut self) {
        for address in &self.0 {
            // An error has nobody to go to; the address leads nowhere.
            let _ = ip("del", *address).output();
        }
    }
}

fn ip(action: &str, address: IpAddr) -> Command {
    let mut command = Command::new("ip");
    let bits = if address.is_ipv4() { 32 } else { 128 };
    command.args(["address", action, &format!("{address}/{bits}"), "dev", "lo"]);
    if address.is_ipv6() && action != "del" {
        // At once: until the kernel has looked for another owner, nobody can listen on it.
        command.arg("nodad");
    }
    command
}

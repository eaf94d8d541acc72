//! `etcd-sync preflight` with the real programs: everything good passes, and each planted fault is named.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use etcd_sync_integration::bind::{Bind, Zone};
use etcd_sync_integration::compare::await_until;
use etcd_sync_integration::daemon::{Daemon, Output, run_command};
use etcd_sync_integration::etcd::ClusterOptions;
use etcd_sync_integration::exact::PATIENCE;
use etcd_sync_integration::link::{Link, await_ready, config_keys};
use serde_json::{Value, json};

/// The most that an operator waits for while a server is silent, on a busy machine.
const WORST: Duration = Duration::from_secs(30);

/// A link that has caught up, and its daemon.
async fn link(options: ClusterOptions) -> Result<(Link, Daemon)> {
    let link = Link::start(options.clone(), options).await?;
    for key in config_keys(10) {
        link.primary.put(key, "first").await?;
    }
    let daemon = link.daemon(&["--checkpoint-interval=100ms", "--holder=leader", "--leader-ttl=60s"])?;
    daemon.wait_line("Start Sync update", PATIENCE).await?;
    link.await_caught_up(PATIENCE).await?;
    Ok((link, daemon))
}

async fn plain() -> Result<(Link, Daemon)> {
    link(ClusterOptions::default()).await
}

async fn run(link: &Link, more: &[&str]) -> Result<Output> {
    let mut args = vec!["preflight".to_owned()];
    args.extend(link.flags(more));
    run_command(&args).await
}

/// What the command found, and its exit code.
#[derive(Debug)]
struct Found {
    code: Option<i32>,
    document: Value,
}

async fn preflight(link: &Link, more: &[&str]) -> Result<Found> {
    let output = run(link, &[&["-o=json"], more].concat()).await?;
    let document = serde_json::from_str(&output.stdout).with_context(|| format!("no findings: {}", output.stderr))?;
    Ok(Found { code: output.code, document })
}

impl Found {
    /// The worst finding of a check: its level and its texts.
    fn of(&self, check: &str) -> (&str, String) {
        let findings = self.document["findings"].as_array().into_iter().flatten();
        let of_check: Vec<&Value> = findings.filter(|finding| finding["check"] == check).collect();
        let worst =
            ["fail", "warn", "pass"].into_iter().find(|level| of_check.iter().any(|one| one["level"] == *level));
        let Some(worst) = worst else { return ("none", String::new()) };
        let texts = of_check.iter().filter(|one| one["level"] == worst).map(|one| {
            format!("{} -> {}", one["evidence"].as_str().unwrap_or_default(), one["fix"].as_str().unwrap_or_default())
        });
        (worst, texts.collect::<Vec<_>>().join(" | "))
    }

    #[track_caller]
    fn assert(&self, check: &str, level: &str, parts: &[&str]) {
        let (got, text) = self.of(check);
        assert_eq!(got, level, "{check}: {text}\n{:#}", self.document);
        for part in parts {
            assert!(text.contains(part), "{check}: no {part:?} in: {text}");
        }
    }

    /// These checks fail, with exit code 2, and no others.
    #[track_caller]
    fn assert_fails(&self, checks: &[&str]) {
        let mut failed: Vec<&str> = self.document["findings"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|finding| finding["level"] == "fail")
            .filter_map(|finding| finding["check"].as_str())
            .collect();
        failed.dedup();
        assert_eq!(failed, checks, "{:#}", self.document);
        assert_eq!((self.code, &self.document["verdict"]), (Some(2), &json!("fail")));
    }
}

/// Words joined by one space, each run of digits as one N: what is left is the same in every run.
fn normalized(text: &str) -> String {
    let mut plain = String::new();
    for letter in text.split_whitespace().collect::<Vec<_>>().join(" ").chars() {
        match letter.is_ascii_digit() {
            true if plain.ends_with('N') => {}
            true => plain.push('N'),
            false => plain.push(letter),
        }
    }
    plain
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_good_passes() -> Result<()> {
    let (link, _daemon) = link(ClusterOptions::default().secured()).await?;
    let second = link.daemon(&["--checkpoint-interval=100ms", "--holder=second"])?;
    await_until("two candidates stand", PATIENCE, || async {
        Ok((link.candidates().await?.len() != 2).then(|| second.tail()))
    })
    .await?;
    let output = run(&link, &[]).await?;
    assert_eq!(output.code, Some(0), "{output:?}");
    let long = |line: &&str| line.chars().count() > 80 && !line.contains('/');
    assert_eq!(output.stdout.lines().find(long), None, "{}", output.stdout);
    let certs = link.primary.certs().context("TLS is in use")?.ca.display().to_string();
    let text = normalized(&output.stdout).replace(&normalized(&certs), "CA");
    let expected = "\
pass check nothing is missed, N keys compared at the primary's revision N \
pass synchronizer leader leads (epoch N) and streams; second is ready to take over \
pass lag the standby LAG \
pass headroom the primary's history reaches N revisions back \
pass role the standby has the role of one (link default), and was synchronized from this primary \
pass encryption none of N values read is encrypted \
pass prefix the primary holds no Kubernetes below the prefixes given \
pass api-versions not asked \
pass etcd-versions nothing is known against the versions of the members \
pass quota the primary uses N MiB, the standby N MiB of its N MiB \
pass alarms the standby's etcd has raised no alarm \
pass members the primary has one member, the standby has one member \
pass api-servers no Kubernetes lies in the etcds \
pass certificates all N are valid; the next one to expire does so on N-N-NTN:N:NZ (in N days): --primary-cacert CA \
pass clocks the clocks of N others agree with this machine's \
pass machines there are no Machines \
pass dns not asked: no --domain is given \
pass client-port primary N.N.N.N:N: open, standby N.N.N.N:N: open \
Everything passed.";
    let lag = ["is where the primary is", "was N revision behind, and came up to the primary within N.N s"];
    let text = lag.iter().fold(text, |text, one| text.replace(&format!("the standby {one}"), "the standby LAG"));
    assert_eq!(text, expected, "{}", output.stdout);
    let found = preflight(&link, &[]).await?;
    assert_eq!((found.code, &found.document["verdict"]), (Some(0), &json!("pass")));
    assert_eq!(
        (&found.document["comparison"]["now"], &found.document["comparison"]["missed"]),
        (&json!(true), &json!(0))
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missed_key_fails_and_is_named() -> Result<()> {
    let (link, daemon) = plain().await?;
    daemon.terminate(PATIENCE).await?;
    let key = &config_keys(10)[7];
    link.standby.delete(key).await?;
    link.standby.put("/registry/configmaps/team-a/only-here", "1").await?;
    let found = preflight(&link, &[]).await?;
    found.assert(
        "check",
        "fail",
        &["1 key of the primary is missed", "team-a/settings-0007", "do not switch", "start it"],
    );
    found.assert("synchronizer", "fail", &["no synchronizer is running"]);
    found.assert_fails(&["check", "synchronizer"]);
    assert_eq!(found.document["comparison"]["localMissedKeys"], json!(["/registry/configmaps/team-a/settings-0007"]));
    let text = run(&link, &[]).await?;
    assert!(text.stdout.contains("only the standby has 1 key:"), "{}", text.stdout);
    assert!(text.stdout.ends_with("\nFAILED: check, synchronizer. Do not go on before that is fixed.\n"));
    // Machines are what a switch could destroy for good.
    link.primary.put("/registry/platform.tkestack.io/machines/m1", "{}").await?;
    let found = preflight(&link, &[]).await?;
    found.assert("check", "fail", &["2 keys", "machines/m1", "MACHINES ARE AMONG THEM"]);
    found.assert("machines", "warn", &["the primary's 1 Machine cannot be checked", "--active-cluster-vip"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn other_encryption_keys_fail() -> Result<()> {
    let (link, _daemon) = plain().await?;
    let encrypted = |key: &str| format!("k8s:enc:aescbc:v1:{key}:nothing that can be decrypted");
    link.primary.put("/registry/secrets/team-a/password", encrypted("key-1")).await?;
    link.standby.put("/registry/secrets/kube-system/own", encrypted("key-of-the-standby")).await?;
    let found = preflight(&link, &[]).await?;
    found.assert("encryption", "fail", &["secrets are encrypted differently", "key-1", "key-of-the-standby"]);
    assert_eq!(found.code, Some(2));
    assert!(!found.document.to_string().contains("nothing that can be decrypted"), "a value is shown");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_certificate_fails_and_is_named() -> Result<()> {
    let (link, _daemon) = link(ClusterOptions { tls: true, ..ClusterOptions::default() }).await?;
    let certs = link.primary.certs().context("TLS is in use")?;
    let expired = certs.expired_cert.display().to_string();
    let mut args = link.flags(&[]);
    args.retain(|flag| !flag.starts_with("--primary-cert=") && !flag.starts_with("--primary-key="));
    args.extend([format!("--primary-cert={expired}"), format!("--primary-key={}", certs.expired_key.display())]);
    args.insert(0, "preflight".to_owned());
    args.push("-o=json".to_owned());
    let output = run_command(&args).await?;
    let found = Found { code: output.code, document: serde_json::from_str(&output.stdout)? };
    found.assert("certificates", "fail", &[&format!("--primary-cert {expired} expired on 2020-12-31T"), "renew it"]);
    // Nothing works with it: this is why.
    found.assert("check", "fail", &["the primary does not answer"]);
    found.assert("client-port", "pass", &[": open"]);
    assert_eq!(found.code, Some(2));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn lag_fails_until_it_is_gone() -> Result<()> {
    let (link, daemon) = plain().await?;
    daemon.pause()?;
    for key in config_keys(10) {
        link.primary.put(key, "second").await?;
    }
    let found = preflight(&link, &["--max-lag=1s", "--timeout=20s"]).await?;
    found.assert("lag", "fail", &["10 revisions behind, did not come where the primary was within 1.0 s", "--max-lag"]);
    found.assert("synchronizer", "pass", &["leader leads"]);
    found.assert_fails(&["lag"]);
    daemon.resume()?;
    link.await_caught_up(PATIENCE).await?;
    assert_eq!(preflight(&link, &[]).await?.code, Some(0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_replication_fails_with_the_reason() -> Result<()> {
    let (link, daemon) = plain().await?;
    daemon.pause()?;
    let condition = json!({"paused": "somebody planted this", "since_ms": 1, "holder": "leader"});
    link.standby.put(&link.keys.condition, condition.to_string()).await?;
    let found = preflight(&link, &[]).await?;
    found.assert("synchronizer", "fail", &["replication is paused: somebody planted this", "etcd-sync status"]);
    found.assert_fails(&["synchronizer"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_that_are_not_what_they_should_be_fail() -> Result<()> {
    let (link, _daemon) = plain().await?;
    // The wrong way round: the standby is asked to be the primary.
    let swapped = [
        format!("--primary-endpoints={}", link.standby.endpoints().join(",")),
        format!("--standby-endpoints={}", link.primary.endpoints().join(",")),
        "-o=json".to_owned(),
    ];
    let output = run_command(&[&["preflight".to_owned()], &swapped[..]].concat()).await?;
    let found = Found { code: output.code, document: serde_json::from_str(&output.stdout)? };
    found.assert("role", "fail", &["the standby has no role", "the primary is itself a standby (link default)"]);
    found.assert("synchronizer", "fail", &["nothing was ever synchronized"]);
    assert_eq!(found.code, Some(2));

    link.primary.put(&link.keys.role, "demoted:another-run").await?;
    let found = preflight(&link, &[]).await?;
    found.assert("role", "fail", &["the primary was marked as demoted by another run (another-run)"]);
    found.assert_fails(&["role"]);
    link.primary.delete(&link.keys.role).await?;
    link.standby.put(&link.keys.role, "primary").await?;
    preflight(&link, &[]).await?.assert("role", "fail", &["promoted already"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_primary_is_answered_for_by_the_monitor_in_time() -> Result<()> {
    let (link, _daemon) = plain().await?;
    let monitor = link.monitor(&["--check-interval=1d", "--deep-check-interval=0"])?;
    await_ready(&monitor, 200, "answering", PATIENCE).await?;
    let (status, text) = monitor.http_with("/check", &[], PATIENCE).await?;
    ensure!(status == 200 && text.starts_with("CONSISTENT"), "{text}");
    // Connections stay open and nobody answers: the worst way to go.
    link.primary.pause_member(0)?;
    let url = format!("--monitor=http://127.0.0.1:{}", monitor.port());
    let began = Instant::now();
    let found = preflight(&link, &["--for=failover", &url]).await?;
    let took = began.elapsed();
    ensure!(took < WORST, "it took {took:?}");
    found.assert(
        "check",
        "warn",
        &["the primary does not answer", "by the monitor's last comparison, ", "nothing is missed"],
    );
    for check in ["lag", "headroom", "role", "prefix"] {
        found.assert(check, "warn", &["the primary does not answer"]);
    }
    found.assert("lag", "warn", &["applied is everything up to its revision"]);
    assert_eq!(found.code, Some(1), "{:#}", found.document);
    assert_eq!(found.document["comparison"]["now"], json!(false));

    // Asked for a planned switch, it is a failure; and what was missed then counts in any case.
    let found = preflight(&link, &[&url]).await?;
    found.assert("check", "fail", &["the primary does not answer", "nothing is missed"]);
    let found = preflight(&link, &["--for=failover"]).await?;
    found.assert("check", "warn", &["--monitor URL"]);
    link.primary.resume_member(0)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_domain_that_points_elsewhere_fails_and_one_remembered_for_long_is_warned_of() -> Result<()> {
    let (link, _daemon) = plain().await?;
    let records =
        "good 60 IN A 10.0.0.1\nlong 3600 IN A 10.0.0.1\nelsewhere 60 IN A 10.9.9.9\nswitched 60 IN A 10.0.0.2\n";
    let zone = Zone::Primary { name: "example.test".into(), records: records.into(), update: None };
    let owner = Bind::start(&[], &[zone]).await?;
    let forward = Zone::Forward { name: "example.test".into(), port: owner.port() };
    let resolver = Bind::start(&[], &[forward]).await?;
    let ask = [
        format!("--dns-authoritative={}", owner.address()),
        format!("--dns-resolver={}", resolver.address()),
        "--dns-address=10.0.0.2".to_owned(),
        "--dns-from=10.0.0.1".to_owned(),
    ];
    for (name, level, code, parts) in [
        ("good", "pass", 0, &["good.example.test points at 10.0.0.1, to be remembered for 60 s"][..]),
        ("long", "warn", 1, &["by the authoritative server", "by the resolver", "may be remembered for 3600 s", "TTL"]),
        ("elsewhere", "fail", 2, &["points at 10.9.9.9", "neither the primary's address (10.0.0.1) nor the standby's"]),
        ("switched", "warn", 1, &["points at the standby already (10.0.0.2)"]),
        ("unknown", "fail", 2, &["unknown.example.test has no address"]),
    ] {
        let domain = format!("--domain={name}.example.test");
        let flags: Vec<&str> = ask.iter().chain([&domain]).map(String::as_str).collect();
        let found = preflight(&link, &flags).await?;
        found.assert("dns", level, parts);
        assert_eq!(found.code, Some(code), "{name}: {:#}", found.document);
    }
    owner.pause()?;
    let flags: Vec<&str> = ask.iter().map(String::as_str).chain(["--domain=good.example.test"]).collect();
    let began = Instant::now();
    let found = preflight(&link, &flags).await?;
    ensure!(began.elapsed() < WORST, "it took {:?}", began.elapsed());
    found.assert("dns", "fail", &["the authoritative server", "does not say where good.example.test points"]);
    owner.resume()
}

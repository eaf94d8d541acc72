//! What operators read. The runbook quotes it: `UPDATE_DOCS=1 cargo test … transcripts` writes it there.

use anyhow::{Context, Result, ensure};
use etcd_sync_integration::bind::{Bind, Key, Zone};
use etcd_sync_integration::transcript;
use etcd_sync_store::Side;

use super::*;

/// What is around the commands, and how it is called in the runbook.
struct Fixture {
    link: Link,
    daemon: Daemon,
    bind: Bind,
    folder: tempfile::TempDir,
}

impl Fixture {
    async fn start() -> Result<Fixture> {
        let folder = tempfile::tempdir()?;
        let key = Key::new("failover-key")?;
        key.write(&folder.path().join("tsig.key"))?;
        let records = "global 60 IN A 10.0.0.10\n".to_owned();
        let zone = Zone::Primary { name: "example.com".into(), records, update: Some(key.name.clone()) };
        let bind = Bind::start(std::slice::from_ref(&key), &[zone]).await?;
        let link = Link::start(ClusterOptions::default(), ClusterOptions::default()).await?;
        for key in config_keys(40) {
            link.primary.put(&key, "first").await?;
        }
        let daemon = link.daemon(&["--holder=etcd-sync-7d9c5-x2x4k"])?;
        daemon.wait_line("Start Sync update", PATIENCE).await?;
        link.await_caught_up(PATIENCE).await?;
        await_until("a contact with the primary is on record", PATIENCE, || async {
            Ok(link.standby.get(&link.keys.primary_contact).await?.is_none().then(|| "none".to_owned()))
        })
        .await?;
        Ok(Fixture { link, daemon, bind, folder })
    }

    async fn run(&self, name: &str, more: &[&str]) -> Result<Output> {
        let mut args = vec![name.to_owned()];
        args.extend(self.link.flags(more));
        args.extend(self.domain());
        args.push("--dns-from=10.0.0.10".to_owned());
        if name != "preflight" {
            args.push(format!("--journal-folder={}", self.folder.path().display()));
        }
        run_command_with(&args, &[("USER", "ada"), ("HOSTNAME", "bastion")], PATIENCE).await
    }

    async fn dns(&self, more: &[&str]) -> Result<Output> {
        let args: Vec<String> = ["dns"].iter().chain(more).map(|&arg| arg.to_owned()).chain(self.domain()).collect();
        run_command_with(&args, &[], PATIENCE).await
    }

    fn domain(&self) -> Vec<String> {
        vec![
            "--domain=global.example.com".to_owned(),
            "--dns-address=10.1.0.10".to_owned(),
            "--dns-zone=example.com".to_owned(),
            format!("--dns-server={}", self.bind.address()),
            format!("--dns-resolver={}", self.bind.address()),
            format!("--dns-tsig-key-file={}", self.folder.path().join("tsig.key").display()),
        ]
    }

    /// A transcript as the runbook tells it.
    fn told(&self, text: &str) -> String {
        let bare = |cluster: &etcd_sync_integration::etcd::Cluster| cluster.endpoint(0).replace("http://", "");
        text.replace(&self.link.primary.endpoint(0), "https://10.0.0.1:2379")
            .replace(&self.link.standby.endpoint(0), "https://10.1.0.1:2379")
            .replace(&bare(&self.link.primary), "10.0.0.1:2379")
            .replace(&bare(&self.link.standby), "10.1.0.1:2379")
            .replace(&self.bind.address(), "10.0.0.53:53")
            .replace(&format!("127.0.0.1 {}", self.bind.port()), "10.0.0.53 53")
            .replace(&self.folder.path().display().to_string(), "~/.local/state/etcd-sync")
    }

    /// Compares a transcript with the runbook's, or writes it there.
    fn quoted(&self, name: &str, text: &str) -> Result<()> {
        transcript::quoted(name, text, |text| self.told(text))
    }
}

#[tokio::test]
async fn the_runbook_quotes_the_domain_and_a_rejoin() -> Result<()> {
    let fixture = Fixture::start().await?;
    let verify = fixture.dns(&["verify", "--dns-verify-timeout=0"]).await?;
    ensure!(verify.code == Some(1), "the name is switched already: {verify:?}");
    fixture.quoted("dns-verify", &verify.stdout)?;
    let switch = fixture.dns(&["switch", "--yes"]).await?;
    ensure!(switch.code == Some(0), "{switch:?}");
    fixture.quoted("dns-switch", &switch.stdout)?;

    kill_leader(&fixture.link, &fixture.daemon).await?;
    fixture.link.primary.put("/registry/configmaps/team-a/only-here", "never arrives").await?;
    fixture.link.primary.put(&config_keys(1)[0], "changed, and never arrives").await?;
    fixture.link.primary.kill_all()?;
    let failover = fixture.run("failover", &["--yes", "--accept-unchecked"]).await?;
    ensure!(failover.code == Some(0), "{failover:?}");
    fixture.link.primary.restart_all().await?;
    let mut args = vec!["rejoin".to_owned()];
    args.extend(fixture.link.standby.flags(Side::Primary));
    args.extend(fixture.link.primary.flags(Side::Standby));
    let folder = fixture.folder.path().display();
    args.extend(["--yes".to_owned(), format!("--backup={folder}/rejoin.jsonl"), format!("--journal-folder={folder}")]);
    let rejoin = run_command_with(&args, &[("USER", "ada"), ("HOSTNAME", "bastion")], PATIENCE).await?;
    ensure!(rejoin.code == Some(0), "{rejoin:?}");
    fixture.quoted("rejoin", &rejoin.stdout)
}

#[tokio::test]
async fn the_runbook_quotes_a_switchover() -> Result<()> {
    let fixture = Fixture::start().await?;
    let preflight = fixture.run("preflight", &[]).await?;
    ensure!(preflight.code != Some(2), "{preflight:?}");
    fixture.quoted("preflight", &preflight.stdout)?;
    let flags = ["--yes", "--stop-writers-command=ssh control-plane-1 stop-apiserver || true"];
    let switchover = fixture.run("switchover", &flags).await?;
    ensure!(switchover.code == Some(0), "{switchover:?}");
    fixture.quoted("switchover", &switchover.stdout)?;
    let journal = run(&fixture.link, "journal", fixture.folder.path(), &[]).await?;
    fixture.quoted("journal", &journal.stdout)?;
    drop(fixture.daemon);
    Ok(())
}

#[tokio::test]
async fn the_runbook_quotes_a_failover() -> Result<()> {
    let fixture = Fixture::start().await?;
    let machine = "/registry/platform.tkestack.io/machines/m-1";
    let object = |kind: &str, uid: &str, owners: &str| {
        format!(
            r#"{{"apiVersion":"v1","kind":"{kind}","metadata":{{"name":"x","uid":"{uid}","ownerReferences":[{owners}]}}}}"#
        )
    };
    let owner = r#"{"apiVersion":"platform.tkestack.io/v1","kind":"Machine","name":"m-1","uid":"u-1"}"#;
    fixture.link.primary.put(machine, object("Machine", "u-1", "")).await?;
    fixture.link.primary.put("/registry/secrets/team-a/m-1-bootstrap", object("Secret", "u-2", owner)).await?;
    fixture.link.await_caught_up(PATIENCE).await?;
    kill_leader(&fixture.link, &fixture.daemon).await?;
    fixture.link.standby.delete(machine).await?;
    let monitor = fixture.link.monitor(&["--check-interval=1s"])?;
    await_until("the monitor has seen it", PATIENCE, || async {
        let (status, body) = monitor.http("/check?last=1&format=json").await?;
        Ok((status != 200 || !body.contains("\"missed\": 1")).then_some(body))
    })
    .await?;
    fixture.link.primary.kill_all()?;
    let at = format!("--monitor=http://127.0.0.1:{}", monitor.port());
    let refused = fixture.run("failover", &["--yes", &at]).await?;
    ensure!(refused.code == Some(1), "{refused:?}");
    let (_, missed) = refused.stdout.split_once("MISSED").context("what is missed is told")?;
    fixture.quoted("failover-missed", &format!("MISSED{missed}"))?;
    let failover = fixture.run("failover", &["--yes", &at, "--accept-missing=1"]).await?;
    ensure!(failover.code == Some(0), "{failover:?}");
    fixture.quoted("failover", &failover.stdout.replace(&format!("127.0.0.1:{}", monitor.port()), "10.96.12.34"))
}

//! A run that goes on with other flags, behind the promotion.

use std::net::Ipv4Addr;

use anyhow::{Result, ensure};
use etcd_sync_integration::bind::{Bind, Key, Zone};
use etcd_sync_integration::ports;
use etcd_sync_operations::procedure::State;

use super::*;

/// A name server whose zone takes updates, and a resolver that remembers another one's answer.
pub struct DnsFixture {
    folder: tempfile::TempDir,
    pub bind: Bind,
    old: Bind,
    nobody: u16,
}

impl DnsFixture {
    pub async fn new() -> Result<DnsFixture> {
        let folder = tempfile::tempdir()?;
        let key = Key::new("failover-key")?;
        key.write(&folder.path().join("key"))?;
        let zone =
            |update| Zone::Primary { name: "example.test".into(), records: "global 1 IN A 10.0.0.1\n".into(), update };
        let bind = Bind::start(std::slice::from_ref(&key), &[zone(Some(key.name.clone()))]).await?;
        Ok(DnsFixture { folder, bind, old: Bind::start(&[], &[zone(None)]).await?, nobody: ports::free(1)?[0] })
    }

    /// The flags of a failover whose name is to point at `address`. `server`: the name server lives; `resolver`: it does not
    /// answer old any more.
    pub fn flags(&self, address: &str, server: bool, resolver: bool) -> Vec<String> {
        let server = if server { self.bind.address().to_string() } else { format!("127.0.0.1:{}", self.nobody) };
        // The one that answers old is asked until the time is up.
        let (resolver, verify) = if resolver { (self.bind.address(), "60s") } else { (self.old.address(), "2s") };
        vec![
            "--yes".to_owned(),
            "--accept-unchecked".to_owned(),
            "--accept=dns".to_owned(),
            "--domain=global.example.test".to_owned(),
            format!("--dns-address={address}"),
            "--dns-ttl=1".to_owned(),
            "--dns-zone=example.test".to_owned(),
            format!("--dns-server={server}"),
            format!("--dns-resolver={resolver}"),
            format!("--dns-verify-timeout={verify}"),
            format!("--dns-tsig-key-file={}", self.folder.path().join("key").display()),
        ]
    }

    pub async fn failover(&self, link: &Link, flags: &[String]) -> Result<Output> {
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let output = run(link, "failover", self.folder.path(), &flags).await?;
        assert_fits(&output.stdout)?;
        Ok(output)
    }

    async fn points_at(&self) -> Vec<Ipv4Addr> {
        self.bind.lookup("global.example.test").await
    }
}

fn words(output: &Output) -> String {
    output.stdout.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The name server had burned with the old site, and the address was wrong, too.
#[tokio::test]
async fn other_flags_for_what_is_left_are_told_and_journaled() -> Result<()> {
    let (link, _daemon) = caught_up().await?;
    let dns = DnsFixture::new().await?;
    link.primary.kill_all()?;
    let output = dns.failover(&link, &dns.flags("10.0.0.9", false, true)).await?;
    ensure!(output.code == Some(1) && output.stdout.contains("stopped at dns-switch"), "{output:?}");
    ensure!(role(&link.standby, &link).await? == "primary");
    let output = dns.failover(&link, &dns.flags("10.0.0.2", true, true)).await?;
    ensure!(output.code == Some(0), "{output:?}");
    for part in
        ["dns-switch is not what it was any more (point global.example.test at 10.0.0.9,", "dns-verify is not what"]
    {
        ensure!(words(&output).contains(part), "no {part:?} in {}", output.stdout);
    }
    ensure!(dns.points_at().await == [Ipv4Addr::new(10, 0, 0, 2)]);
    let runs = journal(&link).await?;
    ensure!(runs.len() == 1 && runs[0].state == State::Completed && runs[0].replanned.len() == 2, "{runs:?}");
    let shown = run(&link, "journal", Path::new("/nowhere"), &[&runs[0].id]).await?;
    ensure!(words(&shown).contains("(point global.example.test at 10.0.0.9,"), "{shown:?}");
    assert_fits(&shown.stdout)
}

/// The name was switched to one address, and then another one is wanted: what was done must not stand for it.
#[tokio::test]
async fn a_domain_that_was_switched_is_switched_again_to_another_address() -> Result<()> {
    let (link, _daemon) = caught_up().await?;
    let dns = DnsFixture::new().await?;
    link.primary.kill_all()?;
    let output = dns.failover(&link, &dns.flags("10.0.0.9", true, false)).await?;
    ensure!(output.code == Some(1) && output.stdout.contains("stopped at dns-verify"), "{output:?}");
    ensure!(dns.points_at().await == [Ipv4Addr::new(10, 0, 0, 9)]);
    let output = dns.failover(&link, &dns.flags("10.0.0.2", true, true)).await?;
    ensure!(output.code == Some(0), "{output:?}");
    let said = words(&output);
    ensure!(
        said.contains("dns-switch is not what it was any more") && said.contains("is taken again"),
        "{}",
        output.stdout
    );
    ensure!(dns.points_at().await == [Ipv4Addr::new(10, 0, 0, 2)], "the old address stayed");
    let runs = journal(&link).await?;
    ensure!(runs.len() == 1 && runs[0].state == State::Completed, "{runs:?}");
    let ended =
        runs[0].steps.iter().filter(|record| record.step == Step::DnsSwitch && record.outcome.is_some()).count();
    ensure!(ended == 2 && told(&runs[0]).contains(&"dns-verify: done".to_owned()), "{runs:?}");
    let promoted = runs[0].steps.iter().filter(|record| record.step == Step::Promote).count();
    ensure!(promoted == 1, "it was promoted again: {runs:?}");
    Ok(())
}

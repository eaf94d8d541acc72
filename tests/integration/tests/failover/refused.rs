//! A primary that answers, but not to us: who is refused has reached somebody, so nothing is gone.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use etcd_sync_integration::certs::Certs;
use etcd_sync_integration::terminal::Terminal;
use etcd_sync_operations::procedure::State;
use etcd_sync_store::Side;

use super::*;

const WHETHER: &str = "it is not known whether the primary is alive";

/// Two equal clusters, and no synchronizer that receives from the primary.
async fn alone(primary: ClusterOptions) -> Result<Link> {
    let link = Link::start(primary, ClusterOptions::default()).await?;
    for key in config_keys(3) {
        link.primary.put(&key, "first").await?;
    }
    let daemon = link.daemon(&[])?;
    link.await_caught_up(PATIENCE).await?;
    daemon.terminate(PATIENCE).await?;
    Ok(link)
}

/// A failover with other flags for the primary.
async fn failover(link: &Link, primary: &[String], folder: &Path, more: &[&str]) -> Result<Output> {
    let mut args = args(link, primary, folder, more);
    args.push("--yes".to_owned());
    run_command_with(&args, &[], PATIENCE).await
}

fn args(link: &Link, primary: &[String], folder: &Path, more: &[&str]) -> Vec<String> {
    let mut args = vec!["failover".to_owned(), "--accept-unchecked".to_owned()];
    args.extend(primary.iter().cloned());
    args.extend(link.standby.flags(Side::Standby));
    args.push(format!("--journal-folder={}", folder.display()));
    args.extend(more.iter().map(|&flag| flag.to_owned()));
    args
}

/// Refused, nothing done, and told what to check.
async fn ensure_refused(link: &Link, output: &Output, said: &[&str]) -> Result<()> {
    ensure!(output.code == Some(1), "{output:?}");
    for part in said {
        ensure!(output.stderr.contains(part), "no {part:?} in {}", output.stderr);
    }
    ensure!(role(&link.standby, link).await? == "standby" && journal(link).await?.is_empty(), "{output:?}");
    Ok(())
}

fn endpoints(link: &Link) -> String {
    format!("--primary-endpoints={}", link.primary.endpoints().join(","))
}

#[tokio::test]
async fn a_password_that_is_refused_is_no_silence() -> Result<()> {
    let link = alone(ClusterOptions { auth: true, ..ClusterOptions::default() }).await?;
    let folder = tempfile::tempdir()?;
    let wrong: PathBuf = folder.path().join("wrong");
    std::fs::write(&wrong, "not the password")?;
    let wrong =
        [endpoints(&link), "--primary-user=root".to_owned(), format!("--primary-password-file={}", wrong.display())];
    let output = failover(&link, &wrong, folder.path(), &[]).await?;
    ensure_refused(&link, &output, &[WHETHER, "--primary-password-file", "lose its writes"]).await?;
    let output = failover(&link, &wrong[..1], folder.path(), &[]).await?;
    ensure_refused(&link, &output, &[WHETHER, "--primary-user", "lose its writes"]).await?;

    // It was silent when it was looked at, and comes back while the operator reads.
    link.primary.kill_all()?;
    let mut terminal = Terminal::start(&args(&link, &wrong, folder.path(), &[]))?;
    terminal.wait_for("Type failover to go on", PATIENCE).await?;
    link.primary.restart_all().await?;
    terminal.type_line("failover")?;
    let (status, said) = terminal.wait(PATIENCE).await?;
    ensure!(status.code() == Some(1) && role(&link.standby, &link).await? == "standby", "{said}");
    let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
    ensure!(
        said.contains("the primary answers again, but not to this command") && said.contains("--abandon"),
        "{said}"
    );
    // And the run that is open now is judged again.
    let output = failover(&link, &wrong, folder.path(), &[]).await?;
    ensure!(output.code == Some(1) && output.stderr.contains("nothing more was changed"), "{output:?}");
    link.primary.kill_all()?;
    let output = failover(&link, &wrong, folder.path(), &[]).await?;
    ensure!(output.code == Some(0) && role(&link.standby, &link).await? == "primary", "{output:?}");
    ensure!(super::journal(&link).await?[0].state == State::Completed);
    Ok(())
}

#[tokio::test]
async fn a_certificate_that_is_refused_is_no_silence() -> Result<()> {
    let link = alone(ClusterOptions { tls: true, ..ClusterOptions::default() }).await?;
    let folder = tempfile::tempdir()?;
    let (ours, others) = (link.primary.certs().context("it has TLS")?, Certs::create(folder.path())?);
    let with = |ca: &Path, client: Option<(&Path, &Path)>| {
        let mut flags = vec![endpoints(&link), format!("--primary-cacert={}", ca.display())];
        flags.extend(client.iter().flat_map(|(cert, key)| {
            [format!("--primary-cert={}", cert.display()), format!("--primary-key={}", key.display())]
        }));
        flags
    };
    for (flags, said) in [
        (with(&ours.ca, Some((&others.client_cert, &others.client_key))), "etcd does not trust our client certificate"),
        (with(&ours.ca, Some((&ours.expired_cert, &ours.expired_key))), "TLS with the primary etcd"),
        (with(&ours.ca, None), "etcd asks for a client certificate"),
        (with(&others.ca, Some((&ours.client_cert, &ours.client_key))), "not signed by the CA in --primary-cacert"),
    ] {
        let output = failover(&link, &flags, folder.path(), &[]).await?;
        ensure_refused(&link, &output, &[WHETHER, said, "lose its writes"]).await.context(said)?;
    }
    // The preflight says it, too, in all that needs the primary.
    let mut args = vec!["preflight".to_owned(), "-o=json".to_owned()];
    args.extend(with(&ours.ca, Some((&ours.expired_cert, &ours.expired_key))));
    args.extend(link.standby.flags(Side::Standby));
    let looked = json(&run_command_with(&args, &[], PATIENCE).await?)?;
    for check in ["check", "lag", "role"] {
        let finding = looked["findings"].as_array().into_iter().flatten().find(|finding| finding["check"] == check);
        let evidence = finding.map(|finding| finding["evidence"].to_string()).unwrap_or_default();
        ensure!(evidence.contains("our client certificate ran out"), "{check}: {looked:#}");
    }
    Ok(())
}

/// One of three hangs, as a frozen machine does: the others are a quorum and take writes.
#[tokio::test]
async fn a_primary_of_which_one_member_hangs_is_not_gone() -> Result<()> {
    let link = alone(ClusterOptions::three()).await?;
    let folder = tempfile::tempdir()?;
    for hangs in 0..2 {
        link.primary.pause_member(hangs)?;
        // Was it the leader, the others need a moment to elect another.
        await_until("the others agree", PATIENCE, || async {
            let (a, b) = (link.primary.healthy((hangs + 1) % 3).await, link.primary.healthy((hangs + 2) % 3).await);
            Ok((!a || !b).then(|| format!("{a} {b}")))
        })
        .await?;
        let output = failover(&link, &link.primary.flags(Side::Primary), folder.path(), &[]).await?;
        ensure_refused(&link, &output, &["the primary answers", "lose its writes"]).await?;
        link.primary.resume_member(hangs)?;
    }
    Ok(())
}

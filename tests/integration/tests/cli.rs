//! The real command line: what cannot work ends at once with exit code 2 and says which flag is wrong, what was given and
//! what is expected; flag wins over environment, environment over file.

use std::net::TcpListener;

use anyhow::{Result, ensure};
use etcd_sync_integration::daemon::{Daemon, Output, run_command_with};
use etcd_sync_integration::etcd::{Cluster, ClusterOptions};
use etcd_sync_integration::exact::PATIENCE;
use etcd_sync_integration::link::{Link, await_ready};
use etcd_sync_store::Side;

/// Nobody listens there: what is wrong must show before anything is asked.
const REACH: [&str; 2] = ["--primary-endpoints=127.0.0.1:1", "--standby-endpoints=127.0.0.1:2"];

async fn run(args: &[&str], env: &[(&str, &str)]) -> Result<Output> {
    let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
    run_command_with(&args, env, PATIENCE).await
}

/// `run` with these flags ends with code 2, nothing on stdout and a text on stderr that holds all parts.
async fn refused(args: &[&str], env: &[(&str, &str)], parts: &[&str]) -> Result<()> {
    let listen = (!args.iter().any(|arg| arg.starts_with("--listen"))).then_some("--listen=127.0.0.1:0");
    let all: Vec<&str> = ["run"].into_iter().chain(listen).chain(args.iter().copied()).collect();
    let output = run(&all, env).await?;
    ensure!(output.code == Some(2), "{args:?}: code {:?}, {}", output.code, output.stderr);
    ensure!(output.stdout.is_empty(), "{args:?}: on stdout: {}", output.stdout);
    for part in parts {
        ensure!(output.stderr.contains(part), "{args:?}: no {part:?} in {}", output.stderr);
    }
    ensure!(!output.stderr.contains("panicked") && !output.stderr.contains("backtrace"), "{}", output.stderr);
    Ok(())
}

#[tokio::test]
async fn bad_values_name_flag_value_and_expectation() -> Result<()> {
    let [primary, standby] = REACH;
    for (args, parts) in [
        (vec![primary, standby, "--leader-ttl=soon"], ["--leader-ttl", "'soon'", "expected a duration from 5s to 60s"]),
        (vec![primary, standby, "--ready-lag=10"], ["--ready-lag", "'10'", "expected a duration from 1s"]),
        (vec![primary, standby, "--listen=8080"], ["--listen", "'8080'", "expected ADDR:PORT"]),
        (vec![primary, standby, "--link=Prod"], ["--link", "'Prod'", "expected 1 to 40 lower-case letters"]),
        (vec![primary, standby, "--log-format=xml"], ["--log-format", "'xml'", "possible values: text, json"]),
        (vec![primary, standby, "--primary-cert=c.pem"], ["--primary-cert", "--primary-key", "give both or neither"]),
        (vec![primary, standby, "--standby-user=u"], ["--standby-user", "--standby-password-file", "both or neither"]),
        (vec![primary, standby, "--prefix=/"], ["--prefix", "\"/\"", "longer prefix"]),
        (vec![primary], ["--standby-endpoints is missing", "ETCD_SYNC_STANDBY_ENDPOINTS", "like https://"]),
        (vec![primary, standby, "--no-such-flag"], ["--no-such-flag", "unexpected argument", "--help"]),
        (vec!["--primary-endpoints=ftp://a:1", standby], ["--primary-endpoints", "ftp://a:1", "must be http or https"]),
        (
            vec!["--primary-endpoints=http://a/b", standby],
            ["--primary-endpoints", "http://a/b", "must not hold a path"],
        ),
        (vec!["--primary-endpoints=https://a:1", standby], ["--primary-cacert", "https://a:1", "no CA is given"]),
    ] {
        refused(&args, &[], &parts).await?;
    }
    Ok(())
}

#[tokio::test]
async fn bad_files_are_named() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name).display().to_string();
    let [_, standby] = REACH;
    let tls = "--primary-endpoints=https://127.0.0.1:1";
    let missing = path("no-ca.pem");
    refused(&[tls, standby, &format!("--primary-cacert={missing}")], &[], &["--primary-cacert", &missing, "CA file"])
        .await?;
    std::fs::write(path("empty.pem"), "this is no certificate")?;
    let empty = path("empty.pem");
    refused(&[tls, standby, &format!("--primary-cacert={empty}")], &[], &["--primary-cacert", &empty]).await?;
    let missing = path("no-password");
    let password = format!("--standby-password-file={missing}");
    refused(&[REACH[0], standby, "--standby-user=u", &password], &[], &["--standby-password-file", &missing]).await?;

    let config = path("config.yaml");
    let flag = format!("--config={config}");
    std::fs::write(&config, "primary-endpoint: a:1\n")?;
    let parts = ["--config", &config, "unknown key 'primary-endpoint'", "did you mean 'primary-endpoints'"];
    refused(&[&flag], &[], &parts).await?;
    std::fs::write(&config, "leader-ttl: 1s\n")?;
    refused(&[&flag, REACH[0], standby], &[], &[&config, "'leader-ttl'", "'1s'", "from 5s to 60s"]).await?;
    std::fs::write(&config, "- leader-ttl\n")?;
    refused(&[&flag], &[], &["--config", &config]).await?;
    refused(&["--config=/nowhere.yaml"], &[], &["--config", "/nowhere.yaml", "No such file"]).await
}

#[tokio::test]
async fn a_bad_variable_is_named() -> Result<()> {
    let env = [("ETCD_SYNC_LEADER_TTL", "1s")];
    refused(&REACH, &env, &["ETCD_SYNC_LEADER_TTL", "'1s'", "--leader-ttl", "from 5s to 60s"]).await
}

#[tokio::test]
async fn a_listen_address_in_use_is_named() -> Result<()> {
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?.to_string();
    let output = run(&["run", REACH[0], REACH[1], &format!("--listen={address}")], &[]).await?;
    ensure!(output.code == Some(2), "{output:?}");
    for part in [&format!("cannot listen on {address}"), "--listen ADDR:PORT", "in use"] {
        ensure!(output.stderr.contains(part), "{part}: {}", output.stderr);
    }
    Ok(())
}

#[tokio::test]
async fn help_and_version_go_to_stdout() -> Result<()> {
    for (args, text) in [(["run", "--help"], "--primary-endpoints"), (["--version", ""], "etcd-sync ")] {
        let args: Vec<&str> = args.into_iter().filter(|arg| !arg.is_empty()).collect();
        let output = run(&args, &[]).await?;
        ensure!(output.code == Some(0) && output.stderr.is_empty() && output.stdout.contains(text), "{output:?}");
    }
    let nothing = run(&[], &[]).await?;
    ensure!(nothing.code == Some(2) && nothing.stdout.is_empty() && nothing.stderr.contains("Usage"), "{nothing:?}");
    Ok(())
}

/// The holder shows in the election and in the log, so that it tells which source won.
#[tokio::test]
async fn flag_over_environment_over_file() -> Result<()> {
    let link = Link::start(ClusterOptions::default(), ClusterOptions::default()).await?;
    link.primary.put("/registry/configmaps/team-a/a", "1").await?;
    let folder = tempfile::tempdir()?;
    let config = folder.path().join("config.yaml");
    // The clusters come from the file alone.
    let [primary, standby] = [link.primary.endpoint(0), link.standby.endpoint(0)];
    let yaml = format!("primary-endpoints: ['{primary}']\nstandby-endpoints: ['{standby}']\nholder: of-the-file\n");
    std::fs::write(&config, format!("{yaml}ready-lag: 7s\nlog-format: json\n"))?;
    let file = format!("--config={}", config.display());
    let variable = ("ETCD_SYNC_HOLDER", "of-the-environment");
    let path = config.display().to_string();
    for (args, env, expected) in [
        (vec![file.clone()], vec![], "of-the-file"),
        (vec![], vec![("ETCD_SYNC_CONFIG", path.as_str())], "of-the-file"),
        (vec![file.clone()], vec![variable], "of-the-environment"),
        (vec![file.clone()], vec![("ETCD_SYNC_HOLDER", "")], "of-the-file"),
        (vec![file.clone(), "--holder=of-the-flag".to_owned()], vec![variable], "of-the-flag"),
    ] {
        let daemon = Daemon::start(&args, &env)?;
        let line = daemon.wait_line("Acquired leader lease", PATIENCE).await?;
        let line: serde_json::Value = serde_json::from_str(&line)?;
        assert_eq!(line["holder"], expected);
        assert_eq!(link.candidates().await?[0].value, expected);
        await_ready(&daemon, 200, "caught up", PATIENCE).await?;
        assert!(daemon.terminate(PATIENCE).await?.success());
    }
    Ok(())
}

/// What is wrong with certificates shows when they are used, and does not end the process: a rotation may be under way.
#[tokio::test]
async fn a_missing_client_certificate_names_the_flags_to_set() -> Result<()> {
    let secured = Cluster::start(ClusterOptions { tls: true, ..Default::default() }).await?;
    let plain = Cluster::start(ClusterOptions::default()).await?;
    let mut flags = plain.flags(Side::Primary);
    flags.extend(
        secured.flags(Side::Standby).into_iter().filter(|flag| !flag.contains("cert=") && !flag.contains("key=")),
    );
    flags.extend(secured.flags(Side::Standby).into_iter().filter(|flag| flag.contains("cacert=")));
    let daemon = Daemon::start(&flags, &[])?;
    let line = daemon.wait_line("set --standby-cert and --standby-key", PATIENCE).await?;
    ensure!(line.contains(&secured.endpoint(0)), "{line}");
    await_ready(&daemon, 503, "set --standby-cert and --standby-key", PATIENCE).await?;
    assert_eq!(daemon.exited()?, None);
    Ok(())
}

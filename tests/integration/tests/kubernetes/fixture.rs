//! The sites of the failover commands: two control planes with a node each, and a name server that takes updates.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Result;
use etcd_sync_integration::bind::{Bind, Key, Zone};
use etcd_sync_integration::daemon::{Daemon, Output, run_command_with};
use etcd_sync_integration::etcd::Cluster;
use etcd_sync_integration::exact::PATIENCE;
use etcd_sync_integration::kube::objects::{APPS, namespace};
use etcd_sync_integration::kube::{ControlPlane, KubePair, Kwok, PairOptions};
use etcd_sync_integration::process::Process;
use etcd_sync_integration::tools;
use etcd_sync_store::Side;
use tempfile::TempDir;

/// The zone of the name server.
pub const ZONE: &str = "example.test";
/// What users look up.
pub const NAME: &str = "global.example.test";
/// Longest run of a command.
pub const COMMAND: Duration = Duration::from_secs(300);

/// One of the two sites. They change roles, and keep their names.
#[derive(Clone, Copy)]
pub struct Site<'a> {
    pub name: &'static str,
    pub address: Ipv4Addr,
    pub plane: &'a ControlPlane,
    pub etcd: &'a Cluster,
}

/// Both sites, and what is around them.
pub struct Sites<'a> {
    pub a: Site<'a>,
    pub b: Site<'a>,
    pub bind: &'a Bind,
    pub key: PathBuf,
    pub folder: &'a Path,
    /// Whether commands know of the name that users look up.
    pub domain: bool,
    /// Where the API servers keep everything, as `--etcd-prefix` says it.
    pub prefix: &'a str,
}

/// What a test starts.
pub struct Fixture {
    pub pair: KubePair,
    pub bind: Bind,
    pub folder: TempDir,
    /// Those of the primary and of the standby.
    pub nodes: [Kwok; 2],
}

impl Sites<'_> {
    /// The flags for a link from `primary` to `standby`, with the name switched to the latter.
    pub fn flags(&self, primary: Site<'_>, standby: Site<'_>) -> Vec<String> {
        let mut flags = primary.etcd.flags(Side::Primary);
        flags.extend(standby.etcd.flags(Side::Standby));
        let (address, kubeconfig) = (standby.address, standby.plane.kubeconfig_file());
        flags.extend([
            format!("--standby-kubeconfig={}", kubeconfig.display()),
            format!("--journal-folder={}", self.folder.display()),
            self.prefix_flag(),
        ]);
        if !self.domain {
            return flags;
        }
        flags.extend([
            format!("--domain={NAME}"),
            format!("--dns-address={address}"),
            format!("--dns-from={}", primary.address),
            "--dns-ttl=1".to_owned(),
            format!("--dns-server={}", self.bind.address()),
            format!("--dns-zone={ZONE}"),
            format!("--dns-tsig-key-file={}", self.key.display()),
            format!("--dns-resolver={}", self.bind.address()),
        ]);
        flags
    }

    /// Runs a command.
    pub async fn command(&self, name: &str, primary: Site<'_>, standby: Site<'_>, more: &[&str]) -> Result<Output> {
        let args: Vec<String> = [name].iter().chain(more).map(|&arg| arg.to_owned()).collect();
        let env = self.environment(primary, standby);
        let env: Vec<(&str, &str)> = env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        run_command_with(&args, &env, COMMAND).await
    }

    /// Starts a command that is going to be killed.
    pub fn start(&self, name: &str, primary: Site<'_>, standby: Site<'_>, more: &[&str]) -> Result<Process> {
        let mut command = Command::new(tools::etcd_sync()?);
        command.env_clear().envs(self.environment(primary, standby)).arg(name).args(more);
        // What it runs needs a shell's programs.
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Process::spawn(format!("etcd-sync {name}"), command)
    }

    /// One set of flags for all commands: those that one does not know come by the environment. And who is at the keyboard.
    fn environment(&self, primary: Site<'_>, standby: Site<'_>) -> Vec<(String, String)> {
        let flags = self.flags(primary, standby);
        let flags = flags.iter().filter_map(|flag| flag.trim_start_matches("--").split_once('='));
        let variable = |flag: &str| format!("ETCD_SYNC_{}", flag.to_uppercase().replace('-', "_"));
        let user = [("USER", "ada"), ("HOSTNAME", "bastion")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        flags.map(|(flag, value)| (variable(flag), value.to_owned())).chain(user).collect()
    }

    /// Starts a synchronizer and waits until it has caught up.
    pub async fn sync(&self, primary: Site<'_>, standby: Site<'_>) -> Result<Daemon> {
        let daemon = self.daemon(primary, standby)?;
        daemon.wait_line("Start Sync update", PATIENCE).await?;
        Ok(daemon)
    }

    /// A synchronizer.
    pub fn daemon(&self, primary: Site<'_>, standby: Site<'_>) -> Result<Daemon> {
        let mut flags = primary.etcd.flags(Side::Primary);
        flags.extend(standby.etcd.flags(Side::Standby));
        flags.push(self.prefix_flag());
        Daemon::start(&flags, &[])
    }

    /// A transcript as the runbook tells it: `a` is the primary.
    pub fn told(&self, text: &str) -> String {
        let mut told = text.to_owned();
        for (site, network) in [(self.a, "10.0.0"), (self.b, "10.1.0")] {
            told = told
                .replace(&site.etcd.endpoint(0), &format!("https://{network}.1:2379"))
                .replace(&site.etcd.endpoint(0).replace("http://", ""), &format!("{network}.1:2379"))
                .replace(&site.plane.address(), &format!("{network}.1:6443"));
        }
        told.replace(&self.b.address.to_string(), "10.1.0.10")
            .replace(&self.a.address.to_string(), "10.0.0.10")
            .replace(&self.bind.address(), "10.0.0.53:53")
            .replace(ZONE, "example.com")
            .replace(&self.folder.display().to_string(), "~/.local/state/etcd-sync")
    }

    fn prefix_flag(&self) -> String {
        format!("--prefix={}/", self.prefix)
    }
}

impl Fixture {
    /// A pair of the usual kind.
    pub async fn start() -> Result<Fixture> {
        Fixture::start_with(PairOptions::new()).await
    }

    /// This pair, with a name server and a node on either side.
    pub async fn start_with(options: PairOptions) -> Result<Fixture> {
        let folder = tempfile::tempdir()?;
        let key = Key::new("failover-key")?;
        let records = "global 1 IN A 10.0.0.1\n".to_owned();
        let zone = Zone::Primary { name: ZONE.into(), records, update: Some(key.name.clone()) };
        let bind = Bind::start(std::slice::from_ref(&key), &[zone]).await?;
        key.write(&folder.path().join("key"))?;
        let pair = KubePair::start(options).await?;
        pair.primary.api().create(&namespace(APPS)).await?;
        let nodes = [node(&pair.primary, &bind).await?, node(&pair.standby, &bind).await?];
        Ok(Fixture { pair, bind, folder, nodes })
    }

    /// What a test acts on.
    pub fn sites(&self) -> Sites<'_> {
        let KubePair { primary, standby, link, .. } = &self.pair;
        let site = |name, last, plane, etcd| Site { name, address: Ipv4Addr::new(10, 0, 0, last), plane, etcd };
        Sites {
            a: site("a", 1, primary, &link.primary),
            b: site("b", 2, standby, &link.standby),
            bind: &self.bind,
            key: self.folder.path().join("key"),
            folder: self.folder.path(),
            domain: true,
            prefix: &primary.options().etcd_prefix,
        }
    }
}

async fn node(plane: &ControlPlane, bind: &Bind) -> Result<Kwok> {
    plane.api().create(&namespace("cpaas-system")).await?;
    Kwok::management(plane, bind).await
}

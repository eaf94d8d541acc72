//! The platform's name in the DNS: asks name servers where it points, and switches it. What is judged and said lies in
//! `etcd_sync_operations::dns`.

mod command;
mod error;
mod message;
mod servers;
mod update;
mod wire;

use std::collections::BTreeSet;
use std::io::Read;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use etcd_sync_operations::dns::{
    Answer, Change, KEY_FILE_MAX, Kind, Records, Report, Said, Target, TsigKey, Verdict, Way, seconds,
};
use etcd_sync_operations::text::redacted_command;
use etcd_sync_program::config::{DnsChange, DnsConfig};
use futures_util::future::join_all;
use serde_json::{Value, json};
use tracing::warn;
use zeroize::Zeroizing;

use command::Action;
pub use error::DnsError;
use servers::Server;
use update::Primary;

/// Pause between two looks.
const PAUSE: Duration = Duration::from_secs(1);

/// Looks in a row after which a server that says nothing is taken for dead.
const SILENT_LOOKS: u32 = 3;

/// A name and where it must point. Nothing is kept between calls: each of them asks again.
#[derive(Clone, Debug)]
pub struct Dns {
    target: Target,
    hands: Hands,
    way: Way,
    config: DnsConfig,
    run: String,
}

/// What changes the name.
#[derive(Clone, Debug)]
enum Hands {
    Update(Primary),
    Command { text: String, limit: Duration },
    People,
}

/// How a switch went.
#[derive(Clone, Debug)]
pub enum Switched {
    /// The name points at the target already: nothing was done.
    Already,
    /// The record is changed.
    Updated {
        /// What the server had.
        before: Records,
        /// What it has.
        after: Records,
    },
    /// The operator's command was run, and says that it went well.
    Ran {
        /// The command.
        command: String,
    },
    /// People have to do this; nothing was done.
    Manual(String),
}

/// The time is up, and not everybody says the target.
#[derive(Debug, thiserror::Error)]
#[error("{summary}{hint}")]
pub struct Stale {
    /// What everybody said at last.
    pub answers: Vec<Answer>,
    summary: String,
    hint: String,
}

impl Dns {
    /// `None`: no name is given.
    ///
    /// # Errors
    /// A key file that cannot be used.
    pub fn new(config: &DnsConfig) -> Result<Option<Dns>, DnsError> {
        let Some(target) = config.target.clone() else { return Ok(None) };
        let (hands, way) = match &config.change {
            DnsChange::Update { server, zone, key_file } => {
                let key = key_file.as_deref().map(read_key).transpose()?;
                let way = Way::Update {
                    server: server.clone(),
                    zone: zone.clone(),
                    key: key.as_ref().map(|key| key.name.clone()),
                    key_file: key_file.as_ref().map(|file| file.display().to_string()),
                };
                (Hands::Update(Primary { server: server.clone(), zone: zone.clone(), key }), way)
            }
            DnsChange::Command { command, timeout } => {
                (Hands::Command { text: command.clone(), limit: *timeout }, Way::Command(command.clone()))
            }
            DnsChange::Manual => (Hands::People, Way::Manual),
        };
        Ok(Some(Dns { target, hands, way, config: config.clone(), run: String::new() }))
    }

    /// The same machinery for another name: a rehearsal's.
    pub fn with_name(&self, name: &str, addresses: impl IntoIterator<Item = IpAddr>) -> Dns {
        let target = Target {
            name: name.to_owned(),
            addresses: addresses.into_iter().collect::<BTreeSet<_>>(),
            ttl_s: self.target.ttl_s,
        };
        Dns { target, ..self.clone() }
    }

    /// The same with the name of the run that this is part of, for `--dns-command`.
    pub fn with_run(&self, run: &str) -> Dns {
        Dns { run: run.to_owned(), ..self.clone() }
    }

    /// The name and where it must point.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Whether people have to change the name.
    pub fn is_manual(&self) -> bool {
        matches!(self.hands, Hands::People)
    }

    /// How long [`Dns::verify`] waits.
    pub fn patience(&self) -> Duration {
        self.config.verify_timeout
    }

    /// What every server of the zone and every resolver says now. One that cannot even be found is among them, with the reason.
    ///
    /// A resolver that is asked may keep the answer for its time to live: do not look just before a switch.
    pub async fn look(&self) -> Vec<Answer> {
        let resolvers = servers::resolvers(&self.config.resolvers).await;
        let owners = self.owners(&resolvers).await;
        let name = &self.target.name;
        let (owners, resolvers) = tokio::join!(
            ask_all(owners, Kind::Authoritative, "servers of the zone", name),
            ask_all(resolvers, Kind::Resolver, "resolvers", name)
        );
        owners.into_iter().chain(resolvers).collect()
    }

    /// Whether these answers name the target, but for servers that say nothing.
    pub fn points_at_target(&self, answers: &[Answer]) -> bool {
        self.target.verdict(answers) != Verdict::Old
    }

    /// The answers, for people and programs.
    pub fn report<'a>(&'a self, answers: &'a [Answer]) -> Report<'a> {
        Report { target: &self.target, answers, further: &[] }
    }

    /// What the servers of the zone have now, resolvers left alone; `None`: they cannot be asked, and need not be, because
    /// somebody else does the change.
    ///
    /// # Errors
    /// The server that takes updates does not answer.
    pub async fn now(&self) -> Result<Option<Records>, DnsError> {
        if let Hands::Update(primary) = &self.hands {
            return primary.look(&self.target.name).await.map(Some);
        }
        Ok(self.seen().await.map(|(records, _)| records))
    }

    /// The change from what is there now.
    pub fn describe<'a>(&'a self, now: Option<&'a Records>) -> Change<'a> {
        Change { target: &self.target, way: &self.way, now }
    }

    /// Points the name at the target. Looks first, so that it may be run again at any time.
    ///
    /// # Errors
    /// It did not work, or nobody knows.
    pub async fn switch(&self) -> Result<Switched, DnsError> {
        if let Hands::Update(primary) = &self.hands {
            return primary.set(&self.target).await;
        }
        let seen = self.seen().await;
        if seen.as_ref().is_some_and(|(_, reached)| *reached) {
            return Ok(Switched::Already);
        }
        let old = seen.map(|(records, _)| records);
        match &self.hands {
            Hands::Command { text, limit } => {
                command::run(text, *limit, Action::Set, &self.target, old.as_ref(), &self.run).await?;
                Ok(Switched::Ran { command: text.clone() })
            }
            _ => Ok(Switched::Manual(self.describe(old.as_ref()).text())),
        }
    }

    /// Takes the name away: a rehearsal's.
    ///
    /// # Errors
    /// It did not work; or people have to do it.
    pub async fn remove(&self) -> Result<(), DnsError> {
        match &self.hands {
            Hands::Update(primary) => primary.remove(&self.target).await,
            Hands::Command { text, limit } => {
                command::run(text, *limit, Action::Remove, &self.target, None, &self.run).await
            }
            Hands::People => Err(DnsError::RemoveByHand { name: self.target.name.clone() }),
        }
    }

    /// Looks again and again until everybody says the target, but for servers that say nothing several times in a row.
    /// `progress` sees what was found each time.
    ///
    /// # Errors
    /// The time is up.
    pub async fn verify(&self, progress: &(dyn Fn(&[Answer]) + Sync)) -> Result<Vec<Answer>, Stale> {
        let start = Instant::now();
        let mut silent = 0;
        loop {
            let answers = self.look().await;
            progress(&answers);
            let verdict = self.target.verdict(&answers);
            silent = if verdict == Verdict::Silent { silent + 1 } else { 0 };
            let late = start.elapsed() + PAUSE >= self.patience();
            if verdict == Verdict::Good || silent >= SILENT_LOOKS || (verdict == Verdict::Silent && late) {
                return Ok(answers);
            }
            if late {
                return Err(self.stale(answers));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn stale(&self, answers: Vec<Answer>) -> Stale {
        let summary = self.report(&answers).summary();
        let hint = match self.target.longest_old_s(&answers) {
            Some(left) if !self.patience().is_zero() => format!(
                " Wait {} and run `etcd-sync dns verify`, empty that resolver's cache, or give more --dns-verify-timeout.",
                seconds(left)
            ),
            _ => String::new(),
        };
        Stale { answers, summary, hint }
    }

    /// What somebody who has the zone says, and whether all who say anything name the target; the resolvers' word where
    /// nobody else says anything.
    async fn seen(&self) -> Option<(Records, bool)> {
        let resolvers = servers::resolvers(&self.config.resolvers).await;
        let owners = self.owners(&resolvers).await;
        let name = &self.target.name;
        let mut answers = ask_all(owners, Kind::Authoritative, "servers of the zone", name).await;
        let first = |answers: &[Answer]| {
            answers.iter().find_map(|answer| match &answer.said {
                Said::Records(records) => Some(records.clone()),
                Said::Failed(_) => None,
            })
        };
        if first(&answers).is_none() {
            answers = ask_all(resolvers, Kind::Resolver, "resolvers", name).await;
        }
        let reached = self.points_at_target(&answers);
        first(&answers).map(|records| (records, reached))
    }

    async fn owners(&self, resolvers: &Result<Vec<Server>, String>) -> Result<Vec<Server>, String> {
        let given = match (&self.config.authoritative[..], &self.config.change) {
            ([], DnsChange::Update { server, .. }) => std::slice::from_ref(server),
            (given, _) => given,
        };
        if !given.is_empty() {
            return Ok(join_all(given.iter().map(Server::named)).await);
        }
        let resolvers = resolvers.as_ref().map_err(Clone::clone)?;
        servers::of_zone(&self.target.name, self.config.zone.as_deref(), resolvers).await
    }
}

impl Switched {
    /// For people, one line or several.
    pub fn text(&self, target: &Target) -> String {
        match self {
            Switched::Already => format!("Nothing was changed: {target} already.\n"),
            Switched::Updated { before, after } => {
                let list = etcd_sync_operations::dns::list;
                format!("Changed: {} was {}, is {}.\n", target.name, list(&before.addresses), list(&after.addresses))
            }
            Switched::Ran { .. } => "The command ended well.\n".to_owned(),
            Switched::Manual(text) => text.clone(),
        }
    }

    /// For programs.
    pub fn json(&self) -> Value {
        match self {
            Switched::Already => json!({ "kind": "already" }),
            Switched::Updated { before, after } => {
                json!({ "kind": "updated", "before": before.addresses, "after": after.addresses })
            }
            Switched::Ran { command } => json!({ "kind": "ran", "command": redacted_command(command) }),
            Switched::Manual(_) => json!({ "kind": "manual" }),
        }
    }
}

async fn ask_all(servers: Result<Vec<Server>, String>, kind: Kind, what: &str, name: &str) -> Vec<Answer> {
    match servers {
        Ok(servers) => join_all(servers.iter().map(|server| server.ask(kind, name))).await,
        Err(why) => vec![Answer { server: what.to_owned(), kind, said: Said::Failed(why) }],
    }
}

fn read_key(file: &Path) -> Result<TsigKey, DnsError> {
    let unreadable = |source| DnsError::KeyFileUnreadable { file: file.to_owned(), source };
    let opened = std::fs::File::open(file).map_err(unreadable)?;
    let mode = opened.metadata().map_err(unreadable)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        let file = file.display();
        warn!("{file} (--dns-tsig-key-file) may be read by others (mode {mode:04o}): chmod 600 {file}");
    }
    let mut text = Zeroizing::new(String::new());
    let length = opened.take(KEY_FILE_MAX + 1).read_to_string(&mut text).map_err(unreadable)?;
    if length as u64 > KEY_FILE_MAX {
        return Err(DnsError::KeyFileLarge { file: file.to_owned() });
    }
    TsigKey::parse(&text).map_err(|source| DnsError::KeyFile { file: file.to_owned(), source })
}

//! `etcd-sync restore`: puts keys back that were saved before they were taken away, in a file or on the standby itself.

use std::slice::from_ref;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use etcd_sync_core::etcd::kv::{KeyValue, printable};
use etcd_sync_core::etcd::request::ReadRange;
use etcd_sync_core::link::state::{Checkpoint, Phase, cluster_id_text};
use etcd_sync_core::scope::Scope;
use etcd_sync_core::scope::content::{self, Decoded};
use etcd_sync_kms::Encryption;
use etcd_sync_operations::prune::standby;
use etcd_sync_operations::restore::{Item, Refusal, Report, State, order, put_back, putting_back};
use etcd_sync_operations::saved::Head;
use etcd_sync_program::args::TableOutput;
use etcd_sync_program::config::{Config, RestoreConfig, RestoreSource};
use etcd_sync_store::link::compare::CheckError;
use etcd_sync_store::link::pair::Pair;
use etcd_sync_store::link::record::{Record, saved_values};
use etcd_sync_store::{Error, Etcd, WriteError};
use futures_util::stream::{StreamExt, TryStreamExt, iter};
use serde_json::json;

use super::primary::Primary;
use crate::operations::saved_file::Saved;
use crate::operations::saved_values::SavedValues;
use crate::output::{Answer, Outcome, confirm, print, print_json, refuse, refused};

/// Keys looked at at once.
const READS_AT_ONCE: usize = 16;

/// Between an owner that is owned itself and its dependents, as in the daemon's replay.
const GENERATION: Duration = Duration::from_millis(500);

/// For so long nothing may vanish again, and so often it is put back: the collector deletes within two seconds.
const CALM: Duration = Duration::from_secs(4);
const AGAIN_MAX: u32 = 5;

/// How often a write is tried whose outcome is unknown, and the pause in between.
const TRIES: usize = 5;
const PAUSE: Duration = Duration::from_millis(500);

/// Checks the file, plans, asks, puts back. Exit code 1: refused, or something is left alone.
pub async fn run(config: Config, options: RestoreConfig) -> Result<Outcome> {
    let pair = config.pair()?;
    let encryption = config.encryption()?;
    let (source, items) = read(&pair, &config.scope, &encryption, &options.source).await?;
    let Source { values, head } = &source;
    if options.source == (RestoreSource::Standby { discard: true }) {
        return discard(&pair, values, &items, &options).await;
    }
    let checkpoint = fit(&pair, &config, head.as_ref(), options.accept_other_cluster).await?;
    let found = Primary::find(&pair.primary, &config.scope, &checkpoint.primary, options.without_primary).await;
    let primary = match found {
        Ok(primary) => primary,
        Err(reason) => return Ok(refused(&format!("nothing was put back: {reason}"))),
    };
    let work = Work { pair: &pair, primary: &primary, scope: &config.scope, values, items: &items };
    let mut states = work.states().await?;
    let plan = Report::new(items.iter().zip(states.iter().copied()));
    if options.output == TableOutput::Table {
        print(&source.title(items.len()));
        print(&plan.text(options.limit.unwrap_or(usize::MAX)));
    }
    let tell = |refused: Option<&str>, error: Option<&anyhow::Error>, done: Option<&Report>, cleared: u64| {
        if options.output == TableOutput::Json {
            let error = error.map(|error| format!("{error:#}"));
            let (closed, plan, result) = (plan.closed(), plan.json(), done.map(Report::json));
            print_json(&json!({
                "file": head, "plan": plan, "closed": closed, "refused": refused, "error": error, "result": result,
                "cleared": cleared,
            }));
        }
    };
    let good = |good: bool| if good { Outcome::Success } else { Outcome::Differences };
    let count = plan.count(State::Absent);
    if options.dry_run || count == 0 {
        if source.head.is_none() && !items.is_empty() && count == 0 && options.output == TableOutput::Table {
            print("Nothing is to be put back. `etcd-sync restore --saved --discard` deletes what is saved.\n");
        }
        tell(None, None, None, 0);
        return Ok(good(plan.is_good()));
    }
    if let Answer::No(why) = confirm(count, "put them back", options.yes, options.output)? {
        tell(Some(&why.to_string()), None, None, 0);
        return Ok(refused(&format!("nothing was put back: {why}")));
    }
    let mut outcome = work.put_back(&mut states).await;
    let done = Report::new(items.iter().zip(states.iter().copied()));
    let mut cleared = 0;
    if outcome.is_ok() {
        // What is not back as it was saved stays saved.
        let back = |&i: &usize| matches!(states[i], State::PutBack | State::Same);
        match values.clear(&pair, (0..states.len()).filter(back)).await {
            Ok(count) => cleared = count,
            Err(error) => outcome = Err(error),
        }
    }
    tell(None, outcome.as_ref().err(), Some(&done), cleared);
    if options.output == TableOutput::Table {
        print(&format!("Done:\n{}", done.text(options.limit.unwrap_or(usize::MAX))));
        if cleared > 0 {
            print(&format!("{cleared:>9}  no longer saved on the standby\n"));
        }
    }
    if config.log.detail {
        let after = items.iter().zip(&states);
        after.for_each(|(item, state)| tracing::info!(key = %printable(&item.key), ?state, "restored"));
    }
    outcome.context("stopped in the middle; run it again to go on: what is back is left as it is")?;
    Ok(good(done.is_good()))
}

/// Where saved keys come from.
struct Source {
    values: SavedValues,
    /// The head of the file, if it is one.
    head: Option<Head>,
}

impl Source {
    fn title(&self, count: usize) -> String {
        match &self.head {
            Some(Head { link, at, cluster, .. }) => {
                format!("{count} keys, saved at {at} from cluster {cluster} (link {link}):\n")
            }
            None => format!("{count} values, saved on this standby before they were taken away:\n"),
        }
    }
}

/// Reads everything that was saved: the values, and what is known of each.
async fn read(
    pair: &Pair,
    scope: &Scope,
    encryption: &Encryption,
    source: &RestoreSource,
) -> Result<(Source, Vec<Item>)> {
    let (mut items, mut places) = (Vec::new(), Vec::new());
    match source {
        RestoreSource::File(path) => {
            let (file, head) = Saved::open(path, async |kv, place| {
                items.push(item(scope, encryption, &kv).await);
                places.push(place);
            })
            .await?;
            Ok((Source { values: SavedValues::File { file, places }, head: Some(head) }, items))
        }
        RestoreSource::Standby { .. } => {
            let values = saved_values(&pair.standby, &pair.keys).await.context("the saved values cannot be read")?;
            for kv in &values {
                items.push(item(scope, encryption, kv).await);
            }
            Ok((Source { values: SavedValues::Standby(values), head: None }, items))
        }
    }
}

/// Deletes everything that is saved on the standby.
async fn discard(pair: &Pair, values: &SavedValues, items: &[Item], options: &RestoreConfig) -> Result<Outcome> {
    let record = Record::read(&pair.standby, &pair.keys).await.context("the standby's record cannot be read")?;
    standby(record.role.as_ref().map(|role| &role.value[..])).or_else(refuse)?;
    let (is_table, limit) = (options.output == TableOutput::Table, options.limit.unwrap_or(usize::MAX));
    if is_table {
        print(&format!("{} values are saved on this standby:\n", items.len()));
        items.iter().take(limit).for_each(|item| print(&format!("  {}\n", printable(&item.key))));
        if items.len() > limit {
            print(&format!("  … and {} more (--limit 0 shows all)\n", items.len() - limit));
        }
    }
    let tell = |refused: Option<&str>, discarded: u64| {
        if !is_table {
            let keys: Vec<String> = items.iter().map(|item| printable(&item.key)).collect();
            print_json(&json!({ "saved": keys, "refused": refused, "discarded": discarded }));
        }
    };
    if options.dry_run || items.is_empty() {
        tell(None, 0);
        return Ok(Outcome::Success);
    }
    let action = "delete the saved values for good";
    if let Answer::No(why) = confirm(items.len() as u64, action, options.yes, options.output)? {
        tell(Some(&why.to_string()), 0);
        return Ok(refused(&format!("nothing was deleted: {why}")));
    }
    let discarded = values.clear(pair, 0..items.len()).await?;
    tell(None, discarded);
    if is_table {
        print(&format!("Deleted: {discarded} saved values\n"));
    }
    Ok(if discarded == items.len() as u64 { Outcome::Success } else { Outcome::Differences })
}

/// A saved key, opened if it can be.
async fn item(scope: &Scope, encryption: &Encryption, kv: &KeyValue) -> Item {
    if scope.split(&kv.key).is_none() {
        return Item::new(kv, None, false);
    }
    encryption.unwrap_keys(from_ref(kv)).await;
    let Decoded { header, undecryptable } = content::decode(&encryption.keyring, kv);
    Item::new(kv, header.as_ref(), undecryptable)
}

/// What the standby has on record, if the keys of the file may be put back into it.
///
/// # Errors
/// A refusal; or the standby cannot be read.
async fn fit(pair: &Pair, config: &Config, head: Option<&Head>, accept_other_cluster: bool) -> Result<Checkpoint> {
    let record = Record::read(&pair.standby, &pair.keys).await.context("the standby's record cannot be read")?;
    standby(record.role.as_ref().map(|role| &role.value[..])).or_else(refuse)?;
    let found = cluster_id_text(pair.standby.identity().await?.cluster_id);
    if let Some(head) = head.filter(|head| head.cluster != found && !accept_other_cluster) {
        return refuse(Refusal::OtherCluster { saved: head.cluster.clone(), found });
    }
    let Some(checkpoint) = record.checkpoint()? else {
        return refuse(Refusal::NeverSynchronized { link: config.link.clone() });
    };
    match checkpoint.phase {
        phase @ (Phase::FirstSync | Phase::Resync) => refuse(Refusal::Copying { phase }),
        Phase::Streaming if checkpoint.scope != config.scope.fingerprint() => refuse(CheckError::OtherScope),
        Phase::Streaming => Ok(checkpoint),
    }
}

/// Everything that putting back needs.
struct Work<'a> {
    pair: &'a Pair,
    primary: &'a Primary<'a>,
    scope: &'a Scope,
    values: &'a SavedValues,
    items: &'a [Item],
}

impl Work<'_> {
    /// What is to become of every key.
    async fn states(&self) -> Result<Vec<State>> {
        let state = |i: usize| async move {
            let item = &self.items[i];
            let (found, _) = self.pair.standby.get(&item.key).await?;
            let on_primary = found.is_none() && self.primary.has(&item.key).await?;
            anyhow::Ok(item.state(self.scope, found.as_ref(), on_primary))
        };
        let states = iter(0..self.items.len()).map(state).buffered(READS_AT_ONCE);
        states.try_collect().await.context("the clusters cannot be read: nothing was put back")
    }

    /// Puts back what is absent, and tells in `states` what became of it.
    async fn put_back(&self, states: &mut [State]) -> Result<()> {
        let absent: Vec<usize> = (0..states.len()).filter(|&i| states[i] == State::Absent).collect();
        self.put_in_order(&absent, states).await?;
        self.keep(&absent, states).await
    }

    async fn put_in_order(&self, absent: &[usize], states: &mut [State]) -> Result<()> {
        for (stage, together) in order(self.items, absent).into_iter().enumerate() {
            if stage > 0 {
                tokio::time::sleep(GENERATION).await;
            }
            for members in together {
                self.put_together(&members, states).await?;
            }
        }
        Ok(())
    }

    /// In one transaction, or where one of them is in the way, each on its own.
    async fn put_together(&self, members: &[usize], states: &mut [State]) -> Result<()> {
        let (mut sent, mut absent) = (false, Vec::new());
        let members = match members {
            // Of one alone the primary is asked below.
            [_] => members,
            _ => {
                let ask = |i: usize| async move { anyhow::Ok((i, self.primary.has(&self.items[i].key).await?)) };
                let mut asked = iter(members.iter().copied()).map(ask).buffered(READS_AT_ONCE);
                while let Some((i, on_primary)) = asked.try_next().await? {
                    match on_primary {
                        true => states[i] = State::OnPrimary,
                        false => absent.push(i),
                    }
                }
                &absent
            }
        };
        if members.len() > 1 {
            let kvs = members.iter().map(|&i| self.values.read(i)).collect::<Result<Vec<_>>>()?;
            let reply = self.pair.standby.txn(putting_back(&self.pair.keys, &kvs)).await;
            if reply.as_ref().is_ok_and(|reply| reply.succeeded) {
                members.iter().for_each(|&i| states[i] = State::PutBack);
                return Ok(());
            }
            // Else each is tried alone; none is written twice, for it must be absent.
            sent = matches!(reply, Err(WriteError::Unknown(_)));
        }
        for &i in members {
            states[i] = self.put_one(i, sent).await?;
        }
        Ok(())
    }

    /// `sent`: something that may still put it back was sent before.
    async fn put_one(&self, i: usize, mut sent: bool) -> Result<State> {
        let (item, kv) = (&self.items[i], self.values.read(i)?);
        let mut tries = 1;
        loop {
            if self.primary.has(&item.key).await? {
                return Ok(State::OnPrimary);
            }
            let error = match self.pair.standby.txn(putting_back(&self.pair.keys, from_ref(&kv))).await {
                Ok(reply) => return Ok(after(put_back(item, &reply)?, sent)),
                Err(WriteError::NotApplied(error)) => error,
                Err(WriteError::Unknown(error)) => {
                    sent = true;
                    error
                }
            };
            if let (Some(found), _) = self.pair.standby.get(&item.key).await? {
                return Ok(after(if item.is(&found.value) { State::Same } else { State::Differs }, sent));
            }
            if tries == TRIES || !error.is_transient() {
                return Err(error.into());
            }
            tries += 1;
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// The collector may take an owner for deleted that has just come back, and delete what it owns. Nobody heals keys of the
    /// standby's own, so they are watched for a while, and put back again.
    async fn keep(&self, absent: &[usize], states: &mut [State]) -> Result<()> {
        let owned = |&&i: &&usize| self.items[i].may_be_owned() && states[i] == State::PutBack;
        let owned: Vec<usize> = absent.iter().filter(owned).copied().collect();
        let (mut calm_from, mut times) = (Instant::now(), 0);
        while !owned.is_empty() && calm_from.elapsed() < CALM {
            tokio::time::sleep(PAUSE).await;
            let look = |i: usize| async move { Ok::<_, Error>((i, exists(&self.pair.standby, &self.items[i]).await?)) };
            let looks = iter(owned.iter().copied()).map(look).buffered(READS_AT_ONCE);
            let found: Vec<(usize, bool)> = looks.try_collect().await?;
            let gone: Vec<usize> = found.into_iter().filter(|(_, there)| !there).map(|(i, _)| i).collect();
            if gone.is_empty() {
                continue;
            }
            if times == AGAIN_MAX {
                gone.iter().for_each(|&i| states[i] = State::Vanished);
                return Ok(());
            }
            tracing::warn!(
                keys = gone.len(),
                "gone again, by the standby's garbage collector most likely: putting back"
            );
            self.put_in_order(&gone, states).await?;
            (calm_from, times) = (Instant::now(), times + 1);
        }
        Ok(())
    }
}

/// What was found equal after something was sent is ours.
fn after(state: State, sent: bool) -> State {
    if sent && state == State::Same { State::PutBack } else { state }
}

async fn exists(etcd: &Etcd, item: &Item) -> Result<bool, Error> {
    Ok(!etcd.read(ReadRange::single(item.key.clone(), true, 0)).await?.kvs.is_empty())
}

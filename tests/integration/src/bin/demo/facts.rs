//! What the demo found out. The summary tells nothing else.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use etcd_sync_core::etcd::kv::{KeyRange, KeyValue};
use etcd_sync_core::scope::{Scope, ScopeConfig};
use etcd_sync_integration::compare::dump;
use etcd_sync_integration::daemon::Output;
use etcd_sync_integration::data::Item;
use etcd_sync_integration::exact::is_synchronized;
use etcd_sync_integration::link::{Link, registry};
use etcd_sync_integration::load::Written;
use etcd_sync_store::Side;
use serde_json::Value;

/// The loaded keys by what the scope says of them, each in the order of creation.
pub struct Sorted {
    pub in_scope: Vec<Bytes>,
    pub filtered: Vec<Bytes>,
}

impl Sorted {
    pub fn new(items: &[Item]) -> Result<Sorted> {
        let scope = Scope::new(&ScopeConfig::default())?;
        let mut sorted = Sorted { in_scope: Vec::new(), filtered: Vec::new() };
        for (key, value) in items {
            let (key, value) = (Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
            let kv = KeyValue { key: key.clone(), value, create_revision: 1, mod_revision: 1, lease: 0 };
            if is_synchronized(&scope, &kv) { sorted.in_scope.push(key) } else { sorted.filtered.push(key) }
        }
        Ok(sorted)
    }
}

/// Everything the summary is made of.
#[derive(Default)]
pub struct Facts {
    pub loaded: usize,
    pub first_sync_keys: usize,
    pub first_sync: Duration,
    /// Reason and number, as the plan gave them.
    pub filtered: BTreeMap<String, u64>,
    /// Local keys of the standby with their values.
    pub local: BTreeMap<Bytes, Bytes>,
    pub kills: u32,
    pub kills_survived: u32,
    /// Keys that the standby held when they were deleted on the primary.
    pub doomed: Vec<Bytes>,
    pub deletions_arrived: usize,
    pub waited: Duration,
    pub resync: Duration,
    pub level: Duration,
    pub written: Written,
    pub report: Value,
    pub check_code: Option<i32>,
    pub local_untouched: usize,
    pub filtered_found: usize,
    pub missed: usize,
    pub mismatched: usize,
    pub surplus_not_local: usize,
    pub in_scope_now: usize,
}

impl Facts {
    /// Writes keys that only the standby has.
    pub async fn put_local(&mut self, link: &Link, when: &str, count: usize) -> Result<()> {
        for _ in 0..count {
            let number = self.local.len();
            let key = Bytes::from(format!("/registry/configmaps/standby-only/local-{number}"));
            let value = Bytes::from(format!("made on the standby {when}, {number}"));
            link.standby.put(&key, &value).await?;
            self.local.insert(key, value);
        }
        Ok(())
    }

    /// Counts what the plan filters.
    pub fn read_plan(&mut self, output: &Output) -> Result<()> {
        let plan: Value = serde_json::from_str(&output.stdout).context("plan printed no JSON")?;
        for group in plan["groups"].as_array().context("a plan without groups")? {
            if group["outcome"] == "filtered" {
                let reason = group["reason"].as_str().unwrap_or_default();
                let reason = if reason.starts_with("excluded namespace") { "excluded namespaces" } else { reason };
                *self.filtered.entry(reason.to_owned()).or_default() += group["count"].as_u64().unwrap_or_default();
            }
        }
        Ok(())
    }

    /// Keeps the report of the check.
    pub fn read_check(&mut self, output: &Output) -> Result<()> {
        self.report = serde_json::from_str(&output.stdout)
            .with_context(|| format!("check gave no report (exit code {:?}): {}", output.code, output.stderr))?;
        self.check_code = output.code;
        Ok(())
    }

    /// Reads both clusters whole, and counts. `before` is what the standby held when the synchronizer was dead.
    pub async fn look(&mut self, link: &Link, sorted: &Sorted, before: &BTreeMap<Bytes, KeyValue>) -> Result<()> {
        let difference = link.difference().await?;
        let standby = dump(&link.standby.store(Side::Standby)?, &registry(), 0).await?;
        let primary = dump(&link.primary.store(Side::Primary)?, &registry(), 0).await?;
        let scope = Scope::new(&ScopeConfig::default())?;
        self.in_scope_now = primary.values().filter(|kv| is_synchronized(&scope, kv)).count();
        (self.missed, self.mismatched) = (difference.missed.len(), difference.mismatched.len());
        self.surplus_not_local = difference.surplus.iter().filter(|key| !self.local.contains_key(*key)).count();
        let untouched = |(key, value): &(&Bytes, &Bytes)| standby.get(*key).is_some_and(|kv| kv.value == **value);
        self.local_untouched = self.local.iter().filter(untouched).count();
        let gone =
            |key: &&Bytes| before.contains_key(*key) && !primary.contains_key(*key) && !standby.contains_key(*key);
        self.deletions_arrived = self.doomed.iter().filter(gone).count();
        self.filtered_found = sorted.filtered.iter().filter(|key| standby.contains_key(*key)).count();
        Ok(())
    }

    /// A number of the report.
    pub fn reported(&self, field: &str) -> u64 {
        self.report[field].as_u64().unwrap_or(u64::MAX)
    }

    /// Surplus keys that the report puts down to the standby itself.
    pub fn reported_local(&self) -> usize {
        let details = self.report["details"].as_array();
        details.map_or(0, |details| details.iter().filter(|one| one["why"] == "local").count())
    }

    /// What did not hold; empty when everything did.
    pub fn broken(&self) -> Vec<String> {
        let (local, doomed) = (self.local.len(), self.doomed.len());
        let holds = [
            (self.missed == 0 && self.reported("missed") == 0, "no key is missed"),
            (self.mismatched == 0 && self.reported("mismatched") == 0, "no value differs"),
            (self.surplus_not_local == 0 && self.reported_local() == local, "only local keys are surplus"),
            (self.reported("surplus") == local as u64, "every local key is reported"),
            (self.reported("keysCompared") == self.in_scope_now as u64, "the check compared every key in scope"),
            (self.check_code == Some(if local == 0 { 0 } else { 1 }), "the check's exit code says what it found"),
            (self.local_untouched == local, "every local key is untouched"),
            (doomed > 0 && self.deletions_arrived == doomed, "every deletion arrived"),
            (self.filtered_found == 0, "no filtered key was copied"),
            (self.kills > 0 && self.kills_survived == self.kills, "every kill was survived"),
            (self.written.errors == 0, "every change of the writer succeeded"),
        ];
        holds.iter().filter(|(holds, _)| !holds).map(|(_, claim)| format!("it does not hold that {claim}")).collect()
    }

    /// An error unless everything held.
    pub fn verdict(&self) -> Result<()> {
        let broken = self.broken();
        ensure!(broken.is_empty(), "{}", broken.join("; "));
        Ok(())
    }
}

/// Distinct ConfigMaps and Secrets for the parts of the story: nobody owns anything through them.
pub fn choose(keys: &[Bytes], counts: [usize; 3]) -> Result<[Vec<Bytes>; 3]> {
    let plain = [KeyRange::prefix(b"/registry/configmaps/"), KeyRange::prefix(b"/registry/secrets/")];
    let mut plain = keys.iter().filter(|key| plain.iter().any(|range| range.contains(key))).cloned();
    let chosen = counts.map(|count| plain.by_ref().take(count).collect::<Vec<_>>());
    ensure!(chosen.iter().map(Vec::len).eq(counts), "there are too few ConfigMaps and Secrets");
    Ok(chosen)
}

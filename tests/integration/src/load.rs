//! Writing much, and writing all the time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use etcd_sync_core::etcd::request::{Op, Txn};
use tokio::task::{JoinHandle, JoinSet};

use crate::client::Client;
use crate::data::{Item, Random};

/// Most puts in one transaction; etcd takes 128.
const BATCH_OPS: usize = 100;
/// Most bytes in one transaction; etcd takes 1.5 MiB.
const BATCH_BYTES: usize = 900_000;

/// What [`load`] did.
#[derive(Clone, Copy, Debug)]
pub struct Loaded {
    /// Keys written.
    pub keys: usize,
    /// Their bytes, values included.
    pub bytes: usize,
    /// Transactions used.
    pub transactions: usize,
    /// How long it took.
    pub elapsed: Duration,
}

/// Writes all items in large transactions, `concurrency` of them at once. With a concurrency of 1 the revisions follow
/// the order of the items; else they do so only roughly.
pub async fn load(client: &Client, items: Vec<Item>, concurrency: usize) -> Result<Loaded> {
    let started = Instant::now();
    let mut loaded = Loaded { keys: 0, bytes: 0, transactions: 0, elapsed: Duration::ZERO };
    let mut running = JoinSet::new();
    let mut items = items.into_iter().peekable();
    while items.peek().is_some() {
        let (mut ops, mut bytes) = (Vec::new(), 0);
        while let Some((key, value)) = items.next_if(|(key, value)| {
            ops.is_empty() || ops.len() < BATCH_OPS && bytes + key.len() + value.len() <= BATCH_BYTES
        }) {
            bytes += key.len() + value.len();
            ops.push(Op::Put { key: key.into(), value: value.into(), lease: 0 });
        }
        loaded.keys += ops.len();
        loaded.bytes += bytes;
        loaded.transactions += 1;
        while running.len() >= concurrency.max(1) {
            finish(running.join_next().await)?;
        }
        let client = client.clone();
        running.spawn(async move { client.txn(Txn { success: ops, ..Txn::default() }).await.map(drop) });
    }
    while !running.is_empty() {
        finish(running.join_next().await)?;
    }
    loaded.elapsed = started.elapsed();
    Ok(loaded)
}

fn finish(ended: Option<Result<Result<()>, tokio::task::JoinError>>) -> Result<()> {
    ended.map_or(Ok(()), |ended| ended.context("a loading task panicked")?.context("load a batch"))
}

/// What a [`Writer`] writes.
#[derive(Clone, Debug)]
pub struct WriterOptions {
    /// The keys it changes; it picks one at random each time.
    pub keys: Vec<Bytes>,
    /// Transactions per second; 0 means as fast as it goes.
    pub per_second: f64,
    /// The seed of all choices.
    pub seed: u64,
    /// How many of 100 changes are deletes.
    pub delete_percent: u8,
    /// Sizes of values in bytes (at least 20).
    pub value_bytes: std::ops::Range<usize>,
    /// Up to so many changes share a transaction, and so a revision.
    pub changes_per_txn: usize,
}

impl WriterOptions {
    /// 100 transactions per second of one change each, a fifth of them deletes, over these keys.
    pub fn new(keys: Vec<Bytes>) -> Self {
        WriterOptions {
            keys,
            per_second: 100.0,
            seed: 1,
            delete_percent: 20,
            value_bytes: 100..2000,
            changes_per_txn: 1,
        }
    }

    /// A thousand transactions per second, nearly a third of them deletes.
    pub fn busy(keys: Vec<Bytes>) -> Self {
        WriterOptions { per_second: 1_000.0, delete_percent: 30, ..WriterOptions::new(keys) }
    }
}

/// What a [`Writer`] did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Written {
    /// Keys put.
    pub puts: u64,
    /// Deletes sent, of keys that were there or not.
    pub deletes: u64,
    /// Transactions that succeeded.
    pub transactions: u64,
    /// Transactions that failed or whose outcome is unknown; the writer goes on after them.
    pub errors: u64,
}

/// A background task that changes random keys until it is stopped. Every value is unique, so a lost, repeated or
/// reordered change is always visible. Dropping it ends it too.
#[derive(Debug)]
pub struct Writer {
    stop: Arc<AtomicBool>,
    transactions: Arc<AtomicU64>,
    task: Option<JoinHandle<Written>>,
}

impl Writer {
    /// Starts writing.
    pub fn start(client: Client, options: WriterOptions) -> Writer {
        assert!(!options.keys.is_empty(), "a writer needs keys");
        let stop = Arc::new(AtomicBool::new(false));
        let transactions = Arc::new(AtomicU64::new(0));
        let task = tokio::spawn(write(client, options, Arc::clone(&stop), Arc::clone(&transactions)));
        Writer { stop, transactions, task: Some(task) }
    }

    /// Transactions that succeeded so far.
    pub fn transactions(&self) -> u64 {
        self.transactions.load(Ordering::Relaxed)
    }

    /// Lets the transaction under way end, and tells what was done.
    pub async fn stop(mut self) -> Result<Written> {
        self.stop.store(true, Ordering::Relaxed);
        self.task.take().context("a writer is stopped once")?.await.context("the writer panicked")
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}

async fn write(client: Client, options: WriterOptions, stop: Arc<AtomicBool>, done: Arc<AtomicU64>) -> Written {
    let mut random = Random::new(options.seed);
    let mut written = Written::default();
    let mut number = 0u64;
    let pace = (options.per_second > 0.0).then(|| Duration::from_secs_f64(1.0 / options.per_second));
    let mut next = tokio::time::Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let ops = changes(&options, &mut random, &mut number);
        let deletes = ops.iter().filter(|op| matches!(op, Op::Delete { .. })).count() as u64;
        let puts = ops.len() as u64 - deletes;
        match client.txn(Txn { success: ops, ..Txn::default() }).await {
            Ok(_) => {
                written.puts += puts;
                written.deletes += deletes;
                written.transactions += 1;
                done.store(written.transactions, Ordering::Relaxed);
            }
            Err(_) => {
                written.errors += 1;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        if let Some(pace) = pace {
            // Behind after a fault, it does not rush to catch up.
            next = (next + pace).max(tokio::time::Instant::now() - pace);
            tokio::time::sleep_until(next).await;
        }
    }
    written
}

fn changes(options: &WriterOptions, random: &mut Random, number: &mut u64) -> Vec<Op> {
    let count = random.range(1..options.changes_per_txn.max(1) + 1);
    let mut ops: Vec<Op> = Vec::with_capacity(count);
    for _ in 0..count {
        let key = random.pick(&options.keys).clone();
        // etcd refuses a transaction that changes a key twice.
        if ops.iter().any(|op| matches!(op, Op::Put { key: k, .. } | Op::Delete { key: k } if *k == key)) {
            continue;
        }
        if random.range(0..100) < usize::from(options.delete_percent) {
            ops.push(Op::Delete { key });
        } else {
            *number += 1;
            let bytes = random.range(options.value_bytes.clone()).max(20);
            let value = format!("{:016x}.{number:x} {}", options.seed, random.text(bytes - 18));
            ops.push(Op::Put { key, value: value.into(), lease: 0 });
        }
    }
    ops
}

//! Finds out which histories the two clusters show, beside what is on record of them.

use std::time::Duration;

use bytes::Bytes;
use etcd_sync_core::etcd::kv::Revision;
use etcd_sync_core::etcd::request::{Compare, Op, Txn};
use etcd_sync_core::link::history::{Contradiction, HistoryRecord, Observer, RaftMark};
use etcd_sync_core::link::state::StateKeys;
use etcd_sync_core::scope::STATE_ROOT;
use etcd_sync_core::session::{HistoryFacts, RaftFacts};
use etcd_sync_store::link::record::{Record, saved_values, sight};
use etcd_sync_store::{Error, Etcd};
use tokio::time::{Instant, sleep};

/// A raft log that seems to be another one is read again for so long, so often: it proves itself with its next entry.
const DOUBT_PATIENCE: Duration = Duration::from_secs(3);
const DOUBT_PAUSE: Duration = Duration::from_millis(500);

/// Everything about both histories. `cluster` is the primary's id in hexadecimal, `checkpoint` the revision on record.
pub async fn gather(
    primary: &Etcd,
    standby: &Etcd,
    keys: &StateKeys,
    record: &Record,
    cluster: &str,
    checkpoint: Revision,
) -> Result<HistoryFacts, Error> {
    // A record that cannot be read is no evidence; it is written again.
    let known: Option<HistoryRecord> = record.history().ok().flatten();
    let of_primary = known.as_ref().filter(|known| known.primary == cluster);
    let primary_mark = of_primary.and_then(|known| known.primary_raft);
    let standby_mark = known.as_ref().and_then(|known| known.standby_raft);
    let at_least = |mark: RaftMark| RaftMark { revision: mark.revision.max(checkpoint), ..mark };
    let (primary_raft, standby_raft) =
        tokio::try_join!(raft(primary, primary_mark.map(at_least), false), raft(standby, standby_mark, true))?;
    let sightings = match of_primary {
        Some(known) => sight(primary, known).await?,
        None => Default::default(),
    };
    let saved = saved_values(standby, keys).await?;
    Ok(HistoryFacts {
        primary: primary_raft,
        standby: standby_raft,
        sightings,
        question: record.question().ok().flatten(),
        acceptance: record.acceptance().ok().flatten(),
        saved: (saved.len() as u64, saved.iter().map(|kv| kv.value.len() as u64).sum()),
        record: known,
    })
}

/// Reads where a raft log is; one that contradicts the record is read until that is proved, or for some seconds. `moves`: a log
/// without new entries is given one, because the cluster is ours to write.
async fn raft(etcd: &Etcd, mark: Option<RaftMark>, moves: bool) -> Result<RaftFacts, Error> {
    let mut observer = Observer::new(mark);
    let deadline = Instant::now() + DOUBT_PATIENCE;
    loop {
        let Some(reading) = etcd.raft_reading().await? else {
            return Ok(RaftFacts { mark, ..RaftFacts::default() });
        };
        let proof: Option<Contradiction> = observer.observe(&reading);
        let suspicion = observer.suspicion();
        if proof.is_some() || suspicion.is_none() || Instant::now() > deadline {
            let contradiction = proof.or(suspicion);
            // What goes on from here, if it may, is the history as it is now.
            let mark = if contradiction.is_some() { Some(RaftMark::of(&reading)) } else { observer.mark() };
            return Ok(RaftFacts { reading: Some(reading), mark, contradiction, proved: proof.is_some() });
        }
        if moves {
            move_log(etcd).await?;
        }
        sleep(DOUBT_PAUSE).await;
    }
}

/// Adds an entry to a cluster's raft log without a change: a transaction whose compare fails.
async fn move_log(etcd: &Etcd) -> Result<(), Error> {
    let key = Bytes::from_static(STATE_ROOT);
    let never = Compare::ModRevision { key: key.clone(), revision: Revision::MAX };
    let put = Op::Put { key, value: Bytes::new(), lease: 0 };
    let moved = etcd.txn(Txn { compares: vec![never], success: vec![put], failure: vec![] }).await;
    moved.map(drop).map_err(|failure| failure.error().clone())
}

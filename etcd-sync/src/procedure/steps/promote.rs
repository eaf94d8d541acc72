//! The standby becomes primary: one transaction, from which on no synchronizer of the link can write.

use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use etcd_sync_core::fence::other_role;
use etcd_sync_core::kv::Revision;
use etcd_sync_core::procedure::{Loss, Outcome};
use etcd_sync_core::role::{How, Promotion, Role, promote};
use etcd_sync_core::state::{Checkpoint, Phase};
use etcd_sync_program::now_ms;
use etcd_sync_store::WriteError;
use etcd_sync_store::record::Record;
use tracing::warn;

use super::compare::compared;
use crate::procedure::Context;
use crate::procedure::journal::Journal;

/// The checkpoint of an idle link is written every now and then, and each write makes one try fail.
const TRIES: usize = 20;
const PAUSE: Duration = Duration::from_millis(200);

/// Promotes a standby that has everything, if nothing was written to the primary since that was proved.
pub async fn promote_drained(context: &Context<'_>, journal: &mut Journal) -> Result<Outcome> {
    let proved = compared(journal).context("what was compared is not in the journal")?;
    let outcome = promotion(context, How::Switchover, &journal.run().id, async |checkpoint: &Checkpoint| {
        let head = context.pair.primary.identity().await.context("the primary cannot be read")?.revision;
        Ok(match (checkpoint.revision == proved, head == proved) {
            (true, true) => Ok(()),
            (_, false) => Err(format!(
                "the primary was written to again: it is at revision {head}, and {proved} was compared; stop its API servers"
            )),
            (false, _) => Err(format!("the checkpoint is at revision {}, and {proved} was compared", checkpoint.revision)),
        })
    })
    .await?;
    let Outcome::Done(what) = outcome else { return Ok(outcome) };
    // Whoever wrote between the last look and the promotion: it is said, for it is lost.
    match context.pair.primary.identity().await {
        Ok(head) if head.revision > proved => Ok(Outcome::Warned(format!(
            "{what}; but the old primary took writes in the last moment: it is at revision {}, and {proved} was the last one \
             applied; `etcd-sync rejoin` finds and saves them",
            head.revision
        ))),
        _ => Ok(Outcome::Done(what)),
    }
}

/// Promotes a standby whose primary is gone; what the run says is lost is brought up to date.
pub async fn promote_lost(context: &Context<'_>, journal: &mut Journal) -> Result<Outcome> {
    let id = journal.run().id.clone();
    let mut applied: Option<Checkpoint> = None;
    let outcome = promotion(context, How::Failover, &id, async |checkpoint: &Checkpoint| {
        if checkpoint.phase == Phase::FirstSync {
            return Ok(Err("the first sync is not complete: the standby holds only a part".into()));
        }
        applied = Some(checkpoint.clone());
        Ok(Ok(()))
    })
    .await?;
    if let Some(checkpoint) = applied {
        journal
            .change(|run| {
                let seen = run.loss.as_ref().and_then(|loss| loss.seen.clone());
                run.loss = Some(Loss::new(&checkpoint, seen, now_ms()));
            })
            .await?;
    }
    Ok(outcome)
}

/// Promotes, unless this run has done so already. `may` judges the checkpoint that the transaction is then bound to.
async fn promotion(
    context: &Context<'_>,
    how: How,
    run: &str,
    mut may: impl AsyncFnMut(&Checkpoint) -> Result<Result<(), String>>,
) -> Result<Outcome> {
    let (standby, keys) = (&context.pair.standby, &context.pair.keys);
    for _ in 0..TRIES {
        let record = Record::read(standby, keys).await.context("the standby's record cannot be read")?;
        match Role::of(record.role.as_ref().map(|role| &role.value[..])) {
            Role::Standby => {}
            Role::Primary => return promoted(&record, run),
            Role::None | Role::Fenced { .. } | Role::Other(_) => {
                let found = other_role(record.role.as_ref().map(|role| &role.value[..])).unwrap_or_default();
                return Ok(Outcome::Failed(format!("the role of this cluster is {found}, not \"standby\"")));
            }
        }
        let checkpoint = record.checkpoint()?.context("nothing was ever synchronized into this standby")?;
        if let Err(why) = may(&checkpoint).await? {
            return Ok(Outcome::Failed(why));
        }
        let Checkpoint { primary, revision, offset, .. } = checkpoint;
        let promotion = Promotion {
            format: Promotion::FORMAT,
            run: run.to_owned(),
            how,
            primary,
            revision,
            offset,
            at_ms: now_ms(),
        };
        let leaders: Vec<Bytes> = record.candidates.iter().map(|candidate| candidate.key.clone()).collect();
        let found = record.checkpoint.as_ref().context("the checkpoint was read before")?;
        match standby.txn(promote(keys, found, &leaders, &promotion)).await {
            Ok(reply) if reply.succeeded => return Ok(done(revision, reply.revision)),
            // The checkpoint has moved: it is judged again.
            Ok(_) => {}
            // What became of it is read.
            Err(WriteError::Unknown(error) | WriteError::NotApplied(error)) if error.is_transient() => {
                warn!(%error, "the promotion may not have been applied: looking");
                tokio::time::sleep(PAUSE).await;
            }
            Err(failure) => return Err(failure.error().clone()).context("the standby cannot be promoted"),
        }
    }
    Ok(Outcome::Failed(
        "the standby's record keeps changing, so the promotion could not be bound to it: try again".into(),
    ))
}

/// It is primary: by this run, or not.
fn promoted(record: &Record, run: &str) -> Result<Outcome> {
    let Some(found) = &record.promotion else {
        return Ok(Outcome::Failed(
            "the role of the standby is primary, but no promotion is on record: who wrote it?".into(),
        ));
    };
    let promotion = Promotion::decode(&found.value)?;
    Ok(match promotion.run == run {
        true => done(promotion.revision, found.mod_revision),
        false => Outcome::Failed(format!("the standby is primary already, promoted by run {}", promotion.run)),
    })
}

fn done(revision: Revision, here: Revision) -> Outcome {
    Outcome::Done(format!(
        "this cluster is primary since its revision {here}; it stands for revision {revision} of the old primary"
    ))
}

//! The standby becomes primary: one transaction, from which on no synchronizer of the link can write.

use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use etcd_sync_core::etcd::kv::Revision;
use etcd_sync_core::link::fence::other_role;
use etcd_sync_core::link::role::{How, Promotion, Role, promote};
use etcd_sync_core::link::state::{Checkpoint, Phase};
use etcd_sync_operations::procedure::{Loss, Outcome, Run, Step, StepRecord};
use etcd_sync_operations::text::count;
use etcd_sync_program::now_ms;
use etcd_sync_store::WriteError;
use etcd_sync_store::link::record::Record;
use tracing::warn;

use super::compare::{Proved, compared};
use super::since::{lost_since, written_since};
use crate::operations::procedure::Context;
use crate::operations::procedure::facts::{Life, primary_life, recorded};
use crate::operations::procedure::journal::Journal;

/// The checkpoint of an idle link is written every now and then, and each write makes one try fail.
const TRIES: usize = 20;
const PAUSE: Duration = Duration::from_millis(200);

/// Promotes a standby that has everything, if nothing in scope was written to the primary since that was proved.
pub async fn promote_drained(context: &Context<'_>, journal: &mut Journal) -> Result<Outcome> {
    let Proved { primary: proved, standby } = compared(journal).context("what was compared is not in the journal")?;
    let outcome = promotion(context, How::Switchover, &journal.run().id, async |_: &Record, checkpoint: &Checkpoint| {
        if checkpoint.phase != Phase::Streaming || checkpoint.offset != 0 || checkpoint.revision < proved {
            return Ok(Err(
                "the synchronizer copies everything again: the standby is not consistent with any single revision of the primary".into()
            ));
        }
        if let Some(what) = written_since(context, proved).await? {
            return Ok(Err(format!("the primary was written to again ({what}): stop its API servers")));
        }
        Ok(match lost_since(context, standby).await? {
            None => Ok(()),
            Some(key) => Err(format!(
                "{key} was deleted on the standby since everything was compared: give the same command again when the synchronizer \
                 has put it back"
            )),
        })
    })
    .await?;
    let Outcome::Done(what) = outcome else { return Ok(outcome) };
    Ok(with_last_writes(context, proved, what).await)
}

/// Whoever wrote to the old primary between the last look and the promotion: it is said, for it is lost.
async fn with_last_writes(context: &Context<'_>, proved: Revision, what: String) -> Outcome {
    match written_since(context, proved).await {
        Ok(None) => Outcome::Done(what),
        Ok(Some(lost)) => Outcome::Warned(format!(
            "{what}; but the old primary took writes in the last moment ({lost}): they are lost here, and `etcd-sync rejoin` \
             finds and saves them"
        )),
        Err(error) => Outcome::Warned(format!(
            "{what}; but whether the old primary took writes in the last moment is not known ({error:#})"
        )),
    }
}

/// Promotes a standby whose primary is gone; what the run says is lost is brought up to date. `despite`: the operator's word
/// that the primary may live.
pub async fn promote_lost(context: &Context<'_>, despite: bool, journal: &mut Journal) -> Result<Outcome> {
    let id = journal.run().id.clone();
    let unchecked = journal.run().accepted.unchecked;
    let told = journal.run().loss.as_ref().and_then(|loss| loss.seen.clone());
    let outcome = promotion(context, How::Failover, &id, async |record: &Record, checkpoint: &Checkpoint| {
        if let Some(why) = unfit(checkpoint, unchecked) {
            return Ok(Err(why));
        }
        if despite {
            return Ok(Ok(()));
        }
        // It may have come back since it was looked at: to us, or to the synchronizer.
        if record.primary_contact != told {
            return Ok(Err(
                "the synchronizer is receiving from the primary again: stop the primary, or give this run up (`etcd-sync journal \
                           --abandon`)"
                    .into(),
            ));
        }
        let lives = match primary_life(context).await {
            Life::Silent => return Ok(Ok(())),
            Life::Answers => "the primary answers again".to_owned(),
            Life::Unknown(why) => format!("the primary answers again, but not to this command ({why})"),
        };
        Ok(Err(format!("{lives}: stop it, or give this run up (`etcd-sync journal --abandon`)")))
    })
    .await?;
    told_loss(context, journal).await?;
    Ok(outcome)
}

/// Why a standby must not be promoted whatever else holds.
pub fn unfit(checkpoint: &Checkpoint, unchecked: bool) -> Option<String> {
    match checkpoint.phase {
        Phase::FirstSync => Some(
            "the first sync was never complete: the standby holds only a part of what the primary had, and no flag makes it \
             more; bring the primary back, or restore a backup of its etcd"
                .into(),
        ),
        Phase::Resync if !unchecked => Some(
            "a resync was under way: the standby is not consistent with any single revision of the primary, and nobody can tell what is \
             missed; if there is no other way, give --accept-unchecked"
                .into(),
        ),
        Phase::Resync | Phase::Streaming => None,
    }
}

/// An attempt that was interrupted may have promoted without writing it down: then nothing that leads up to it is looked at
/// again.
pub async fn promoted_already(context: &Context<'_>, journal: &mut Journal) -> Result<Option<StepRecord>> {
    let run = journal.run();
    if run.is_settled(Step::Promote) {
        return Ok(None);
    }
    let Some(record) = promoted_by(context, run).await? else { return Ok(None) };
    journal.step(Step::Promote).await?;
    told_loss(context, journal).await?;
    let outcome = match (promoted(&record, &journal.run().id)?, compared(journal)) {
        (Outcome::Done(what), Some(proved)) => with_last_writes(context, proved.primary, what).await,
        (outcome, _) => outcome,
    };
    Ok(Some(journal.ended(outcome).await?))
}

/// The record of the promotion that a run has made; `None`: it has made none yet.
pub async fn promoted_by(context: &Context<'_>, run: &Run) -> Result<Option<Record>> {
    if run.last(Step::Promote).is_none() {
        return Ok(None);
    }
    let record = context.record().await?;
    let is_ours = record.promotion()?.is_some_and(|promotion| promotion.run == run.id);
    Ok((Role::of_key(record.role.as_ref()) == Role::Primary && is_ours).then_some(record))
}

/// Says in the journal what the promotion that was made loses, where the primary was gone.
async fn told_loss(context: &Context<'_>, journal: &mut Journal) -> Result<()> {
    let (record, checkpoint) = recorded(context).await?;
    let is_ours = |promotion: Promotion| promotion.run == journal.run().id && promotion.how == How::Failover;
    if record.promotion()?.is_some_and(is_ours) {
        let mut loss = Loss::new(&checkpoint, record.primary_contact, now_ms());
        // The monitor is not asked again: what it knew stands.
        if let Some(compared) = journal.run().loss.as_ref().and_then(|told| told.compared.clone()) {
            loss.learn(compared);
        }
        journal.change(|run| run.loss = Some(loss)).await?;
    }
    Ok(())
}

/// Promotes, unless this run has done so already. `may` judges the record, and the checkpoint in it that the transaction is then bound to.
async fn promotion(
    context: &Context<'_>,
    how: How,
    run: &str,
    mut may: impl AsyncFnMut(&Record, &Checkpoint) -> Result<Result<(), String>>,
) -> Result<Outcome> {
    let (standby, keys) = (&context.pair.standby, &context.pair.keys);
    let mut trouble = "the standby's record keeps changing, so the promotion could not be bound to it".to_owned();
    for _ in 0..TRIES {
        let record = context.record().await?;
        match Role::of_key(record.role.as_ref()) {
            Role::Standby => {}
            Role::Primary => return promoted(&record, run),
            Role::None | Role::Demoted { .. } | Role::Other(_) => {
                let found = other_role(record.role.as_ref().map(|role| &role.value[..])).unwrap_or_default();
                return Ok(Outcome::Failed(format!("the role of this cluster is {found}, not \"standby\"")));
            }
        }
        let checkpoint = record.checkpoint()?.context("nothing was ever synchronized into this standby")?;
        if let Err(why) = may(&record, &checkpoint).await? {
            return Ok(Outcome::Failed(why));
        }
        let Checkpoint { primary, revision, offset, phase, .. } = checkpoint;
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
            Ok(reply) if reply.succeeded => return Ok(done((phase, revision, offset), reply.revision)),
            // The checkpoint has moved: it is judged again.
            Ok(_) => {}
            // What became of it is read.
            Err(WriteError::Unknown(error) | WriteError::NotApplied(error)) if error.is_transient() => {
                warn!(%error, "the promotion may not have been applied: looking");
                trouble = error.to_string();
                tokio::time::sleep(PAUSE).await;
            }
            Err(failure) => return Err(failure.error().clone()).context("the standby cannot be promoted"),
        }
    }
    Ok(Outcome::Failed(format!("the standby was not promoted: {trouble}; give the same command again")))
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
        true => {
            // Nobody has moved the record since.
            let phase = record.checkpoint()?.map_or(Phase::Streaming, |checkpoint| checkpoint.phase);
            done((phase, promotion.revision, promotion.offset), found.mod_revision)
        }
        false => Outcome::Failed(format!("the standby is primary already, promoted by run {}", promotion.run)),
    })
}

fn done((phase, revision, offset): (Phase, Revision, u64), here: Revision) -> Outcome {
    let stands = match (phase, offset) {
        (Phase::Streaming, 0) => format!("it is consistent with revision {revision} of the old primary"),
        (Phase::Streaming, _) => {
            let first = count(offset, "change");
            format!("of revision {revision} of the old primary it has the first {first}, of earlier ones everything")
        }
        _ => format!(
            "a {} was under way: it is not consistent with any single revision of the old primary",
            phase.name()
        ),
    };
    Outcome::Done(format!("this cluster is primary since its revision {here}; {stands}"))
}

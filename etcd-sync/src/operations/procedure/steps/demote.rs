//! The mark on a primary that hands over.

use anyhow::{Context, Result};
use etcd_sync_core::etcd::kv::{KeyValue, printable};
use etcd_sync_core::etcd::request::Txn;
use etcd_sync_core::link::role::{self, Role};
use etcd_sync_operations::procedure::Outcome;
use etcd_sync_store::link::pair::Pair;
use etcd_sync_store::{Error, Etcd, WriteError};

use crate::operations::procedure::journal::Journal;

const TRIES: usize = 5;

/// Marks the primary with the token of this run. Another run's mark is not taken away.
pub async fn mark_primary_demoted(pair: &Pair, journal: &Journal) -> Result<Outcome> {
    let token = journal.run().id.clone();
    let (primary, keys) = (&pair.primary, &pair.keys);
    let (mut found, mut tries) = (read(pair).await?, 0);
    loop {
        match Role::of_key(found.as_ref()) {
            Role::Demoted { token: other } if other == token => {
                return Ok(Outcome::Done(format!("the primary is marked as demoted, by this run {token}")));
            }
            Role::Demoted { token: other } => {
                return Ok(Outcome::Failed(format!(
                    "run {other} has marked the primary as demoted: finish that run; if it was given up, `etcd-sync journal --abandon` clears \
                     its mark"
                )));
            }
            Role::Standby => {
                return Ok(Outcome::Failed(
                    "the primary is itself a standby of this link: check --primary-endpoints and --standby-endpoints"
                        .into(),
                ));
            }
            Role::Other(other) => {
                return Ok(Outcome::Failed(format!("the primary's role is \"{other}\", which is none")));
            }
            Role::None | Role::Primary if tries == TRIES => {
                return Ok(Outcome::Failed("the primary's role keeps changing: somebody else works on it".into()));
            }
            Role::None | Role::Primary => {}
        }
        tries += 1;
        // The mark lies in the other cluster, so no transaction binds it to the run.
        let open = pair.standby.get(&pair.keys.open_run).await.context("the journal cannot be read")?.0;
        if open.is_none_or(|open| open.value != token) {
            return Ok(Outcome::Failed("this run was given up meanwhile".into()));
        }
        if let Err(Error::PermissionDenied { .. }) =
            write(primary, role::mark_primary_demoted(keys, found.as_ref(), &token)).await?
        {
            return Ok(Outcome::Failed(format!(
                "the primary's user may not write its role: grant it readwrite {} (docs/security.md), or give --mark-primary-demoted=false",
                printable(&keys.role)
            )));
        }
        found = read(pair).await?;
    }
}

/// Takes the mark of a run away again that has handed nothing over. Gives what the role is then.
pub async fn clear_demoted(pair: &Pair, token: &str) -> Result<Role> {
    let (primary, keys) = (&pair.primary, &pair.keys);
    for _ in 0..TRIES {
        let found = read(pair).await?;
        match (&found, Role::of_key(found.as_ref())) {
            (Some(found), Role::Demoted { token: other }) if other == token => {
                // It was promoted at some time if there is a record of it: then it had a role before.
                let promoted = primary.get(&keys.promotion).await.context("the primary cannot be read")?.0.is_some();
                write(primary, role::clear_demoted(keys, found, promoted))
                    .await?
                    .context("the mark cannot be cleared")?;
            }
            (_, role) => return Ok(role),
        }
    }
    anyhow::bail!("the primary's role keeps changing: somebody else works on it")
}

/// The run whose mark the primary bears.
pub async fn demoted_by(pair: &Pair) -> Result<Option<String>> {
    match Role::of_key(read(pair).await?.as_ref()) {
        Role::Demoted { token } => Ok(Some(token)),
        _ => Ok(None),
    }
}

async fn read(pair: &Pair) -> Result<Option<KeyValue>> {
    let (found, _) = pair.primary.get(&pair.keys.role).await.context("the primary's role cannot be read")?;
    Ok(found)
}

/// Whatever became of it is read afterwards; only a refusal is told.
async fn write(etcd: &Etcd, txn: Txn) -> Result<Result<(), Error>> {
    match etcd.txn(txn).await {
        Ok(_) | Err(WriteError::Unknown(_)) => Ok(Ok(())),
        Err(WriteError::NotApplied(error @ Error::PermissionDenied { .. })) => Ok(Err(error)),
        Err(WriteError::NotApplied(error)) if error.is_transient() => Ok(Ok(())),
        Err(WriteError::NotApplied(error)) => Err(error).context("the primary's role cannot be written"),
    }
}

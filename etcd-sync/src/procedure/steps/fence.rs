//! The mark on a primary that hands over.

use anyhow::{Context, Result};
use etcd_sync_core::kv::KeyValue;
use etcd_sync_core::procedure::{Outcome, Step};
use etcd_sync_core::request::Txn;
use etcd_sync_core::role::{self, Role};
use etcd_sync_store::pair::Pair;
use etcd_sync_store::{Error, Etcd, WriteError};
use serde_json::json;

use crate::procedure::journal::Journal;

const TRIES: usize = 5;

/// Marks the primary with the token of this run. Another run's mark is not taken away.
pub async fn fence_primary(pair: &Pair, journal: &mut Journal) -> Result<Outcome> {
    let token = journal.run().id.clone();
    let (primary, keys) = (&pair.primary, &pair.keys);
    let (mut found, mut tries) = (read(pair).await?, 0);
    // What it goes back to if this run is given up.
    if journal.run().note(Step::FencePrimary).is_none() {
        journal.note(json!({ "hadRole": found.is_some() })).await?;
    }
    loop {
        match Role::of_key(found.as_ref()) {
            Role::Fenced { token: other } if other == token => {
                return Ok(Outcome::Done(format!("the primary's role is fenced, by this run {token}")));
            }
            Role::Fenced { token: other } => {
                return Ok(Outcome::Failed(format!(
                    "run {other} has fenced the primary: finish that one, or give it up with `etcd-sync journal --abandon` on its standby"
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
        if let Err(Error::PermissionDenied { .. }) =
            write(primary, role::fence_primary(keys, found.as_ref(), &token)).await?
        {
            return Ok(Outcome::Failed(
                "the primary's user may not write its role: grant it /etcd-sync/, or give --fence-primary=false".into(),
            ));
        }
        found = read(pair).await?;
    }
}

/// Takes a run's mark away again; `had_role`: the primary had a role before.
pub async fn unfence_primary(pair: &Pair, token: &str, had_role: bool) -> Result<()> {
    let (primary, keys) = (&pair.primary, &pair.keys);
    for _ in 0..TRIES {
        match read(pair).await? {
            Some(found) if Role::of_key(Some(&found)) == (Role::Fenced { token: token.to_owned() }) => {
                write(primary, role::unfence_primary(keys, &found, had_role))
                    .await?
                    .context("the fence cannot be taken away")?;
            }
            _ => return Ok(()),
        }
    }
    anyhow::bail!("the primary's role keeps changing: somebody else works on it")
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

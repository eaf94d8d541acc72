//! Asks now and then whether the members of each etcd hold the same.

use std::sync::Arc;
use std::time::Duration;

use etcd_sync_core::link::members::Agreement;
use etcd_sync_core::link::side::Side;
use etcd_sync_operations::preflight::switch::members::{REMEDY, words};
use etcd_sync_store::Etcd;
use etcd_sync_store::link::pair::Pair;
use tokio::time::sleep;
use tracing::{error, info};

use crate::board::Board;

/// A monitor that starts again and again must not make the members read everything each time.
const FIRST: Duration = Duration::from_secs(60);

/// How soon to ask again what could not be told, or what is to be repaired.
const AGAIN: Duration = Duration::from_secs(60 * 60);

/// Asks both sides until the process ends, each on its own: one that is away holds the other one up in nothing.
pub fn start(pair: &Pair, every: Duration, board: &Arc<Board>) {
    for (side, etcd) in [(Side::Primary, &pair.primary), (Side::Standby, &pair.standby)] {
        tokio::spawn(look(side, etcd.clone(), every, Arc::clone(board)));
    }
}

async fn look(side: Side, etcd: Etcd, every: Duration, board: Arc<Board>) {
    let mut known: Option<Agreement> = None;
    sleep(every.min(FIRST)).await;
    loop {
        let agreement = etcd.members_agree().await.unwrap_or_else(|error| Agreement::NotAsked(error.to_string()));
        // Silence is no sign that something was repaired.
        let silent = matches!((&known, &agreement), (Some(Agreement::Disagree { .. }), Agreement::NotAsked(_)));
        if !silent && known.as_ref() != Some(&agreement) {
            log(side, &agreement);
            board.members(side, agreement.clone());
            known = Some(agreement);
        }
        let told = matches!(known, Some(Agreement::Alone | Agreement::Agree { .. }));
        sleep(if told { every } else { every.min(AGAIN) }).await;
    }
}

fn log(side: Side, agreement: &Agreement) {
    let text = words(side, agreement);
    match agreement {
        Agreement::Disagree { .. } => error!(%side, "members: {text}: {REMEDY}"),
        _ => info!(%side, "members: {text}"),
    }
}

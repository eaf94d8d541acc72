//! Writes: sent once, to one member.

use etcd_sync_core::etcd::request::{Txn, TxnReply};

use crate::client::cluster::Etcd;
use crate::client::connection::Method;
use crate::client::convert;
use crate::client::error::WriteError;
use crate::client::proto::TxnResponse;

const TXN: Method = Method { path: "/etcdserverpb.KV/Txn", call: "a transaction", needs_leader: true };

impl Etcd {
    /// Runs a transaction. It is sent to one member, and sent again only where the first one cannot have had an
    /// effect: the connection had ended before it, or etcd refused our authentication token.
    ///
    /// # Errors
    /// [`WriteError::NotApplied`] when etcd refused it or nothing was sent; [`WriteError::Unknown`] for everything
    /// else: read what it would have written before writing again.
    pub async fn txn(&self, txn: Txn) -> Result<TxnReply, WriteError> {
        let sent = self.inner.call_once::<_, TxnResponse>(TXN, convert::txn(txn)).await;
        let answer = sent.map_err(|fault| match fault.no_effect {
            true => WriteError::NotApplied(fault.error),
            false => WriteError::Unknown(fault.error),
        })?;
        self.inner.note_head(answer.header.as_ref());
        let ranges = answer.responses.into_iter().filter_map(|op| op.range);
        Ok(TxnReply {
            succeeded: answer.succeeded,
            revision: answer.header.unwrap_or_default().revision,
            gets: ranges.map(|range| range.kvs.into_iter().next().map(convert::key_value)).collect(),
        })
    }
}

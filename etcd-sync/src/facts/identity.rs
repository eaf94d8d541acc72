//! The identity of our own that a standby has, beside etcd's cluster id.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use bytes::Bytes;
use etcd_sync_core::etcd::kv::printable;
use etcd_sync_core::etcd::request::{Compare, Op, Txn};
use etcd_sync_core::link::fence::Fence;
use etcd_sync_core::link::state::IDENTITY;
use etcd_sync_store::{Error, Etcd};

/// The identity that two clusters share; `None`: they do not, or one of them has none.
///
/// # Errors
/// Why one of them cannot be read.
pub async fn shared(primary: &Etcd, standby: &Etcd) -> Result<Option<String>, Error> {
    let (Some(theirs), Some(ours)) = (read(primary).await?, read(standby).await?) else { return Ok(None) };
    Ok((theirs == ours).then(|| printable(&ours)))
}

/// Makes the identity of a standby that has none, as its leader.
///
/// # Errors
/// Why it is not known whether it has one now.
pub async fn make(standby: &Etcd, fence: &Fence) -> Result<(), Error> {
    if read(standby).await?.is_some() {
        return Ok(());
    }
    let key = Bytes::from_static(IDENTITY);
    let absent = Compare::CreateRevision { key: key.clone(), revision: 0 };
    let success = vec![Op::Put { key, value: random().into(), lease: 0 }];
    let made = standby.txn(Txn { compares: vec![absent, fence.is_leader()], success, failure: vec![] }).await;
    made.map(drop).map_err(|failure| failure.error().clone())
}

async fn read(etcd: &Etcd) -> Result<Option<Bytes>, Error> {
    Ok(etcd.get(IDENTITY).await?.0.map(|kv| kv.value))
}

/// 32 hexadecimal digits. The keys of the standard library's hashers are random: enough to tell clusters apart.
fn random() -> String {
    [0; 2].map(|_: u8| format!("{:016x}", RandomState::new().hash_one(std::process::id()))).concat()
}

#[cfg(test)]
mod tests {
    use super::random;

    #[test]
    fn no_two_are_the_same() {
        let made = [random(), random()];
        assert_ne!(made[0], made[1]);
        assert!(made.iter().all(|id| id.len() == 32 && id[..16] != id[16..]), "{made:?}");
    }
}

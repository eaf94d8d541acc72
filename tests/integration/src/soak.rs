//! Tests that repeat something: briefly in `make test`, for long in `make soak`.

/// `long` when `ETCD_SYNC_SOAK` is set, else `short`.
pub fn rounds(short: usize, long: usize) -> usize {
    if std::env::var_os("ETCD_SYNC_SOAK").is_some() { long } else { short }
}

//! Below which prefixes of an etcd Kubernetes lives.

use etcd_sync_core::etcd::kv::{KeyRange, prefix_end, successor};
use etcd_sync_core::etcd::request::ReadRange;
use etcd_sync_core::scope::STATE_ROOT;

use crate::client::Error;
use crate::client::Etcd;

/// Every API server makes it, and needs it.
const MARK: &[u8] = b"namespaces/kube-system";

/// Folders searched before the search is given up.
const FOLDERS_MAX: usize = 64;

/// An `--etcd-prefix` of more segments is not searched for.
const DEPTH_MAX: usize = 2;

impl Etcd {
    /// Whether an API server stores below this prefix (with its last slash).
    ///
    /// # Errors
    /// Why the cluster cannot be read.
    pub async fn holds_kubernetes(&self, prefix: &[u8]) -> Result<bool, Error> {
        Ok(self.get(&[prefix, MARK].concat()).await?.0.is_some())
    }

    /// Searches the etcd for prefixes that an API server stores below, other than the `known` ones.
    ///
    /// # Errors
    /// Why the cluster cannot be read.
    pub async fn other_prefixes(&self, known: &[&str]) -> Result<Vec<String>, Error> {
        let (mut found, mut searched) = (Vec::new(), 0);
        // An API server puts a slash in front of its prefix.
        let mut folders = vec![(b"/".to_vec(), 1)];
        while let Some((folder, depth)) = folders.pop() {
            let mut rest = KeyRange::prefix(&folder);
            while searched < FOLDERS_MAX {
                let first = ReadRange { range: rest.clone(), limit: 1, keys_only: true, revision: 0 };
                let Some(kv) = self.read(first).await?.kvs.into_iter().next() else { break };
                searched += 1;
                let Some(slash) = kv.key[folder.len()..].iter().position(|&byte| byte == b'/') else {
                    rest = rest.from(successor(&kv.key));
                    continue;
                };
                let child = &kv.key[..folder.len() + slash + 1];
                rest = rest.from(prefix_end(child));
                if child == STATE_ROOT || known.iter().any(|known| known.as_bytes() == child) {
                    continue;
                }
                if self.holds_kubernetes(child).await? {
                    found.push(String::from_utf8_lossy(child).into_owned());
                } else if depth < DEPTH_MAX {
                    folders.push((child.to_vec(), depth + 1));
                }
            }
        }
        Ok(found)
    }
}

//! A few values of every resource below a Kubernetes prefix, without reading all keys.

use bytes::Bytes;
use etcd_sync_core::etcd::kv::{KeyRange, KeyValue, prefix_end, successor};
use etcd_sync_core::etcd::request::ReadRange;
use etcd_sync_core::object::object_key::resource_of;
use etcd_sync_core::scope::Scope;
use futures_util::stream::{StreamExt, TryStreamExt, iter};

use crate::client::Error;
use crate::client::Etcd;

/// Values read at once.
const PAGE: i64 = 3;

/// Looks at one resource: enough to pass by every namespace that is excluded by default.
const LOOKS_MAX: usize = 16;

/// Looks at a resource that has encrypted values, once something that was wanted is found: other namespaces may be
/// encrypted with another key.
const LOOKS_ENCRYPTED: usize = 3;

/// Keys that are no object, one after the other, after which the rest is not looked at: it is nothing of Kubernetes.
const ODD_MAX: usize = 16;

/// Reads under way at once.
const READERS: usize = 8;

/// What every encrypted value begins with (apiserver/pkg/server/options/encryptionconfig).
pub const ENCRYPTED: &[u8] = b"k8s:enc:";

/// Which values are looked for. Others come along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// In scope.
    InScope,
    /// Out of scope: what no synchronizer has written.
    OutOfScope,
    /// Any.
    Any,
}

/// Where a key stands below its prefix: its resource (`secrets`, `example.com/widgets`).
pub fn resource<'a>(prefix: &str, key: &'a [u8]) -> Option<&'a [u8]> {
    resource_of(key.strip_prefix(prefix.as_bytes())?)
}

impl Etcd {
    /// A few values of every resource below `prefix`, for each resource with a few attempts to find some that are wanted.
    ///
    /// # Errors
    /// Why the cluster cannot be read.
    pub async fn sample(&self, prefix: &str, scope: &Scope, wanted: Wanted) -> Result<Vec<KeyValue>, Error> {
        let parts = iter(parts(prefix)).map(|part| self.sample_part(prefix, part, scope, wanted));
        let samples: Vec<Vec<KeyValue>> = parts.buffered(READERS).try_collect().await?;
        Ok(samples.into_iter().flatten().collect())
    }

    async fn sample_part(
        &self,
        prefix: &str,
        mut rest: KeyRange,
        scope: &Scope,
        wanted: Wanted,
    ) -> Result<Vec<KeyValue>, Error> {
        let (mut all, mut odd) = (Vec::new(), 0);
        loop {
            let page = self.page(rest.clone()).await?;
            let Some(first) = page.first().filter(|_| odd < ODD_MAX) else { return Ok(all) };
            let Some(resource) = resource(prefix, &first.key) else {
                odd += 1;
                let name = &first.key[prefix.len()..];
                rest = rest.from(match name.iter().position(|&byte| byte == b'/') {
                    Some(slash) => prefix_end(&first.key[..prefix.len() + slash + 1]),
                    None => successor(&first.key),
                });
                continue;
            };
            let whole = KeyRange::prefix(&[prefix.as_bytes(), resource, b"/"].concat());
            let next = whole.end.clone();
            all.extend(self.sample_resource(whole, page, scope, wanted).await?);
            (rest, odd) = (rest.from(next), 0);
        }
    }

    /// `page`: the first look, which may reach into what follows.
    async fn sample_resource(
        &self,
        whole: KeyRange,
        mut page: Vec<KeyValue>,
        scope: &Scope,
        wanted: Wanted,
    ) -> Result<Vec<KeyValue>, Error> {
        let mut kept: Vec<KeyValue> = Vec::new();
        for look in 1.. {
            let full = page.len() == PAGE as usize;
            kept.extend(page.into_iter().filter(|kv| whole.contains(&kv.key)));
            let found = kept.iter().any(|kv| is_wanted(kv, scope, wanted));
            let encrypted = kept.iter().any(|kv| kv.value.starts_with(ENCRYPTED));
            let looks_max = match (found, encrypted) {
                (false, _) => LOOKS_MAX,
                (true, true) => LOOKS_ENCRYPTED,
                (true, false) => 1,
            };
            let Some(last) = kept.last().filter(|_| full && look < looks_max) else { break };
            let Some(next) = next_place(&whole, &last.key, scope, wanted) else { break };
            page = self.page(whole.from(next)).await?;
        }
        Ok(kept)
    }

    async fn page(&self, range: KeyRange) -> Result<Vec<KeyValue>, Error> {
        Ok(self.read(ReadRange { range, limit: PAGE, keys_only: false, revision: 0 }).await?.kvs)
    }
}

fn is_wanted(kv: &KeyValue, scope: &Scope, wanted: Wanted) -> bool {
    match wanted {
        Wanted::Any => true,
        Wanted::InScope => scope.in_scope(&kv.key) && kv.lease == 0,
        Wanted::OutOfScope => !scope.in_scope(&kv.key),
    }
}

/// Where to look next: behind the namespace of `last`, or, to find what is out of scope, in the next excluded one.
fn next_place(whole: &KeyRange, last: &[u8], scope: &Scope, wanted: Wanted) -> Option<Bytes> {
    let root = &whole.start;
    let name = last.strip_prefix(&root[..])?;
    let Some(slash) = name.iter().position(|&byte| byte == b'/') else {
        // Not namespaced: simply further on.
        return Some(successor(last));
    };
    if wanted == Wanted::OutOfScope {
        let namespace = &name[..slash];
        let next = scope.excluded_namespaces().iter().find(|excluded| excluded.as_bytes() > namespace)?;
        return Some([&root[..], next.as_bytes(), b"/"].concat().into());
    }
    Some(prefix_end(&last[..root.len() + slash + 1]))
}

/// The keys below the prefix, cut by the first byte behind it, to be read side by side.
fn parts(prefix: &str) -> Vec<KeyRange> {
    let whole = KeyRange::prefix(prefix.as_bytes());
    let cuts = (b'b'..=b'z').map(|byte| Bytes::from([prefix.as_bytes(), &[byte]].concat()));
    let starts = std::iter::once(whole.start.clone()).chain(cuts.clone());
    let ends = cuts.chain(std::iter::once(whole.end.clone()));
    starts.zip(ends).map(|(start, end)| KeyRange { start, end }).collect()
}

#[cfg(test)]
mod tests {
    use etcd_sync_core::scope::ScopeConfig;

    use super::*;

    #[test]
    fn the_parts_are_the_whole() {
        let parts = parts("/registry/");
        assert_eq!(parts.first().unwrap().start, "/registry/");
        assert_eq!(parts.last().unwrap().end, "/registry0");
        assert!(parts.windows(2).all(|pair| pair[0].end == pair[1].start && pair[0].start < pair[0].end));
    }

    #[test]
    fn namespaces_are_passed_by() {
        let scope = Scope::new(&ScopeConfig::default()).unwrap();
        let whole = KeyRange::prefix(b"/registry/secrets/");
        let next = |last: &str, wanted| {
            let place = next_place(&whole, last.as_bytes(), &scope, wanted);
            place.map(|place| String::from_utf8(place.to_vec()).unwrap())
        };
        let place = next("/registry/secrets/default/a", Wanted::InScope);
        assert_eq!(place.as_deref(), Some("/registry/secrets/default0"));
        let place = next("/registry/secrets/inside/a", Wanted::OutOfScope);
        assert_eq!(place.as_deref(), Some("/registry/secrets/kube-node-lease/"));
        assert_eq!(next("/registry/secrets/zzz/a", Wanted::OutOfScope), None);
        let place = next("/registry/secrets/a", Wanted::OutOfScope);
        assert_eq!(place.as_deref(), Some("/registry/secrets/a\0"));
    }
}

//! Reports as they are sent. A crowd of callers shares one comparison, and so one copy of its report.

use std::sync::{Arc, Weak};

use axum::body::Bytes;
use tokio::sync::Mutex;

/// What makes two answers the same: the result, JSON or not, the limit, and how to see more.
type Key = (u64, bool, Option<usize>, String);

/// The last report sent, for as long as somebody is still reading it. One is rendered at a time.
#[derive(Default)]
pub struct Rendered(Mutex<Option<(Key, Weak<Vec<u8>>)>>);

impl Rendered {
    /// The report from `render`, or the same one as a moment ago.
    ///
    /// # Errors
    /// Those of `render`.
    pub async fn get<E>(&self, key: Key, render: impl FnOnce() -> Result<Vec<u8>, E>) -> Result<Bytes, E> {
        let mut last = self.0.lock().await;
        let kept = last.as_ref().filter(|(of, _)| *of == key).and_then(|(_, kept)| kept.upgrade());
        let body = match kept {
            Some(body) => body,
            // It may take a tenth of a second: the other requests go on meanwhile.
            None => Arc::new(tokio::task::block_in_place(render)?),
        };
        *last = Some((key, Arc::downgrade(&body)));
        Ok(Bytes::from_owner(Shared(body)))
    }
}

struct Shared(Arc<Vec<u8>>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn the_same_answer_is_made_once_while_somebody_reads_it() {
        let rendered = Rendered::default();
        let get = async |id, text: &str| {
            rendered.get((id, true, None, String::new()), || Ok::<_, Infallible>(text.into())).await.unwrap()
        };
        let first = get(1, "first").await;
        assert_eq!(get(1, "again").await, "first");
        assert_eq!(get(2, "second").await, "second");
        drop(first);
        assert_eq!(get(1, "later").await, "later");
    }
}

//! Walks of models: every key once, whatever the pages, lanes and interruptions.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;

type Model = BTreeMap<Bytes, Bytes>;

fn serve(model: &Model, read: &ReadRange, page_limit: i64) -> Page {
    let inside: Vec<_> = model.iter().filter(|(key, _)| read.range.contains(key)).collect();
    let limit = read.limit.min(page_limit) as usize;
    let kvs = inside.iter().take(limit).map(|(key, value)| KeyValue {
        key: (*key).clone(),
        value: if read.keys_only { Bytes::new() } else { (*value).clone() },
        create_revision: 1,
        mod_revision: 1,
        lease: 0,
    });
    Page { kvs: kvs.collect(), more: inside.len() > limit, count: inside.len() as i64, revision: 1 }
}

fn model(keys: &[u16]) -> Model {
    keys.iter().map(|key| (Bytes::from(format!("/r/{key:05}")), Bytes::from(key.to_string()))).collect()
}

proptest! {
    /// Whatever the keys, page limits and a rebase in the middle, every key of both sides comes out exactly once,
    /// with one lane in order.
    #[test]
    fn a_walk_sees_every_key_once(
        lead in prop::collection::vec(0u16..300, 0..120),
        follow in prop::collection::vec(0u16..300, 0..120),
        lead_limit in 1i64..40,
        follow_limit in 1i64..40,
        rebase_after in 0usize..40,
        prefetch: bool,
        bound_from in 0u64..100,
        lanes in 1usize..4,
        alone in 0usize..4,
    ) {
        let (lead, follow) = (model(&lead), model(&follow));
        let ranges = [KeyRange::prefix(b"/r/000"), KeyRange::prefix(b"/r/001"), KeyRange::prefix(b"/r/002")];
        let options = WalkOptions { prefetch, lanes, alone, ..WalkOptions::new(Side::Primary) };
        let mut walk = Walk::new(&ranges, options);
        walk.bound_from = bound_from;
        let (mut seen_lead, mut seen_follow, mut steps) = (Vec::new(), Vec::new(), 0);
        let mut requested = VecDeque::new();
        loop {
            while let Some((ask, read)) = walk.next_read() {
                // What is walked alone is given out before anything behind it is read.
                if ask.side == Side::Primary {
                    let at = ranges.iter().position(|range| range.contains(&read.range.start)).unwrap_or(0);
                    for before in ["/r/000~", "/r/001~"].into_iter().take(at.min(alone)) {
                        prop_assert!(!walk.is_pending(before.as_bytes()), "{before} is pending at {read:?}");
                    }
                }
                requested.push_back((ask, read));
            }
            let under_way = requested.iter().filter(|(ask, _): &&(Ask, _)| ask.side == Side::Primary).count();
            prop_assert!(under_way <= lanes, "{under_way} of {lanes}");
            prop_assert!(under_way + walk.lead_pages.len() <= lanes + 1);
            // Answers come in any order.
            let Some((ask, read)) = requested.remove(steps * 7 % requested.len().max(1)) else { break };
            steps += 1;
            if steps == rebase_after {
                requested.clear();
                walk.rebase(0, 0);
                continue;
            }
            let page = match ask.side {
                Side::Primary => serve(&lead, &read, lead_limit),
                Side::Standby => serve(&follow, &read, follow_limit),
            };
            let Some(chunk) = walk.page(ask, page) else { continue };
            for joined in join(chunk) {
                match joined {
                    Joined::Lead(a) => seen_lead.push(a.key),
                    Joined::Follow(b) => seen_follow.push(b.key),
                    Joined::Both(a, b) => {
                        prop_assert_eq!(&a.key, &b.key);
                        seen_lead.push(a.key);
                        seen_follow.push(b.key);
                    }
                }
            }
        }
        prop_assert!(walk.finished());
        if lanes == 1 {
            prop_assert!(seen_lead.is_sorted() && seen_follow.is_sorted());
        }
        seen_lead.sort();
        seen_follow.sort();
        prop_assert_eq!(seen_lead, lead.into_keys().collect::<Vec<_>>());
        prop_assert_eq!(seen_follow, follow.into_keys().collect::<Vec<_>>());
    }
}

/// Over a slow link what counts is how many pages are under way.
#[test]
fn a_long_range_is_read_in_lanes() {
    let keys = (0..4_000).map(|number| format!("/r/{}/{:02}/{number:05}", ["a", "b"][number % 2], number % 40));
    let model: Model = keys.map(|key| (Bytes::from(key), Bytes::new())).collect();
    let options = WalkOptions { keys_only: true, prefetch: true, lanes: 3, ..WalkOptions::new(Side::Primary) };
    let mut walk = Walk::new(&[KeyRange::prefix(b"/r/")], options);
    let (empty, mut rounds, mut pages, mut seen) = (Model::new(), 0, 0, 0);
    while !walk.finished() {
        // Reads of the other side are answered at once, and what is under way on this one all together.
        let mut under_way = Vec::new();
        while let Some((ask, read)) = walk.next_read() {
            if ask.side == Side::Standby {
                seen += walk.page(ask, serve(&empty, &read, 50)).map_or(0, |chunk| chunk.lead.len());
            } else {
                under_way.push((ask, read));
            }
        }
        (rounds, pages) = (rounds + 1, pages + under_way.len());
        under_way.into_iter().for_each(|(ask, read)| drop(walk.page(ask, serve(&model, &read, 50))));
    }
    assert_eq!(seen, model.len());
    assert!(pages < 85 && rounds < 45, "{rounds} rounds for {pages} pages");
}

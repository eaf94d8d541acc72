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

/// What the answers of a link that carries so much take, all its requests together: a simulated clock.
struct SlowLink {
    bytes_per_second: u64,
    /// Longest answer.
    patience_ms: u64,
}

/// Walks a model over a slow link. Gives the keys seen, and how often no answer came in time.
fn walk_over(link: &SlowLink, walk: &mut Walk, model: &Model) -> (usize, usize) {
    let (empty, mut seen, mut late) = (Model::new(), 0, 0);
    while !walk.finished() {
        let mut under_way = Vec::new();
        while let Some((ask, read)) = walk.next_read() {
            if ask.side == Side::Standby {
                seen += walk.page(ask, serve(&empty, &read, i64::MAX)).map_or(0, |chunk| chunk.lead.len());
            } else {
                under_way.push((ask, serve(model, &read, i64::MAX)));
            }
        }
        let bytes = |page: &Page| page.kvs.iter().map(|kv| (kv.key.len() + kv.value.len() + 32) as u64).sum::<u64>();
        // They share the link, so all come about when the last one does.
        let took_ms = under_way.iter().map(|(_, page)| bytes(page)).sum::<u64>() * 1_000 / link.bytes_per_second;
        for (ask, page) in under_way {
            if took_ms > link.patience_ms {
                late += 1;
                walk.timed_out(ask);
            } else {
                drop(walk.page(ask.took(took_ms), page));
            }
        }
        assert!(late < 100, "it does not end");
    }
    (seen, late)
}

fn values(count: usize, bytes: usize, letter: char) -> Model {
    (0..count).map(|number| (format!("/r/{letter}/{number:05}").into(), vec![b'v'; bytes].into())).collect()
}

fn copy_walk(begin: PageBudget) -> Walk {
    let options = WalkOptions { prefetch: true, lanes: 3, begin, ..WalkOptions::new(Side::Primary) };
    Walk::new(&[KeyRange::prefix(b"/r/")], options)
}

/// A page that did not come in time is read again with fewer keys, and what was learned stays for the next walk.
#[test]
fn pages_shrink_until_a_slow_link_carries_them() {
    let mut model = values(5_000, 200, 'a');
    model.extend(values(600, 20_000, 'b'));
    let link = SlowLink { bytes_per_second: 125_000, patience_ms: 10_000 };
    let mut walk = copy_walk(PageBudget::FULL);
    let (seen, late) = walk_over(&link, &mut walk, &model);
    assert_eq!(seen, model.len());
    assert!((1..20).contains(&late), "{late} pages did not come in time");
    assert!(walk.budget().bytes <= 125_000 * 3, "{:?}", walk.budget());

    let small = values(5_000, 200, 'a');
    let mut next = copy_walk(walk.budget());
    assert_eq!(walk_over(&link, &mut next, &small), (small.len(), 0));
}

/// What a slow hour has taught does not stay for good.
#[test]
fn pages_and_lanes_grow_again_on_a_fast_link() {
    let link = SlowLink { bytes_per_second: 100_000_000, patience_ms: 10_000 };
    let mut walk = copy_walk(PageBudget { bytes: 64 * 1024, lanes: 1 });
    let model = values(60_000, 1_000, 'a');
    assert_eq!(walk_over(&link, &mut walk, &model), (model.len(), 0));
    assert_eq!(walk.budget(), PageBudget { lanes: 3, ..PageBudget::FULL });
}

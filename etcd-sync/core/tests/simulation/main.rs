//! Seeded simulation: two synchronizers, a primary and a standby, all modelled; anything that may happen happens, at any
//! moment, in any order. After every commit the standby must be exactly what its checkpoint says.
//!
//! `SIM_SEED=N cargo test -p etcd-sync-core --test simulation` replays one seed, `SIM_TRACE=KEY`
//! beside it shows what was written to the keys that hold the text; `SIM_SEEDS=N` runs more seeds. The digest printed at the
//! end stays the same as long as the synchronizer does the same: compare it before and after a refactoring.

mod daemon;
mod digest;
mod histories;
mod mass;
mod model;
mod objects;
mod random;
mod world;

use histories::Histories;
use world::World;

const SEEDS: u64 = 1_000;

#[test]
fn any_order_of_faults_leaves_the_standby_exact() {
    if let Ok(seed) = std::env::var("SIM_SEED") {
        let counts = World::new(seed.parse().expect("SIM_SEED is a number")).run();
        println!("seed {seed}: {counts}");
        return;
    }
    let seeds = std::env::var("SIM_SEEDS").map_or(SEEDS, |text| text.parse().expect("SIM_SEEDS is a number"));
    let mut total = world::Counts::default();
    for seed in 0..seeds {
        let run = std::panic::catch_unwind(|| World::new(seed).run());
        let Ok(counts) = run else {
            panic!("seed {seed} failed; replay: SIM_SEED={seed} cargo test -p etcd-sync-core --test simulation");
        };
        total += counts;
    }
    println!("{seeds} seeds: {total}");
    total.must_have_tried_everything();
}

#[test]
fn no_restore_loses_what_no_word_was_given_for() {
    if let Ok(seed) = std::env::var("SIM_SEED") {
        let counts = Histories::new(seed.parse().expect("SIM_SEED is a number")).run();
        println!("seed {seed}: {counts}");
        return;
    }
    let seeds = std::env::var("SIM_SEEDS").map_or(SEEDS, |text| text.parse().expect("SIM_SEEDS is a number"));
    let mut total = world::Counts::default();
    for seed in 0..seeds {
        let run = std::panic::catch_unwind(|| Histories::new(seed).run());
        let Ok(counts) = run else {
            panic!(
                "seed {seed} failed; replay: SIM_SEED={seed} cargo test -p etcd-sync-core --test simulation histories"
            );
        };
        total += counts;
    }
    println!("{seeds} seeds with restores: {total}");
    histories::must_have_tried_everything(&total);
}

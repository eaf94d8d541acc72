//! Progress of a copy, with rate and time left: on a terminal a line that is written over, else a log line every 10 s.

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::interval;
use tracing::info;

use super::health::Health;

const TERMINAL_INTERVAL: Duration = Duration::from_millis(500);
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Shows the progress of every copy until the process ends.
pub fn show(health: Arc<Health>) {
    let terminal = std::io::stderr().is_terminal();
    tokio::spawn(async move {
        let mut tick = interval(if terminal { TERMINAL_INTERVAL } else { LOG_INTERVAL });
        let (mut began, mut shown) = (None::<(Instant, u64)>, false);
        loop {
            tick.tick().await;
            let snapshot = health.snapshot();
            let (done, total) = snapshot.copied;
            let copying = snapshot.phase.is_some_and(|phase| phase != etcd_sync_core::link::state::Phase::Streaming);
            if !copying || total == 0 {
                if shown && terminal {
                    eprintln!();
                }
                (began, shown) = (None, false);
                continue;
            }
            let (since, from) = *began.get_or_insert((Instant::now(), done));
            let rate = done.saturating_sub(from) as f64 / since.elapsed().as_secs_f64().max(0.001);
            let left = (rate > 0.0).then(|| Duration::from_secs((total.saturating_sub(done) as f64 / rate) as u64));
            shown = true;
            if terminal {
                let left = left.map_or(String::new(), |left| format!(", about {left:?} left"));
                let percent = 100 * done / total;
                eprint!("\r\x1b[K{done} of {total} keys ({percent} %), {rate:.0} keys/s{left}");
                // A terminal that went away is no reason to stop.
                let _ = std::io::stderr().flush();
            } else {
                let seconds_left = left.map(|left| left.as_secs());
                info!(done, total, keys_per_s = rate as u64, seconds_left, "copying");
            }
        }
    });
}

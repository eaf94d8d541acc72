//! What time it is, for a session.

use etcd_sync_core::session::Now;
use etcd_sync_program::{elapsed_ms, now_ms};

/// Both clocks now. Nothing here may wait by the wall clock: NTP or a person may set it back.
pub(super) fn clocks() -> Now {
    Now { ms: elapsed_ms(), unix_ms: now_ms() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_waits_by_a_clock_of_its_own() {
        let before = clocks();
        // The wall clock has been running since 1970, this one since the process began.
        assert!(before.ms < 3_600_000 && before.unix_ms > 1_700_000_000_000, "{before:?}");
        assert!(clocks().ms >= before.ms);
    }

    /// The wall clock is only written down.
    #[test]
    fn what_drives_a_session_does_not_ask_the_wall_clock() {
        for source in [include_str!("drive.rs"), include_str!("mod.rs"), include_str!("retry.rs")] {
            let asks = |line: &&str| line.contains("now_ms()") || line.contains("SystemTime");
            for line in source.lines().filter(asks) {
                assert!(line.contains("at_ms: now_ms()"), "{line}");
            }
        }
    }
}

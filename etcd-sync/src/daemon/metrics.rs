//! `/metrics`, in Prometheus' text format. Every gauge is set from one snapshot at the moment of the scrape.

use etcd_sync_core::link::state::Phase;
use etcd_sync_program::certificates::Ends;
use etcd_sync_program::metrics::Page;

use super::health::{Role, Snapshot};

/// The process's metrics; nothing global.
pub struct Metrics(Page);

/// (name, help)
const DESCRIPTIONS: &[(&str, &str)] = &[
    ("etcd_sync_role", "1 for the state of this replica: starting, candidate or leader"),
    ("etcd_sync_phase", "1 for the phase of the link, as the leader sees it"),
    ("etcd_sync_paused", "1 while replication is paused; /readyz and the log have the reason"),
    ("etcd_sync_checkpoint_revision", "Revision of the primary that the standby is consistent with"),
    ("etcd_sync_lag_revisions", "Revisions of the primary not applied yet"),
    ("etcd_sync_lag_seconds", "Age of the oldest change of the primary that is not applied yet"),
    ("etcd_sync_history_headroom_revisions", "Revisions between the primary's compaction and the checkpoint"),
    ("etcd_sync_history_headroom_seconds", "Time until compaction passes the checkpoint, at the primary's pace"),
    ("etcd_sync_copy_keys_done", "Keys compared by the copy that is running"),
    ("etcd_sync_copy_keys_expected", "Keys of the primary in the copy that is running"),
    ("etcd_sync_local_keys", "Keys in scope on record as local to the standby"),
    ("etcd_sync_events_total", "Changes received from the primary"),
    ("etcd_sync_skipped_total", "Changes filtered (not in scope), by reason"),
    ("etcd_sync_transactions_total", "Transactions committed on the standby"),
    ("etcd_sync_puts_total", "Keys written"),
    ("etcd_sync_deletes_total", "Keys deleted"),
    ("etcd_sync_written_bytes_total", "Bytes of keys and values written"),
    ("etcd_sync_too_large_total", "Keys that are too large for a transaction of the standby"),
    ("etcd_sync_undecodable_total", "Values of objects that could not be decoded, synchronized as they are"),
    ("etcd_sync_replays_total", "Keys put back after they were deleted on the standby"),
    ("etcd_sync_lost_keys", "Keys deleted on the standby and not put back yet"),
    ("etcd_sync_vanishing_keys", "Keys that were put back again and again within ten minutes"),
    ("etcd_sync_kept_local_total", "Local keys kept although the primary deleted its own"),
    ("etcd_sync_unknown_origin_total", "Surplus keys kept because their origin is unknown"),
    (
        "etcd_sync_certificate_expiry_timestamp_seconds",
        "When the client certificate for a side or its CA certificate expires, whichever is first",
    ),
];

impl Metrics {
    /// Names and describes everything.
    pub fn new() -> Self {
        Metrics(Page::new(DESCRIPTIONS))
    }

    /// The page.
    pub fn render(&self, snapshot: &Snapshot, certificates: Ends) -> String {
        certificates.show(&self.0, "etcd_sync_certificate_expiry_timestamp_seconds");
        for role in Role::ALL {
            self.0.gauge("etcd_sync_role", Some(("role", role.name())), f64::from(snapshot.role == role));
        }
        for phase in [Phase::FirstSync, Phase::Resync, Phase::Streaming] {
            let now = snapshot.phase == Some(phase);
            self.0.gauge("etcd_sync_phase", Some(("phase", phase.name())), f64::from(now));
        }
        let paused = snapshot.paused.as_ref().map(|(reason, _)| *reason);
        self.0.gauge("etcd_sync_paused", None, f64::from(paused.is_some()));
        let leader = snapshot.role == Role::Leader;
        // What is not known is NaN, which no alert takes for zero.
        let known = |value: Option<f64>| value.filter(|_| leader).unwrap_or(f64::NAN);
        self.0.gauge("etcd_sync_checkpoint_revision", None, known(Some(snapshot.checkpoint as f64)));
        self.0.gauge("etcd_sync_lag_revisions", None, known(snapshot.lag_revisions.map(|lag| lag as f64)));
        self.0.gauge("etcd_sync_lag_seconds", None, known(snapshot.lag.map(|lag| lag.as_secs_f64())));
        let (revisions, time) = snapshot.headroom.unzip();
        self.0.gauge("etcd_sync_history_headroom_revisions", None, known(revisions.map(|value| value as f64)));
        let time = time.map(|time| time.map_or(f64::INFINITY, |time| time.as_secs_f64()));
        self.0.gauge("etcd_sync_history_headroom_seconds", None, known(time));
        self.0.gauge("etcd_sync_copy_keys_done", None, snapshot.copied.0 as f64);
        self.0.gauge("etcd_sync_copy_keys_expected", None, snapshot.copied.1 as f64);
        let totals = &snapshot.totals;
        self.0.gauge("etcd_sync_local_keys", None, totals.local_keys as f64);
        self.0.counter("etcd_sync_events_total", &[], totals.events);
        for (reason, count) in &totals.skipped {
            self.0.counter("etcd_sync_skipped_total", &[("reason", reason)], *count);
        }
        self.0.counter("etcd_sync_transactions_total", &[], totals.transactions);
        self.0.counter("etcd_sync_puts_total", &[], totals.puts);
        self.0.counter("etcd_sync_deletes_total", &[], totals.deletes);
        self.0.counter("etcd_sync_written_bytes_total", &[], totals.bytes);
        self.0.counter("etcd_sync_too_large_total", &[], totals.too_large);
        self.0.counter("etcd_sync_undecodable_total", &[], totals.undecodable);
        self.0.counter("etcd_sync_replays_total", &[], totals.replays);
        self.0.gauge("etcd_sync_lost_keys", None, totals.lost as f64);
        self.0.gauge("etcd_sync_vanishing_keys", None, totals.vanishing as f64);
        self.0.counter("etcd_sync_kept_local_total", &[], totals.kept_local);
        self.0.counter("etcd_sync_unknown_origin_total", &[], totals.unknown_origin);
        self.0.render()
    }
}

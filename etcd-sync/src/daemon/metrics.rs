//! `/metrics`, in Prometheus' text format. Every gauge is set from one snapshot at the moment of the scrape.

use etcd_sync_core::state::Phase;
use metrics::{Key, Label, Level, Metadata, Recorder, Unit};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

use super::health::{Role, Snapshot};

const METADATA: Metadata<'_> = Metadata::new("etcd_sync", Level::INFO, None);

/// The process's metrics; nothing global.
pub struct Metrics {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
}

/// (name, unit, help)
const DESCRIPTIONS: &[(&str, Option<Unit>, &str)] = &[
    ("etcd_sync_role", None, "1 for what this replica does: starting, candidate or leader"),
    ("etcd_sync_phase", None, "1 for the phase of the link, as the leader sees it"),
    ("etcd_sync_held", None, "1 while the link stands still; /readyz and the log say why"),
    ("etcd_sync_checkpoint_revision", None, "Revision of the primary the standby stands for"),
    ("etcd_sync_lag_revisions", None, "Revisions of the primary not applied yet"),
    ("etcd_sync_lag_seconds", None, "How long ago the standby was where the primary was"),
    ("etcd_sync_history_headroom_revisions", None, "Revisions between the primary's compaction and the checkpoint"),
    ("etcd_sync_history_headroom_seconds", None, "Time until compaction passes the checkpoint, at the primary's pace"),
    ("etcd_sync_copy_keys_done", None, "Keys of the copy under way that are compared"),
    ("etcd_sync_copy_keys_expected", None, "Keys of the primary in the copy under way"),
    ("etcd_sync_local_keys", None, "Keys in scope on record as local to the standby"),
    ("etcd_sync_events_total", None, "Changes of the primary seen"),
    ("etcd_sync_skipped_total", None, "Changes left out, by reason"),
    ("etcd_sync_transactions_total", None, "Transactions committed on the standby"),
    ("etcd_sync_puts_total", None, "Keys written"),
    ("etcd_sync_deletes_total", None, "Keys deleted"),
    ("etcd_sync_written_bytes_total", Some(Unit::Bytes), "Bytes of keys and values written"),
    ("etcd_sync_too_large_total", None, "Keys that fit no transaction of the standby"),
    ("etcd_sync_undecodable_total", None, "Values of objects that could not be decoded, synchronized as they are"),
    ("etcd_sync_replays_total", None, "Keys put back that somebody deleted on the standby"),
    ("etcd_sync_lost_keys", None, "Keys deleted on the standby that are not back yet"),
    ("etcd_sync_vanishing_keys", None, "Keys that were put back again and again within ten minutes"),
    ("etcd_sync_kept_local_total", None, "Local keys kept although the primary deleted its own"),
    ("etcd_sync_unknown_origin_total", None, "Surplus keys kept because their origin is unknown"),
];

impl Metrics {
    /// Names and describes everything.
    pub fn new() -> Self {
        let recorder = PrometheusBuilder::new().build_recorder();
        for (name, unit, help) in DESCRIPTIONS {
            let (name, help) = ((*name).into(), (*help).into());
            recorder.describe_gauge(name, *unit, help);
        }
        Metrics { handle: recorder.handle(), recorder }
    }

    /// The page.
    pub fn render(&self, snapshot: &Snapshot) -> String {
        for role in Role::ALL {
            self.gauge("etcd_sync_role", Some(("role", role.name())), f64::from(snapshot.role == role));
        }
        for phase in [Phase::FirstSync, Phase::Resync, Phase::Streaming] {
            let now = snapshot.phase == Some(phase);
            self.gauge("etcd_sync_phase", Some(("phase", phase.name())), f64::from(now));
        }
        let held = snapshot.hold.as_ref().map(|(reason, _)| *reason);
        self.gauge("etcd_sync_held", None, f64::from(held.is_some()));
        let leader = snapshot.role == Role::Leader;
        // What is not known is NaN, which no alert takes for zero.
        let known = |value: Option<f64>| value.filter(|_| leader).unwrap_or(f64::NAN);
        self.gauge("etcd_sync_checkpoint_revision", None, known(Some(snapshot.checkpoint as f64)));
        self.gauge("etcd_sync_lag_revisions", None, known(snapshot.lag_revisions.map(|lag| lag as f64)));
        self.gauge("etcd_sync_lag_seconds", None, known(snapshot.lag.map(|lag| lag.as_secs_f64())));
        let (revisions, time) = snapshot.headroom.unzip();
        self.gauge("etcd_sync_history_headroom_revisions", None, known(revisions.map(|value| value as f64)));
        let time = time.map(|time| time.map_or(f64::INFINITY, |time| time.as_secs_f64()));
        self.gauge("etcd_sync_history_headroom_seconds", None, known(time));
        self.gauge("etcd_sync_copy_keys_done", None, snapshot.copied.0 as f64);
        self.gauge("etcd_sync_copy_keys_expected", None, snapshot.copied.1 as f64);
        let totals = &snapshot.totals;
        self.gauge("etcd_sync_local_keys", None, totals.local_keys as f64);
        self.counter("etcd_sync_events_total", None, totals.events);
        for (reason, count) in &totals.skipped {
            self.counter("etcd_sync_skipped_total", Some(("reason", reason)), *count);
        }
        self.counter("etcd_sync_transactions_total", None, totals.transactions);
        self.counter("etcd_sync_puts_total", None, totals.puts);
        self.counter("etcd_sync_deletes_total", None, totals.deletes);
        self.counter("etcd_sync_written_bytes_total", None, totals.bytes);
        self.counter("etcd_sync_too_large_total", None, totals.too_large);
        self.counter("etcd_sync_undecodable_total", None, totals.undecodable);
        self.counter("etcd_sync_replays_total", None, totals.replays);
        self.gauge("etcd_sync_lost_keys", None, totals.lost as f64);
        self.gauge("etcd_sync_vanishing_keys", None, totals.vanishing as f64);
        self.counter("etcd_sync_kept_local_total", None, totals.kept_local);
        self.counter("etcd_sync_unknown_origin_total", None, totals.unknown_origin);
        self.handle.render()
    }

    fn gauge(&self, name: &'static str, label: Option<(&'static str, &'static str)>, value: f64) {
        self.recorder.register_gauge(&key(name, label), &METADATA).set(value);
    }

    fn counter(&self, name: &'static str, label: Option<(&'static str, &'static str)>, value: u64) {
        self.recorder.register_counter(&key(name, label), &METADATA).absolute(value);
    }
}

fn key(name: &'static str, label: Option<(&'static str, &'static str)>) -> Key {
    Key::from_parts(name, label.map(|(name, value)| Label::new(name, value)).into_iter().collect::<Vec<_>>())
}

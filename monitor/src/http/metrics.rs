//! `/metrics`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use etcd_sync_core::compare::check::ResourceCount;
use etcd_sync_core::link::side::Side;
use etcd_sync_program::certificates::Ends;
use etcd_sync_program::metrics::Page;
use etcd_sync_program::now_ms;

use super::Server;
use crate::board::Board;
use crate::history::History;
use crate::view::{Observed, Verdict};

/// The monitor's metrics; nothing global.
pub struct Metrics(Page);

/// (name, help)
const DESCRIPTIONS: &[(&str, &str)] = &[
    ("local_target_keys_count", "Keys in scope on the standby, as of the last comparison"),
    ("remote_target_keys_count", "Keys in scope on the primary, as of the last comparison"),
    ("etcd_sync_monitor_missed_keys", "Keys only on the primary, as of the last comparison"),
    ("etcd_sync_monitor_surplus_keys", "Keys only on the standby, as of the last comparison"),
    ("etcd_sync_monitor_mismatched_keys", "Keys with other values on both sides, as of the last deep comparison"),
    ("etcd_sync_monitor_own_status_keys", "Keys that differ in the status only, as of the last deep comparison"),
    ("etcd_sync_monitor_oldest_difference_seconds", "Age of the difference that is known for longest; 0: none"),
    ("etcd_sync_monitor_oldest_missed_seconds", "Age of the missed key that is known for longest; 0: none"),
    ("etcd_sync_monitor_check_duration_seconds", "How long the last comparison took"),
    ("etcd_sync_monitor_checked_keys", "Keys compared by the last comparison"),
    ("etcd_sync_monitor_checks_total", "Comparisons, by outcome"),
    ("etcd_sync_monitor_last_success_timestamp_seconds", "When the last comparison with a verdict ended"),
    ("etcd_sync_monitor_reachable", "1 while the cluster answers"),
    ("etcd_sync_monitor_role", "1 for the standby's role: standby, primary, or none"),
    ("etcd_sync_monitor_leader", "1 while a synchronizer is the leader"),
    ("etcd_sync_monitor_members_agree", "1 while all members of the cluster's etcd hold the same data, 0 if not"),
    ("etcd_sync_monitor_paused", "1 while replication is paused"),
    ("etcd_sync_monitor_lag_revisions", "Revisions of the primary not applied on the standby yet"),
    ("etcd_sync_monitor_lag_seconds", "Age of the oldest change of the primary that is not applied yet"),
    (
        "etcd_sync_monitor_history_headroom_seconds",
        "Time until compaction passes the checkpoint, at the primary's pace",
    ),
    (
        "etcd_sync_monitor_certificate_expiry_timestamp_seconds",
        "When the monitor's client certificate for a side or its CA certificate expires, whichever is first",
    ),
];

impl Metrics {
    /// Names and describes everything.
    pub fn new() -> Self {
        Metrics(Page::new(DESCRIPTIONS))
    }

    fn render(&self, board: &Board, certificates: Ends) -> String {
        certificates.show(&self.0, "etcd_sync_monitor_certificate_expiry_timestamp_seconds");
        for side in [Side::Primary, Side::Standby] {
            let agree = board.members_agree(side).map_or(f64::NAN, f64::from);
            self.0.gauge("etcd_sync_monitor_members_agree", Some(("side", side.name())), agree);
        }
        board.history(|history| self.history(history));
        self.observed(board.last_observed().as_ref());
        self.0.render()
    }

    fn history(&self, history: &History) {
        // What is not known is NaN, which no alert takes for zero.
        let gauge = |name, value: Option<f64>| self.0.gauge(name, None, value.unwrap_or(f64::NAN));
        let latest = history.latest().map(|(_, report)| report);
        let deep = history.latest_deep().map(|(_, report)| report);
        let sum = |side: fn(&ResourceCount) -> u64| {
            latest.map(|report| report.resources.iter().map(side).sum::<u64>() as f64)
        };
        gauge("local_target_keys_count", sum(|count| count.standby));
        gauge("remote_target_keys_count", sum(|count| count.primary));
        gauge("etcd_sync_monitor_missed_keys", latest.map(|report| report.missed.count as f64));
        gauge("etcd_sync_monitor_surplus_keys", latest.map(|report| report.surplus.count as f64));
        gauge("etcd_sync_monitor_mismatched_keys", deep.map(|report| report.mismatched.count as f64));
        gauge("etcd_sync_monitor_own_status_keys", deep.map(|report| report.status.count as f64));
        gauge("etcd_sync_monitor_check_duration_seconds", latest.map(|report| report.at.took_ms as f64 / 1_000.0));
        gauge("etcd_sync_monitor_checked_keys", latest.map(|report| report.compared as f64));
        let age = |oldest: Option<u64>| oldest.map_or(0.0, |since| now_ms().saturating_sub(since) as f64 / 1_000.0);
        gauge("etcd_sync_monitor_oldest_difference_seconds", latest.map(|_| age(history.oldest_ms())));
        gauge("etcd_sync_monitor_oldest_missed_seconds", latest.map(|_| age(history.oldest_missed_ms())));
        let success = history.last_success_ms().map(|at| at as f64 / 1_000.0);
        gauge("etcd_sync_monitor_last_success_timestamp_seconds", success);
        for verdict in Verdict::ALL {
            for (deep, depth) in [(false, "keys"), (true, "values")] {
                let labels = [("depth", depth), ("verdict", verdict.name())];
                self.0.counter("etcd_sync_monitor_checks_total", &labels, history.count(verdict, deep));
            }
        }
    }

    fn observed(&self, observed: Option<&Observed>) {
        let Some(observed) = observed else { return };
        let (primary, standby) = (&observed.primary, &observed.standby);
        for (side, reachable) in [("primary", primary.reachable), ("standby", standby.reachable)] {
            self.0.gauge("etcd_sync_monitor_reachable", Some(("side", side)), f64::from(reachable));
        }
        let known = |value: bool| if standby.reachable { f64::from(value) } else { f64::NAN };
        for role in ["standby", "primary", "none"] {
            let is = standby.role.as_deref().unwrap_or("none") == role;
            self.0.gauge("etcd_sync_monitor_role", Some(("role", role)), known(is));
        }
        self.0.gauge("etcd_sync_monitor_leader", None, known(standby.leader.is_some()));
        self.0.gauge("etcd_sync_monitor_paused", None, known(standby.paused.is_some()));
        let gauge = |name, value: Option<f64>| self.0.gauge(name, None, value.unwrap_or(f64::NAN));
        gauge("etcd_sync_monitor_lag_revisions", observed.lag.revisions.map(|lag| lag as f64));
        gauge("etcd_sync_monitor_lag_seconds", observed.lag.seconds);
        // A quiet primary compacts nothing that is needed.
        let quiet = observed.headroom.revisions.map(|_| f64::INFINITY);
        gauge("etcd_sync_monitor_history_headroom_seconds", observed.headroom.seconds.or(quiet));
    }
}

/// `/metrics`, in Prometheus' text format.
pub async fn metrics(State(server): State<Arc<Server>>) -> Response {
    let certificates = server.certificates.ends().await;
    let page = server.metrics.render(&server.board, certificates);
    (StatusCode::OK, [("content-type", etcd_sync_program::metrics::CONTENT_TYPE)], page).into_response()
}

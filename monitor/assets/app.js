// The dashboard: keeps the state that the monitor tells, and shows it on every event and every second.

import { showCharts } from "./charts.js";
import { checkEnded, setUpCheckNow, showCheckNow } from "./check_now.js";
import { connect } from "./connection.js";
import { refreshDifferences, setUpDifferences } from "./differences.js";
import { byId, setText, tick } from "./dom.js";
import { showLink } from "./link_view.js";
import { OBSERVED_OLD_MS } from "./notices.js";
import { showResources } from "./resources.js";
import { dateTime } from "./text.js";
import { showTimeline } from "./timeline.js";
import { newestTold } from "./verdict.js";
import { showVerdict } from "./verdict_view.js";

/** As many as the monitor itself keeps. */
const SAMPLES_MAX = 450;
const RESULTS_MAX = 1440;

/** @type {any} as /api/state tells it; null before the first */
let state = null;
/** Since when the page has no connection, by this machine's clock. */
let lostMs = /** @type {number | null} */ (null);
/** The monitor's clock minus this machine's, in ms. */
let ahead = 0;

const nowMs = () => Date.now() + ahead;

const onEvent = {
  state(whole) {
    state = whole;
    ahead = whole.nowMs - Date.now();
    checkEnded();
    setText(byId("link-name"), whole.link);
    setText(byId("version"), `etcd-sync-monitor ${whole.version}, up since ${dateTime(whole.startedMs)}`);
    results();
  },
  observed({ observed, sample }) {
    state.observed = observed;
    // An observation is never from the future: a clock that was set is followed.
    if (observed) ahead = Math.max(ahead, observed.atMs - Date.now());
    if (sample) state.samples = [...state.samples, sample].slice(-SAMPLES_MAX);
  },
  running({ running }) {
    state.running = running;
  },
  result({ result, resources }) {
    state.results = [...state.results.filter((one) => one.id !== result.id), result].slice(-RESULTS_MAX);
    state.resources = resources;
    checkEnded(result);
    results();
  },
};

/** What changes only with a result. */
function results() {
  showTimeline(state.results);
  showResources(state.resources, newestTold(state.results)?.deep ?? false);
  refreshDifferences(state.results);
}

/** What changes with every event and every second. */
function present() {
  const now = nowMs();
  const lost = lostMs == null ? null : lostMs + ahead;
  const old = lost != null || !state?.observed || now - state.observed.atMs > OBSERVED_OLD_MS;
  showVerdict(state, now, lost);
  showCheckNow(state, now, lost);
  showLink(state?.observed ?? null, now, old);
  showCharts(state, now, old);
  showConnection();
  tick(document, now);
}

function showConnection() {
  const live = lostMs == null && state != null;
  byId("connection").dataset.state = live ? "live" : lostMs != null ? "lost" : "none";
  setText(byId("connection-text"), live ? "Live" : lostMs != null ? "Connection lost" : "Connecting");
  document.body.classList.toggle("lost", lostMs != null);
}

setText(byId("zone"), Intl.DateTimeFormat().resolvedOptions().timeZone);
setUpCheckNow(nowMs);
setUpDifferences(nowMs);
document.addEventListener("refresh", present);
setInterval(present, 1000);
present();
connect({
  onEvent(name, data) {
    if (name !== "state" && !state) return;
    onEvent[name](data);
    present();
  },
  onLost(ms) {
    lostMs = ms;
    present();
  },
});

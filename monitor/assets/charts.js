// Lag and history headroom: the figures of now, and their charts.

import { chartCard } from "./chart.js";
import { byId } from "./dom.js";
import { HEADROOM_WARN_SECONDS, catchingUp, otherwise } from "./notices.js";
import { NOT_KNOWN, duration, plural, sentence } from "./text.js";

/** @type {ReturnType<typeof chartCard>} */
let lag;
/** @type {ReturnType<typeof chartCard>} */
let headroom;

/**
 * @param {any} state
 * @param {number} nowMs
 * @param {boolean} old whether what is known may be out of date
 */
export function showCharts(state, nowMs, old) {
  lag ??= chartCard(byId("lag"), { title: "Lag", about: "How far the standby is behind the primary", least: 1 });
  headroom ??= chartCard(byId("headroom"), {
    title: "History headroom", about: "Until compaction passes the checkpoint",
    least: 2 * HEADROOM_WARN_SECONDS, warnBelow: HEADROOM_WARN_SECONDS,
  });
  const samples = state?.samples ?? [];
  lag(points(samples, "lagSeconds"), nowMs, lagWords(state?.observed, old));
  headroom(points(samples, "headroomSeconds"), nowMs, headroomWords(state?.observed, old));
}

function points(samples, name) {
  return samples.map((sample) => ({ atMs: sample.atMs, value: sample[name] }));
}

/**
 * The lag of now in words, and the tone of its card.
 * @param {any} observed as /api/state tells it, or null
 * @param {boolean} old whether what is known may be out of date
 */
export function lagWords(observed, old) {
  const catching = catchingUp(observed);
  if (catching) return { value: sentence(NOT_KNOWN), note: catching, tone: old ? "old" : "warn" };
  const known = observed?.lag ?? { revisions: null, seconds: null };
  const note = known.revisions == null ? why(observed, "not while replication is interrupted") : plural(known.revisions, "revision");
  const value = known.seconds == null ? sentence(NOT_KNOWN) : duration(known.seconds);
  return { value, note, tone: tone(old) };
}

function headroomWords(observed, old) {
  const known = observed?.headroom ?? { revisions: null, seconds: null };
  if (known.seconds == null && known.revisions != null) {
    const note = observed.primary.compactedRevision === 0 ? "nothing is compacted yet" : "the primary is quiet";
    return { value: plural(known.revisions, "revision"), note, tone: tone(old) };
  }
  if (known.seconds == null) return { value: sentence(NOT_KNOWN), note: why(observed, ""), tone: tone(old) };
  const low = known.seconds < HEADROOM_WARN_SECONDS;
  const left = known.revisions == null ? "" : plural(known.revisions, "revision");
  return { value: duration(known.seconds), note: low ? `under 2 minutes; ${left}` : left, tone: low && !old ? "warn" : tone(old) };
}

function tone(old) {
  return old ? "old" : "plain";
}

/** Why a figure is missing. */
function why(observed, fallback) {
  if (!observed) return "not read yet";
  if (!observed.primary.reachable) return `the primary ${otherwise(observed.primary)}`;
  if (!observed.standby.reachable) return `the standby ${otherwise(observed.standby)}`;
  if (observed.standby.role === "primary") return "promoted: the link has ended";
  return ["first-sync", "resync"].includes(observed.standby.phase) ? "a copy is under way" : fallback;
}

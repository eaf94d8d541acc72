// What the newest comparison says, and whether it may still be believed. Pure.

import { ago, count, duration, list, percent, plural, stopped, ticking } from "./text.js";

/**
 * @typedef {object} Result one comparison, as the monitor tells it
 * @property {number} id
 * @property {number} startedMs
 * @property {number} tookMs
 * @property {boolean} deep whether values were compared
 * @property {"consistent" | "different" | "unknown"} verdict
 * @property {string | null} error
 * @property {"checkpoint" | "head" | "promotion" | null} basis
 * @property {number | null} primaryRevision
 * @property {number | null} standbyRevision
 * @property {number} keysCompared
 * @property {number} missed
 * @property {number} surplus
 * @property {number | null} mismatched
 * @property {number | null} ownStatus
 * @property {number} healed
 *
 * @typedef {"good" | "bad" | "warn" | "notice" | "unknown" | "stale" | "none"} Tone
 *
 * @typedef {object} Verdict
 * @property {Tone} tone
 * @property {string} title
 * @property {string[]} lines what goes with it, most important first
 * @property {Result | null} told the comparison it rests on
 * @property {Result | null} newest the last comparison, which may not have told
 * @property {{done: number, total: number} | null} [progress] of a copy under way
 */

/** A standby further behind than this, in seconds, is consistent with the past only. */
const BEHIND_SECONDS = 60;

/** When the comparison ended. @param {Result} result */
export function endedMs(result) {
  return result.startedMs + result.tookMs;
}

/**
 * How a comparison is marked: colour and shape follow.
 * @param {Result} result
 * @returns {Tone}
 */
export function toneOf(result) {
  if (result.verdict === "unknown") return "unknown";
  if (result.missed > 0 || (result.mismatched ?? 0) > 0) return "bad";
  return result.surplus > 0 ? "notice" : "good";
}

/**
 * A comparison in a few words: `Not consistent: 3 keys missed`.
 * @param {Result} result
 */
export function titleOf(result) {
  const wrong = [];
  if (result.missed > 0) wrong.push(`${plural(result.missed, "key")} missed`);
  if ((result.mismatched ?? 0) > 0) wrong.push(`${plural(result.mismatched ?? 0, "value")} mismatched`);
  if (result.verdict === "unknown") return "Cannot tell";
  if (wrong.length > 0) return `Not consistent: ${list(wrong)}`;
  return result.surplus > 0 ? "Nothing is missed" : "Consistent";
}

/**
 * Differences of a comparison that count as such, for the height of its mark.
 * @param {Result} result
 */
export function differencesOf(result) {
  return result.missed + result.surplus + (result.mismatched ?? 0);
}

/**
 * Age, in ms, from which a verdict is out of date.
 * @param {number} checkIntervalMs
 */
export function outOfDateMs(checkIntervalMs) {
  return 2 * checkIntervalMs + 30_000;
}

/**
 * @param {any} state as /api/state tells it; null before the first
 * @param {number} nowMs the monitor's clock
 * @param {number | null} lostMs since when the page has no connection
 * @returns {Verdict}
 */
export function verdictOf(state, nowMs, lostMs) {
  if (!state) {
    const title = lostMs == null ? "Connecting" : "No connection to the monitor";
    return { tone: lostMs == null ? "none" : "stale", title, lines: ["Nothing is known yet."], told: null, newest: null };
  }
  const results = /** @type {Result[]} */ (state.results);
  const newest = results.at(-1) ?? null;
  const told = results.findLast((result) => result.verdict !== "unknown") ?? null;
  const present = { told, newest, ...atPresent(state, newest, told, nowMs) };
  return lostMs == null || present.tone === "none" ? present : { ...present, tone: "stale", title: lastKnown(present.title) };
}

function atPresent(state, newest, told, nowMs) {
  const before = told && `The last check that could tell, ${ago(endedMs(told), nowMs)}, said: ${describe(told)}.`;
  const copying = copyUnderWay(state.observed);
  if (copying) {
    const lines = [copying.line, "A failover is not possible before it ends."];
    return { tone: "unknown", title: copying.title, lines: before ? [...lines, before] : lines, progress: copying.progress };
  }
  if (!newest) {
    const lines = [state.running ? "The first comparison is running." : "The first comparison has not begun."];
    return { tone: "none", title: "Not checked yet", lines };
  }
  if (!told || newest.verdict === "unknown") {
    const why = stopped(newest.error ?? "No reason was given");
    return { tone: "unknown", title: "Cannot tell", lines: before ? [why, before] : [why] };
  }
  const values = valuesBefore(state.results, told, nowMs);
  // What is known of values stays so until they are compared again.
  const both = { ...told, mismatched: told.deep ? told.mismatched : values.mismatched };
  const [tone, title] = [toneOf(both), titleOf(both)];
  const lines = values.mismatched > 0 && told.missed === 0 ? [...values.lines, ...meaning(both)] : [...meaning(both), ...values.lines];
  const but = tone === "bad" ? null : caveat(state.observed);
  if (nowMs - endedMs(told) <= outOfDateMs(state.checkIntervalMs)) {
    return but ? { tone: "warn", title: `${title}, but ${but}`, lines } : { tone, title, lines };
  }
  const age = ticking((nowMs - endedMs(told)) / 1000);
  const every = duration(state.checkIntervalMs / 1000);
  const late = `Out of date: no check has ended for ${age}, and there should be one every ${every}. Press Check now.`;
  return { tone: "stale", title: lastKnown(title), lines: [late, ...lines] };
}

/** Why a link that is consistent may still lack what the primary did last. */
function caveat(observed) {
  if (!observed || observed.standby.role === "primary") return null;
  const { primary, standby, lag } = observed;
  if (!primary.reachable) return "the primary cannot be reached";
  if (!standby.reachable) return "the standby cannot be reached";
  if (standby.held) return "the link is held";
  if (standby.leader == null) return "no synchronizer is running";
  return (lag?.seconds ?? 0) > BEHIND_SECONDS ? `${duration(lag.seconds)} behind` : null;
}

/** The newest result that compared values, when the newest that told did not. */
function valuesBefore(results, told, nowMs) {
  if (told.deep) return { mismatched: 0, lines: [] };
  const deep = results.findLast((result) => result.deep && result.verdict !== "unknown");
  if (!deep) return { mismatched: 0, lines: ["Keys were compared, values were not: tick “compare values too” to do so."] };
  const mismatched = deep.mismatched ?? 0;
  const found = mismatched > 0 ? `${plural(mismatched, "value")} mismatched. Tick “compare values too” to look again.` : "no value mismatched.";
  return { mismatched, lines: [`Values were last compared ${ago(endedMs(deep), nowMs)}: ${found}`] };
}

/** What a verdict means for who has to decide. */
function meaning(told) {
  const lines = [];
  const surplus = `${plural(told.surplus, "surplus key exists", "surplus keys exist")} on this side only.`;
  if (told.missed > 0) {
    lines.push("Missed keys stop a failover: what depends on a missed owner would be garbage collected here.");
  } else if (toneOf(told) === "good") {
    lines.push(`Every synchronized key of the primary, as of its revision ${count(told.primaryRevision)}, is on this side, and no other.`);
  }
  if (told.surplus > 0) lines.push(surplus);
  if ((told.ownStatus ?? 0) > 0) {
    lines.push(`${plural(told.ownStatus, "object differs", "objects differ")} in status only, written by this side's own controllers.`);
  }
  if (told.healed > 0) lines.push(`${plural(told.healed, "difference")} of the check before healed.`);
  return lines;
}

function copyUnderWay(observed) {
  const standby = observed?.standby;
  if (!standby || standby.role === "primary" || !["first-sync", "resync"].includes(standby.phase)) return null;
  const what = standby.phase === "resync" ? "resync" : "first sync";
  const progress = standby.copied?.total > 0 ? standby.copied : null;
  const line = progress
    ? `${count(progress.done)} of ${plural(progress.total, "key")} copied, ${percent(progress.done, progress.total)}.`
    : "How far it is is not known yet.";
  return { title: `Not ready: ${what} under way`, line, progress };
}

function describe(told) {
  const title = titleOf(told);
  const extra = title === "Nothing is missed" ? `, ${plural(told.surplus, "surplus key")}` : "";
  return `${title}${extra} (${plural(told.keysCompared, "key")}, primary revision ${count(told.primaryRevision)})`;
}

function lastKnown(title) {
  return `Last known: ${title.charAt(0).toLowerCase()}${title.slice(1)}`;
}

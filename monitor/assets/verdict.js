// The result of the newest comparison, and whether it is still current. Pure.

import { OBSERVED_OLD_MS, catchingUp, otherwise } from "./notices.js";
import { NOT_KNOWN, ago, count, duration, list, percent, plural, stopped, ticking } from "./text.js";

/**
 * @typedef {object} Result one comparison, as the monitor sends it
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
 * @property {string} [spoken] the title without what changes with every reading; when it is another one
 * @property {string[]} lines what goes with it, most important first
 * @property {Result | null} told the comparison that it is based on
 * @property {Result | null} newest the last comparison that began, which may have no verdict
 * @property {{done: number, total: number} | null} [progress] of a copy under way
 */

/** A standby further behind than this, in seconds, is consistent with the past only. */
const BEHIND_SECONDS = 60;
/** Two comparisons that ended at once may be reported in any order, by so much, in ms. */
const AT_ONCE_MS = 1_000;

const BASIS = {
  checkpoint: "as of the checkpoint",
  head: "with the primary's newest revision",
  promotion: "as both were at the moment of the promotion",
};

/** When the comparison ended. @param {Result} result */
export function endedMs(result) {
  return result.startedMs + result.tookMs;
}

/**
 * The comparison that began last: a slow one that ends after it saw the clusters as they were before.
 * @param {Result[]} results in the order of their ends
 * @returns {Result | null}
 */
export function newestOf(results) {
  let newest = null;
  for (const one of results) {
    // Whatever ends later by the order but not by the clock: the clock was set back, and gives no order.
    const setBack = newest && endedMs(one) + AT_ONCE_MS < endedMs(newest);
    if (!newest || one.startedMs >= newest.startedMs || setBack) newest = one;
  }
  return newest;
}

/**
 * The newest comparison that told what is missed and what is surplus.
 * @param {Result[]} results
 */
export function newestTold(results) {
  return newestOf(results.filter((result) => result.verdict !== "unknown"));
}

/**
 * The newest comparison that told whose values are mismatched.
 * @param {Result[]} results
 */
export function newestDeep(results) {
  return newestOf(results.filter((result) => result.deep && result.verdict !== "unknown"));
}

/**
 * Whether a comparison found differences and could not check them: none is counted.
 * @param {Result | null} result
 */
export function unproved(result) {
  return result?.verdict === "different" && ((result.unproved ?? 0) > 0 || differencesOf(result) === 0);
}

/**
 * What was compared with what: `keys, as of the checkpoint`.
 * @param {Result} result
 */
export function comparedWords(result) {
  return `${result.deep ? "keys and values" : "keys"}, ${BASIS[result.basis] ?? `as of ${NOT_KNOWN}`}`;
}

/**
 * How a comparison is marked: colour and shape follow.
 * @param {Result} result
 * @returns {Tone}
 */
export function toneOf(result) {
  if (result.verdict === "unknown") return "unknown";
  if (result.missed > 0 || (result.mismatched ?? 0) > 0 || unproved(result)) return "bad";
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
  if (unproved(result)) return "Not consistent: see the report";
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
 * @param {any} state as /api/state sends it; null before the first
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
  const [newest, told] = [newestOf(results), newestTold(results)];
  const present = { told, newest, ...atPresent(state, newest, told, nowMs) };
  return lostMs == null || present.tone === "none" ? present : { ...present, tone: "stale", ...lastKnown(present) };
}

function atPresent(state, newest, told, nowMs) {
  const before = told && `The last check with a verdict, ${ago(endedMs(told), nowMs)}, found: ${describe(told)}.`;
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
  const open = values.unproved && toneOf(both) !== "bad";
  const [tone, spoken] = open ? ["bad", "Not consistent: see the report"] : [toneOf(both), titleOf(both)];
  const title = `${spoken}${values.age}`;
  const lines = values.first && told.missed === 0 ? [...values.lines, ...meaning(told, tone)] : [...meaning(told, tone), ...values.lines];
  const but = tone === "bad" ? null : caveat(state.observed, nowMs);
  if (nowMs - endedMs(told) <= outOfDateMs(state.checkIntervalMs)) {
    if (!but) return { tone, title, spoken, lines };
    const why = but.line ? [but.line, ...lines] : lines;
    return { tone: "warn", title: `${title}, but ${but.words}`, spoken: `${spoken}, but ${but.spoken ?? but.words}`, lines: why };
  }
  const age = ticking((nowMs - endedMs(told)) / 1000);
  const every = duration(state.checkIntervalMs / 1000);
  const late = `Out of date: no check has ended for ${age}, and there should be one every ${every}. Press Check now.`;
  return { tone: "stale", ...lastKnown({ title, spoken }), lines: [late, ...lines] };
}

/** Why a link that is consistent may still lack what the primary did last, or may not be what it was when it was read. */
function caveat(observed, nowMs) {
  if (!observed) return { words: "the monitor has not read the clusters yet" };
  if (nowMs - observed.atMs > OBSERVED_OLD_MS) return { words: "the monitor has not read the clusters lately" };
  const { primary, standby, lag } = observed;
  if (!primary.reachable) return { words: `the primary ${otherwise(primary)}`, line: why("primary", primary) };
  if (!standby.reachable) return { words: `the standby ${otherwise(standby)}`, line: why("standby", standby) };
  if (standby.role === "primary") return null;
  if (standby.paused) return { words: "replication is paused" };
  if (standby.leader == null) return { words: "no synchronizer is running" };
  const spoken = "behind the primary";
  const catching = catchingUp(observed);
  if (catching) return { words: catching, spoken };
  return (lag?.seconds ?? 0) > BEHIND_SECONDS ? { words: `${duration(lag.seconds)} behind`, spoken } : null;
}

function why(name, side) {
  return side.error ? stopped(`the ${name}: ${side.error}`) : null;
}

/** What the newest result that compared values knows of them, when the newest that told did not compare them. */
function valuesBefore(results, told, nowMs) {
  const known = { mismatched: 0, unproved: false, first: false, age: "", lines: [] };
  if (told.deep) return known;
  const deep = newestDeep(results);
  if (!deep) return { ...known, lines: ["Keys were compared, values were not: tick “compare values too” to do so."] };
  const mismatched = deep.mismatched ?? 0;
  const compared = `Values were last compared ${ago(endedMs(deep), nowMs)}`;
  const again = "Tick “compare values too” to compare them now.";
  if (mismatched > 0) {
    const age = ` (values compared ${ago(endedMs(deep), nowMs)})`;
    return { ...known, mismatched, first: true, age, lines: [`${compared}: ${plural(mismatched, "value")} mismatched. ${again}`] };
  }
  if (!unproved(deep)) return { ...known, lines: [`${compared}: no value mismatched.`] };
  const lines = [`${compared}, and not all differences could be checked. ${again}`];
  return { ...known, unproved: true, first: true, lines };
}

/** What a verdict means for who has to decide. */
function meaning(told, tone) {
  const lines = [];
  const promotion = told.basis === "promotion";
  if (promotion) lines.push("Compared as both sides were at the moment of the promotion: later changes are not compared.");
  if (unproved(told)) {
    lines.push("Keys or values seem to differ, and not all could be checked: see “Report as text” at the foot of this page.");
  } else if (told.missed > 0) {
    lines.push(promotion
      ? "Missed keys had not arrived when this side was promoted: what depends on a missed owner is garbage collected here."
      : "Missed keys stop a failover: what depends on a missed owner would be garbage collected here.");
  } else if (tone === "good") {
    const [on, of] = promotion ? ["was", "at its"] : ["is", "as of its"];
    lines.push(`Every synchronized key of the primary, ${of} revision ${count(told.primaryRevision)}, ${on} on this side, and no other.`);
  }
  if (told.surplus > 0) {
    lines.push(promotion
      ? `${plural(told.surplus, "surplus key")} existed on this side only.`
      : `${plural(told.surplus, "surplus key exists", "surplus keys exist")} on this side only.`);
  }
  if ((told.ownStatus ?? 0) > 0) {
    lines.push(`${plural(told.ownStatus, "object differs", "objects differ")} in status only, written by this side's own controllers.`);
  }
  if (told.healed > 0) lines.push(`${plural(told.healed, "difference")} of the check before are gone.`);
  return lines;
}

function copyUnderWay(observed) {
  const standby = observed?.standby;
  if (!standby || standby.role === "primary" || !["first-sync", "resync"].includes(standby.phase)) return null;
  const what = standby.phase === "resync" ? "resync" : "first sync";
  const progress = standby.copied?.total > 0 ? standby.copied : null;
  const line = progress
    ? `${count(progress.done)} of ${plural(progress.total, "key")} copied, ${percent(progress.done, progress.total)}.`
    : "The progress is not known yet.";
  return { title: `Not ready: ${what} under way`, line, progress };
}

function describe(told) {
  const title = titleOf(told);
  const extra = title === "Nothing is missed" ? `, ${plural(told.surplus, "surplus key")}` : "";
  return `${title}${extra} (${plural(told.keysCompared, "key")}, primary revision ${count(told.primaryRevision)})`;
}

function lastKnown({ title, spoken = title }) {
  const before = (words) => `Last known: ${words.charAt(0).toLowerCase()}${words.slice(1)}`;
  return { title: before(title), spoken: before(spoken) };
}

// What needs attention besides the verdict, most pressing first. Pure.

import { ago, duration, plural, stopped, ticking } from "./text.js";

/** Below this much history left, in seconds, an interruption may cause a resync. */
export const HEADROOM_WARN_SECONDS = 120;
/** An observation older than this, in ms, is not the present any more. */
export const OBSERVED_OLD_MS = 15_000;

/**
 * What is wrong with a side that is not `reachable`. One that is another cluster does answer: its error begins so.
 * @param {{error: string | null}} side
 */
export function otherwise(side) {
  return /^it answers\b/i.test(side.error ?? "") ? "is another cluster than recorded" : "cannot be reached";
}

/**
 * The text for a lag without seconds, or null: the monitor has not seen this standby caught up.
 * @param {any} observed
 */
export function catchingUp(observed) {
  const { revisions = null, seconds = null } = observed?.lag ?? {};
  if (seconds != null || !(revisions > 0)) return null;
  return `catching up: ${plural(revisions, "revision")} behind, for an unknown time`;
}

/**
 * @typedef {object} Notice
 * @property {string} id
 * @property {"bad" | "warn" | "notice"} tone
 * @property {string} title
 * @property {string} text
 *
 * @param {any} state
 * @param {number} nowMs
 * @param {number | null} lostMs
 * @returns {Notice[]}
 */
export function noticesOf(state, nowMs, lostMs) {
  const all = [];
  if (lostMs != null) all.push(lost(state, nowMs, lostMs));
  const observed = state?.observed;
  if (!observed) return all;
  if (lostMs == null && nowMs - observed.atMs > OBSERVED_OLD_MS) {
    all.push({
      id: "blind", tone: "warn", title: `The monitor has not read the etcds for ${ticking((nowMs - observed.atMs) / 1000)}`,
      text: "Reachability, roles and lag below are from before. Read the log of the monitor.",
    });
  }
  all.push(...sides(observed), ...link(observed, nowMs), ...headroom(observed));
  return all;
}

function lost(state, nowMs, lostMs) {
  const since = ticking((nowMs - lostMs) / 1000);
  return {
    id: "lost", tone: "warn",
    title: `This page lost the monitor ${since} ago`,
    text: state
      ? "The verdict below may be out of date. The page keeps trying to connect again by itself."
      : "The page keeps trying to connect by itself.",
  };
}

function sides(observed) {
  const all = [];
  const { primary, standby } = observed;
  if (!primary.reachable) {
    const why = stopped(primary.error ?? "No reason was given");
    const away = otherwise(primary) === "cannot be reached";
    const arrives = away && standby.role !== "primary" ? "Nothing new arrives on the standby, and no" : "No";
    const below = away ? "Revisions of it below are the last known." : "Its revisions below are those of the cluster that answers.";
    const text = `${why} ${arrives} check can be made. ${below}`;
    all.push({ id: "primary", tone: "bad", title: `The primary ${otherwise(primary)}`, text });
  }
  if (!standby.reachable) {
    const why = stopped(standby.error ?? "No reason was given");
    all.push({
      id: "standby", tone: "bad", title: `The standby ${otherwise(standby)}`,
      text: `${why} Its role, phase and leader below are the last known.`,
    });
  }
  return all;
}

function link({ standby, primary }, nowMs) {
  if (standby.role === "primary") {
    return [{
      id: "promoted", tone: "notice", title: "This side was promoted: it is a primary now",
      text: "No synchronizer can write to it any more. Checks compare both sides as they were at the moment of the promotion.",
    }];
  }
  const all = [];
  if (standby.paused) {
    const since = ago(standby.paused.sinceMs, nowMs);
    all.push({
      id: "paused", tone: "bad", title: `Replication is paused, since ${since}`,
      text: `${stopped(standby.paused.why)} Reported by ${standby.paused.holder}.`,
    });
  }
  if (standby.reachable && standby.role == null) {
    all.push({
      id: "unused", tone: "notice", title: "Nothing was ever synchronized into this standby",
      text: "Start etcd-sync for this link; the first sync begins by itself.",
    });
  } else if (standby.reachable && standby.leader == null) {
    all.push({
      id: "leader", tone: "bad", title: "No synchronizer is running",
      text: `No replica of etcd-sync is the leader: changes of the primary do not arrive.${primary.reachable ? " Check the pods of etcd-sync." : ""}`,
    });
  }
  return all;
}

function headroom({ headroom, standby }) {
  const left = headroom?.seconds;
  if (left == null || left >= HEADROOM_WARN_SECONDS || standby.role === "primary") return [];
  return [{
    id: "headroom", tone: "warn", title: `Only ${duration(left)} of history headroom`,
    text: "If replication is interrupted for longer than that, the primary's compaction passes the checkpoint and a resync follows.",
  }];
}

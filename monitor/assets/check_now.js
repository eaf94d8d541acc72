// The button that starts a comparison, and the progress of the one that runs.

import { byId, setAttribute, setText } from "./dom.js";
import { count, percent } from "./text.js";

/** A periodic comparison shorter than this, in ms, does not make the button flicker. */
const QUIET_MS = 700;
/** Nothing runs for so long, in ms, after it was asked for: the answer was missed. */
const ANSWER_MS = 10_000;

/** What was asked for, and when; null: nothing, or it is answered. */
let asked = /** @type {{deep: boolean, atMs: number} | null} */ (null);
let refused = "";

/**
 * Makes the form work. Called once.
 * @param {() => number} nowMs the monitor's clock
 */
export function setUpCheckNow(nowMs) {
  byId("check-now").addEventListener("submit", (event) => {
    event.preventDefault();
    // Not `disabled`: a button that loses its focus in the middle throws keyboard users back to the top.
    if (byId("check-button").getAttribute("aria-disabled") !== "true") start(byId("check-deep").checked, nowMs());
  });
}

/**
 * A comparison ended; without one: what was asked for is forgotten. One that had begun before does not answer.
 * @param {import("./verdict.js").Result} [result]
 */
export function checkEnded(result) {
  if (result && asked && (result.deep !== asked.deep || result.startedMs < asked.atMs)) return;
  asked = null;
  refused = "";
}

/**
 * @param {any} state
 * @param {number} nowMs
 * @param {number | null} lostMs
 */
export function showCheckNow(state, nowMs, lostMs) {
  const running = lostMs == null ? state?.running : null;
  if (asked && !running && nowMs - asked.atMs > ANSWER_MS) asked = null;
  const visible = running && (asked || running.deep || nowMs - running.startedMs > QUIET_MS);
  let status = refused || "Changes nothing on either side.";
  if (!state) status = "Waiting for the monitor.";
  else if (lostMs != null) status = "Not possible: the monitor cannot be reached.";
  else if (visible) status = progressText(running);
  else if (asked) status = "Starting…";
  const button = byId("check-button");
  // A periodic comparison that runs does not stand in the way: the monitor makes another one after it.
  setAttribute(button, "aria-disabled", !state || lostMs != null || asked ? "true" : "false");
  setText(button, asked ? "Checking…" : "Check now");
  setText(byId("check-status"), status);
  const bar = byId("check-progress");
  bar.hidden = !visible;
  if (visible && running.total > 0) {
    bar.max = running.total;
    bar.value = Math.min(running.done, running.total);
  } else {
    bar.removeAttribute("value");
  }
}

function progressText(running) {
  const what = running.deep ? "Comparing keys and values" : "Comparing keys";
  if (!(running.total > 0)) return `${what}: ${count(running.done)} so far`;
  return `${what}: ${count(running.done)} of ${count(running.total)} (${percent(running.done, running.total)})`;
}

async function start(deep, atMs) {
  asked = { deep, atMs };
  refused = "";
  document.dispatchEvent(new Event("refresh"));
  try {
    const answer = await fetch(`/api/check${deep ? "?deep=1" : ""}`, { method: "POST" });
    if (answer.status === 401) location.reload();
    else if (!answer.ok) throw new Error(`the monitor answered ${answer.status} ${answer.statusText}`);
  } catch (error) {
    asked = null;
    refused = `The check could not be started: ${error instanceof Error ? error.message : error}.`;
    document.dispatchEvent(new Event("refresh"));
  }
}

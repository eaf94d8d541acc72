// The stream of events, and whether it still lives.

/**
 * No event for this long, in ms: the stream is dead, whatever the socket says. Observations come every 2 s, and at worst
 * every 11 s, while neither etcd answers.
 */
const SILENCE_MS = 15_000;
/** Longest wait for the answer whether a token is required, in ms: a browser has few connections to one server. */
const ANSWER_MS = 4_000;
/** Waits between attempts, in ms. */
const RETRY_MS = [500, 1000, 2000, 4000, 5000];

/**
 * @typedef {object} Listener
 * @property {(name: string, data: any) => void} onEvent one of state, observed, running, result
 * @property {(lostMs: number | null) => void} onLost since when the stream is gone, by this machine's clock; null: it is back
 */

/**
 * Opens `/api/events` and keeps it open for the life of the page. Where a token is required the page is loaded again.
 * @param {Listener} listener
 */
export function connect(listener) {
  /** @type {EventSource | null} */
  let source = null;
  let lastEventMs = Date.now();
  let lostMs = /** @type {number | null} */ (null);
  let attempt = 0;
  let retry = 0;

  function open() {
    clearTimeout(retry);
    source?.close();
    lastEventMs = Date.now();
    const opened = new EventSource("/api/events");
    source = opened;
    for (const name of ["state", "observed", "running", "result"]) {
      opened.addEventListener(name, (event) => {
        if (source !== opened) return;
        lastEventMs = Date.now();
        attempt = 0;
        // Only a whole state says that what is shown is the present again.
        if (name === "state") lost(null);
        listener.onEvent(name, JSON.parse(/** @type {MessageEvent} */ (event).data));
      });
    }
    opened.addEventListener("error", () => {
      if (source === opened) again();
    });
  }

  async function again() {
    source?.close();
    source = null;
    lost(lostMs ?? lastEventMs);
    clearTimeout(retry);
    retry = setTimeout(open, RETRY_MS[Math.min(attempt, RETRY_MS.length - 1)]);
    attempt += 1;
    if (await needsToken()) location.reload();
  }

  function lost(ms) {
    if (ms === lostMs) return;
    lostMs = ms;
    listener.onLost(ms);
  }

  setInterval(() => {
    if (source && Date.now() - lastEventMs > SILENCE_MS) again();
  }, 1000);
  // A laptop that was asleep: do not wait for the next attempt.
  for (const name of ["online", "pageshow"]) addEventListener(name, () => lostMs != null && open());
  document.addEventListener("visibilitychange", () => !document.hidden && lostMs != null && open());
  open();
}

/** Whether the monitor refuses because a token is missing; an EventSource does not show that. */
async function needsToken() {
  try {
    return (await fetch("/api/state", { method: "HEAD", cache: "no-store", signal: AbortSignal.timeout(ANSWER_MS) })).status === 401;
  } catch {
    return false;
  }
}

// Small line charts of what was measured over the last minutes, with gaps where nothing is known.

import { h, setAttribute, setText, svg } from "./dom.js";
import { ago, duration, sentence, timeOfDay } from "./text.js";

/** The spans that a chart may show, in ms: as the monitor keeps 15 minutes, but a young one fills a shorter chart. */
const SPANS_MS = [60_000, 120_000, 300_000, 900_000];
/** Points further apart than this, in ms, are not joined. */
const GAP_MS = 7_000;
/** The box the curves are drawn in; the page stretches it. */
const WIDTH = 600;
const HEIGHT = 100;

/**
 * @typedef {{atMs: number, value: number | null}} Point
 *
 * Runs of neighbouring points that are known.
 * @param {Point[]} points oldest first
 * @returns {Point[][]}
 */
export function runsOf(points) {
  const runs = [];
  let last = null;
  for (const point of points) {
    if (point.value == null) {
      last = null;
      continue;
    }
    if (last && point.atMs - last.atMs <= GAP_MS) runs.at(-1).push(point);
    else runs.push([point]);
    last = point;
  }
  return runs;
}

/**
 * Paths of the line and of the area below it.
 * @param {Point[]} points
 * @param {number} nowMs
 * @param {number} spanMs
 * @param {number} top the value at the upper edge
 */
export function pathsOf(points, nowMs, spanMs, top) {
  const x = (atMs) => (WIDTH * (1 - (nowMs - atMs) / spanMs)).toFixed(1);
  const y = (value) => (HEIGHT * (1 - Math.min(1, value / top))).toFixed(1);
  let line = "";
  let area = "";
  for (const run of runsOf(points)) {
    const last = run[run.length - 1];
    // A point alone is a dash as wide as one observation.
    const steps = run.length > 1 ? run : [run[0], { ...run[0], atMs: run[0].atMs + 2000 }];
    const along = steps.map((point) => `${x(point.atMs)} ${y(point.value)}`).join("L");
    line += `M${along}`;
    area += `M${x(run[0].atMs)} ${HEIGHT}L${along}L${x(Math.max(last.atMs, steps[steps.length - 1].atMs))} ${HEIGHT}Z`;
  }
  return { line, area };
}

/**
 * The span that shows all points.
 * @param {Point[]} points oldest first
 * @param {number} nowMs
 */
export function spanOf(points, nowMs) {
  const age = points.length > 0 ? nowMs - points[0].atMs : 0;
  return SPANS_MS.find((span) => span >= age) ?? SPANS_MS[SPANS_MS.length - 1];
}

/**
 * The next round duration at or above `seconds`, for the upper edge.
 * @param {number} seconds
 */
export function roundUp(seconds) {
  const steps = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 43200];
  return steps.find((step) => step >= seconds) ?? Math.ceil(seconds / 86400) * 86400;
}

/**
 * @typedef {object} Options
 * @property {string} title
 * @property {string} about one line on what it means
 * @property {number} least the smallest span of the axis, in seconds
 * @property {number} [warnBelow] a line at this value
 */

/**
 * A card with a heading, the present value, and the chart. Returns the function that shows new figures.
 * @param {HTMLElement} card
 * @param {Options} options
 */
export function chartCard(card, { title, about, least, warnBelow }) {
  const value = h("p", { class: "chart-value" }, "…");
  const note = h("p", { class: "chart-note muted" });
  const line = svg("path", { class: "chart-line" });
  const area = svg("path", { class: "chart-area" });
  const warn = svg("line", { class: "chart-warn", x1: 0, x2: WIDTH });
  const cursor = svg("line", { class: "chart-cursor", y1: 0, y2: HEIGHT, visibility: "hidden" });
  const drawing = svg(
    "svg",
    { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" },
    area, warn, line, cursor,
  );
  const high = h("span", { class: "axis axis-high" });
  const low = h("span", { class: "axis axis-low" }, "0 s");
  const warnLabel = h("span", { class: "axis axis-warn" }, warnBelow ? `warning below ${duration(warnBelow)}` : "");
  const nothing = h("p", { class: "chart-nothing muted" }, "Nothing measured yet");
  const plot = h("div", { class: "plot" }, drawing, high, low, warnLabel, nothing);
  const from = h("span");
  const readout = h("span", { class: "chart-readout" });
  const times = h("div", { class: "axis-times", "aria-hidden": "true" }, from, readout, h("span", {}, "now"));
  card.append(
    h("div", { class: "chart-head" }, h("div", {}, h("h3", {}, title), h("p", { class: "small muted" }, about)),
      h("div", { class: "chart-now" }, value, note)),
    plot, times,
  );

  let points = /** @type {Point[]} */ ([]);
  let now = 0;
  let span = SPANS_MS[0];
  plot.addEventListener("pointermove", (event) => {
    const box = plot.getBoundingClientRect();
    const at = now - span * (1 - (event.clientX - box.left) / box.width);
    const near = points.reduce((best, point) => (best && Math.abs(best.atMs - at) <= Math.abs(point.atMs - at) ? best : point), null);
    if (!near || Math.abs(near.atMs - at) > 5000) return hide();
    const x = WIDTH * (1 - (now - near.atMs) / span);
    for (const name of ["x1", "x2"]) setAttribute(cursor, name, x.toFixed(1));
    setAttribute(cursor, "visibility", "visible");
    setText(readout, `${timeOfDay(near.atMs)}: ${duration(near.value)}`);
  });
  plot.addEventListener("pointerleave", hide);
  function hide() {
    setAttribute(cursor, "visibility", "hidden");
    setText(readout, "");
  }

  /**
   * @param {Point[]} next oldest first, values in seconds
   * @param {number} nowMs
   * @param {{value: string, note: string, tone: "plain" | "warn" | "old"}} words
   */
  return function show(next, nowMs, words) {
    now = nowMs;
    span = spanOf(next, nowMs);
    points = next.filter((point) => point.atMs > nowMs - span);
    setText(from, ago(nowMs - span, nowMs));
    const known = points.flatMap((point) => (point.value == null ? [] : [point.value]));
    const top = roundUp(Math.max(least, ...known));
    const paths = pathsOf(points, nowMs, span, top);
    setAttribute(line, "d", paths.line);
    setAttribute(area, "d", paths.area);
    const warnAt = warnBelow && warnBelow < top && known.length > 0 ? HEIGHT * (1 - warnBelow / top) : null;
    setAttribute(warn, "visibility", warnAt == null ? "hidden" : "visible");
    for (const name of ["y1", "y2"]) setAttribute(warn, name, warnAt?.toFixed(1));
    warnLabel.hidden = warnAt == null;
    if (warnAt != null) warnLabel.style.setProperty("top", `${warnAt}%`);
    setText(high, duration(top).replace(/\.0(?=\s)/, ""));
    nothing.hidden = known.length > 0;
    setText(value, words.value);
    setText(note, words.note);
    card.dataset.tone = words.tone;
    setAttribute(drawing, "aria-label", describe(title, points, span, words.value));
  };
}

/** The chart in words. */
function describe(title, points, span, value) {
  const over = duration(span / 1000);
  const known = points.flatMap((point) => (point.value == null ? [] : [point.value]));
  if (known.length === 0) return `${title}: nothing was measured in the last ${over}.`;
  const gaps = points.length - known.length;
  const unknown = gaps > 0 ? ` ${sentence(`not known at ${gaps} of ${points.length} readings.`)}` : "";
  return `${title} over the last ${over}: now ${value}, lowest ${duration(Math.min(...known))}, highest ${duration(Math.max(...known))}.${unknown}`;
}

// The last checks: one mark each, newest right, and the same as a table.

import { byId, h, setChildren, setText } from "./dom.js";
import { shape } from "./shapes.js";
import { count, dateTime, duration, moment, plural, stopped } from "./text.js";
import { differencesOf, endedMs, titleOf, toneOf } from "./verdict.js";

/** Room for one mark, in CSS pixels; as in style.css. */
const MARK_PX = 12;
/** Rows of the table at first. */
const ROWS = 20;

/** @type {any} */
let parts = null;
/** @type {Map<string, HTMLButtonElement>} */
const marks = new Map();
/** @type {any[]} */
let results = [];
let chosen = /** @type {string | null} */ (null);
let rows = ROWS;

/** @param {any[]} next oldest first */
export function showTimeline(next) {
  results = next;
  parts ??= build();
  const room = Math.max(10, Math.floor(parts.strip.clientWidth / MARK_PX));
  const visible = results.slice(-room);
  const wanted = visible.map(mark);
  const ids = new Set(visible.map(idOf));
  for (const id of marks.keys()) if (!ids.has(id)) marks.delete(id);
  setChildren(parts.strip, wanted);
  if (chosen && !ids.has(chosen)) chosen = null;
  const current = chosen ?? (visible.length > 0 ? idOf(visible[visible.length - 1]) : null);
  for (const [id, button] of marks) button.tabIndex = id === current ? 0 : -1;
  parts.empty.hidden = results.length > 0;
  parts.strip.hidden = parts.times.hidden = results.length === 0;
  if (visible.length > 0) setText(parts.from, visible.length < room ? `nothing before ${when(visible[0])}` : when(visible[0]));
  read();
  if (parts.details.open) table();
}

function build() {
  const strip = h("div", { class: "strip", role: "group", "aria-label": "Checks, oldest first; the arrow keys move along them" });
  const empty = h("p", { class: "muted" }, "No check has ended yet.");
  const from = h("span");
  const times = h("div", { class: "axis-times", "aria-hidden": "true" }, from, h("span", {}, "newest"));
  const readout = h("p", { class: "strip-readout", id: "strip-readout" });
  const legend = h("ul", { class: "legend small", "aria-label": "Marks" },
    ...[["good", "consistent"], ["notice", "surplus only"], ["bad", "missed or mismatched"], ["unknown", "cannot tell"]]
      .map(([tone, word]) => h("li", {}, h("span", { class: "mark-sample", "data-tone": tone }), word)));
  const body = h("tbody");
  const more = h("button", { type: "button", onclick: () => { rows += 100; table(); } }, "Show more");
  const heads = ["Ended", "Verdict", "Missed", "Surplus", "Mismatched", "Keys", "Took"];
  const details = h("details", {}, h("summary", {}, "The same as a table"),
    h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Last checks as a table" },
      h("table", { class: "plain" }, h("caption", { class: "unseen" }, "Last checks, newest first"),
        h("thead", {}, h("tr", {}, ...heads.map((head, i) => h("th", { scope: "col", class: i > 1 ? "number" : null }, head)))), body)), more);
  details.addEventListener("toggle", () => details.open && table());
  strip.addEventListener("keydown", move);
  for (const end of ["pointerleave", "focusout"]) strip.addEventListener(end, () => { chosen = null; read(); });
  byId("timeline").append(empty, strip, times, h("div", { class: "strip-foot" }, readout, legend), details);
  new ResizeObserver(() => showTimeline(results)).observe(strip);
  return { strip, empty, from, times, readout, details, body, more };
}

/** A monitor that was started again counts from one again: the time belongs to the name. */
function idOf(result) {
  return `${result.id}/${result.startedMs}`;
}

/** The mark of a check: a dot at the foot when all is well, a column by the number of differences when not. */
function mark(result) {
  const id = idOf(result);
  let button = marks.get(id);
  if (button) return button;
  const tone = toneOf(result);
  button = /** @type {HTMLButtonElement} */ (h("button", {
    type: "button", class: "mark", "data-tone": tone, "aria-label": `${when(result)}: ${words(result)}`,
    title: `${dateTime(endedMs(result))}: ${words(result)}`,
  }, h("span", { class: "mark-shape" })));
  const share = Math.min(1, Math.log10(1 + differencesOf(result)) / 4);
  if (tone === "bad" || tone === "notice") button.style.setProperty("--height", `${Math.round(30 + 70 * share)}%`);
  const choose = () => { chosen = id; read(); };
  button.addEventListener("pointerenter", choose);
  button.addEventListener("focus", choose);
  marks.set(id, button);
  return button;
}

function move(event) {
  const all = [...parts.strip.children];
  const at = all.indexOf(document.activeElement);
  const to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: all.length - 1 }[event.key];
  if (at < 0 || to === undefined || !all[to]) return;
  event.preventDefault();
  for (const button of all) button.tabIndex = -1;
  all[to].tabIndex = 0;
  all[to].focus();
}

function read() {
  const result = results.find((one) => idOf(one) === chosen) ?? results.at(-1);
  for (const [id, button] of marks) button.classList.toggle("chosen", result != null && id === idOf(result));
  setText(parts.readout, result ? `${when(result)}: ${words(result)}` : "");
}

function when(result) {
  return moment(endedMs(result), endedMs(results.at(-1)));
}

/** A check in one line. */
function words(result) {
  if (result.verdict === "unknown") return `cannot tell. ${stopped(result.error ?? "No reason was given")}`;
  const surplus = result.surplus > 0 ? `, ${plural(result.surplus, "surplus key")}` : "";
  const healed = result.healed > 0 ? `, ${count(result.healed)} healed` : "";
  const what = result.deep ? "keys and values" : "keys";
  return `${titleOf(result)}${surplus}${healed}. ${count(result.keysCompared)} ${what} in ${duration(result.tookMs / 1000)}.`;
}

function table() {
  const newest = results.slice(-rows).reverse();
  parts.more.hidden = results.length <= rows;
  setText(parts.more, `Show more (${count(results.length - rows)} older)`);
  const present = new Map([...parts.body.children].map((row) => [row.dataset.id, row]));
  setChildren(parts.body, newest.map((result) => present.get(idOf(result)) ?? row(result)));
}

function row(result) {
  const end = endedMs(result);
  const told = result.verdict !== "unknown";
  const number = (text) => h("td", { class: "number" }, text);
  const verdict = told ? titleOf(result) : `Cannot tell. ${stopped(result.error ?? "No reason was given")}`;
  return h("tr", { "data-id": idOf(result) },
    h("th", { scope: "row" }, h("time", { datetime: new Date(end).toISOString(), title: dateTime(end) }, when(result))),
    h("td", {}, h("span", { class: "tone", "data-tone": toneOf(result) }, shape(toneOf(result)), verdict)),
    number(told ? count(result.missed) : "–"), number(told ? count(result.surplus) : "–"),
    number(result.mismatched == null ? "–" : count(result.mismatched)),
    number(told ? count(result.keysCompared) : "–"), number(duration(result.tookMs / 1000)));
}

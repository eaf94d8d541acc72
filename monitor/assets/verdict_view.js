// The verdict, very large, and the notices around it.

import { byId, h, setChildren, setText, time } from "./dom.js";
import { shape } from "./shapes.js";
import { ago, count, dateTime, duration, percent } from "./text.js";
import { comparedWords, endedMs, verdictOf } from "./verdict.js";
import { noticesOf } from "./notices.js";

/** What was said last to those who listen. */
let announced = "";
/** @type {Map<string, {element: HTMLElement, title: Element, text: Element}>} */
const shown = new Map();

/**
 * Shows verdict and notices. Called on every event and every second.
 * @param {any} state
 * @param {number} nowMs the monitor's clock
 * @param {number | null} lostMs the same clock
 */
export function showVerdict(state, nowMs, lostMs) {
  const verdict = verdictOf(state, nowMs, lostMs);
  const section = byId("verdict");
  if (section.dataset.tone !== verdict.tone || !section.querySelector("svg")) {
    section.dataset.tone = verdict.tone;
    byId("verdict-shape").replaceChildren(shape(verdict.tone));
  }
  setText(byId("verdict-title"), verdict.title);
  showLines(verdict.lines);
  showProgress(verdict.progress ?? null);
  showFacts(verdict, nowMs);
  announce(verdict);
  document.title = `${verdict.spoken ?? verdict.title} (${state?.link ?? "etcd-sync"})`;
  showNotices(noticesOf(state, nowMs, lostMs));
}

function showLines(lines) {
  const holder = byId("verdict-lines");
  while (holder.children.length > lines.length) holder.lastElementChild.remove();
  while (holder.children.length < lines.length) holder.append(h("p"));
  lines.forEach((line, index) => setText(holder.children[index], line));
}

function showProgress(progress) {
  const holder = byId("verdict-progress");
  holder.hidden = !progress;
  if (!progress) return holder.replaceChildren();
  if (!holder.firstChild) holder.append(h("progress", { "aria-label": "Keys copied" }));
  holder.firstChild.max = progress.total;
  holder.firstChild.value = Math.min(progress.done, progress.total);
  setText(holder.firstChild, percent(progress.done, progress.total));
}

/** The figures that a verdict is based on; the first one ticks. */
function showFacts({ told, newest }, nowMs) {
  const holder = byId("facts");
  const id = `${told?.startedMs} ${newest?.startedMs}`;
  if (holder.dataset.id === id) return;
  holder.dataset.id = id;
  const fact = (name, value) => h("div", {}, h("dt", {}, name), h("dd", {}, value));
  const ended = (name, result) => fact(name, time(endedMs(result), ago, dateTime(endedMs(result)), nowMs));
  const tried = newest && newest !== told ? [ended("Tried", newest)] : [];
  if (!told) return holder.replaceChildren(...tried, fact(newest ? "Last verdict" : "Checked", "never"));
  holder.replaceChildren(
    ...tried,
    ended(newest === told ? "Checked" : "Last verdict", told),
    fact("Took", duration(told.tookMs / 1000)),
    fact("Keys compared", count(told.keysCompared)),
    fact("Primary revision", count(told.primaryRevision)),
    fact("Standby revision", count(told.standbyRevision)),
    fact("Compared", comparedWords(told)),
  );
}

/** Says a verdict that changed, and never the ticking of its age. */
function announce({ tone, title, spoken = title }) {
  if (spoken === announced || tone === "none") return;
  announced = spoken;
  setText(byId("announce"), spoken);
}

function showNotices(notices) {
  const wanted = new Set(notices.map((notice) => notice.id));
  for (const id of shown.keys()) if (!wanted.has(id)) shown.delete(id);
  const above = [];
  const below = [];
  for (const notice of notices) {
    let view = shown.get(notice.id);
    if (!view) {
      const title = h("h2", { class: "notice-title" });
      const text = h("p");
      const element = h("div", { class: "notice", "data-tone": notice.tone }, shape(notice.tone), h("div", {}, title, text));
      view = { element, title, text };
      shown.set(notice.id, view);
    }
    setText(view.title, notice.title);
    setText(view.text, notice.text);
    (notice.id === "lost" ? above : below).push(view.element);
  }
  setChildren(byId("notices-above"), above);
  setChildren(byId("notices"), below);
}

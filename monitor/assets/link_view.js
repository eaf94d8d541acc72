// The link as three cards in the direction of the data: primary, synchronizer, standby.

import { byId, h, setAttribute, setText, time } from "./dom.js";
import { otherwise } from "./notices.js";
import { shape } from "./shapes.js";
import { NOT_KNOWN, ago, count, dateTime, list, percent, plural } from "./text.js";

const PHASES = { "first-sync": "first sync", resync: "resync", streaming: "streaming" };

/** @type {Record<string, {element: HTMLElement, title: Element, badge: HTMLElement, facts: HTMLElement}>} */
let cards = {};

/**
 * @param {any} observed as /api/state tells it, or null
 * @param {number} nowMs
 * @param {boolean} old whether what is known may be out of date
 */
export function showLink(observed, nowMs, old) {
  if (!cards.primary) {
    cards = { primary: card("Primary"), synchronizer: card("Synchronizer"), standby: card("Standby") };
    byId("link").append(...Object.values(cards).map((one) => one.element));
  }
  byId("link").classList.toggle("old", old);
  if (!observed) {
    for (const one of Object.values(cards)) fill(one, "none", "not read yet", []);
    return;
  }
  const { primary, standby } = observed;
  fill(cards.primary, ...reached(primary), [
    ["Revision", count(primary.revision)],
    ["Compacted", !primary.compactedRevision ? "nothing yet" : count(primary.compactedRevision)],
    ["Cluster id", code(primary.cluster)],
  ]);
  const [tone, word, flowing] = synchronizer(observed);
  setAttribute(byId("link"), "data-flow", flowing);
  fill(cards.synchronizer, tone, word, [
    ["Leader", standby.leader ? code(standby.leader) : standby.reachable ? "none" : NOT_KNOWN],
    ["Epoch", count(standby.epoch)],
    ["Candidates", candidates(standby)],
    ["Checkpoint", checkpoint(standby.checkpoint, nowMs)],
  ]);
  setText(cards.standby.title, standby.role === "primary" ? "Standby, promoted" : "Standby");
  const copied = standby.copied?.total > 0 ? `, ${percent(standby.copied.done, standby.copied.total)}` : "";
  fill(cards.standby, ...reached(standby), [
    ["Role", standby.role ?? (standby.reachable ? "none: no synchronizer ever ran here" : NOT_KNOWN)],
    ["Phase", standby.phase ? `${PHASES[standby.phase] ?? standby.phase}${standby.phase === "streaming" ? "" : copied}` : "none"],
    ["Revision", count(standby.revision)],
    ["Cluster id", code(standby.cluster)],
  ]);
}

function synchronizer({ primary, standby }) {
  if (standby.role === "primary") return ["notice", "ended: promoted", "ended"];
  if (!standby.reachable) return ["unknown", NOT_KNOWN, "stopped"];
  if (!standby.leader) return ["bad", "not running", "stopped"];
  if (standby.paused) return ["bad", "paused", "stopped"];
  if (!primary.reachable) return ["warn", "waiting for the primary", "stopped"];
  return ["good", "running", "flowing"];
}

function reached(side) {
  return side.reachable ? ["good", "reachable"] : ["bad", otherwise(side)];
}

function candidates(standby) {
  const names = standby.candidates ?? [];
  if (names.length > 0) return names.length > 3 ? plural(names.length, "other replica") : list(names);
  return standby.leader ? "none: no other replica is on standby" : "none";
}

/** The revision and its age; a node is made only when it changes, in `fill`. */
function checkpoint(record, nowMs) {
  if (!record) return "none";
  const written = time(record.writtenMs, ago, dateTime(record.writtenMs), nowMs);
  return h("span", { "data-key": `${record.revision}/${record.writtenMs}` }, `${count(record.revision)}, written `, written);
}

function code(text) {
  return text == null ? NOT_KNOWN : h("code", { "data-key": text }, text);
}

function card(name) {
  const title = h("h3", {}, name);
  const badge = h("p", { class: "badge" });
  const facts = h("dl", { class: "pairs" });
  return { element: h("article", { class: "card node" }, h("div", { class: "node-head" }, title, badge), facts), title, badge, facts };
}

/** Writes only what changed: a text that somebody is selecting stays. */
function fill(one, tone, word, facts) {
  if (one.badge.dataset.word !== `${tone}/${word}`) {
    one.badge.dataset.word = `${tone}/${word}`;
    one.badge.dataset.tone = tone;
    one.badge.replaceChildren(shape(tone), word);
  }
  while (one.facts.children.length > facts.length) one.facts.lastElementChild?.remove();
  facts.forEach(([name, value], index) => {
    let pair = one.facts.children[index];
    if (!pair) {
      pair = h("div", {}, h("dt"), h("dd"));
      one.facts.append(pair);
    }
    setText(pair.children[0], name);
    const key = typeof value === "string" ? value : value.dataset.key;
    if (pair.children[1].dataset.key === key) return;
    pair.children[1].dataset.key = key;
    pair.children[1].replaceChildren(value);
  });
}

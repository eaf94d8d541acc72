// One difference as a row of the table.

import { h, setAttribute, setText, time } from "./dom.js";
import { OF_DIFFERENCE, shape } from "./shapes.js";
import { NOT_KNOWN, ago, dateTime, stopped } from "./text.js";

const WORDS = { missed: "Missed", surplus: "Surplus", mismatched: "Mismatched", status: "Status only" };
const TONES = { missed: "bad", surplus: "notice", mismatched: "bad", status: "none" };
/** How long a button says that it copied, in ms. */
const COPIED_MS = 4_000;

/**
 * @typedef {object} Difference as /api/differences tells it
 * @property {"missed" | "surplus" | "mismatched" | "status"} difference
 * @property {string} key
 * @property {string} [resource]
 * @property {string} [kind]
 * @property {string} [namespace]
 * @property {{kind: string, name: string, uid: string}} [owner]
 * @property {string} reason
 * @property {number | null} firstSeenMs
 * @property {string} hint
 * @property {string} [command]
 *
 * What a row stands for: equal ids share a row, so that focus and selection stay when the list comes again.
 * @param {Difference} difference
 */
export function idOf(difference) {
  return `${difference.difference} ${difference.key}`;
}

/**
 * A row, or the one that is there when nothing in it changed.
 * @param {Difference} difference
 * @param {HTMLElement | undefined} present
 * @param {number} nowMs
 */
export function differenceRow(difference, present, nowMs) {
  const content = JSON.stringify(difference);
  if (present && contents.get(present) === content) return present;
  const row = present ?? h("tr", { role: "row" });
  const focused = row.contains(document.activeElement);
  setAttribute(row, "data-difference", difference.difference);
  row.replaceChildren(...cells(difference, nowMs));
  contents.set(row, content);
  if (focused) row.querySelector("button")?.focus();
  return row;
}

/** @type {WeakMap<HTMLElement, string>} */
const contents = new WeakMap();

function cells(one, nowMs) {
  const cell = (label, ...children) => h("td", { role: "cell", "data-label": label }, ...children);
  const about = [one.kind ?? one.resource ?? "no object"];
  if (one.owner) about.push(`owned by ${one.owner.kind} ${one.owner.name}`);
  const what = h("span", { class: "tone", "data-tone": TONES[one.difference] }, shape(OF_DIFFERENCE[one.difference]), WORDS[one.difference]);
  return [
    cell("Difference", what),
    h("th", { role: "rowheader", scope: "row", "data-label": "Key" }, h("code", { class: "key" }, ...breakable(one.key)),
      h("span", { class: "small muted", title: one.owner ? `uid of the owner: ${one.owner.uid}` : null }, about.join(" · "))),
    cell("Namespace", one.namespace ?? h("span", { class: "muted" }, "none")),
    cell("Why, and what to do", h("p", {}, stopped(one.reason)), one.hint ? h("p", { class: "hint" }, stopped(one.hint)) : null, command(one)),
    cell("First seen", one.firstSeenMs == null ? NOT_KNOWN : time(one.firstSeenMs, ago, dateTime(one.firstSeenMs), nowMs)),
  ];
}

/** A key may break behind its slashes. */
function breakable(key) {
  return key.split("/").flatMap((part, index) => (index === 0 ? [part] : ["/", h("wbr"), part]));
}

function command(one) {
  if (!one.command) return null;
  const button = h("button", { type: "button", class: "copy" });
  // The spoken label begins with the visible one.
  const say = (word) => {
    setText(button, word);
    setAttribute(button, "aria-label", `${word} the command for ${one.key}`);
  };
  say("Copy");
  button.addEventListener("click", async () => {
    say((await copy(one.command)) ? "Copied" : "Not copied");
    setTimeout(() => say("Copy"), COPIED_MS);
  });
  return h("div", { class: "command" }, h("code", {}, one.command), button);
}

/** Without HTTPS there is no clipboard to write to: then the old way. */
async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const field = h("textarea", { class: "unseen", readonly: true, "aria-hidden": "true" });
    field.value = text;
    const focused = document.activeElement;
    document.body.append(field);
    field.select();
    const done = document.execCommand("copy");
    field.remove();
    focused?.focus();
    return done;
  }
}

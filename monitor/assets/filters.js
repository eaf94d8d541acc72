// The filters of the differences: the fields, and what they ask the monitor for. They are kept in the address, so that
// a reload and a link sent to a colleague show the same.

import { byId, h, setAttribute, setText } from "./dom.js";
import { count, sentence } from "./text.js";

const NAMES = ["difference", "namespace", "resource", "reason", "age", "q"];
const WORDS = { missed: "Missed", surplus: "Surplus", mismatched: "Mismatched", status: "Status only" };
/** Ages as the query says them, in seconds. */
const AGES = [
  ["", "Any time"],
  ["olderThan=300", "Over 5 minutes ago"],
  ["olderThan=3600", "Over 1 hour ago"],
  ["newerThan=300", "Within 5 minutes"],
  ["newerThan=3600", "Within 1 hour"],
];

/** What a namespace is called: the monitor names "none" by a dash, where there are such differences. */
const namespaceLabel = (name) => (name === "-" ? "none (cluster-scoped)" : name);

const field = (name) => byId(`filter-${name}`);

/**
 * Makes the fields work. Called once.
 * @param {() => void} changed the filters are others now
 */
export function setUpFilters(changed) {
  options(field("age"), AGES);
  const from = new URLSearchParams(location.search);
  for (const name of NAMES) {
    const value = from.get(name);
    const label = name === "namespace" ? namespaceLabel(value) : value;
    if (value && field(name) instanceof HTMLSelectElement) keepOption(field(name), value, label);
    if (value) field(name).value = value;
  }
  let typing = 0;
  const now = () => {
    clearTimeout(typing);
    remember();
    changed();
  };
  byId("filters").addEventListener("change", now);
  byId("filters").addEventListener("submit", (event) => { event.preventDefault(); now(); });
  byId("filters").addEventListener("reset", (event) => {
    event.preventDefault();
    for (const name of NAMES) field(name).value = "";
    now();
  });
  field("q").addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(now, 200);
  });
}

/** The query for /api/differences, without limit and offset. */
export function query() {
  const asked = new URLSearchParams(field("age").value);
  for (const name of NAMES) if (name !== "age" && field(name).value) asked.set(name, field(name).value);
  return asked;
}

/** Whether any filter is set. */
export function filtered() {
  return NAMES.some((name) => field(name).value !== "");
}

/**
 * Offers what occurs, and what is chosen even when it does not occur any more.
 * @param {any} answer of /api/differences
 */
export function offer(answer) {
  const all = Object.values(answer.counts).reduce((sum, n) => sum + n, 0);
  options(field("difference"), [["", `All (${count(all)})`],
    ...Object.entries(WORDS).map(([name, word]) => [name, `${word} (${count(answer.counts[name] ?? 0)})`])]);
  options(field("namespace"), namespaceChoices(answer.namespaces, field("namespace").value));
  options(field("resource"), [["", "All"], ...answer.resources.map((name) => [name, name])]);
  options(field("reason"), [["", "All"], ...answer.reasons.map((name) => [name, sentence(name)])]);
}

/**
 * Values and words of the filter by namespace: all, those that occur, and the chosen one.
 * @param {string[]} names
 * @param {string} chosen
 */
export function namespaceChoices(names, chosen) {
  const all = !chosen || names.includes(chosen) ? names : [...names, chosen];
  return [["", "All"], ...all.map((name) => [name, namespaceLabel(name)])];
}

/** Rebuilds a list only when it changed: an open list would close. */
function options(select, wanted) {
  const chosen = select.value;
  if (chosen && !wanted.some(([value]) => value === chosen)) wanted = [...wanted, [chosen, chosen]];
  while (select.options.length > wanted.length) select.options[select.options.length - 1].remove();
  wanted.forEach(([value, text], index) => {
    const option = select.options[index] ?? select.appendChild(h("option"));
    setAttribute(option, "value", value);
    setText(option, text);
  });
  if (select.value !== chosen) select.value = chosen;
}

function keepOption(select, value, label) {
  if (![...select.options].some((option) => option.value === value)) select.append(h("option", { value }, label));
}

function remember() {
  const kept = new URLSearchParams();
  for (const name of NAMES) if (field(name).value) kept.set(name, field(name).value);
  const search = kept.toString();
  history.replaceState(null, "", search ? `?${search}` : location.pathname);
}

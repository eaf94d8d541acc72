// Counts by resource: those with differences first, of the others the first few, the rest on demand.

import { byId, h, setChildren, setText } from "./dom.js";
import { count } from "./text.js";

/** Rows without differences that are shown at once. */
const QUIET = 8;

/** @type {any} */
let parts = null;
/** @type {any[]} */
let resources = [];
let unfolded = false;

/**
 * @param {any[]} next as /api/state tells them
 * @param {boolean} deep whether they are of a check that compared values
 */
export function showResources(next, deep) {
  resources = deep ? next : next.map((one) => ({ ...one, mismatched: null }));
  show();
}

function show() {
  parts ??= build();
  const differing = sorted(resources.filter(differs));
  const quiet = sorted(resources.filter((one) => !differs(one)));
  const shown = [...differing, ...(unfolded ? quiet : quiet.slice(0, QUIET))];
  const present = new Map([...parts.body.children].map((row) => [row.dataset.id, row]));
  setChildren(parts.body, shown.map((one) => row(one, present.get(one.resource))));
  parts.foot.replaceChildren(...(resources.length > 1 ? [total()] : []));
  parts.table.hidden = resources.length === 0;
  parts.empty.hidden = resources.length > 0;
  parts.more.hidden = quiet.length <= QUIET;
  setText(parts.button, unfolded ? "Show fewer" : `Show ${count(quiet.length - QUIET)} more without differences`);
  parts.button.setAttribute("aria-expanded", String(unfolded));
}

function build() {
  const body = h("tbody");
  const foot = h("tfoot");
  const heads = ["Resource", "Primary", "Standby", "Missed", "Surplus", "Mismatched"];
  const table = h("table", { class: "plain" }, h("caption", { class: "unseen" }, "Keys by resource, as of the last check with a verdict"),
    h("thead", {}, h("tr", {}, ...heads.map((head, index) => h("th", { scope: "col", class: index ? "number" : null }, head)))), body, foot);
  const scroll = h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Table of counts by resource" }, table);
  const empty = h("p", { class: "empty" }, "No check has told yet: nothing is counted.");
  const button = h("button", { type: "button", onclick: () => { unfolded = !unfolded; show(); } });
  const more = h("div", { class: "more" }, button);
  byId("resources").append(scroll, empty, more);
  return { table, body, foot, empty, more, button };
}

function row(one, present) {
  const figures = [one.primary, one.standby, one.missed, one.surplus, one.mismatched];
  const made = present ?? h("tr", { "data-id": one.resource }, h("th", { scope: "row" }, h("code", {}, one.resource)),
    ...figures.map(() => h("td", { class: "number" })));
  figures.forEach((figure, index) => {
    const cell = made.children[index + 1];
    setText(cell, figure == null ? "–" : count(figure));
    cell.classList.toggle("zero", index > 1 && !figure);
    cell.classList.toggle("some", index > 1 && figure > 0);
  });
  return made;
}

function total() {
  const sum = (name) => resources.reduce((all, one) => all + (one[name] ?? 0), 0);
  const made = row({
    resource: "", primary: sum("primary"), standby: sum("standby"), missed: sum("missed"), surplus: sum("surplus"),
    mismatched: resources.some((one) => one.mismatched != null) ? sum("mismatched") : null,
  });
  made.firstElementChild.textContent = "All";
  return made;
}

function differs(one) {
  return one.missed > 0 || one.surplus > 0 || one.mismatched > 0;
}

function sorted(some) {
  const weight = (one) => 1e9 * one.missed + 1e3 * (one.mismatched ?? 0) + one.surplus;
  return some.sort((a, b) => weight(b) - weight(a) || b.primary - a.primary || a.resource.localeCompare(b.resource));
}

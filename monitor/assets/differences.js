// The table of differences: reads from the monitor what the filters select, and keeps the place of who reads it.

import { byId, setChildren, setText, time } from "./dom.js";
import { differenceRow, idOf } from "./difference_row.js";
import { filtered, offer, query, setUpFilters } from "./filters.js";
import { ago, count, dateTime, plural, stopped } from "./text.js";
import { endedMs, newestDeep, newestTold, unproved } from "./verdict.js";

/** Rows at first, and with each "show more". */
const PAGE = 100;
/** The most that the monitor gives at once. */
const LIMIT = 1000;

let wanted = PAGE;
let asked = new AbortController();
let known = false;
/** @type {import("./verdict.js").Result[]} */
let results = [];
let clock = () => Date.now();

/**
 * Makes the section work. Called once.
 * @param {() => number} nowMs the monitor's clock
 */
export function setUpDifferences(nowMs) {
  clock = nowMs;
  setUpFilters(() => { wanted = PAGE; refreshDifferences(results); });
  byId("differences-more-button").addEventListener("click", () => { wanted += PAGE; refreshDifferences(results); });
}

/**
 * Reads the differences again.
 * @param {import("./verdict.js").Result[]} next the results of the checks
 */
export async function refreshDifferences(next) {
  results = next;
  asked.abort();
  const mine = (asked = new AbortController());
  try {
    const answer = await read(mine.signal);
    if (answer && asked === mine) show(answer);
  } catch (error) {
    if (mine.signal.aborted) return;
    const why = error instanceof Error ? error.message : String(error);
    const still = known ? " Those below are from before." : "";
    setText(byId("differences-summary"), `The differences could not be read: ${stopped(why)}${still}`);
    byId("differences").classList.toggle("old", known);
  }
}

async function read(signal) {
  let all = null;
  while (!all || (all.differences.length < Math.min(wanted, all.total))) {
    const asking = query();
    asking.set("offset", String(all?.differences.length ?? 0));
    asking.set("limit", String(Math.min(LIMIT, wanted - (all?.differences.length ?? 0))));
    const answer = await fetch(`/api/differences?${asking}`, { signal, cache: "no-store" });
    if (answer.status === 401) return location.reload();
    if (!answer.ok) throw new Error(`the monitor answered ${answer.status} ${answer.statusText}`);
    const page = await answer.json();
    all = all ? { ...page, differences: [...all.differences, ...page.differences] } : page;
    if (page.differences.length === 0) break;
  }
  return all;
}

function show(answer) {
  known = true;
  byId("differences").classList.remove("old");
  offer(answer);
  const rows = byId("differences-rows");
  const present = new Map([...rows.children].map((row) => [row.dataset.id, row]));
  const focus = focusInside(rows);
  const shown = answer.differences.map((one) => {
    const row = differenceRow(one, present.get(idOf(one)), clock());
    row.dataset.id = idOf(one);
    return row;
  });
  setChildren(rows, shown);
  focus.restore();
  byId("differences-table").hidden = shown.length === 0;
  const all = Object.values(answer.counts).reduce((sum, n) => sum + n, 0);
  byId("differences-empty").hidden = shown.length > 0;
  setText(byId("differences-empty"), emptyWords(results, all));
  byId("differences-summary").replaceChildren(summary(answer, shown.length, all), ...valuesAge(answer));
  const left = answer.total - shown.length;
  byId("differences-more").hidden = left <= 0 || shown.length === 0;
  setText(byId("differences-more-button"), `Show ${count(Math.min(PAGE, left))} more (${count(left)} left)`);
}

/** When the row with the focus healed, the focus goes to its neighbour and not to the top of the page. */
function focusInside(rows) {
  const row = document.activeElement?.closest("tr");
  const at = row && rows.contains(row) ? [...rows.children].indexOf(row) : -1;
  return {
    restore() {
      if (at < 0 || rows.contains(document.activeElement)) return;
      const next = rows.children[Math.min(at, rows.children.length - 1)];
      (next?.querySelector("button") ?? byId("filter-difference")).focus();
    },
  };
}

function summary(answer, shown, all) {
  if (all === 0) return "";
  const match = filtered() ? `${count(answer.total)} of ${count(all)} match` : plural(all, "difference");
  return shown < answer.total ? `${match}, the first ${count(shown)} are shown` : match;
}

/** How old the count of mismatched values is: they are compared more seldom than keys. */
function valuesAge(answer) {
  const deep = newestDeep(results);
  if (!deep || !(answer.counts.mismatched > 0)) return [];
  const compared = time(endedMs(deep), ago, dateTime(endedMs(deep)), clock());
  return [`; ${count(answer.counts.mismatched)} mismatched, values compared `, compared];
}

/**
 * What stands where no row does.
 * @param {import("./verdict.js").Result[]} results
 * @param {number} all differences, whatever the filters are
 */
export function emptyWords(results, all) {
  const told = newestTold(results);
  if (all > 0) return "No difference matches these filters.";
  if (!told) return "No check has ended with a verdict yet: whether there are differences is not known.";
  if (unproved(told) || unproved(newestDeep(results))) {
    return "Not all differences could be checked, and none of them is listed: see the report.";
  }
  return "No differences: the last check with a verdict found the same keys on both sides.";
}

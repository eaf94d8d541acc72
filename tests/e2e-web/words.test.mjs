// What the dashboard says, without a browser: figures, verdicts, notices.

import assert from "node:assert/strict";
import { cpSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath, pathToFileURL } from "node:url";

// A browser is told what is a module; Node wants it in a package.json, which the assets do not need otherwise.
const folder = mkdtempSync(join(tmpdir(), "etcd-sync-assets-"));
after(() => rmSync(folder, { recursive: true }));
cpSync(fileURLToPath(new URL("../../monitor/assets", import.meta.url)), folder, { recursive: true });
writeFileSync(join(folder, "package.json"), '{"type":"module"}');
const load = (name) => import(pathToFileURL(join(folder, name)));
const text = await load("text.js");
const { comparedWords, newestDeep, newestTold, verdictOf } = await load("verdict.js");
const { noticesOf } = await load("notices.js");
const { lagWords } = await load("charts.js");
const { namespaceChoices } = await load("filters.js");
const { emptyWords } = await load("differences.js");
const { pathsOf, roundUp, runsOf, spanOf } = await load("chart.js");

/** Units hang on their figures by a no-break space. */
const plain = (words) => words.replaceAll("\u00a0", " ");
const NOW = 1_800_000_000_000;

function result(more = {}) {
  return {
    id: 1, startedMs: NOW - 12_300, tookMs: 300, deep: false, verdict: "consistent", error: null, basis: "checkpoint",
    primaryRevision: 1234, standbyRevision: 99, keysCompared: 12345, missed: 0, surplus: 0, mismatched: null, ownStatus: null, healed: 0, ...more,
  };
}

function state(results = [result()], standby = {}, observed = {}) {
  return {
    link: "default", checkIntervalMs: 60_000, running: null, results, samples: [], resources: [],
    observed: {
      atMs: NOW - 1000, primary: { reachable: true, error: null },
      standby: { reachable: true, role: "standby", phase: "streaming", leader: "a", epoch: 7, candidates: [], paused: null, copied: null, ...standby },
      lag: { revisions: 0, seconds: 0 }, headroom: { revisions: 5000, seconds: 300 }, ...observed,
    },
  };
}

const verdict = (state, lost = null) => verdictOf(state, NOW, lost);
const notices = (state, lost = null) => noticesOf(state, NOW, lost).map(({ id }) => id);

test("figures", () => {
  assert.equal(text.count(12345), "12,345");
  assert.equal(text.count(null), "not known");
  assert.equal(text.plural(1, "key"), "1 key");
  assert.equal(text.list(["a", "b", "c"]), "a, b and c");
  const durations = [[0, "0 s"], [0.04, "40 ms"], [0.3, "0.3 s"], [9.96, "10 s"], [59.7, "1 min"], [250, "4 min 10 s"], [7500, "2 h 5 min"], [86400, "1 d"]];
  for (const [seconds, words] of durations) assert.equal(plain(text.duration(seconds)), words);
  assert.equal(plain(text.ticking(59.9)), "59 s");
  assert.equal(plain(text.ago(NOW - 12_900, NOW)), "12 s ago");
  assert.equal(plain(text.ago(NOW + 500, NOW)), "0 s ago", "clocks differ a little");
  assert.equal(plain(text.percent(99_999, 100_000)), "99 %");
  assert.equal(text.stopped("the primary is away"), "The primary is away.");
});

test("a verdict is green only when it is fresh, complete, and the link runs", () => {
  assert.equal(verdict(state()).tone, "good");
  assert.equal(verdict(state()).title, "Consistent");
  const but = [
    [{ leader: null }, {}, "no synchronizer is running"],
    [{ paused: { why: "w", sinceMs: NOW, holder: "a" } }, {}, "replication is paused"],
    [{ reachable: false, error: "e" }, {}, "the standby cannot be reached"],
    [{}, { primary: { reachable: false, error: "e" } }, "the primary cannot be reached"],
    [{}, { lag: { revisions: 812, seconds: 77 } }, "1 min 17 s behind"],
    [{}, { lag: { revisions: 812, seconds: null } }, "catching up: 812 revisions behind, for an unknown time"],
    [{}, { lag: { revisions: 1, seconds: null } }, "catching up: 1 revision behind, for an unknown time"],
    [{}, { atMs: NOW - 15_001 }, "the monitor has not read the clusters lately"],
    [{ role: "primary", leader: null }, { primary: { reachable: false, error: "e" } }, "the primary cannot be reached"],
    [{ role: "primary", leader: null }, { atMs: NOW - 15_001 }, "the monitor has not read the clusters lately"],
  ];
  for (const [standby, observed, why] of but) {
    const { tone, title } = verdict(state([result()], standby, observed));
    assert.deepEqual([tone, plain(title)], ["warn", `Consistent, but ${why}`]);
  }
  const blind = verdict({ ...state(), observed: null });
  assert.deepEqual([blind.tone, blind.title], ["warn", "Consistent, but the monitor has not read the clusters yet"]);
  assert.equal(verdict(state([result()], {}, { atMs: NOW - 15_000 })).tone, "good");
  assert.equal(verdict(state([result()], {}, { lag: { revisions: 0, seconds: null } })).tone, "good", "right after the start");
  assert.equal(verdict(state([result({ verdict: "different", surplus: 1 })], { leader: null })).tone, "warn");
});

test("a lag without a beginning is a warning on its card too, and is said aloud once", () => {
  const observed = (revisions) => ({ ...state().observed, lag: { revisions, seconds: null } });
  const words = { value: "Not known", note: "catching up: 812 revisions behind, for an unknown time", tone: "warn" };
  assert.deepEqual(lagWords(observed(812), false), words);
  assert.equal(lagWords(observed(812), true).tone, "old");
  assert.equal(lagWords(observed(0), false).tone, "plain");
  const spoken = [812, 700].map((revisions) => verdict(state([result()], {}, observed(revisions))).spoken);
  assert.deepEqual(spoken, Array(2).fill("Consistent, but behind the primary"));
});

test("a primary that is another cluster is not said to be silent", () => {
  const error = "it answers, but it is cluster 8, and the standby was synchronized from cluster 7: check --primary-endpoints";
  const other = state([result()], {}, { primary: { reachable: false, error } });
  const { tone, title, lines } = verdict(other);
  assert.deepEqual([tone, title], ["warn", "Consistent, but the primary is another cluster than recorded"]);
  assert.equal(lines[0], `The primary: ${error}.`);
  const unknown = { ...other.observed, lag: { revisions: null, seconds: null } };
  assert.equal(lagWords(unknown, false).note, "the primary is another cluster than recorded");
  const [notice] = noticesOf(other, NOW, null);
  assert.equal(notice.title, "The primary is another cluster than recorded");
  assert.match(notice.text, /^It answers, but it is cluster 8, .*: check --primary-endpoints\. No check can be made\./);
});

test("what is missed or mismatched is said first", () => {
  const missed = verdict(state([result({ verdict: "different", missed: 3, surplus: 1 })]));
  assert.deepEqual([missed.tone, missed.title], ["bad", "Not consistent: 3 keys missed"]);
  assert.ok(missed.lines.includes("1 surplus key exists on this side only."));
  const both = verdict(state([result({ verdict: "different", deep: true, missed: 1, mismatched: 2 })]));
  assert.equal(both.title, "Not consistent: 1 key missed and 2 values mismatched");
});

test("surplus alone is calm", () => {
  const { tone, title, lines } = verdict(state([result({ verdict: "different", surplus: 2 })]));
  assert.deepEqual([tone, title, lines[0]], ["notice", "Nothing is missed", "2 surplus keys exist on this side only."]);
});

test("values that were mismatched are not forgotten by a check of the keys", () => {
  const deep = result({ id: 1, startedMs: NOW - 90_000, deep: true, verdict: "different", mismatched: 2 });
  const { tone, title, spoken } = verdict(state([deep, result({ id: 2 })]));
  assert.deepEqual([tone, plain(title)], ["bad", "Not consistent: 2 values mismatched (values compared 1 min 29 s ago)"]);
  assert.equal(spoken, "Not consistent: 2 values mismatched", "an age that ticks is not read aloud");
  const missed = verdict(state([deep, result({ id: 2, verdict: "different", missed: 1 })]));
  assert.equal(plain(missed.title), "Not consistent: 1 key missed and 2 values mismatched (values compared 1 min 29 s ago)");
  const clean = { ...deep, id: 2, startedMs: NOW - 60_000, verdict: "consistent", mismatched: 0 };
  assert.equal(verdict(state([deep, clean, result({ id: 3 })])).tone, "good");
});

test("a slow check of values does not bring back what a later check of the keys saw healed", () => {
  const keys = result({ id: 1, startedMs: NOW - 20_000 });
  const slow = result({ id: 2, startedMs: NOW - 50_000, tookMs: 40_000, deep: true, verdict: "different", missed: 3, surplus: 2, mismatched: 1 });
  const { tone, title, told, newest, lines } = verdict(state([keys, slow]));
  assert.deepEqual([tone, plain(title)], ["bad", "Not consistent: 1 value mismatched (values compared 10 s ago)"]);
  assert.deepEqual([told.id, newest.id], [1, 1]);
  assert.ok(!lines.some((line) => /missed|surplus/i.test(line)), lines.join("\n"));
  assert.deepEqual([newestTold([keys, slow]).id, newestDeep([keys, slow]).id], [1, 2]);
  const clean = { ...slow, verdict: "consistent", missed: 0, surplus: 0, mismatched: 0 };
  const worse = { ...keys, verdict: "different", missed: 1 };
  assert.equal(verdict(state([worse, clean])).title, "Not consistent: 1 key missed", "nor does it take away what came up since");
});

test("the attempt that began last is the newest, whichever ended last", () => {
  const failed = { verdict: "unknown", error: "no answer" };
  const keys = result({ id: 1, startedMs: NOW - 20_000 });
  const slow = result({ id: 2, startedMs: NOW - 50_000, tookMs: 40_000, deep: true, mismatched: 0 });
  assert.equal(verdict(state([keys, { ...slow, ...failed, mismatched: null }])).tone, "good");
  const away = verdict(state([{ ...keys, ...failed }, slow]));
  assert.deepEqual([away.tone, away.told.id, away.newest.id], ["unknown", 2, 1]);
  const setBack = result({ id: 3, startedMs: NOW - 3_600_000, verdict: "different", missed: 1 });
  assert.equal(newestTold([keys, slow, setBack]).id, 3, "a clock that was set back must not hide what is new");
});

test("what could not be checked is never consistent", () => {
  const open = result({ verdict: "different", deep: true, mismatched: 0 });
  const { tone, title, lines } = verdict(state([open]));
  assert.deepEqual([tone, title], ["bad", "Not consistent: see the report"]);
  assert.ok(!lines.some((line) => line.startsWith("Every synchronized key")), lines.join("\n"));
  const before = { ...open, startedMs: NOW - 90_000 };
  const later = verdict(state([before, result({ id: 2 })]));
  assert.deepEqual([later.tone, later.title], ["bad", "Not consistent: see the report"]);
  assert.match(plain(later.lines[0]), /^Values were last compared 1 min 29 s ago, and not all /);
  assert.match(emptyWords([open], 0), /see the report/);
  assert.match(emptyWords([before, result({ id: 2 })], 0), /see the report/);
  assert.match(emptyWords([result()], 0), /^No differences: the last check with a verdict/);
  assert.match(emptyWords([], 0), /^No check has ended with a verdict yet/);
});

test("an old verdict is grey, and a bad one as well", () => {
  for (const more of [{}, { verdict: "different", missed: 3 }]) {
    const old = verdict(state([result({ startedMs: NOW - 150_301, ...more })]));
    assert.equal(old.tone, "stale");
    assert.match(old.title, /^Last known: /);
    assert.match(old.lines[0], /^Out of date: /);
  }
  assert.equal(verdict(state([result({ startedMs: NOW - 150_300 })])).tone, "good");
});

test("a page without its monitor is grey", () => {
  const lost = verdict(state(), NOW - 20_000);
  assert.deepEqual([lost.tone, lost.title], ["stale", "Last known: consistent"]);
  const [notice] = noticesOf(state(), NOW, NOW - 20_000);
  assert.equal(plain(notice.title), "This page lost the monitor 20 s ago");
  assert.equal(verdictOf(null, NOW, NOW).tone, "stale");
});

test("a check that cannot tell says why, and what was known", () => {
  const failed = result({ id: 2, verdict: "unknown", error: "the primary does not answer", startedMs: NOW - 3000 });
  const { tone, title, lines, told, newest } = verdict(state([result(), failed]));
  assert.deepEqual([tone, title, lines[0]], ["unknown", "Cannot tell", "The primary does not answer."]);
  assert.equal(plain(lines[1]), "The last check with a verdict, 12 s ago, found: Consistent (12,345 keys, primary revision 1,234).");
  assert.deepEqual([told.id, newest.id], [1, 2]);
  assert.equal(verdict(state([failed])).title, "Cannot tell");
  assert.equal(verdict(state([])).title, "Not checked yet");
});

test("during a copy nothing is promised", () => {
  const { tone, title, lines, progress } = verdict(state([result()], { phase: "resync", copied: { done: 1000, total: 4000 } }));
  assert.deepEqual([tone, title], ["unknown", "Not ready: resync under way"]);
  assert.equal(plain(lines[0]), "1,000 of 4,000 keys copied, 25 %.");
  assert.deepEqual(progress, { done: 1000, total: 4000 });
  const unknown = verdict(state([], { phase: "first-sync" }));
  assert.equal(unknown.title, "Not ready: first sync under way");
  assert.equal(unknown.progress, null);
});

test("after a promotion nobody misses the synchronizer", () => {
  const promoted = { role: "primary", leader: null };
  assert.equal(verdict(state([result({ basis: "promotion" })], promoted)).tone, "good");
  assert.deepEqual(notices(state([result()], promoted)), ["promoted"]);
  const found = result({ basis: "promotion", verdict: "different", missed: 1, surplus: 2 });
  for (const one of [found, result({ basis: "promotion" })]) {
    const after = state([one], promoted, { primary: { reachable: false, error: "refused" } });
    const said = [...verdict(after).lines, ...noticesOf(after, NOW, null).map(({ text }) => text)];
    assert.ok(said.some((line) => line.startsWith("Compared as both sides were at the moment of the promotion")), said.join("\n"));
    for (const line of said) assert.doesNotMatch(line, /failover|the standby|synchronizer (puts|is running)/);
  }
});

test("what was compared with what", () => {
  assert.equal(comparedWords(result()), "keys, as of the checkpoint");
  assert.equal(comparedWords(result({ basis: "head" })), "keys, with the primary's newest revision");
  assert.equal(comparedWords(result({ basis: "promotion", deep: true })), "keys and values, as both were at the moment of the promotion");
});

test("the namespaces of the filter are those of the monitor", () => {
  assert.deepEqual(namespaceChoices(["apps"], ""), [["", "All"], ["apps", "apps"]]);
  assert.deepEqual(namespaceChoices(["-", "apps"], "-"), [["", "All"], ["-", "none (cluster-scoped)"], ["apps", "apps"]]);
  assert.deepEqual(namespaceChoices([], "-"), [["", "All"], ["-", "none (cluster-scoped)"]], "what is chosen stays");
});

test("notices", () => {
  assert.deepEqual(notices(state()), []);
  assert.deepEqual(notices(null), []);
  assert.deepEqual(notices(state([], { leader: null })), ["leader"]);
  assert.deepEqual(notices(state([], { role: null, leader: null })), ["unused"]);
  assert.deepEqual(notices(state([], { paused: { why: "w", sinceMs: NOW, holder: "a" } })), ["paused"]);
  assert.deepEqual(notices(state([], {}, { headroom: { revisions: 10, seconds: 119 } })), ["headroom"]);
  assert.deepEqual(notices(state([], {}, { headroom: { revisions: 10, seconds: null } })), [], "a quiet primary is no reason to warn");
  assert.deepEqual(notices(state([], {}, { atMs: NOW - 21_000 })), ["blind"]);
  assert.deepEqual(notices(state([], {}, { primary: { reachable: false, error: "refused" } })), ["primary"]);
  assert.deepEqual(notices(state([], { reachable: false, error: "refused", leader: null })), ["standby"], "who leads is not known then");
});

test("a curve has gaps where nothing is known", () => {
  const points = [1, 2, null, 4].map((value, index) => ({ atMs: NOW + 2000 * index, value }));
  assert.deepEqual(runsOf(points).map((run) => run.length), [2, 1]);
  const apart = [{ atMs: NOW, value: 1 }, { atMs: NOW + 60_000, value: 1 }];
  assert.equal(runsOf(apart).length, 2, "the monitor was away in between");
  const { line } = pathsOf(points, NOW + 6000, 60_000, 4);
  assert.equal(line.match(/M/g).length, 2);
  assert.deepEqual([spanOf([], NOW), spanOf(apart, NOW + 70_000), spanOf(apart, NOW + 3_600_000)], [60_000, 120_000, 900_000]);
  assert.deepEqual([roundUp(0.3), roundUp(61), roundUp(90_000)], [0.5, 120, 172_800]);
});

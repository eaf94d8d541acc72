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
const { verdictOf } = await load("verdict.js");
const { noticesOf } = await load("notices.js");
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
      standby: { reachable: true, role: "standby", phase: "streaming", leader: "a", epoch: 7, candidates: [], held: null, copied: null, ...standby },
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
    [{ held: { why: "w", sinceMs: NOW, holder: "a" } }, {}, "the link is held"],
    [{ reachable: false, error: "e" }, {}, "the standby cannot be reached"],
    [{}, { primary: { reachable: false, error: "e" } }, "the primary cannot be reached"],
    [{}, { lag: { revisions: 812, seconds: 77 } }, "1 min 17 s behind"],
  ];
  for (const [standby, observed, why] of but) {
    const { tone, title } = verdict(state([result()], standby, observed));
    assert.deepEqual([tone, plain(title)], ["warn", `Consistent, but ${why}`]);
  }
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
  const { tone, title } = verdict(state([deep, result({ id: 2 })]));
  assert.deepEqual([tone, title], ["bad", "Not consistent: 2 values mismatched"]);
  const missed = verdict(state([deep, result({ id: 2, verdict: "different", missed: 1 })]));
  assert.equal(missed.title, "Not consistent: 1 key missed and 2 values mismatched");
  const clean = { ...deep, verdict: "consistent", mismatched: 0 };
  assert.equal(verdict(state([deep, clean, result({ id: 3 })])).tone, "good");
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
  assert.equal(plain(lines[1]), "The last check that could tell, 12 s ago, said: Consistent (12,345 keys, primary revision 1,234).");
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
});

test("notices", () => {
  assert.deepEqual(notices(state()), []);
  assert.deepEqual(notices(null), []);
  assert.deepEqual(notices(state([], { leader: null })), ["leader"]);
  assert.deepEqual(notices(state([], { role: null, leader: null })), ["unused"]);
  assert.deepEqual(notices(state([], { held: { why: "w", sinceMs: NOW, holder: "a" } })), ["held"]);
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

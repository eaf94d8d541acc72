// Talk with the test that started this script: one JSON line out for each step, one line in when it may go on.

import { createInterface } from "node:readline";

const input = createInterface({ input: process.stdin });
const lines = input[Symbol.asyncIterator]();

/**
 * Says a step and waits for the answer, which begins with the word that is expected; returns what follows it.
 * @param {string} step
 * @param {string} expected
 * @returns {Promise<string>}
 */
export async function step(step, expected) {
  say({ step });
  const { value, done } = await lines.next();
  if (done) throw new Error(`the test went away after ${step}`);
  const [word, ...rest] = value.trim().split(" ");
  if (word !== expected) throw new Error(`after ${step} the test says ${JSON.stringify(value)}, not ${expected}`);
  return rest.join(" ");
}

/** Listens no more: an open input would keep the script alive. */
export function hangUp() {
  input.close();
  process.stdin.destroy();
}

/** @param {object} what goes out as one line */
export function say(what) {
  process.stdout.write(`${JSON.stringify(what)}\n`);
}

// Words and figures as people read them. Pure: no page, no clock of its own.

const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const absolute = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "long" });
const ofYear = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });
const ofDay = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });

/** Keeps a figure and its unit on one line. */
const NB = "\u00a0";

/** What stands where a figure is not known. */
export const NOT_KNOWN = "not known";

/**
 * A whole number with separators.
 * @param {number | null | undefined} n
 */
export function count(n) {
  return n == null ? NOT_KNOWN : whole.format(n);
}

/**
 * `1 key`, `3 keys`.
 * @param {number} n
 * @param {string} one
 * @param {string} [many]
 */
export function plural(n, one, many = `${one}s`) {
  return `${count(n)} ${n === 1 ? one : many}`;
}

/**
 * A span of time: `0.3 s`, `12 s`, `4 min 10 s`, `2 h 5 min`, `3 d 4 h`.
 * @param {number | null | undefined} seconds
 */
export function duration(seconds) {
  if (seconds == null || !Number.isFinite(seconds)) return NOT_KNOWN;
  const s = Math.max(0, seconds);
  if (s === 0) return `0${NB}s`;
  if (s < 0.0995) return `${Math.round(s * 1000)}${NB}ms`;
  if (s < 9.95) return `${s.toFixed(1)}${NB}s`;
  if (Math.round(s) < 60) return `${Math.round(s)}${NB}s`;
  return two(Math.round(s));
}

/**
 * Whole seconds, for what ticks: `0 s`, `12 s`, `4 min 10 s`.
 * @param {number} seconds
 */
export function ticking(seconds) {
  const s = Math.max(0, Math.floor(seconds));
  return s < 60 ? `${s}${NB}s` : two(s);
}

/**
 * How long ago: `12 s ago`.
 * @param {number} thenMs
 * @param {number} nowMs
 */
export function ago(thenMs, nowMs) {
  return `${ticking((nowMs - thenMs) / 1000)} ago`;
}

/**
 * An absolute time in the reader's zone, which is named.
 * @param {number} ms
 */
export function dateTime(ms) {
  return absolute.format(new Date(ms));
}

/**
 * The time of day in the reader's zone: `15:29:55`.
 * @param {number} ms
 */
export function timeOfDay(ms) {
  return ofDay.format(new Date(ms));
}

/**
 * A time as short as it can be told: the time of day, and the day unless it is today.
 * @param {number} ms
 * @param {number} nowMs
 */
export function moment(ms, nowMs) {
  const day = ofYear.format(new Date(ms));
  return day === ofYear.format(new Date(nowMs)) ? timeOfDay(ms) : `${day}, ${timeOfDay(ms)}`;
}

/**
 * A share as whole percent, never 100 before all is done: `41 %`.
 * @param {number} done
 * @param {number} total
 */
export function percent(done, total) {
  const share = total > 0 ? Math.min(1, done / total) : 0;
  return `${share < 1 ? Math.min(99, Math.floor(share * 100)) : 100}${NB}%`;
}

/**
 * Words in a row: `a`, `a and b`, `a, b and c`.
 * @param {string[]} words
 */
export function list(words) {
  return words.length < 2 ? words.join("") : `${words.slice(0, -1).join(", ")} and ${words[words.length - 1]}`;
}

/**
 * The first letter made large.
 * @param {string} text
 */
export function sentence(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/**
 * Words of the monitor as a sentence of their own: with a full stop, whatever they came with.
 * @param {string} text
 */
export function stopped(text) {
  const trimmed = sentence(text.trim());
  return /[.!?…]$/.test(trimmed) ? trimmed : `${trimmed}.`;
}

function two(seconds) {
  const units = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
  const first = units.findIndex(([, size]) => seconds >= size);
  const [large, size] = units[first];
  const [small, rest] = units[first + 1];
  const left = Math.floor((seconds % size) / rest);
  return `${Math.floor(seconds / size)}${NB}${large}${left ? ` ${left}${NB}${small}` : ""}`;
}

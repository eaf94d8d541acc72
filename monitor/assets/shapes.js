// Shapes that say without colour what a colour says: each meaning has an outline of its own.

import { svg } from "./dom.js";

/** In a box of 24 by 24: the outline, which is filled, and the mark on it. */
const SHAPES = {
  // A disc with a tick.
  good: ["M12 1.5a10.5 10.5 0 1 1 0 21a10.5 10.5 0 0 1 0-21z", "M7.2 12.4l3.3 3.3 6.4-7"],
  // An octagon with a cross.
  bad: ["M7.6 1.5h8.8l6.1 6.1v8.8l-6.1 6.1H7.6l-6.1-6.1V7.6z", "M8.3 8.3l7.4 7.4M15.7 8.3l-7.4 7.4"],
  // A rounded square with a plus.
  notice: ["M6 2h12a4 4 0 0 1 4 4v12a4 4 0 0 1-4 4H6a4 4 0 0 1-4-4V6a4 4 0 0 1 4-4z", "M12 7.2v9.6M7.2 12h9.6"],
  // A triangle with an exclamation mark.
  warn: ["M12 1.6a1.6 1.6 0 0 1 1.4.8l9.4 17.2a1.6 1.6 0 0 1-1.4 2.4H2.6a1.6 1.6 0 0 1-1.4-2.4L10.6 2.4a1.6 1.6 0 0 1 1.4-.8z",
    "M12 8.4v6.2M12 18.1v.3"],
  // A diamond with a question mark.
  unknown: ["M12 .9l11.1 11.1L12 23.1.9 12z", "M9.4 9.6a2.6 2.6 0 1 1 3.9 2.3c-.9.5-1.3 1-1.3 1.9M12 17v.3"],
  // A diamond with an unequal sign.
  mismatched: ["M12 .9l11.1 11.1L12 23.1.9 12z", "M8 10.2h8M8 13.8h8M14.2 7.8l-4.4 8.4"],
  // A disc with the hands of a clock.
  stale: ["M12 1.5a10.5 10.5 0 1 1 0 21a10.5 10.5 0 0 1 0-21z", "M12 6.4V12l3.9 2.6"],
  // A disc with three dots.
  none: ["M12 1.5a10.5 10.5 0 1 1 0 21a10.5 10.5 0 0 1 0-21z", "M7.2 12v.1M12 12v.1M16.8 12v.1"],
  // A disc with a wave.
  status: ["M12 1.5a10.5 10.5 0 1 1 0 21a10.5 10.5 0 0 1 0-21z", "M6.8 13.2c1.7-3.2 3.4-3.2 5.2-1.2s3.5 2 5.2-1.2"],
};

/** @typedef {keyof typeof SHAPES} ShapeName */

/**
 * A shape for the eye only: words stand beside it.
 * @param {ShapeName} name
 */
export function shape(name) {
  const [outline, mark] = SHAPES[name];
  return svg(
    "svg",
    { class: `shape shape-${name}`, viewBox: "0 0 24 24", "aria-hidden": "true", focusable: "false" },
    svg("path", { class: "shape-outline", d: outline }),
    svg("path", { class: "shape-mark", d: mark }),
  );
}

/** The shape of a kind of difference. */
export const OF_DIFFERENCE = { missed: "bad", surplus: "notice", mismatched: "mismatched", status: "status" };

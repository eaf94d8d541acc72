// Building the page. Text goes in as text only: keys are outside input.

const SVG = "http://www.w3.org/2000/svg";

/**
 * An element with attributes and children. `class` and ARIA go by attribute name; `on…` adds a listener.
 * @param {string} tag
 * @param {Record<string, any>} [attributes]
 * @param {...(Node | string | null | undefined | false)} children
 * @returns {HTMLElement}
 */
export function h(tag, attributes = {}, ...children) {
  return /** @type {HTMLElement} */ (fill(document.createElement(tag), attributes, children));
}

/**
 * The same for SVG.
 * @param {string} tag
 * @param {Record<string, any>} [attributes]
 * @param {...Node} children
 * @returns {SVGElement}
 */
export function svg(tag, attributes = {}, ...children) {
  return /** @type {SVGElement} */ (fill(document.createElementNS(SVG, tag), attributes, children));
}

/**
 * The element with this id, which index.html has.
 * @param {string} id
 * @returns {any}
 */
export function byId(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no #${id}`);
  return found;
}

/**
 * Sets a text, and leaves the node alone when it says so already: selections and readers are not disturbed.
 * @param {Element} element
 * @param {string} text
 */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/**
 * Sets an attribute, or takes it away when the value is null or false.
 * @param {Element} element
 * @param {string} name
 * @param {string | number | boolean | null | undefined} value
 */
export function setAttribute(element, name, value) {
  if (value == null || value === false) element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value === true ? "" : String(value));
}

/**
 * Makes the children of `parent` these, in this order, moving as little as possible: what has the focus keeps it.
 * @param {Element} parent
 * @param {Element[]} wanted
 */
export function setChildren(parent, wanted) {
  const keep = new Set(wanted);
  for (const child of [...parent.children]) if (!keep.has(child)) child.remove();
  wanted.forEach((child, index) => {
    const present = parent.children[index];
    if (present !== child) parent.insertBefore(child, present ?? null);
  });
}

/**
 * A `<time>` whose text ticks; see `tick`.
 * @param {number} ms
 * @param {(ms: number, nowMs: number) => string} text
 * @param {string} title
 * @param {number} nowMs
 */
export function time(ms, text, title, nowMs) {
  const element = h("time", { datetime: new Date(ms).toISOString(), title }, text(ms, nowMs));
  ticking.set(element, { ms, text });
  return element;
}

/**
 * Brings every `<time>` made by `time` below `root` up to date.
 * @param {ParentNode} root
 * @param {number} nowMs
 */
export function tick(root, nowMs) {
  for (const element of root.querySelectorAll("time")) {
    const known = ticking.get(element);
    if (known) setText(element, known.text(known.ms, nowMs));
  }
}

/** @type {WeakMap<Element, {ms: number, text: (ms: number, nowMs: number) => string}>} */
const ticking = new WeakMap();

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else setAttribute(element, name, value);
  }
  element.append(...children.filter((child) => child != null && child !== false));
  return element;
}

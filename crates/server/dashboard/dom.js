// Elements, and how a page that is on the screen becomes the one it should be.
//
// A page's view makes all of its elements anew from the latest answers, and `patch` changes what is there to be like
// it: so nothing has to say what changed, and focus, selection and scrolling stay. Text is only ever a text node:
// names, headers and bodies come from outside, and nothing here reads markup.

const SVG = "http://www.w3.org/2000/svg";
const EVENTS = ["onclick", "oninput", "onchange", "onsubmit", "onkeydown", "onclose"];
/** What a person changes by hand is set when an element is made, never afterwards. */
const STATE = ["value", "checked", "selected"];

/**
 * An element. `props` are attributes, but for `on…` (handlers), `key` (who it is among its siblings), `opaque` (it
 * takes care of its own content) and those that are left out by `null`, `undefined` or `false`.
 * @param {string} tag
 * @param {Record<string, unknown> | null} [props]
 * @param {...unknown} children text, elements, lists of them; `null`, `undefined` and `false` are nothing
 */
export function h(tag, props, ...children) {
  return fill(document.createElement(tag), props, children);
}

/** The same for SVG. */
export function s(tag, props, ...children) {
  return fill(document.createElementNS(SVG, tag), props, children);
}

/** A fragment of text and elements as children of `parent`, in place of what it had. */
export function show(parent, ...children) {
  parent.replaceChildren();
  append(parent, children);
}

function fill(element, props, children) {
  append(element, children);
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "key" || name === "opaque" || EVENTS.includes(name)) element[name] = value;
    else if (name in element && STATE.includes(name)) element[name] = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  return element;
}

function append(parent, children) {
  for (const child of children) {
    if (child === null || child === undefined || child === false) continue;
    if (Array.isArray(child)) append(parent, child);
    else parent.append(child instanceof Node ? child : String(child));
  }
}

/** Makes `old`, which is in the document, like `next`, and returns the one that is in the document then. */
export function patch(old, next) {
  const focused = document.activeElement;
  const result = alike(old, next) ? (become(old, next), old) : (old.replaceWith(next), next);
  if (focused !== document.activeElement && focused?.isConnected) focused.focus({ preventScroll: true });
  return result;
}

function alike(old, next) {
  return old.nodeType === next.nodeType && old.nodeName === next.nodeName && old.key === next.key;
}

function become(old, next) {
  if (old === next) return;
  if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== next.data) old.data = next.data;
    return;
  }
  for (const event of EVENTS) {
    if (old[event] !== next[event]) old[event] = next[event];
  }
  // An open dialog or menu was opened by its reader.
  for (const { name } of [...old.attributes]) {
    if (name !== "open" && !next.hasAttribute(name)) old.removeAttribute(name);
  }
  for (const { name, value } of next.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  if (!old.opaque) children(old, next);
}

function children(old, next) {
  const keyed = new Map();
  for (const child of old.childNodes) if (child.key !== undefined) keyed.set(child.key, child);
  let at = old.firstChild;
  for (const wanted of [...next.childNodes]) {
    const found = wanted.key === undefined ? at : keyed.get(wanted.key);
    if (!found || !alike(found, wanted)) {
      old.insertBefore(wanted, at);
      continue;
    }
    keyed.delete(found.key);
    if (found === at) at = at.nextSibling;
    else old.insertBefore(found, at);
    become(found, wanted);
  }
  while (at) {
    const gone = at;
    at = at.nextSibling;
    gone.remove();
  }
}

// Nodes of the page. Text from documents and from the server becomes text nodes, never HTML.

const FORBIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069\ufdd0-\ufdef\ufffe\uffff]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;

/** Text as it may be shown: control characters and those that turn the writing direction are U+FFFD. */
export function clean(text) {
  return String(text ?? "").replace(/\r\n?/g, "\n").replace(FORBIDDEN, "\ufffd");
}

/**
 * An element: `el("p", {class: "note", "aria-label": "…"}, "text", node, null)`.
 * A value of false or null leaves an attribute out; `on` is a mapping of events to functions.
 */
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "on") {
      for (const [event, listener] of Object.entries(value)) node.addEventListener(event, listener);
    } else if (value !== false && value !== null && value !== undefined) {
      node.setAttribute(name, value === true ? "" : clean(value));
    }
  }
  append(node, children);
  return node;
}

/** A text of a document: its language is unknown, and its direction is its own. */
export function foreign(tag, attributes, ...children) {
  return el(tag, { lang: "", dir: "auto", ...attributes }, ...children);
}

/** Add children to a node: nodes, texts, lists of them; null and false add nothing. */
export function append(node, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    node.append(child instanceof Node ? child : document.createTextNode(clean(child)));
  }
  return node;
}

/** Put children in the place of all that a node has. */
export function fill(node, ...children) {
  node.replaceChildren();
  return append(node, children);
}

/** A button with a visible text. */
export function button(text, onClick, attributes = {}) {
  return el("button", { type: "button", ...attributes, on: { click: onClick } }, text);
}

/** The element of the page with this id. */
export function byId(id) {
  return document.getElementById(id);
}

/** Say something to a screen reader, once; where a panel is open, in it, since all else is then not read. */
export function announce(text) {
  fill(document.querySelector("dialog[open] > .hidden[role=status]") ?? byId("status"), text);
}

/** The name of the file in a document's path, with the record where there is one. */
export function fileName(path) {
  const name = String(path ?? "").split(/[\\/]/).filter(Boolean).pop();
  return name || String(path ?? "");
}

/** A document's title; empty where it says no more than the name of its file. */
export function titleOf({ document: path, title }) {
  const name = fileName(path);
  return title && ![name, name.replace(/\.[^.]*$/, "")].includes(title) ? title : "";
}

/** A text by its characters, as offsets of documents count them: JavaScript counts some as two. */
export class Characters {
  constructor(text) {
    const plain = String(text ?? "");
    this.all = /[\ud800-\udfff]/.test(plain) ? Array.from(plain) : plain;
  }

  get length() {
    return this.all.length;
  }

  slice(start, end) {
    const found = this.all.slice(start, end);
    return typeof found === "string" ? found : found.join("");
  }
}

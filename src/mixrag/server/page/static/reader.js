// The document of a passage, opened at its page and span, next to the answer.

import { request } from "./api.js";
import { announce, append, button, byId, el, fileName, fill, foreign } from "./dom.js";

const NARROW = matchMedia("(max-width: 68rem)");

/** The pane with a document. */
export class Reader {
  constructor() {
    this.pane = byId("reader");
    this.back = null;
    this.asked = 0;
    NARROW.addEventListener("change", () => this.#cover());
  }

  get isOpen() {
    return !this.pane.hidden;
  }

  /** Open a document where a passage is; `span` is the part of it to mark more, or null. */
  async open(store, passage, span, colour) {
    if (!this.isOpen) this.back = document.activeElement;
    this.shown = { store, passage, span, colour };
    this.pane.hidden = false;
    document.body.classList.add("reading");
    this.#cover();
    fill(byId("reader-title"), foreign("span", {}, passage.title || fileName(passage.document)));
    fill(byId("reader-place"), [fileName(passage.document), passage.place].filter(Boolean).join(", "));
    byId("reader-place").title = passage.document;
    await this.#show({ document: passage.document, offset: passage.start });
    byId("reader-title").focus({ preventScroll: true });
  }

  /** Close it, and go back to where it was opened. */
  close() {
    this.pane.hidden = true;
    document.body.classList.remove("reading");
    this.#cover();
    this.back?.focus?.();
    this.back = null;
  }

  /** On narrow screens it covers the rest, which then takes no focus. */
  #cover() {
    for (const id of ["main", "top"]) byId(id).inert = this.isOpen && NARROW.matches;
  }

  async #show(place) {
    const asked = ++this.asked;
    const body = byId("reader-text");
    fill(body, el("p", { class: "note" }, "Opening the document …"));
    try {
      const part = await request("/v1/documents/content", { query: { store: this.shown.store, ...place } });
      if (asked === this.asked) this.#fill(body, part);
    } catch (error) {
      if (asked !== this.asked) return;
      fill(body, el("p", { class: "problem", role: "alert" }, error.message));
    }
  }

  #fill(body, part) {
    const { passage, span, colour } = this.shown;
    const cuts = [passage.start, passage.end, span?.start, span?.end]
      .filter((at) => at !== undefined)
      .map((at) => Math.min(part.text.length, Math.max(0, at - part.start)));
    const borders = [...new Set([0, part.text.length, ...cuts])].sort((a, b) => a - b);
    const inside = (a, b, range) => range && range.start <= part.start + a && part.start + b <= range.end;
    const pieces = borders.slice(1).map((b, n) => {
      const [a, text] = [borders[n], part.text.slice(borders[n], b)];
      if (inside(a, b, span)) return el("mark", { class: `cited ${colour}` }, text);
      return inside(a, b, passage) ? el("mark", { class: `read ${colour}` }, text) : text;
    });
    const text = foreign("div", { class: "document", tabindex: "0", role: "region", "aria-label": "Text of the document" });
    fill(body, this.#pages(part), append(text, pieces));
    const mark = text.querySelector("mark.cited") ?? text.querySelector("mark");
    mark?.scrollIntoView({ block: "center" });
    announce(`${fileName(passage.document)} is open${part.page ? ` at page ${part.page}` : ""}.`);
  }

  #pages(part) {
    const go = (text, place) => button(text, () => this.#show({ document: part.document, ...place }), { disabled: place === null });
    const [before, after] = this.#neighbours(part);
    if (before === null && after === null) return null;
    const where = part.page ? `Page ${part.page}${part.pages ? ` of ${part.pages}` : ""}` : `Characters ${part.start + 1} to ${part.end} of ${part.length}`;
    return el("nav", { class: "pages", "aria-label": "Parts of the document" }, go("‹ Before", before), el("span", {}, where), go("After ›", after));
  }

  #neighbours(part) {
    if (part.page && part.pages) {
      return [part.page > 1 ? { page: part.page - 1 } : null, part.page < part.pages ? { page: part.page + 1 } : null];
    }
    const size = part.end - part.start;
    return [
      part.start > 0 ? { offset: Math.max(0, part.start - size) } : null,
      part.end < part.length ? { offset: part.end } : null,
    ];
  }
}

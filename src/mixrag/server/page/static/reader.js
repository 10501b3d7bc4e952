// The document of a passage, opened at its page and span, next to the answer.

import { request } from "./api.js";
import { announce, append, button, byId, Characters, el, fileName, fill, foreign, titleOf } from "./dom.js";

const BEFORE = 3;
const PART = 20;
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

  /** Open a document where a passage is; `spans` are the parts of it to mark more. */
  async open(store, passage, spans, colour) {
    if (!this.isOpen) this.back = document.activeElement;
    this.shown = { store, passage, spans, colour };
    this.pane.hidden = false;
    document.body.classList.add("reading");
    this.#cover();
    this.#head(passage.title);
    await this.#show(passage.page ? { page: passage.page } : { offset: Math.max(0, passage.start), before: BEFORE });
    byId("reader-title").focus({ preventScroll: true });
  }

  /** Open a document at a place that a link names; `offset` is where a passage begins, and may be missing. */
  openPlace(store, { document, page, offset }) {
    const place = page ? `page ${page}` : "";
    return this.open(store, { document, page, place, title: "", start: offset ?? -1, end: offset ?? -1, isLink: true }, [], "c1");
  }

  /** Close it, and go back to where it was opened. */
  close() {
    this.pane.hidden = true;
    document.body.classList.remove("reading");
    this.#cover();
    if (location.hash) window.history.replaceState(null, "", location.pathname);
    this.back?.focus?.();
    this.back = null;
  }

  /** On narrow screens it covers the rest, which then takes no focus. */
  #cover() {
    for (const id of ["main", "top"]) byId(id).inert = this.isOpen && NARROW.matches;
  }

  async #show(place, jumps = false) {
    const asked = ++this.asked;
    const body = byId("reader-text");
    fill(body, el("p", { class: "note" }, "Opening the document …"));
    try {
      const part = await this.#part(place, jumps);
      if (asked === this.asked) this.#fill(body, part);
    } catch (error) {
      if (asked !== this.asked) return;
      fill(body, el("p", { class: "problem", role: "alert" }, error.message));
    }
  }

  /** A part of the document: a page, or passages from an offset; the passage is in it unless a person went elsewhere. */
  async #part(place, jumps) {
    const { store, passage } = this.shown;
    const query = { store, document: passage.document, limit: place.page ? 200 : PART };
    const part = await request("/v1/documents/content", { query: { ...query, ...place } });
    const hasPassage = passage.start < 0 || (part.start <= passage.start && passage.end <= part.end);
    if (jumps || hasPassage || !place.page) return part;
    return request("/v1/documents/content", { query: { ...query, limit: PART, offset: passage.start } });
  }

  /** A link names where a passage begins; the document says the rest. */
  #complete(part) {
    const { passage } = this.shown;
    const linked = part.passages.find((each) => each.start <= passage.start && passage.start < each.end);
    if (linked) Object.assign(passage, linked);
    if (linked || passage.start < 0) passage.isLink = false;
    this.#head(part.title);
  }

  /** What is open: its title, its file where that is not the title, and the place in it. */
  #head(title) {
    const { document: path, place } = this.shown.passage;
    const own = titleOf({ document: path, title });
    fill(byId("reader-title"), foreign("span", {}, own || fileName(path)));
    fill(byId("reader-place"), [own && fileName(path), place].filter(Boolean).join(", "));
    byId("reader-place").title = path;
  }

  #fill(body, part) {
    if (this.shown.passage.isLink) this.#complete(part);
    const { passage, spans, colour } = this.shown;
    const characters = new Characters(part.text);
    const ends = [passage, ...spans, ...part.passages].flatMap((each) => [each.start, each.end]);
    const cuts = ends.map((at) => Math.min(characters.length, Math.max(0, at - part.start)));
    const borders = [...new Set([0, characters.length, ...cuts])].sort((a, b) => a - b);
    const inside = (a, b, range) => range.start <= part.start + a && part.start + b <= range.end;
    const pieces = borders.slice(1).map((b, n) => {
      const [a, text] = [borders[n], characters.slice(borders[n], b)];
      if (spans.some((span) => inside(a, b, span))) return el("mark", { class: `cited ${colour}` }, text);
      if (inside(a, b, passage)) return el("mark", { class: `read ${colour}` }, text);
      const between = !text.trim() && !part.passages.some((each) => inside(a, b, each));
      return between && b - a > 1 ? "\n\n" : text;
    });
    const text = foreign("div", { class: "document", tabindex: "0", role: "region", "aria-label": "Text of the document" });
    const nothing = !part.text && el("p", { class: "note" }, "No passage begins here: the page is empty or a picture, or goes on from the one before.");
    fill(body, this.#parts(part), append(text, nothing ? [nothing] : pieces));
    const mark = text.querySelector("mark.cited") ?? text.querySelector("mark");
    mark?.scrollIntoView({ block: "center" });
    announce(`${fileName(passage.document)} is open${part.page ? ` at page ${part.page}` : ""}.`);
  }

  /** Ways to the parts before and after; null where this is the whole document. */
  #parts(part) {
    const go = (text, place) => button(text, () => this.#show(place, true), { disabled: place === null });
    const [before, after] = neighbours(part);
    if (before === null && after === null) return null;
    const where = part.page && part.pages ? `Page ${part.page} of ${part.pages}` : `${Math.round((100 * part.start) / part.length)} % of the document`;
    return el("nav", { class: "pages", "aria-label": "Parts of the document" }, go("‹ Before", before), el("span", {}, where), go("After ›", after));
  }
}

function neighbours(part) {
  if (part.page && part.pages) {
    return [part.page > 1 ? { page: part.page - 1 } : null, part.page < part.pages ? { page: part.page + 1 } : null];
  }
  const before = part.start > 0 ? { offset: part.start, before: PART, limit: 1 } : null;
  return [before, part.next === null ? null : { offset: part.next }];
}

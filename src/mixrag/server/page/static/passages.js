// The passages behind an answer: how well each fits the question, and how much of the answer it wrote.

import { append, button, Characters, el, fileName, fill, foreign, titleOf } from "./dom.js";
import { count, percent } from "./words.js";

const PALETTE = 7;
const WRITER = 0.05;
const EXCERPT = 300;
const LONGEST = 600;

/** The class of the style sheet for each passage: colours by rank; where they are too few, first for those that write. */
export function colours(passages, writers = new Set()) {
  const ranked = passages.map((_, i) => i).sort((a, b) => writers.has(b) - writers.has(a) || a - b);
  const chosen = ranked.slice(0, PALETTE).sort((a, b) => a - b);
  return passages.map((_, i) => (chosen.includes(i) ? `c${chosen.indexOf(i) + 1}` : "c0"));
}

/** A bar of a share, with nothing for screen readers: the number stands beside it. */
export function bar(share, kind) {
  const fill = el("span", { class: "fill" });
  setShare(fill, share);
  return el("span", { class: `meter ${kind}`, "aria-hidden": "true" }, fill);
}

function setShare(fill, share) {
  fill.style.setProperty("--share", String(Math.min(1, Math.max(0, share ?? 0))));
}

/** Where a passage stands, in words: "fees.pdf, page 3". */
export function placeOf(passage) {
  return [fileName(passage.document), passage.place].filter(Boolean).join(", ");
}

/** The list of passages of one question. */
export class Passages {
  /** `open(passage, spans, colour)` opens its document; `spans` are the cited parts of it. */
  constructor(host, open) {
    this.host = host;
    this.open = open;
    this.passages = [];
    this.meters = [];
    this.spans = [];
  }

  /** What was found, before anything is written. */
  found(passages) {
    this.passages = passages;
    this.colours = colours(passages);
    this.spans = passages.map(() => []);
    const list = el("ol", { class: "passages" }, this.#cards(passages.map((_, i) => i), passages.map(() => "…")));
    fill(this.host, this.#heading("Reading what was found"), list);
  }

  /** p(each passage is writing | question, answer so far). */
  live(posterior) {
    posterior.forEach((share, i) => this.meters[i]?.(share));
  }

  /** The passages with the shares that they have of the whole answer. */
  finish(answer, spans, withheld) {
    this.passages = answer.passages;
    this.spans = withheld ? spans.map(() => []) : spans;
    this.colours = colours(answer.passages, writersOf(answer));
    const shares = answer.passages.map((passage) => passage.posterior);
    if (!shares.length) {
      fill(this.host, el("p", { class: "note" }, "No passage was read: the language model answered from what it knows by itself."));
      return;
    }
    const ranked = shares.map((_, i) => i).sort((a, b) => shares[b] - shares[a] || a - b);
    const first = withheld ? ranked.map((_, i) => i).slice(0, 3) : ranked.filter((i, at) => at === 0 || shares[i] >= WRITER);
    const rest = ranked.filter((i) => !first.includes(i)).sort((a, b) => a - b);
    const shown = withheld ? null : shares;
    fill(
      this.host,
      this.#heading(withheld ? "The passages that fit best" : "Where it comes from"),
      withoutPassage(answer, withheld),
      el("ol", { class: "passages" }, this.#cards(first, shown)),
      rest.length > 0 && this.#rest(rest, shown, withheld),
    );
  }

  /** Open the document of passage number `n`, from 1; false where there is none. */
  openNumber(n) {
    const passage = this.passages[n - 1];
    if (passage) this.open(passage, this.spans[n - 1], this.colours[n - 1]);
    return Boolean(passage);
  }

  /** Open the document of a passage by its id, at a span of the document. */
  openAt(id, span) {
    const i = this.passages.findIndex((passage) => passage.id === id);
    if (i >= 0) this.open(this.passages[i], span ? [span] : this.spans[i], this.colours[i]);
  }

  #heading(text) {
    return el("h2", {}, text);
  }

  #rest(rest, shares, withheld) {
    const what = withheld ? "more" : "that wrote little or nothing of it";
    return el(
      "details",
      { class: "rest" },
      el("summary", {}, `${count(rest.length, "passage")} ${what}`),
      el("ol", { class: "passages" }, this.#cards(rest, shares)),
    );
  }

  #cards(indices, shares) {
    return indices.map((i) => this.#card(i, shares && shares[i]));
  }

  #card(i, share) {
    const passage = this.passages[i];
    const heading = el(
      "h3",
      {},
      el("span", { class: "badge", "aria-hidden": "true" }, i + 1),
      el(
        "span",
        {},
        button(fileName(passage.document), () => this.openNumber(i + 1), {
          class: "source",
          title: passage.document,
          "aria-label": `Passage ${i + 1}: open ${placeOf(passage)}`,
        }),
        passage.place && el("span", { class: "place" }, ` ${passage.place}`),
      ),
    );
    const title = passage.text.startsWith(titleOf(passage)) ? "" : titleOf(passage);
    return el(
      "li",
      { class: `passage ${this.colours[i]}`, value: i + 1 },
      el("div", { class: "said" }, heading, title && foreign("p", { class: "title" }, title), this.#excerpt(i)),
      this.#weights(i, share),
    );
  }

  #excerpt(i) {
    const { start } = this.passages[i];
    const text = new Characters(this.passages[i].text);
    const quote = foreign("blockquote", {});
    const tight = (part) => part.replace(/\n\s*\n/g, "\n");
    const [first] = this.spans[i];
    if (!first) return append(quote, [tight(cut(text))]);
    const spans = this.spans[i].filter((span) => span.end - first.start <= LONGEST || span === first);
    const left = Math.max(0, first.start - start - 120);
    const right = Math.min(text.length, Math.max(spans.at(-1).end - start + 120, left + EXCERPT));
    append(quote, [left > 0 && "… "]);
    let at = left;
    for (const span of spans) {
      const before = text.slice(at, span.start - start);
      append(quote, [tight(at === left && left > 0 ? before.replace(/^\S*\s+/, "") : before), el("mark", {}, text.slice(span.start - start, span.end - start))]);
      at = span.end - start;
    }
    const after = text.slice(at, right);
    return append(quote, [tight(right < text.length ? after.replace(/\s+\S*$/, "") : after), right < text.length && " …"]);
  }

  #weights(i, share) {
    const prior = this.passages[i].prior;
    const after = el("span", { class: "value" }, share === "…" ? share : percent(share));
    const afterBar = bar(share === "…" ? 0 : share, "after");
    this.meters[i] = (value) => {
      fill(after, percent(value));
      setShare(afterBar.firstChild, value);
    };
    const row = (name, meter, value) => el("div", {}, el("dt", {}, name), el("dd", {}, meter, value));
    return el(
      "dl",
      { class: "weights" },
      row("Fits the question", bar(prior, "before"), el("span", { class: "value" }, percent(prior))),
      share !== null && row("Wrote the answer", afterBar, after),
    );
  }
}

/** That a good part was written without any passage, where it was. */
function withoutPassage(answer, withheld) {
  const share = answer.null?.posterior ?? 0;
  return !withheld && share >= WRITER && el("p", { class: "note" }, `The language model by itself, without any passage, wrote ${percent(share)} of it.`);
}

function cut(text) {
  return EXCERPT < text.length ? `${text.slice(0, EXCERPT).replace(/\s+\S*$/, "")} …` : text.slice(0);
}

/** The passages that most probably wrote a word of an answer, by their positions. */
export function writersOf(answer) {
  const found = answer.tokens.filter((token) => token.text).map((token) => leaderOf(token.responsibility, token.null));
  return new Set(found.filter((leader) => leader !== null && leader >= 0));
}

/** The position of the largest share; -1 where none of the passages has it; null where nothing has one. */
export function leaderOf(shares, none = 0) {
  let best = null;
  let most = 0;
  shares.forEach((share, i) => {
    if (share > most) [best, most] = [i, share];
  });
  return none > most ? -1 : best;
}

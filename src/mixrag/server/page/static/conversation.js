// The questions of a conversation, which say what a follow-up means, and how the one shown was asked.

import { append, button, byId, el, fill, foreign } from "./dom.js";
import { count, isWithheld } from "./words.js";

export const EARLIER = 20;
const SHOWN = 3;

/** The turns of this tab's conversation, each an entry as the history has it. */
export class Conversation {
  /** `onOpen(entry)` shows an earlier turn again. */
  constructor(onOpen) {
    this.onOpen = onOpen;
    this.turns = [];
  }

  /** The questions before the next one, as they were asked of the documents. */
  earlier(without = null) {
    const before = this.turns.filter((turn) => turn !== without);
    return before.slice(-EARLIER).map((turn) => turn.question);
  }

  /** Add a turn, in the place of another one where that was asked again. */
  add(entry, instead = null) {
    this.turns = [...this.turns.filter((turn) => turn !== instead), entry];
  }

  /** Begin with one turn, or with none. */
  begin(entry = null) {
    this.turns = entry ? [entry] : [];
  }

  /** Draw the turns other than the one shown; `shown` is null while a question is under way. */
  draw(shown) {
    const others = this.turns.filter((turn) => turn !== shown);
    const [old, recent] = [others.slice(0, -SHOWN), others.slice(-SHOWN)];
    byId("thread").hidden = others.length === 0;
    byId("new").hidden = this.turns.length === 0;
    const rows = (turns) => el("ol", { class: "turns" }, turns.map((turn) => el("li", {}, this.#row(turn))));
    fill(
      byId("thread"),
      el("h2", { class: "hidden" }, "Earlier in this conversation"),
      old.length > 0 && el("details", {}, el("summary", {}, count(old.length, "earlier question")), rows(old)),
      rows(recent),
    );
  }

  #row(turn) {
    const said = isWithheld(turn.answer) ? "No answer found" : turn.answer.answer;
    const row = button("", () => this.onOpen(turn), { class: "turn" });
    row.append(foreign("span", { class: "question" }, turn.written), foreign("span", { class: "said" }, said));
    return row;
  }
}

/**
 * How a follow-up was asked of the documents, where that is not as it was written, with a way to change it.
 * `again(question)` asks another one.
 */
export function showRewritten(host, written, question, again) {
  host.hidden = question === undefined || question === written;
  if (host.hidden) return fill(host);
  const change = () => edit(host, written, question, again);
  const line = [el("span", { class: "note" }, "Asked as "), foreign("q", {}, question), " "];
  return fill(host, el("p", {}, line, button("Change", change, { class: "link", "aria-label": "Change how it is asked" })));
}

function edit(host, written, question, again) {
  const field = el("input", { id: "rewritten-question", value: question, maxlength: "8000", autocomplete: "off", dir: "auto", required: true });
  const form = el(
    "form",
    { class: "rewriting" },
    el("label", { for: field.id }, "Ask it as"),
    field,
    el(
      "div",
      { class: "actions" },
      el("button", { type: "submit", class: "primary" }, "Ask again"),
      button("Ask it as I wrote it", () => again(written)),
      button("Cancel", () => {
        showRewritten(host, written, question, again);
        host.querySelector("button").focus();
      }),
    ),
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (field.value.trim()) again(field.value.trim());
  });
  append(fill(host), [form]);
  field.focus();
}

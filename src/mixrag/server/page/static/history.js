// Questions that were asked in this browser, with their answers. They stay in it, and can be cleared.

import { button, byId, el, fill, foreign } from "./dom.js";
import { isWithheld } from "./words.js";

const STORED = "mixrag-history";
const MOST = 50;

/** The panel with the history; `onOpen(entry)` shows an entry again. */
export class History {
  constructor(onOpen) {
    this.onOpen = onOpen;
    byId("history-clear").addEventListener("click", () => this.clear());
  }

  /** The entries, the newest first: `{model, question, settings, answer, when}`. */
  get entries() {
    try {
      const found = JSON.parse(localStorage.getItem(STORED));
      return Array.isArray(found) ? found : [];
    } catch {
      return [];
    }
  }

  /** Remember an answer. Where the browser has no room, the oldest go. */
  add(entry) {
    let entries = [entry, ...this.entries].slice(0, MOST);
    while (entries.length) {
      try {
        localStorage.setItem(STORED, JSON.stringify(entries));
        return;
      } catch {
        entries = entries.slice(0, -1 - entries.length / 4);
      }
    }
  }

  /** Forget all. */
  clear() {
    localStorage.removeItem(STORED);
    this.draw();
    byId("history-title").focus();
  }

  /** Draw the list. */
  draw() {
    const { entries } = this;
    byId("history-clear").disabled = entries.length === 0;
    const rows = entries.map((entry) => el("li", {}, this.#row(entry)));
    fill(byId("history-list"), entries.length ? el("ol", { class: "history" }, rows) : el("p", { class: "note" }, "No questions yet."));
  }

  #row(entry) {
    const said = isWithheld(entry.answer) ? "No answer found" : entry.answer.answer;
    const when = new Date(entry.when).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" });
    const row = button("", () => this.onOpen(entry), { class: "entry" });
    row.append(
      foreign("span", { class: "asked" }, entry.question),
      foreign("span", { class: "said" }, said),
      el("span", { class: "note" }, `${entry.model}, ${when}`),
    );
    return row;
  }
}

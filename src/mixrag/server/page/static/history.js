// Questions that were asked in this browser, with their answers. They stay in it, and can be cleared.
// Where the server asks for a key they are with the key: in this tab alone, and forgotten when it is.

import { hasKey, onKeyChange } from "./api.js";
import { button, byId, el, fill, foreign } from "./dom.js";
import { isWithheld } from "./words.js";

const STORED = "mixrag-history";
const MOST = 50;

/** The panel with the history; `onOpen(entry)` shows an entry again. */
export class History {
  constructor(onOpen) {
    this.onOpen = onOpen;
    byId("history-clear").addEventListener("click", () => this.clear());
    onKeyChange((has) => this.#move(has));
    if (hasKey()) this.#move(true);
  }

  /** The entries, the newest first: `{model, written, question, settings, answer, when}`. */
  get entries() {
    return read(this.#storage);
  }

  get #storage() {
    return hasKey() ? sessionStorage : localStorage;
  }

  /** Remember an answer. Where the browser has no room, the oldest go. */
  add(entry) {
    write(this.#storage, [entry, ...this.entries].slice(0, MOST));
  }

  /** Forget all. */
  clear() {
    this.#storage.removeItem(STORED);
    this.draw();
    byId("history-title").focus();
  }

  /** With a key, nothing stays that outlives it; without one, nothing that was answered to it. */
  #move(has) {
    if (has) write(sessionStorage, [...read(sessionStorage), ...read(localStorage)].slice(0, MOST));
    else sessionStorage.removeItem(STORED);
    if (has) localStorage.removeItem(STORED);
  }

  /** Draw the list. */
  draw() {
    const { entries } = this;
    byId("history-clear").disabled = entries.length === 0;
    byId("history-forget").hidden = !hasKey();
    const where = hasKey() ? "in this tab only; they are forgotten with the key, and when you close it" : "in this browser only";
    fill(byId("history-note"), `The last ${MOST} questions and answers, ${where}.`);
    const rows = entries.map((entry) => el("li", {}, this.#row(entry)));
    fill(byId("history-list"), entries.length ? el("ol", { class: "history" }, rows) : el("p", { class: "note" }, "No questions yet."));
  }

  #row(entry) {
    const said = isWithheld(entry.answer) ? "No answer found" : entry.answer.answer;
    const when = new Date(entry.when).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" });
    const row = button("", () => this.onOpen(entry), { class: "entry" });
    row.append(
      foreign("span", { class: "asked" }, entry.written ?? entry.question),
      foreign("span", { class: "said" }, said),
      el("span", { class: "note" }, `${entry.model}, ${when}`),
    );
    return row;
  }
}

function read(storage) {
  try {
    const found = JSON.parse(storage.getItem(STORED));
    return Array.isArray(found) ? found : [];
  } catch {
    return [];
  }
}

function write(storage, entries) {
  for (let some = entries; some.length; some = some.slice(0, -1 - some.length / 4)) {
    try {
      storage.setItem(STORED, JSON.stringify(some));
      return;
    } catch {
      // No room: fewer.
    }
  }
}

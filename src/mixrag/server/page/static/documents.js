// The documents of a store: the list, deletion, and uploads with what was left out.

import { request, upload } from "./api.js";
import { announce, button, byId, el, fileName, fill, foreign, titleOf } from "./dom.js";
import { count } from "./words.js";

const SHOWN = 200;

/** The panel with the documents of the store that is chosen. */
export class Documents {
  /** `onCount(documents, passages)` is called with how many there are. */
  constructor(onCount) {
    this.onCount = onCount;
    this.store = null;
    this.asked = 0;
    byId("document-filter").addEventListener("input", () => {
      clearTimeout(this.typing);
      this.typing = setTimeout(() => this.load(this.store), 150);
    });
    byId("files").addEventListener("change", (event) => {
      this.add([...event.target.files]);
      event.target.value = "";
    });
  }

  /** List the documents of a store. */
  async load(store) {
    if (store !== this.store) byId("document-filter").value = "";
    this.store = store;
    const asked = ++this.asked;
    try {
      const contains = byId("document-filter").value.trim();
      const found = await request("/v1/documents", { query: { store, contains, limit: SHOWN } });
      if (asked !== this.asked) return;
      this.onCount(found.documents, found.passages);
      this.#draw(found);
    } catch (error) {
      fill(byId("document-list"), el("p", { class: "problem", role: "alert" }, error.message));
    }
  }

  /** Upload files to the store, and show what became of each. */
  async add(files) {
    if (!files.length) return;
    const meter = el("progress", { max: "1", value: "0", "aria-label": `Upload of ${count(files.length, "file")}` });
    const step = el("p", { class: "note", "aria-live": "polite" }, `Sending ${count(files.length, "file")} …`);
    const line = el("div", { class: "upload" }, meter, step);
    byId("uploads").prepend(line);
    try {
      const report = await upload("/v1/documents", { store: this.store, stream: "true" }, files, {
        sent: (share) => showSent(meter, step, share),
        event: ({ event, data }) => event === "progress" && showProgress(meter, step, data),
      });
      fill(line, reportOf(report));
      announce(line.textContent);
    } catch (error) {
      fill(line, el("p", { class: "problem", role: "alert" }, error.message));
    }
    await this.load(this.store);
  }

  #draw({ documents, matching, data }) {
    byId("document-filter-row").hidden = documents < 8;
    fill(
      byId("document-list"),
      !documents && el("p", { class: "note" }, "No documents yet."),
      documents > 0 && !matching && el("p", { class: "note" }, "No document has this in its name or title."),
      data.length > 0 && el("ul", { class: "documents" }, data.map((each) => this.#row(each))),
      matching > data.length && el("p", { class: "note" }, `${count(matching - data.length, "document")} more: type a part of the name above.`),
    );
  }

  #row(each) {
    const name = fileName(each.document);
    const row = el(
      "li",
      {},
      el(
        "div",
        { class: "named" },
        foreign("span", { class: "name", title: each.document }, name),
        titleOf(each) && foreign("span", { class: "note" }, titleOf(each)),
      ),
      el("span", { class: "note number" }, count(each.passages ?? 0, "passage")),
    );
    const actions = el("span", { class: "actions" });
    row.append(actions);
    this.#offer(actions, each, name);
    return row;
  }

  #offer(actions, each, name) {
    const ask = () => {
      const no = button("Keep", () => {
        this.#offer(actions, each, name);
        actions.querySelector("button").focus();
      });
      const yes = button("Delete", () => this.#remove(each, actions), { class: "danger", "aria-label": `Delete ${name} from the store`, title: each.uploaded ? "From the store and from the disk" : "From the store; the file itself stays where it is" });
      fill(actions, yes, no);
      yes.focus();
    };
    fill(actions, button("Delete …", ask, { class: "link", "aria-label": `Delete ${name} …` }));
  }

  async #remove(each, actions) {
    fill(actions, el("span", { class: "note" }, "Deleting …"));
    try {
      await request("/v1/documents", { method: "DELETE", query: { store: this.store, document: each.document } });
      announce(`${fileName(each.document)} is deleted.`);
      await this.load(this.store);
      byId("documents-title").focus();
    } catch (error) {
      fill(actions, el("span", { class: "problem", role: "alert" }, error.message));
    }
  }
}

function showSent(meter, step, share) {
  meter.value = share / 2;
  if (share >= 1) fill(step, "Reading …");
}

/** Steps of the server: `{what, done, total, document}`. */
function showProgress(meter, step, { what, done, total, document }) {
  if (total) meter.value = 0.5 + (0.5 * done) / total;
  const number = total ? ` ${done} of ${total}` : " …";
  const words = { "reading files": "Reading file", embedding: "Preparing passage" };
  fill(step, foreign("span", {}, `${words[what] ?? what}${number}${document ? `: ${document}` : ""}`));
}

/** What became of uploaded files, and all that was left out of them. */
export function reportOf(report) {
  const left = leftOut(report);
  const partly = (report.notices ?? []).map((each) => (typeof each === "string" ? each : `${each.kind}: ${each.count}`));
  return [
    el("p", {}, foreign("span", {}, summaryOf(report)), left.length > 0 && " Left out:"),
    left.length > 0 && el("ul", { class: "left-out" }, left.map(([name, reason]) => el("li", {}, foreign("strong", {}, name), ": ", foreign("span", {}, reason)))),
    partly.length > 0 && el("details", {}, el("summary", {}, "Read only in part"), el("ul", {}, partly.map((each) => foreign("li", {}, each)))),
  ];
}

/** Files that were not stored, and records of the others that could not be used, each `[name, reason]`. */
function leftOut(report) {
  const files = (report.files ?? []).filter((each) => !each.stored).map((each) => [each.name, each.reason]);
  const known = new Set(files.map(([name]) => name));
  const records = (report.skipped ?? []).map(({ path, reason }) => [fileName(path), reason]).filter(([name]) => !known.has(name));
  return [...files, ...records];
}

function summaryOf(report) {
  const stored = (report.files ?? []).filter((each) => each.stored).map((each) => each.name);
  if (!stored.length) return "Nothing was added.";
  const names = stored.length > 5 ? count(stored.length, "file") : stored.join(", ");
  return report.added ? `Added ${names} (${count(report.added, "passage")}).` : `${names}: there already, and not changed.`;
}

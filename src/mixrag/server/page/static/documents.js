// The documents of a store: the list, deletion, and uploads with what was left out.

import { request, upload } from "./api.js";
import { announce, button, byId, el, fileName, fill, foreign } from "./dom.js";
import { count } from "./words.js";

const SHOWN = 200;

/** The panel with the documents of the store that is chosen. */
export class Documents {
  /** `onCount(documents, passages)` is called with how many there are. */
  constructor(onCount) {
    this.onCount = onCount;
    this.store = null;
    this.documents = [];
    byId("document-filter").addEventListener("input", () => this.#draw());
    byId("files").addEventListener("change", (event) => {
      this.add([...event.target.files]);
      event.target.value = "";
    });
  }

  /** List the documents of a store. */
  async load(store) {
    this.store = store;
    const list = byId("document-list");
    try {
      const found = await request("/v1/documents", { query: { store } });
      this.documents = found.data ?? found.documents ?? [];
      this.onCount(this.documents.length, this.documents.reduce((sum, each) => sum + (each.passages ?? 0), 0));
      this.#draw();
    } catch (error) {
      fill(list, el("p", { class: "problem", role: "alert" }, error.message));
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

  #draw() {
    const wanted = byId("document-filter").value.trim().toLowerCase();
    const found = this.documents.filter((each) => `${each.document} ${each.title}`.toLowerCase().includes(wanted));
    byId("document-filter-row").hidden = this.documents.length < 8;
    const rows = found.slice(0, SHOWN).map((each) => this.#row(each));
    fill(
      byId("document-list"),
      !this.documents.length && el("p", { class: "note" }, "No documents yet."),
      rows.length > 0 && el("ul", { class: "documents" }, rows),
      found.length > SHOWN && el("p", { class: "note" }, `${count(found.length - SHOWN, "document")} more: type a part of the name above.`),
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
        each.title && each.title !== name && foreign("span", { class: "note" }, each.title),
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
      const yes = button("Delete", () => this.#remove(each, actions), { class: "danger", "aria-label": `Delete ${name} from the store` });
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

/** Steps of the server: `{done, total, what}`. */
function showProgress(meter, step, data) {
  if (data.total) meter.value = 0.5 + (0.5 * data.done) / data.total;
  fill(step, [data.what ?? data.step ?? "Reading", data.total ? ` ${data.done} of ${data.total}` : " …"].join(""));
}

/** What a run over files did, and all that it left out. */
export function reportOf(report) {
  const left = [
    ...(report.skipped ?? []).map(({ path, reason }) => [fileName(path), reason]),
    ...Object.entries(report.left_out ?? {}).map(([kind, n]) => [`${n} ${kind}`, "no parser reads such files"]),
  ];
  const partly = (report.notices ?? []).map((each) => (typeof each === "string" ? each : `${each.kind}: ${each.count}`));
  return [
    el("p", {}, summaryOf(report, left.length)),
    left.length > 0 && el("ul", { class: "left-out" }, left.map(([name, reason]) => el("li", {}, foreign("strong", {}, name), ": ", foreign("span", {}, reason)))),
    partly.length > 0 && el("details", {}, el("summary", {}, "Read only in part"), el("ul", {}, partly.map((each) => foreign("li", {}, each)))),
  ];
}

function summaryOf(report, left) {
  const parts = [];
  if (report.added) parts.push(`Added ${count(report.added, "passage")}.`);
  if (report.removed) parts.push(`Replaced or removed ${count(report.removed, "passage")}.`);
  if (report.unchanged) parts.push(`${count(report.unchanged, "file")} ${report.unchanged === 1 ? "was" : "were"} there already.`);
  if (left) parts.push("Left out:");
  return parts.join(" ") || "Nothing new in them.";
}

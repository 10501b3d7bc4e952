// The documents of a store: the list, deletion, and uploads with what was left out.

import { request, upload } from "./api.js";
import { announce, button, byId, el, fileName, fill, foreign, titleOf } from "./dom.js";
import { joined, nameOf, planned } from "./uploads.js";
import { count } from "./words.js";

const SHOWN = 200;
const NAMED = 5;

/** The panel with the documents of the store that is chosen. */
export class Documents {
  /** `onCount(documents, passages)` is called with how many there are. */
  constructor(onCount) {
    this.onCount = onCount;
    this.store = null;
    this.asked = 0;
    this.limits = { files: 100, file_bytes: Infinity, bytes: Infinity };
    byId("document-filter").addEventListener("input", () => {
      clearTimeout(this.typing);
      this.typing = setTimeout(() => this.load(this.store), 150);
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
      this.limits = found.limits ?? this.limits;
      this.onCount(found.documents, found.passages);
      this.#draw(found);
    } catch (error) {
      fill(byId("document-list"), el("p", { class: "problem", role: "alert" }, error.message));
    }
  }

  /** Upload what fits, in several requests where one does not take it, and show what became of each file. */
  async add(files) {
    if (!files.length) return;
    const meter = el("progress", { max: "1", value: "0", "aria-label": `Upload of ${count(files.length, "file")}` });
    const step = el("p", { class: "note", "aria-live": "polite" }, `Sending ${count(files.length, "file")} …`);
    const line = el("div", { class: "upload" }, meter, step);
    byId("uploads").prepend(line);
    const store = this.store;
    const { batches, left } = planned(files, this.limits);
    const reports = [];
    for (const [n, batch] of batches.entries()) {
      const show = (share) => (meter.value = (n + share) / batches.length);
      reports.push(await this.#send(store, batch, show, step, left));
    }
    fill(line, reportOf(joined(reports, left)));
    announce(line.textContent);
    await this.load(this.store);
  }

  /** One request; where it is refused, each of its files by itself. Reasons go to `left`. */
  async #send(store, batch, show, step, left) {
    try {
      return await upload("/v1/documents", { store, stream: "true" }, batch, {
        sent: (share) => {
          show(share / 2);
          if (share >= 1) fill(step, "Reading …");
        },
        event: ({ event, data }) => event === "progress" && showProgress(show, step, data),
      });
    } catch (error) {
      if (batch.length === 1 || error.status < 400 || error.status >= 500 || error.status === 401) {
        left.push(...batch.map((file) => [nameOf(file), error.message]));
        return {};
      }
    }
    const reports = [];
    for (const [n, file] of batch.entries()) reports.push(await this.#send(store, [file], (share) => show((n + share) / batch.length), step, left));
    return joined(reports);
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

/** Steps of the server: `{what, done, total, document}`. */
function showProgress(show, step, { what, done, total, document }) {
  if (total) show(0.5 + (0.5 * done) / total);
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
    left.length > 0 && el("ul", { class: "left-out" }, grouped(left).map(([names, reason]) => el("li", {}, foreign("strong", {}, names), ": ", foreign("span", {}, reason)))),
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

/** Names of one reason together, at most some of them. */
function grouped(left) {
  const reasons = new Map();
  for (const [name, reason] of left) reasons.set(reason, [...(reasons.get(reason) ?? []), name]);
  const list = (names) => (names.length <= NAMED ? names.join(", ") : `${names.slice(0, NAMED).join(", ")} and ${names.length - NAMED} more`);
  return [...reasons].map(([reason, names]) => [list(names), reason]);
}

function summaryOf(report) {
  const stored = (report.files ?? []).filter((each) => each.stored).map((each) => each.name);
  if (!stored.length) return "Nothing was added.";
  const names = stored.length > 5 ? count(stored.length, "file") : stored.join(", ");
  return report.added ? `Added ${names} (${count(report.added, "passage")}).` : `${names}: there already, and not changed.`;
}

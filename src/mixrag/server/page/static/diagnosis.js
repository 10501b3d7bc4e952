// "Why is this wrong?": what was expected, and the step at which it was lost.

import { request } from "./api.js";
import { append, announce, button, el, fill, foreign } from "./dom.js";
import { count } from "./words.js";

const STEPS = {
  indexed: "Your documents say it",
  retrieved: "A passage that says it was found",
  weighted: "The passage had enough weight",
  used: "The language model draws it from the passage",
  decoded: "The search for the best answer found it",
};
const PLACES = {
  absent: "No passage of your documents says it in these words. Add the document that does, or name the document that says it in other words.",
  "unknown document": "There is no document of this name. Open “Documents” to see the names.",
  split: "It is split over two passages. Longer passages would hold it: index again with another splitter.",
  filtered: "A passage says it, but the filter in the settings leaves it out.",
  unwritten: "A yes or no stands in no passage. Name the document that decides it.",
};

/**
 * A form that asks why an answer is wrong.
 * `asked` is `{model, question, settings}`; `again(settings)` asks once more with other settings.
 */
export function diagnosisForm(asked, again) {
  const result = el("div", { class: "diagnosis", "aria-live": "polite" });
  const expected = el("input", { name: "expected", required: true, autocomplete: "off", id: "expected", maxlength: "1000" });
  const documentName = el("input", { name: "document", autocomplete: "off", id: "expected-document", maxlength: "1000" });
  const submit = el("button", { type: "submit", class: "primary" }, "Find out why");
  const form = el(
    "form",
    { class: "stacked" },
    el("label", { for: "expected" }, "I expected this answer"),
    expected,
    el("label", { for: "expected-document" }, "from this document ", el("span", { class: "note" }, "(if you know it)")),
    documentName,
    submit,
  );
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    submit.disabled = true;
    fill(result, el("p", { class: "note" }, "Looking at each step …"));
    try {
      const body = { ...asked, expected: [expected.value.trim()], document: documentName.value.trim() || undefined };
      const found = await request("/v1/diagnose", { method: "POST", body });
      fill(result, shown(found, asked, again));
      announce("The diagnosis is there.");
    } catch (error) {
      fill(result, el("p", { class: "problem", role: "alert" }, error.message));
    } finally {
      submit.disabled = false;
    }
  });
  return el("div", {}, form, result);
}

function shown(found, asked, again) {
  const names = Object.keys(STEPS);
  const reached = found.failed ? names.indexOf(found.failed) : names.length;
  const steps = names.map((name, n) => step(STEPS[name], n <= reached ? found.stages[name] : null, name === found.failed));
  const repeat = remedyOf(found, again);
  return [
    el("p", { class: "finding" }, inWords(found)),
    repeat,
    !found.right && el("ol", { class: "steps" }, steps),
    el(
      "details",
      {},
      el("summary", {}, "Details"),
      foreign("p", { class: "note" }, found.finding),
      found.remedy && foreign("p", { class: "note" }, `On the command line: ${found.remedy}`),
      el("ul", { class: "note" }, Object.entries(found.stages).map(([name, each]) => each && foreign("li", {}, `${name}: ${each.finding}`))),
    ),
  ];
}

function step(text, stage, failed) {
  const [mark, word] = { true: ["✓", "yes"], false: ["✗", "no"] }[stage?.passed] ?? ["–", "not known"];
  return el(
    "li",
    { class: failed ? "failed" : "" },
    el("span", { class: `mark ${word.replace(" ", "-")}`, "aria-hidden": "true" }, mark),
    text,
    el("span", { class: "hidden" }, `: ${word}`),
  );
}

function inWords(found) {
  if (found.right) return "The answer is the one that you expected.";
  const stage = found.stages[found.failed ?? "indexed"];
  switch (found.failed) {
    case "indexed":
      return PLACES[stage.place] ?? stage.finding;
    case "retrieved":
      return stage.rank
        ? `A passage says it, but it came at place ${stage.rank}, and only ${count(stage.k, "passage")} ${stage.k === 1 ? "was" : "were"} read.`
        : `A passage says it, but it was not among the ${stage.ranked} that fit the question best.`;
    case "weighted":
      return "The passage that says it was read, and alone it gives your answer. Others had more weight.";
    case "used":
      return "The passage that says it was read, but the language model takes another answer from it.";
    case "decoded":
      return "Your answer is more probable than the one shown: the search for the best answer missed it.";
    default:
      return PLACES[stage?.place] ?? "It cannot be said at which step it was lost.";
  }
}

function remedyOf(found, again) {
  const { retrieved, decoded } = found.stages;
  const settings = {};
  if (found.failed === "retrieved" && retrieved.rank && retrieved.rank <= 50) settings.k = retrieved.rank;
  if (found.failed === "decoded" && decoded.beam_is_right) settings.decoder = "beam";
  const [name] = Object.keys(settings);
  if (!name) return null;
  const text = name === "k" ? `Ask again, reading ${settings.k} passages` : "Ask again with beam search";
  return append(el("p", {}), [button(text, () => again(settings), { class: "primary" })]);
}

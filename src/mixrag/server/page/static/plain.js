// Answers of language models whose server gives no exact probabilities: text, and what was read.

import { sizeOf } from "./answer.js";
import { append, el, fill, foreign } from "./dom.js";
import { bar } from "./passages.js";
import { percent } from "./words.js";

/** Whether an answer has no tokens with probabilities. */
export function isPlain(answer) {
  return !Array.isArray(answer.passages);
}

/** Show the text of such an answer, and what it was read from. */
export function showPlain(host, sources, answer) {
  fill(host, foreign("p", { class: `words ${sizeOf(answer.answer)}` }, answer.answer || "(an empty answer)"));
  append(host, [el("p", { class: "note" }, answer.no_probability ? `Words have no colours: ${answer.no_probability}.` : "Words have no colours: the server of the language model gives no exact probabilities.")]);
  const read = (answer.components ?? []).map((each) => el("li", {}, foreign("span", {}, each.titles.join(", ") || "no passage"), shareOf(each.prior)));
  fill(
    sources,
    el("h2", {}, "What was read"),
    el("p", { class: "note" }, "How well each fits the question; what it wrote is not known."),
    el("ul", { class: "read-parts" }, read),
  );
}

function shareOf(prior) {
  return el("span", { class: "share" }, bar(prior, "before"), el("span", { class: "value" }, percent(prior)));
}

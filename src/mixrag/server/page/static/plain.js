// Answers of language models whose server gives no exact probabilities: text, and what was read.

import { sizeOf } from "./answer.js";
import { append, el, fill, foreign } from "./dom.js";
import { percent } from "./words.js";

/** Whether an answer has no tokens with probabilities. */
export function isPlain(answer) {
  return !Array.isArray(answer.passages);
}

/** Show the text of such an answer, and what it was read from. */
export function showPlain(host, sources, answer) {
  fill(host, foreign("p", { class: `words ${sizeOf(answer.answer)}` }, answer.answer || "(an empty answer)"));
  append(host, [el("p", { class: "note" }, answer.no_probability ? `Words have no colours: ${answer.no_probability}.` : "Words have no colours: the server of the language model gives no exact probabilities.")]);
  const read = (answer.components ?? []).map((each) => el("li", {}, foreign("span", {}, each.titles.join(", ") || "no passage"), el("span", { class: "note" }, ` ${percent(each.prior)}`)));
  fill(sources, el("h2", {}, "What was read"), el("ul", {}, read));
}

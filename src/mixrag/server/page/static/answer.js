// An answer: its words coloured by the passage that wrote them, in kind, and how sure it is.

import { append, button, el, fill, foreign } from "./dom.js";
import { bar, leaderOf, placeOf } from "./passages.js";
import { exact, guaranteed, isWithheld, nats, percent, sureness, withheldBecause } from "./words.js";

/**
 * Show a whole answer.
 * `passages` has the colours of this answer, and opens documents.
 */
export function showAnswer(host, answer, passages) {
  const withheld = isWithheld(answer);
  fill(host, withheld ? withheldNode(answer, passages) : [inKind(answer, passages), sureNode(answer)]);
  append(host, (answer.notices || []).map((notice) => el("p", { class: "note" }, foreign("span", {}, notice))));
  if (!answer.finished) append(host, [el("p", { class: "note" }, "It was cut off at the longest length allowed (max_tokens in the settings).")]);
}

function inKind(answer, passages) {
  if (answer.kind === "extract") return extract(answer, passages);
  if (answer.kind === "list" && answer.items.length) return list(answer, passages);
  const written = words(answer, passages);
  return answer.kind === "yes-no" ? [written, yesOrNo(answer)] : written;
}

/** The words, in runs of one colour; a number after each run opens its passage. */
export function words(answer, passages) {
  const node = foreign("p", { class: `words ${sizeOf(answer.best_guess)}` });
  if (!answer.best_guess) return append(node, [el("em", {}, "(an empty answer)")]);
  for (const run of runsOf(answer.tokens)) append(node, runNode(run, passages));
  return node;
}

/** The class of the style sheet for the size of a text: a long one is to be read, not to be seen. */
export function sizeOf(text) {
  const n = (text ?? "").length;
  return n > 500 ? "longest" : n > 140 ? "long" : "";
}

function runNode({ leader, tokens }, passages) {
  const text = tokens.map((token) => token.text).join("");
  const [, before, bare, after] = /^(\s*)(.*?)(\s*)$/s.exec(text);
  if (leader === null || !bare) return [text];
  const colour = leader < 0 ? "null" : passages.colours[leader];
  const run = el("span", { class: `run ${colour}` }, followed(bare, leader < 0 ? noPassage() : reference(leader, passages)));
  return [before, run, after];
}

/** A text and the sign after it, which stays on the line of its last word. */
function followed(text, sign) {
  const [, before, last] = /^(.*?)(\S{0,24})$/s.exec(text);
  return [before, el("span", { class: "last" }, last, sign)];
}

function noPassage() {
  return el("sup", { title: "Most probably no passage: the language model by itself" }, "∅");
}

/** The number of a passage, which opens it. */
export function reference(i, passages) {
  const label = `Passage ${i + 1}, ${placeOf(passages.passages[i])}: open`;
  return button(String(i + 1), () => passages.openNumber(i + 1), { class: "reference", "aria-label": label, title: label });
}

/** Tokens in a row that the same passage most probably wrote. */
export function runsOf(tokens) {
  const runs = [];
  for (const token of tokens) {
    if (!token.text) continue;
    const leader = leaderOf(token.responsibility, token.null);
    const last = runs.at(-1);
    if (last && last.leader === leader) last.tokens.push(token);
    else runs.push({ leader, tokens: [token] });
  }
  return runs;
}

function list(answer, passages) {
  return el(
    "ul",
    { class: "items" },
    answer.items.map((item) => el("li", {}, placed(item.text, item, passages))),
  );
}

function extract(answer, passages) {
  const sentences = answer.sentences.map((each) => el("li", {}, placed(each.text, each, passages)));
  return [el("p", { class: "kind" }, "Sentences of your documents, word for word"), el("ul", { class: "sentences" }, sentences)];
}

/** A text that stands in a passage, in its colour, with the number that opens it there. */
function placed(text, { passage, start, end }, passages) {
  const i = passages.passages.findIndex((each) => each.id === passage);
  if (i < 0) return foreign("span", {}, text);
  const label = `Passage ${i + 1}, ${placeOf(passages.passages[i])}: open`;
  const span = start === null || start === undefined ? null : { start, end };
  const number = button(String(i + 1), () => passages.openAt(passage, span), { class: "reference", "aria-label": label, title: label });
  return foreign("span", { class: `run ${passages.colours[i]}` }, followed(text, number));
}

function yesOrNo(answer) {
  const rows = answer.items.map((item) =>
    el("div", {}, el("dt", {}, item.text), el("dd", {}, bar(item.probability, "after"), el("span", { class: "value" }, percent(item.probability)))),
  );
  return el("dl", { class: "weights either" }, rows);
}

function sureNode(answer) {
  const { level, head, text } = sureness(answer);
  const guarantee = guaranteed(answer.guarantee);
  return [
    el("p", { class: "sure" }, signal(level), el("span", {}, el("strong", {}, head), text && ` ${text}`)),
    guarantee && el("p", { class: "guarantee" }, guarantee),
  ];
}

/** Four strokes, as many of them filled as the level has. */
function signal(level) {
  const strokes = [1, 2, 3, 4].map((n) => el("span", { class: n <= level ? "on" : "off" }));
  return el("span", { class: `signal level${level}`, "aria-hidden": "true" }, strokes);
}

function withheldNode(answer, passages) {
  const guess = el(
    "details",
    { class: "guess" },
    el("summary", {}, "Show the best guess"),
    inKind(answer, passages),
    answer.confidence && sureNode(answer),
  );
  return el(
    "div",
    { class: "withheld" },
    el("p", { class: "none" }, "No answer found."),
    el("p", {}, withheldBecause(answer), " The passages below fit your question best."),
    answer.best_guess && guess,
  );
}

/** The numbers, for those who want them. */
export function detailsOf(answer) {
  const rows = numbers(answer).filter(([, value]) => value !== null && value !== undefined);
  return [
    el("dl", { class: "numbers" }, rows.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value)))),
    table("Weights of the passages", passageRows(answer)),
    table("Token by token", tokenRows(answer)),
  ];
}

function numbers(answer) {
  const between = (bounds, show) => bounds && `${show(bounds[0])} to ${show(bounds[1])}`;
  const p = (log) => exact(log === null ? 0 : Math.exp(log));
  return [
    ["p(answer | question)", `${exact(answer.probability)} (log ${nats(answer.log_prob)} nats)`],
    ["Confidence", answer.confidence && exact(answer.confidence.value)],
    ["Measured on", answer.confidence?.fitted_on],
    ["Withheld below", answer.confidence && exact(answer.confidence.threshold)],
    ["p(no answer stated)", answer.p_empty === null ? null : exact(answer.p_empty)],
    ["p(answer) over all passages", between(answer.log_bounds, p)],
    ["Prior mass of passages left out", answer.outside === null ? null : exact(answer.outside)],
    ["Effective passages, before and after", `${answer.effective_passages.prior.toFixed(2)}, ${answer.effective_passages.posterior.toFixed(2)}`],
    ["Most probable answer", { true: "certified", false: "not certified" }[answer.certified]],
    ["Switch ρ; temperature", `${answer.switch}; ${Number(answer.temperature.toPrecision(4))}`],
    ["Kind", answer.kind],
  ];
}

function passageRows(answer) {
  const head = ["", "Source", "Prior", "Posterior", "Not stated", "Inner product"];
  const rows = answer.passages.map((passage, i) => [
    String(i + 1),
    `${placeOf(passage)} [${passage.start}:${passage.end}]`,
    exact(passage.prior),
    exact(passage.posterior),
    exact(passage.p_empty),
    passage.inner_product?.toFixed(4) ?? "–",
  ]);
  if (answer.null) rows.push(["∅", "no passage", exact(answer.null.prior), exact(answer.null.posterior), "–", "–"]);
  return [head, ...rows];
}

function tokenRows(answer) {
  const head = ["Token", "p", "log p", ...answer.passages.map((_, i) => String(i + 1))];
  const rows = answer.tokens.map((token) => [
    token.text || "(no text)",
    exact(token.log_prob === null ? 0 : Math.exp(token.log_prob)),
    nats(token.log_prob),
    ...token.responsibility.map(exact),
  ]);
  return [head, ...rows];
}

function table(caption, [head, ...rows]) {
  const body = rows.map(([first, ...rest]) => el("tr", {}, foreign("th", { scope: "row" }, first), rest.map((cell) => el("td", {}, cell))));
  return el(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    el(
      "table",
      {},
      el("caption", {}, caption),
      el("thead", {}, el("tr", {}, head.map((cell) => (cell ? el("th", { scope: "col" }, cell) : el("td", {}))))),
      el("tbody", {}, body),
    ),
  );
}

// "What would change it?": the answer as it would be had a passage not been found.

import { request } from "./api.js";
import { announce, append, button, el, fill, foreign } from "./dom.js";
import { placeOf } from "./passages.js";
import { count, exact, isWithheld, percent, sureness } from "./words.js";

/** A passage carries weight from this posterior on, */
const SHARE = 0.05;
/** or where without it p(answer) falls below this part of itself, */
const NOTICEABLE = 0.9;
/** or where without it p(nothing is stated) rises by more than this. */
const EMPTIER = 0.05;
const NOTED = 1.5;
const SHOWN = 3;

/** Whether there is anything to say: an answer that is given, of passages without which another could be. */
export function canChange(answer) {
  return !isWithheld(answer) && (answer.passages ?? []).some((passage) => typeof passage.p_without === "number");
}

/**
 * The panel. `asked` is `{model, question, settings}`, `passages` opens documents, and `signal` ends its questions.
 *
 * The question is asked again without each passage that carries weight. Of the others only the probability of this
 * answer is known, which does not say whether it would be given: they are asked about at a click.
 */
export function changePanel(asked, answer, passages, signal) {
  const each = answer.passages.map((passage, i) => ({ i, passage, without: passage.p_without })).filter(({ without }) => typeof without === "number");
  const first = each.filter((one) => carriesWeight(one, answer)).sort((a, b) => a.without - b.without);
  const others = each.filter((one) => !first.includes(one));
  const head = el("p", { class: "finding" });
  const found = new Map();
  const failed = new Set();
  const say = () => fill(head, finding({ answer, each, first, found, failed }));
  const rows = [...first, ...others].map((one) => row(one, answer, passages, (line, again) => askWithout(one, line, again)));
  const numbers = el("details", {}, el("summary", {}, "Numbers"));

  async function askWithout(one, line, again) {
    fill(line, el("span", { class: "note" }, "Asking without it …"));
    try {
      const then = await request("/v1/answers", { method: "POST", body: { ...asked, without: [one.passage.id] }, signal });
      found.set(one.i, then);
      failed.delete(one.i);
      fill(line, outcome(answer, then));
    } catch (error) {
      if (error.name === "AbortError") return;
      failed.add(one.i);
      fill(line, [el("span", { class: "problem", role: "alert" }, error.message), " ", again]);
    }
    say();
    append(fill(numbers, el("summary", {}, "Numbers")), [table(answer, each, found)]);
  }

  async function askFirst() {
    for (const [n] of first.entries()) {
      if (signal.aborted) return;
      await rows[n].ask();
    }
    if (!signal.aborted) announce(head.textContent);
  }

  say();
  append(numbers, [table(answer, each, found)]);
  const shown = rows.slice(0, Math.max(SHOWN, first.length)).map(({ node }) => el("li", {}, node));
  const more = rows.slice(shown.length).map(({ node }) => el("li", {}, node));
  askFirst();
  return el(
    "div",
    { class: "change" },
    head,
    el("ul", { class: "changes" }, shown),
    more.length > 0 && el("details", {}, el("summary", {}, count(more.length, "more passage")), el("ul", { class: "changes" }, more)),
    numbers,
    el("p", { class: "note" }, "As if the passage had not been found, and no other had taken its place."),
  );
}

function carriesWeight({ passage, without }, answer) {
  const emptier = (passage.p_empty_without ?? 0) - (answer.p_empty_within ?? 0);
  return passage.posterior >= SHARE || without < NOTICEABLE * answer.probability || (typeof passage.p_empty_without === "number" && emptier > EMPTIER);
}

/** One passage: what the answer's probability would be, and, once it was asked for, the answer there would be. */
function row({ i, passage, without }, answer, passages, askWithout) {
  const line = el("p", { class: "outcome" });
  const again = button("Ask without it", () => ask(), { class: "link", "aria-label": `Ask without passage ${i + 1}` });
  const ask = () => askWithout(line, again);
  fill(line, again);
  const open = button(String(i + 1), () => passages.openNumber(i + 1), {
    class: "badge",
    "aria-label": `Passage ${i + 1}, ${placeOf(passage)}: open`,
  });
  const place = placeOf(passage);
  const node = el(
    "div",
    { class: `without ${passages.colours[i]}` },
    el("div", {}, el("p", {}, "Without ", open), foreign("p", { class: "note" }, place)),
    el("div", {}, line, el("p", { class: "note" }, becomes(answer.probability, without))),
  );
  return { node, ask };
}

/** What the probability of the answer becomes, in words. */
export function becomes(now, then) {
  if (then <= 0) return "It could not be given at all.";
  if (now < 0.01) return ratioOf(now / then);
  const [before, after] = [now, then].map((p) => percent(p).replaceAll(" ", "\u00a0"));
  if (before === after || Math.abs(now - then) < 0.01) return `Its probability would stay at ${before}.`;
  return `Its probability would ${then < now ? "fall" : "rise"} from ${before} to ${after}.`;
}

function ratioOf(ratio) {
  if (ratio >= NOTED) return `It would be ${times(ratio)} less probable.`;
  return ratio <= 1 / NOTED ? `It would be ${times(1 / ratio)} more probable.` : "It would be about as probable.";
}

function times(ratio) {
  const rounded = ratio < 10 ? Number(ratio.toPrecision(2)) : Number(ratio.toPrecision(1));
  return rounded >= 1e6 ? "more than a million times" : `${rounded.toLocaleString("en")} times`;
}

/** The answer that there would be. */
function outcome(answer, then) {
  if (isWithheld(then)) return [el("strong", {}, "No answer would be given.")];
  if (same(then.answer, answer.answer)) return [el("strong", {}, "The same answer.")];
  return [el("strong", {}, "The answer would be ", foreign("q", {}, then.answer), "."), ` ${then.confidence ? sureness(then).head : ""}`];
}

/** All of it in a sentence or two: of passages without which nothing was asked nothing is said but that. */
function finding({ answer, each, first, found, failed }) {
  if (first.some(({ i }) => !found.has(i) && !failed.has(i))) return "Asking again without the passages that matter most …";
  const known = each.filter(({ i }) => found.has(i)).map(({ i }) => i);
  const failures = each.filter(({ i }) => failed.has(i)).map(({ i }) => i);
  const said = known.length ? [decisive(answer, known, found, each.length)] : [];
  if (failures.length) said.push(`It could not be asked without ${named(failures, "or")}.`);
  const rest = each.length - known.length - failures.length;
  if (rest && !said.length) said.push("No passage carries much weight, so nothing was asked again.");
  else if (rest) said.push(`It was not asked without ${rest === 1 ? "the other, which carries" : "the others, which carry"} little weight.`);
  return said.map((sentence, n) => [n ? " " : "", sentence]);
}

/** What the answers without these passages say. */
function decisive(answer, known, found, all) {
  const deciding = known.filter((i) => isWithheld(found.get(i)) || !same(found.get(i).answer, answer.answer));
  if (!deciding.length && known.length === all) return "No single passage decides it: without any one of them the answer stays the same.";
  if (!deciding.length) return `Without ${named(known, "or")} the answer stays the same.`;
  const names = named(deciding, "and");
  if (deciding.length > 1) return `P${names.slice(1)} decide it: without one of them the answer is another, or none.`;
  const then = found.get(deciding[0]);
  return [`P${names.slice(1)} decides it: without it `, isWithheld(then) ? "no answer would be given." : ["the answer would be ", foreign("q", {}, then.answer), "."]];
}

/** Passages by their numbers: "passage 2", "passages 1, 2 and 4". */
function named(places, joined) {
  const names = places.map((i) => i + 1);
  return names.length === 1 ? `passage ${names[0]}` : `passages ${names.slice(0, -1).join(", ")} ${joined} ${names.at(-1)}`;
}

/** Whether two answers say the same, but for case, articles and marks. */
export function same(a, b) {
  const plain = (text) =>
    String(text ?? "")
      .normalize("NFKC")
      .toLowerCase()
      .replace(/[\p{P}\p{S}]/gu, "")
      .replace(/\b(a|an|the)\b/g, " ")
      .replace(/\s+/g, " ")
      .trim();
  return plain(a) === plain(b);
}

function table(answer, each, found) {
  const rows = each.map(({ i, without }) => {
    const then = found.get(i);
    const said = then ? `${then.best_guess ?? ""}${isWithheld(then) ? " (withheld)" : ""}` : "–";
    return [`Without ${i + 1}`, exact(without), said, then ? exact(then.probability) : "–"];
  });
  const head = ["", "p(this answer)", "Answer then", "p(that answer)"];
  const all = [["With all", exact(answer.probability), answer.best_guess, exact(answer.probability)], ...rows];
  const body = all.map(([name, ...cells]) => el("tr", {}, el("th", { scope: "row" }, name), cells.map((cell) => foreign("td", {}, cell))));
  return el(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": "Probabilities without each passage" },
    el(
      "table",
      {},
      el("caption", {}, "Probabilities without each passage"),
      el("thead", {}, el("tr", {}, head.map((cell) => (cell ? el("th", { scope: "col" }, cell) : el("td", {}))))),
      el("tbody", {}, body),
    ),
  );
}

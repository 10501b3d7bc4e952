// "What would change it?": the answer as it would be had a passage not been found.

import { request } from "./api.js";
import { announce, append, button, el, fill, foreign } from "./dom.js";
import { placeOf } from "./passages.js";
import { count, exact, isWithheld, percent, sureness } from "./words.js";

const MOST = 3;
const NOTICEABLE = 0.9;
const NOTED = 1.5;

/** Whether there is anything to say: an answer that is given, of passages without which another could be. */
export function canChange(answer) {
  return !isWithheld(answer) && (answer.passages ?? []).some((passage) => typeof passage.p_without === "number");
}

/**
 * The panel. `asked` is `{model, question, settings}`, `passages` opens documents, and `signal` ends its questions.
 *
 * Where p(answer) without a passage is above one half, no other answer can be more probable: nothing is asked. Of
 * the others those that matter most are answered again without the passage.
 */
export function changePanel(asked, answer, passages, signal) {
  const now = answer.probability;
  const each = answer.passages.map((passage, i) => ({ i, passage, without: passage.p_without })).filter(({ without }) => typeof without === "number");
  const matters = each.filter(({ without }) => without <= 0.5 && without < NOTICEABLE * now).sort((a, b) => a.without - b.without);
  const first = matters.slice(0, MOST);
  const others = each.filter((one) => !first.includes(one));
  const head = el("p", { class: "finding" });
  const found = new Map();
  const say = () => fill(head, finding(answer, first, found));
  const rows = [...first, ...others].map((one) => row(one, answer, passages, (line) => askWithout(one, line)));
  const numbers = el("details", {}, el("summary", {}, "Numbers"));

  async function askWithout(one, line) {
    fill(line, el("span", { class: "note" }, "Asking without it …"));
    try {
      const then = await request("/v1/answers", { method: "POST", body: { ...asked, without: [one.passage.id] }, signal });
      found.set(one.i, then);
      fill(line, outcome(answer, then));
    } catch (error) {
      if (error.name === "AbortError") return;
      fill(line, el("span", { class: "problem", role: "alert" }, error.message));
    }
    if (first.includes(one)) say();
    append(fill(numbers, el("summary", {}, "Numbers")), [table(answer, each, found)]);
  }

  async function askFirst() {
    for (const [n] of first.entries()) await rows[n].ask();
    if (!signal.aborted) announce(head.textContent);
  }

  say();
  append(numbers, [table(answer, each, found)]);
  const shown = rows.slice(0, Math.max(MOST, first.length)).map(({ node }) => el("li", {}, node));
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

/** One passage: what the answer's probability would be, and the answer there would be. */
function row({ i, passage, without }, answer, passages, askWithout) {
  const line = el("p", { class: "outcome" });
  const certain = without > 0.5;
  const ask = () => askWithout(line);
  if (certain) fill(line, el("strong", {}, "The same answer."));
  else fill(line, button("Ask without it", ask, { class: "link", "aria-label": `Ask without passage ${i + 1}` }));
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

/** All of it in one sentence. */
function finding(answer, first, found) {
  if (first.some(({ i }) => !found.has(i))) return "Asking again without the passages that matter most …";
  const deciding = first.filter(({ i }) => isWithheld(found.get(i)) || !same(found.get(i).answer, answer.answer));
  const names = deciding.map(({ i }) => i + 1);
  if (!names.length) return "No single passage decides it: without any one of them the answer stays the same.";
  if (names.length > 1) return `Passages ${names.slice(0, -1).join(", ")} and ${names.at(-1)} decide it: without one of them the answer is another, or none.`;
  const then = found.get(deciding[0].i);
  const [begin, end] = [`Passage ${names[0]} decides it: without it `, isWithheld(then) ? "no answer would be given." : ["the answer would be ", foreign("q", {}, then.answer), "."]];
  return [begin, end];
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

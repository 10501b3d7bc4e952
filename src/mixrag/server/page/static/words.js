// Numbers of an answer in words.

/** A probability as a share of a hundred: what is not all is not shown as all. */
export function percent(p) {
  if (p === null || p === undefined) return "unknown";
  if (p <= 0) return "0 %";
  if (p >= 1) return "100 %";
  if (p < 0.01) return "< 1 %";
  if (p > 0.99) return "> 99 %";
  return `${Math.round(100 * p)} %`;
}

/** A probability with four digits, as in the rest of mixrag. */
export function exact(p) {
  if (p === null || p === undefined) return "–";
  if (p <= 0) return "0";
  if (p >= 1) return "1";
  if (p > 0.99995) return "> 0.9999";
  return p >= 0.0001 ? p.toFixed(4) : p.toExponential(1).replace("-", "−");
}

/** A logarithm; null is that of zero. */
export function nats(x) {
  if (x === null || x === undefined) return "−∞";
  return x.toFixed(3).replace("-", "−");
}

/** "1 passage", "2 passages". */
export function count(n, noun) {
  return `${Number(n).toLocaleString("en")} ${noun}${n === 1 ? "" : "s"}`;
}

/** Of answers so sure, how many were right. */
export function record(confidence) {
  const { level_right: right, level_n: n } = confidence;
  if (right === null || right === undefined || !n) return "";
  if (n < 30) return `Of ${count(n, "answer")} this sure, ${Math.round(right * n)} ${plural(right * n)} right`;
  const tenths = Math.round(10 * right);
  if (tenths === 0 || tenths === 10) return `Of answers this sure, ${Math.round(100 * right)} in 100 were right`;
  return `Of answers this sure, ${tenths} in 10 were right`;
}

function plural(number) {
  return Math.round(number) === 1 ? "was" : "were";
}

const LEVELS = {
  "very likely": [4, "Very likely right."],
  likely: [3, "Likely right."],
  unsure: [2, "Unsure."],
  unlikely: [1, "Unlikely to be right."],
};

const NEAREST = "These sentences are nearest to your question; whether they answer it is for you to judge.";

/** How sure an answer is: `{level, head, text}`, level 1 to 4, or 0 where nothing is known. */
export function sureness(answer) {
  const confidence = answer.confidence;
  if (answer.kind === "extract") return { level: 0, head: "Not measured.", text: NEAREST };
  if (!confidence) return { level: 0, head: "How sure is not known.", text: whyUnknown(answer) };
  const [level, head] = LEVELS[confidence.words] ?? [0, confidence.words];
  const right = record(confidence);
  const pairs = confidence.fitted_on.replace(/ \([^()]*\)$/, "");
  const on = pairs ? `, on ${pairs}` : "";
  return { level, head, text: right && `${right}${on}.` };
}

function whyUnknown(answer) {
  if (!answer.finished) return "The answer was cut off, and only whole answers are judged.";
  if (answer.kind === "yes-no") return "For yes or no it has not been measured.";
  if (answer.uncalibrated === "models") return "It was measured with other models.";
  if (answer.uncalibrated) return `It was measured with another value of the setting ${answer.uncalibrated}.`;
  return "It has not been measured for these models.";
}

/** What a guarantee says of an answer; empty where none covers it. */
export function guaranteed(guarantee) {
  if (!guarantee) return "";
  const where = guarantee.group ? ` of the kind “${guarantee.group}”` : "";
  return (
    `Guaranteed: of answers${where} this sure, at least ${percent(guarantee.right)} are right. ` +
    `This was tested on ${count(guarantee.n, "question")}, and holds with a chance of ${percent(guarantee.probability)}.`
  );
}

/** Why an answer is withheld. */
export function withheldBecause(answer) {
  const confidence = answer.confidence;
  if (confidence?.abstains) {
    const right = record(confidence);
    return right ? `There is a guess, but ${right[0].toLowerCase()}${right.slice(1)}.` : "There is a guess, but it is too unsure to be an answer.";
  }
  if (answer.p_empty_within !== null && answer.p_empty_within >= 0.5) {
    return "What was read in your documents does not seem to say it.";
  }
  return answer.not_covered
    ? `Only guaranteed answers are shown, and none covers this one: ${answer.not_covered}.`
    : "Only guaranteed answers are shown, and no guarantee covers this one.";
}

/** Whether an answer is withheld; that of an empty list of passages is not. */
export function isWithheld(answer) {
  return answer.answer === null || answer.answer === undefined;
}

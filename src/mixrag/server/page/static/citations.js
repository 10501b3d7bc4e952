// The span of each passage that has the words of an answer.

/** For each passage of an answer its cited span, `{start, end}` in its document, or null. */
export function citedSpans(answer) {
  return answer.passages.map((passage) => ofSentence(answer, passage) ?? cited(answer, passage));
}

function cited(answer, passage) {
  const found = (answer.citations ?? []).find((each) => each.passage === passage.id);
  return found ? { start: found.start, end: found.end } : null;
}

/** Of an extract and of a list: the first sentence or item that stands in the passage. */
function ofSentence(answer, passage) {
  const found = [...answer.sentences, ...answer.items].find((each) => each.passage === passage.id && each.start !== null);
  return found ? { start: found.start, end: found.end } : null;
}

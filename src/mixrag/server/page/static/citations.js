// The spans of each passage that have the words of an answer.

/** For each passage of an answer its cited spans, `{start, end}` in its document, in order. */
export function citedSpans(answer) {
  const cited = [...answer.sentences, ...answer.items, ...(answer.citations ?? [])].filter((each) => Number.isInteger(each.start));
  return answer.passages.map((passage) => {
    const own = cited.filter((each) => each.passage === passage.id).sort((a, b) => a.start - b.start);
    return own.filter((each, i) => i === 0 || each.start >= own[i - 1].end).map(({ start, end }) => ({ start, end }));
  });
}

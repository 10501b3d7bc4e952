"""Recall of retrieval on five kinds of documents, as one table; no language model is asked.

    python benchmarks/retrieval.py DATA [--sets general,law] [--system 'NAME; KEY=VALUE; ...'] [--splitter NAME]

DATA holds general/, medicine/, law/, finance/ and multihop/ with documents and pairs. Every set is indexed with
the packaged encoder, and every system ranks its questions. A system's keys are settings (lexical=0.5).

- general, medicine: the held-out pairs, over all documents of the set; law, finance: each question is asked of
  its own document; finance-all: the same questions over all documents.
- recall@k: share of questions with a relevant passage among the first k; MRR: mean of 1 / rank of the first one,
  0 beyond 50. Relevant as in ``mixrag.evaluation.relevance``; for finance, a passage of the pair's document that
  holds the answer and, where the answer stands in a table, the header of its column.
- multihop: share of questions all of whose supporting paragraphs are among the first 10 (recall@k: the first of
  them).
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mixrag.config.model_config import ModelConfig
from mixrag.corpus.splitters import Splitter, splitter_named, stored_name
from mixrag.evaluation import bootstrap
from mixrag.evaluation.relevance import in_document, relevant
from mixrag.pairs.matching import normalise, passage_holds
from mixrag.pairs.pairs import Pair
from mixrag.rag import RAG

K = (1, 5, 20, 50)
SETS = ("general", "medicine", "law", "finance", "finance-all", "musique", "hotpot", "wikihop")
OF_OWN_DOCUMENT = frozenset({"law", "finance"})


@dataclass(frozen=True)
class Question:
    """A question with what makes a passage relevant."""

    pair: Pair
    headers: tuple[str, ...] | None = None
    """Finance: column headers of the table cells that are the answer; empty where it stands in a paragraph."""
    support: tuple[str, ...] = ()
    """Multihop: the ids of the paragraphs that are needed together."""


def main() -> None:
    """Index each set, rank for every system, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--system", action="append", help="default: dense, and hybrid with lexical=0.5")
    parser.add_argument("--splitter", default="structure:200")
    parser.add_argument("--context", choices=("full", "title", "none"), default="full")
    parser.add_argument("--out", type=Path, help="ranks of all questions, as JSON lines")
    options = parser.parse_args()
    systems = options.system or ["dense; lexical=0", "hybrid; lexical=0.5"]
    print("| set | questions | system | recall@1 | recall@5 | recall@20 | recall@50 | MRR | all in 10 |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |", flush=True)
    for name in options.sets.split(","):
        splitter = splitter_named(options.splitter, options.context)
        for described in systems:
            parts = [part.strip() for part in described.split(";")]
            settings = dict(part.split("=", 1) for part in parts[1:])
            found = list(_ranks(options.data, name, splitter, settings))
            _print(name, parts[0], found)
            if options.out:
                with options.out.open("a", encoding="utf-8") as file:
                    file.writelines(
                        json.dumps({"set": name, "system": parts[0], "question": q, "ranks": ranks}) + "\n"
                        for q, ranks in found
                    )


def _print(name: str, system: str, found: Sequence[tuple[str, list[float]]]) -> None:
    first = [min(ranks) for _, ranks in found]
    cells = [f"{bootstrap([float(rank <= k) for rank in first]).mean:.3f}" for k in K]
    mrr = bootstrap([1 / rank for rank in first]).mean
    everything = f"{bootstrap([float(max(ranks) <= 10) for _, ranks in found]).mean:.3f}"
    several = everything if any(len(ranks) > 1 for _, ranks in found) else "-"
    print(f"| {name} | {len(found)} | {system} | {' | '.join(cells)} | {mrr:.3f} | {several} |", flush=True)


def _ranks(
    data: Path, name: str, splitter: Splitter, settings: dict[str, str]
) -> Iterator[tuple[str, list[float]]]:
    """Each question with the rank of what is relevant to it; of each supporting paragraph for multihop."""
    with _opened(data, name, splitter) as rag:
        changes: dict[str, Any] = {key: float(value) for key, value in settings.items()}
        for question in questions(data, name):
            where = {"document": question.pair.document} if name in OF_OWN_DOCUMENT else {}
            passages = rag.passages(question.pair.question, k=max(K), where=where, **changes).passages
            if question.support:
                ids = [passage.document.rpartition("#")[2] for passage in passages]
                yield question.pair.question, [_place([id_ == one for id_ in ids]) for one in question.support]
            elif question.headers is not None:
                yield question.pair.question, [_place([holds(question, passage) for passage in passages])]
            else:
                yield question.pair.question, [_place(relevant(rag.store, question.pair, passages))]


def _place(flags: Iterable[bool]) -> float:
    return next((float(rank) for rank, flag in enumerate(flags, start=1) if flag), float("inf"))


def holds(question: Question, passage: Any) -> bool:
    """Whether a passage of the pair's document holds the answer and, from a table, its column's header."""
    if not in_document(passage.document, question.pair):
        return False
    shown = "\n".join([getattr(passage, "context", ""), passage.text])
    if not passage_holds(shown, question.pair.answers):
        return False
    return not question.headers or any(normalise(header) in normalise(shown) for header in question.headers)


def questions(data: Path, name: str) -> list[Question]:
    """The questions of a set."""
    if name in {"musique", "hotpot", "wikihop"}:
        rows = _lines(data / "multihop" / f"{name}.jsonl")
        return [
            Question(Pair(row["question"], tuple(row["answers"])), support=tuple(row["support"])) for row in rows
        ]
    folder = data / name.removesuffix("-all")
    file = folder / ("dev.jsonl" if (folder / "dev.jsonl").exists() else "pairs.jsonl")
    rows = _lines(file)
    pairs = [Pair(row["question"], tuple(row["answers"]), document=row["doc"]) for row in rows]
    if folder.name != "finance":
        return [Question(pair) for pair in pairs]
    spans = [pair for row, pair in zip(rows, pairs, strict=True) if row["kind"] == "span"]
    return [Question(pair, headers=_headers(folder / "docs" / str(pair.document), pair)) for pair in spans]


def _headers(page: Path, pair: Pair) -> tuple[str, ...]:
    """The header above each table cell that is the answer; none where a paragraph holds it.

    Of several rows of headers it is the lowest with a number (a year, a date), else the lowest.
    """
    from lxml import html

    root = html.parse(str(page), parser=html.HTMLParser(encoding="utf-8")).getroot()
    if any(passage_holds(p.text_content(), pair.answers) for p in root.iter("p")):
        return ()
    wanted = {normalise(answer) for answer in pair.answers}
    found = []
    for table in root.iter("table"):
        rows = [
            [" ".join(cell.text_content().split()) for cell in row.iter("td", "th")] for row in table.iter("tr")
        ]
        top = [row for row in rows[:4] if not row[0] or row is rows[0]]
        for row in rows:
            for column, cell in enumerate(row):
                if column and normalise(cell) in wanted and row not in top:
                    above = [each[column] for each in top if column < len(each) and each[column]]
                    dated = [header for header in above if any(map(str.isdigit, header))]
                    found += (dated or above)[-1:]
    return tuple(dict.fromkeys(found))


def _opened(data: Path, name: str, splitter: Splitter) -> RAG:
    """A store of the set, made anew in the temporary folder."""
    folder = data / ("multihop" if name in {"musique", "hotpot", "wikihop"} else name.removesuffix("-all"))
    source = folder / (f"{name}.docs.jsonl" if folder.name == "multihop" else "docs")
    key = "-".join([source.parent.name, source.stem, stored_name(splitter)]).replace(":", "_")
    store = Path(tempfile.gettempdir()) / f"mixrag-retrieval-{key}"
    models = ModelConfig(encoder_dtype="float32")
    rag = RAG.open(store, create=True, models=models, splitter=splitter)
    start = time.perf_counter()
    report = rag.index([source])
    if report.embedded:
        print(f"<!-- {name}: {report.passages} passages in {time.perf_counter() - start:.0f} s -->", flush=True)
    return rag


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


if __name__ == "__main__":
    main()

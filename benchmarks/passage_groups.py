"""Passages that the retriever finds for the training pairs, with the questions that each answers or does not.

    python benchmarks/passage_groups.py DATA OUT.jsonl

DATA is a folder as of ``splits.py``. For the training pairs of general, medicine, law and finance the first three
passages of the retriever: those of the pair's own document that hold the answer state it (where none was found,
the first is added); those that do not hold it have the question with an empty list of answers; those of other
documents that hold it are left out. OUT has {"set", "title", "context", "text", "items": [[question, [answer,
...]], ...]} a line. Held-out pairs (``splits.py``) are not among them.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mixrag import RAG
from mixrag.corpus.passage import Passage
from mixrag.pairs.matching import passage_holds
from mixrag.pairs.pairs import Pair, read_pairs, split_pairs
from splits import asked_of_own_site, splits

FOUND = 3
"""Passages of the retriever."""
BY_CHANCE = 3
"""Characters of an answer that is in other passages by chance: the first alone states it."""
HELD_OUT, SEED = 0.25, 0


def main() -> None:
    """Retrieve, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    write_groups(options.data, options.out)


def write_groups(data: Path, path: Path) -> None:
    """The passages that the retriever finds for the training pairs, with their questions."""
    lines, stores = [], path.with_suffix(".stores")
    for name, pairs in training_pairs(data).items():
        folder = data / name / "docs"
        with RAG.open(stores / name, create=True) as rag:
            rag.index([folder])
            lines += [json.dumps({"set": name, **group}, ensure_ascii=False) for group in groups_of(rag, pairs)]
    partial = path.with_suffix(".part")
    partial.write_text("\n".join(lines) + "\n", encoding="utf-8")
    partial.rename(path)


def training_pairs(data: Path) -> dict[str, list[Pair]]:
    """The pairs by set that are not held out; of finance those whose answer is a span of a document."""
    found = {name: train for name, (train, _) in splits(data).items() if name != "pubmed"}
    path = data / "finance" / "pairs.jsonl"
    rows = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    spans = {(row["question"], row["doc"]) for row in rows if "span" in row["kind"]}
    finance = [pair for pair in read_pairs([path]).pairs if (pair.question, pair.document) in spans]
    found["finance"] = list(split_pairs(finance, HELD_OUT, SEED)[0])
    return {name: [asked_of_own_site(pair) for pair in pairs] for name, pairs in found.items()}


def groups_of(rag: RAG, pairs: Sequence[Pair]) -> list[dict[str, Any]]:
    """Passages with the questions that they answer, and those that they do not."""
    rows, _ = rag.store.vectors()
    by_document: dict[str, list[Passage]] = {}
    for passage in rag.store.passages(rows):
        by_document.setdefault(Path(passage.document).name, []).append(passage)
    groups: dict[str, tuple[Passage, list[Any]]] = {}
    for pair in pairs:
        own = by_document.get(pair.document or "", [])
        found = rag.passages(pair.question, k=FOUND, where=dict(pair.where)).passages
        stating = [each for each in found if each in own and passage_holds(each.text, pair.answers)]
        stating = stating or [each for each in own if passage_holds(each.text, pair.answers)][:1]
        if all(len(answer) <= BY_CHANCE for answer in pair.answers):
            stating = stating[:1]
        silent = [each for each in found if not passage_holds(each.body, pair.answers)] if stating else []
        for each in (*stating, *silent):
            answers = list(pair.answers) if each in stating else []
            groups.setdefault(each.id, (each, []))[1].append([pair.question, answers])
    return [
        {"title": passage.title, "context": passage.context, "text": passage.text, "items": items}
        for passage, items in groups.values()
    ]


if __name__ == "__main__":
    main()

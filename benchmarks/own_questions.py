r"""More training pairs from the documents themselves: a language model writes questions about passages of a store.

    python benchmarks/own_questions.py lessons PAIRS.jsonl --store DIR --out lessons.jsonl
    mixrag train lessons.jsonl --store DIR --out writer -k 0 --parts generator --adapter none --method full \
        --prompt benchmarks/writer.toml --evaluate 0
    python benchmarks/own_questions.py write --store DIR --writer writer --out own.jsonl

The first turns pairs around: from a passage that holds the answer to question and answer. The second learns that,
as a closed book whose question is the passage. The third draws --each times from every passage at a temperature,
and keeps what reads as a question whose answer stands in the passage word for word, each question once.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import torch

from mixrag.corpus import Passage
from mixrag.evaluation import in_document, passage_holds
from mixrag.generator import PromptTemplate, load_generator
from mixrag.generator.base import ModelGenerator
from mixrag.generator.causal import pad_left
from mixrag.models import Models
from mixrag.pairs import Pair, read_pairs
from mixrag.rag import RAG

BETWEEN = " Answer: "
"""Between the question and the answer that are written in one."""
LONGEST = 12
"""Words of an answer."""
WRITER = Path(__file__).with_name("writer.toml")


def main() -> None:
    """One of the two commands."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    lessons = commands.add_parser("lessons")
    lessons.add_argument("pairs", type=Path)
    write = commands.add_parser("write")
    write.add_argument("--writer", type=Path, required=True, help="folder that mixrag train wrote")
    write.add_argument("--each", type=int, default=6, help="draws from a passage")
    write.add_argument("--temperature", type=float, default=0.8)
    write.add_argument("--dtype", default="bfloat16")
    for each in (lessons, write):
        each.add_argument("--store", type=Path, required=True)
        each.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    models = Models(adapter="none")
    with RAG.open(options.store, models=models, settings={"lexical": 0.5}) as rag:
        found = turned(rag, options.pairs) if options.command == "lessons" else written(rag, options)
        lines = [json.dumps(line, ensure_ascii=False) + "\n" for line in found]
    options.out.write_text("".join(lines), encoding="utf-8")
    print(f"{options.out}: {len(lines)} pairs")


def turned(rag: RAG, pairs: Path) -> Iterator[dict[str, Any]]:
    """A lesson for each pair whose answer stands in a passage of its document."""
    for pair in read_pairs([pairs]).pairs:
        passage = holding(rag, pair)
        answer = next(
            (a for a in pair.answers if passage and a in passage.text and len(a.split()) <= LONGEST), None
        )
        if passage and answer:
            yield {"question": passage.text, "answers": [pair.question + BETWEEN + answer], "doc": pair.document}


def holding(rag: RAG, pair: Pair) -> Passage | None:
    """The first retrieved passage of the pair's document that holds an answer."""
    found = rag.passages(pair.question, k=5, where=dict(pair.where)).passages
    return next((p for p in found if in_document(p.document, pair) and passage_holds(p.text, pair.answers)), None)


def written(rag: RAG, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Pairs drawn from the writer, by passage."""
    template = PromptTemplate.from_file(WRITER)
    found = load_generator(options.writer / "generator", adapter="none", template=template, dtype=options.dtype)
    writer = cast(ModelGenerator, found)
    torch.manual_seed(0)
    seen: set[str] = set()
    rows, _ = rag.store.vectors()
    passages = sorted(rag.store.passages(rows), key=lambda p: len(p.text))
    for start in range(0, len(passages), 8):
        some = passages[start : start + 8]
        for i, text in enumerate(drawn(writer, some, options)):
            pair = parted(text, some[i // options.each])
            if pair and pair["question"] not in seen:
                seen.add(pair["question"])
                yield pair
        print(f"{start + len(some)} of {len(passages)} passages, {len(seen)} questions", flush=True)


def drawn(writer: ModelGenerator, passages: Sequence[Passage], options: argparse.Namespace) -> list[str]:
    """What the writer writes, ``--each`` times a passage."""
    prompts = [writer.prompt(passage.text, (), 64).tokens for passage in passages]
    ids, attended = pad_left(prompts, writer.model.device)
    with torch.inference_mode():
        out = writer.model.generate(
            input_ids=ids,
            attention_mask=attended.long(),
            do_sample=True,
            temperature=options.temperature,
            top_p=0.95,
            num_return_sequences=options.each,
            max_new_tokens=56,
            eos_token_id=sorted(writer.stop_tokens),
            pad_token_id=writer.stop_token,
        )
    return [writer.text(row) for row in out[:, ids.shape[1] :].tolist()]


def parted(text: str, passage: Passage) -> dict[str, Any] | None:
    """Question and answer, where that is what was written; ``None`` else."""
    question, _, answer = (part.strip() for part in text.partition(BETWEEN))
    if not question.endswith("?") or not answer or answer not in passage.text or len(answer.split()) > LONGEST:
        return None
    return {"question": question, "answers": [answer], "doc": passage.document}


if __name__ == "__main__":
    main()

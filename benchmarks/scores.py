"""Exact match, F1, recall and likelihood of several systems on the same held-out pairs, as one table.

A second table has the paired differences to the first system: means over the same questions, with their intervals.

    python benchmarks/scores.py PAIRS.jsonl --store DIR --system 'NAME; KEY=VALUE; ...' [--system ...] [--out FILE]

Keys of a system: model (a folder that mixrag train wrote), generator, adapter, encoder, prompt (a TOML file), and
any setting (k, group, switch, lexical, temperature, ...). Every answer is appended to --out as it comes; a second
run with the same file goes on where the first stopped.

    --system 'bare; adapter=none' --system 'reader' --system 'mine; model=trained; k=10'
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from mixrag.config.model_config import ModelConfig
from mixrag.evaluation import Record, markdown_table, paired_difference, score_pairs, summarise
from mixrag.generator import PromptTemplate
from mixrag.pairs.pairs import read_pairs, sample
from mixrag.rag import RAG
from mixrag.utils.progress import Progress, ProgressEvent

NAMES = ("generator", "adapter", "encoder", "question_encoder")
NUMBERS = {"switch": float, "lexical": float, "temperature": float, "null": float, "max_tokens": int, "beams": int}


def main() -> None:
    """Score every system, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--system", action="append", required=True)
    parser.add_argument("--out", type=Path, default=Path("scores.jsonl"))
    parser.add_argument("--questions", type=int, default=10**9, help="at most so many, drawn by seed 0")
    parser.add_argument("--dtype", default="bfloat16")
    options = parser.parse_args()
    pairs = sample(read_pairs([options.pairs]).pairs, options.questions, 0)
    records: dict[str, list[Record]] = {}
    for described in options.system:
        name, chosen = parsed(described)
        with opened(options.store, chosen, options.dtype) as rag:
            found = score_pairs(rag, pairs, {}, out=options.out, system=described, progress=lines(name))
        records[name] = found
    print(f"{len(pairs)} questions\n\n{markdown_table({name: summarise(some) for name, some in records.items()})}")
    if len(records) > 1:
        print(f"\n{differences(records)}")


def differences(records: dict[str, list[Record]]) -> str:
    """A Markdown table: every further system beside the first, question by question."""
    first, *others = records.items()
    lines = [f"| beside {first[0]} | EM | F1 | NLL/answer |", "| --- | --- | --- | --- |"]
    for name, some in others:
        both = list(zip(some, first[1], strict=True))
        cells = (
            paired_difference([getattr(a, field) for a, _ in both], [getattr(b, field) for _, b in both])
            for field in ("exact", "f1", "nll")
        )
        lines.append(f"| {name} | {' | '.join(f'{cell:+.3f}' for cell in cells)} |")
    return "\n".join(lines)


def parsed(described: str) -> tuple[str, dict[str, Any]]:
    """Name and keys of a system."""
    name, *parts = (part.strip() for part in described.split(";"))
    return name, dict(part.split("=", 1) for part in parts)


def opened(store: Path, chosen: dict[str, Any], dtype: str) -> RAG:
    """The RAG that the keys describe."""
    prompt = PromptTemplate.from_file(Path(chosen.pop("prompt"))) if "prompt" in chosen else None
    models = ModelConfig(**{name: chosen.pop(name, None) for name in NAMES}, prompt=prompt, dtype=dtype)
    model = chosen.pop("model", None)
    settings: dict[str, Any] = {"max_tokens": 32}
    for key, value in chosen.items():
        whole = key in ("k", "group") and value != "all"
        settings[key] = int(value) if whole else NUMBERS.get(key, str)(value)
    return RAG.open(store, model=model, models=models, settings=settings)


def lines(name: str) -> Progress:
    """A line to standard error now and then."""

    def show(event: ProgressEvent) -> None:
        if event.done % 20 == 0 or event.done == event.total:
            sys.stderr.write(f"{name}: {event.done} of {event.total}\n")

    return show


if __name__ == "__main__":
    main()

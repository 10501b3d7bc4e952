"""Which passage is an answer owed to? Several methods beside the passage that holds the gold answer, as tables.

Every question is answered greedily by the mixture over k passages, and this answer is attributed by every method.
The last two explain its probability given one prompt with all passages, on the same language model. LM calls are
prompts read with the answer, beyond answering. Every question is appended to --out as it comes; a second run with
the same file goes on where the first stopped (give each model and store a file of its own).

    python benchmarks/attribution.py PAIRS.jsonl --store DIR [--model DIR] [-k 5] [--masks 32] [--out FILE]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from mixrag.config.model_config import ModelConfig
from mixrag.evaluation import (
    AttributedQuestion,
    AttributionMethod,
    attribute_pairs,
    difference_table,
    method_table,
    summarise_methods,
)
from mixrag.evaluation.attribution import (
    chance,
    concatenation_leave_one_out,
    context_cite,
    leave_one_out,
    leave_one_out_rerun,
    posterior,
    prior,
)
from mixrag.evaluation.records import identity
from mixrag.pairs.pairs import read_pairs, sample
from mixrag.rag import RAG
from mixrag.utils.progress import ProgressEvent


def main() -> None:
    """Attribute every answer, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument(
        "--model", type=Path, help="a folder that mixrag train wrote; default: the packaged reader"
    )
    parser.add_argument("--questions", type=int, default=10**9, help="at most so many, drawn by seed 0")
    parser.add_argument("-k", type=int, default=5)
    parser.add_argument("--switch", type=float, default=0.0)
    parser.add_argument("--masks", type=int, default=32, help="ablations of ContextCite")
    parser.add_argument("--out", type=Path, default=Path("attribution.jsonl"))
    parser.add_argument("--dtype", default="bfloat16")
    options = parser.parse_args()
    pairs = sample(read_pairs([options.pairs]).pairs, options.questions, 0)
    settings = {"k": options.k, "switch": options.switch, "max_tokens": 32}
    methods: dict[str, AttributionMethod] = {
        "chance": chance,
        "prior": prior,
        "posterior": posterior,
        "leave-one-out": leave_one_out,
        "leave-one-out, run again": leave_one_out_rerun,
        "leave-one-out, concatenation": concatenation_leave_one_out,
        f"ContextCite, {options.masks} masks, concatenation": partial(context_cite, masks=options.masks),
    }
    models = ModelConfig(dtype=options.dtype)
    with RAG.open(options.store, model=options.model, models=models, settings=settings) as rag:
        system = f"{identity(rag)}, masks {options.masks}"
        records = attribute_pairs(rag, pairs, {}, methods, out=options.out, system=system, progress=tell)
    print(report(records))


def report(records: Sequence[AttributedQuestion]) -> str:
    """What was counted, the table of methods, and their differences to the posterior."""
    counted = [record for record in records if record.methods]
    right = sum(record.exact == 1.0 for record in counted)
    found = f"{len(counted)} with a relevant passage retrieved, {right} of them answered right"
    head = f"{len(records)} questions; {found}"
    if not counted:
        return head
    tables = method_table(summarise_methods(records)), difference_table(records, "posterior")
    return "\n\n".join([head, *tables])


def tell(event: ProgressEvent) -> None:
    """A line to standard error now and then."""
    if event.done % 10 == 0 or event.done == event.total:
        sys.stderr.write(f"{event.done} of {event.total}\n")


if __name__ == "__main__":
    main()

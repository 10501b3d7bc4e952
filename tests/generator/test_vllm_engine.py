"""Groups in an engine that schedules as vLLM does, under both model runners: right, or known to be broken."""

from __future__ import annotations

import itertools
import math
import random
import sys
from abc import ABC, abstractmethod
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from fake_vllm import Disturbed, FakeEngine, params
from mixrag.generator import TableGenerator
from mixrag.generator.protocol import Prompt
from mixrag.generator.vllm.engine import Asked, Engine, Limits, Unit
from mixrag.generator.vllm.generator import accepted
from mixrag.generator.vllm.group import GroupSpec
from mixrag.generator.vllm.processor import MADE, V1, V2, MixtureProcessor, interfaces, processor_class
from mixrag.generator.vllm.runners import PersistentBatch
from mixrag.inference.components import Component
from mixrag.inference.mixture import Mixture
from mixrag.inference.stepwise import greedy, sample

SIZE, STOP, MARKER = 10, 8, 9
RUNNERS = ("v1", "v2")
names = itertools.count()


def model(tokens: tuple[int, ...]) -> Tensor:
    """(V,) logits that depend on all tokens; answers end after some."""
    source = torch.Generator().manual_seed(hash(tokens) % 2**31)
    logits = 2.5 * torch.randn(SIZE, generator=source, dtype=torch.float64)
    logits[MARKER] = -math.inf
    return logits


class Question:
    """K prompts with their weights, and the answer that the mixture gives."""

    def __init__(self, seed: int, *, switch: float = 0.0, drawn: int | None = None, max_tokens: int = 6) -> None:
        chance = random.Random(seed)
        count = chance.randint(1, 5)
        self.prompts = [tuple(chance.randrange(SIZE) for _ in range(chance.randint(5, 20))) for _ in range(count)]
        weights = torch.tensor([chance.random() + 0.1 for _ in range(count)], dtype=torch.float64)
        self.log_prior = (weights / weights.sum()).log()
        self.switch, self.drawn, self.max_tokens = switch, drawn, max_tokens
        prior = tuple(self.log_prior.tolist())
        self.spec = GroupSpec(f"q{next(names)}", prior, switch, MARKER, (STOP,), seed=drawn)

    @property
    def unit(self) -> Unit:
        rows = []
        for row, prompt in enumerate(self.prompts):
            options = {"temperature": 0.0, "stop_token_ids": [STOP, MARKER], "logprobs": 1}
            arguments = {"extra_args": self.spec.arguments(row, len(prompt))}
            rows.append(Asked(prompt, self.max_tokens, {**options, **arguments}))
        return Unit(tuple(rows))

    def expected(self) -> tuple[tuple[int, ...], Tensor]:
        """The tokens and the table (K, T) of the project's own mixture."""
        words = tuple(f"w{i}" for i in range(SIZE))
        table = Ended(words, lambda passage, answer: model((*passage, *answer)).softmax(-1))
        components = tuple(Component((), Prompt((), prompt, ())) for prompt in self.prompts)
        mixture = Mixture(table, "?", components, self.log_prior, self.switch, None)
        steps = sample(mixture, self.max_tokens, self.drawn) if self.drawn is not None else None
        found = [*(greedy(mixture, self.max_tokens) if steps is None else steps)]
        return tuple(step.token for step in found), torch.stack([step.log_likelihood for step in found], -1)


class Ended(TableGenerator):
    @property
    def stop_tokens(self) -> frozenset[int]:
        return frozenset({STOP})


def questions(count: int, first: int = 0) -> list[Question]:
    switches = itertools.cycle((0.0, 0.3, 1.0))
    drawn = itertools.cycle((None, None, 5))
    return [
        Question(seed, switch=switch, drawn=each)
        for seed, switch, each in zip(range(first, first + count), switches, drawn, strict=False)
    ]


def engine(fake: FakeEngine, **limits: Any) -> Engine:
    known = {"rows": fake.max_rows, "step": fake.budget, "block": fake.block, "memory": None, **limits}
    return Engine(fake, params, Limits(**known))


def compare(asked: list[Question], given: list[Any]) -> list[bool]:
    """Whether each answer is accepted; those that are have to be the mixture's."""
    found = []
    for question, rows in zip(asked, given, strict=True):
        answer = accepted(question.spec, rows, question.max_tokens)
        found.append(answer is not None)
        if answer is not None:
            tokens, table = question.expected()
            assert answer.tokens == tokens
            torch.testing.assert_close(answer.log_likelihood, table, rtol=0, atol=1e-9)
    return found


@pytest.mark.parametrize("runner", RUNNERS)
def test_many_questions_at_once_are_all_answered_as_by_the_mixture(runner: str) -> None:
    fake = FakeEngine(model, MixtureProcessor(None), runner=runner, step=150, rows=12)
    asked = questions(24)
    assert all(compare(asked, engine(fake).run([each.unit for each in asked])))
    assert fake.most_rows > 5 and fake.most_tokens <= 150


@pytest.mark.parametrize("runner", RUNNERS)
def test_rows_in_turns_are_not_broken(runner: str) -> None:
    """As with pipeline parallelism: groups leave the batch of V1 at every step, and come back."""
    fake = FakeEngine(model, MixtureProcessor(None), runner=runner, step=100, disturbed=Disturbed(turns=2))
    asked = questions(12)
    assert all(compare(asked, engine(fake).run([each.unit for each in asked])))


@pytest.mark.parametrize("runner", RUNNERS)
@pytest.mark.parametrize("kind", ["stopped", "left_out", "cut"])
def test_disturbed_groups_are_right_or_known_to_be_broken(runner: str, kind: str) -> None:
    shares = {"stopped": {"stopped": 0.03}, "left_out": {"left_out": 0.05}, "cut": {}}
    found = []
    for seed in range(12):
        disturbed = Disturbed(seed, **shares[kind])
        # Where prompts are cut, it is not known how much fits into a step, and everything is added at once.
        step = 23 if kind == "cut" else 200
        fake = FakeEngine(model, MixtureProcessor(None), runner=runner, step=step, disturbed=disturbed)
        asked = questions(8, first=100 * seed)
        found += compare(asked, engine(fake, step=10_000, rows=10_000).run([each.unit for each in asked]))
    assert 10 < sum(found) < len(found) - 10


def test_what_does_not_fit_waits() -> None:
    fake = FakeEngine(model, MixtureProcessor(None), step=40, rows=6)
    asked = questions(10)
    limits = engine(fake).limits
    fitting = [each for each in asked if limits.fits(each.unit.rows)]
    assert 3 < len(fitting) < len(asked)
    assert all(compare(fitting, engine(fake).run([each.unit for each in fitting])))
    assert fake.most_tokens <= 40 and fake.most_rows <= 6


def test_memory_bounds_what_is_under_way() -> None:
    fake = FakeEngine(model, MixtureProcessor(None), step=1000)
    asked = questions(10)
    most = max(sum(map(engine(fake).limits.states, each.unit.rows)) for each in asked)
    bounded = engine(fake, memory=most)
    assert all(compare(asked, bounded.run([each.unit for each in asked])))
    few = fake.most_rows
    fake.most_rows = 0
    engine(fake).run([each.unit for each in questions(10)])
    assert fake.most_rows > few


def test_prompts_longer_than_a_step_are_read_alone_in_parts() -> None:
    fake = FakeEngine(model, MixtureProcessor(None), step=16)
    rows = [Asked(tuple(range(8)) * 5, 2, {"logprobs": 1}), Asked((1, 2), 2), Asked((3,), 1)]
    given = engine(fake).ask(rows)
    assert [len(each.tokens) for each in given] == [2, 2, 1]
    assert given[0].log_probs[0].keys() >= {given[0].tokens[0]}


def test_passages_are_read_before_their_questions() -> None:
    """Requests that have to be done first are, and the prompts after them fit into the step then."""
    shared = (tuple(range(8)) * 4, tuple(reversed(range(8))) * 4)
    spec = GroupSpec(f"q{next(names)}", (math.log(0.5),) * 2, 0.0, MARKER, (STOP,))
    options = {"stop_token_ids": [STOP, MARKER], "logprobs": 1, "temperature": 0.0}
    rows = tuple(
        Asked((*prefix, 1, 2), 3, {**options, "extra_args": spec.arguments(row, 34)}, read_before=32)
        for row, prefix in enumerate(shared)
    )
    fake = FakeEngine(model, MixtureProcessor(None), step=40)
    whole = engine(fake)
    assert whole.limits.fits(rows) and not whole.limits.fits([Asked((*each, 1, 2)) for each in shared])
    given = whole.run([Unit(rows, tuple(Asked(prefix) for prefix in shared))])
    assert accepted(spec, given[0], 3) is not None and fake.most_tokens <= 40


def test_requests_under_way_are_ended_where_one_fails() -> None:
    fake = FakeEngine(model, MixtureProcessor(None), step=1000)

    def refuse(max_tokens: int, **options: Any) -> Any:
        if max_tokens == 3:
            raise ValueError("no")
        return params(max_tokens, **options)

    with pytest.raises(ValueError, match="no"):
        Engine(fake, refuse, Limits(8, 1000, 4, None)).run([Unit((Asked((1,), 9), Asked((2,), 3)))])
    assert fake.waiting == fake.running == []


def test_an_answer_is_accepted_only_as_it_is_decided() -> None:
    question = Question(7)
    fake = FakeEngine(model, MixtureProcessor(None))
    (rows,) = engine(fake).run([question.unit])
    assert accepted(question.spec, rows, question.max_tokens) is not None

    def changed(place: int, **fields: Any) -> list[Any]:
        own = {name: getattr(rows[place], name) for name in ("tokens", "log_probs", "prompt_log_probs", "reason")}
        return [type(row)(**{**own, **fields}) if i == place else row for i, row in enumerate(rows)]

    assert len(rows) > 1
    broken = [
        changed(1, reason="abort"),
        changed(1, tokens=(*rows[1].tokens[:-1], MARKER)),
        changed(1, tokens=rows[1].tokens[:-1]),
        rows[:-1],
    ]
    assert [accepted(question.spec, each, question.max_tokens) for each in broken] == [None] * 4
    cut = [type(row)(row.tokens[:-1], row.log_probs, None, "length") for row in rows]
    assert accepted(question.spec, cut, question.max_tokens) is None


@pytest.mark.parametrize("runner", RUNNERS)
def test_a_part_of_a_prompt_is_not_taken_for_the_whole(runner: str) -> None:
    """One row is sampled in the middle of its prompt, and the others end with what was decided then.

    The decided token is thrown away in that row alone, which must not be given the same one later.
    """
    for seed in range(40):
        question = Question(1000 + seed, max_tokens=1)
        lengths = [len(prompt) for prompt in question.prompts]
        fake = FakeEngine(
            model, MixtureProcessor(None), runner=runner, step=sum(lengths) - 2, disturbed=Disturbed(seed)
        )
        (rows,) = engine(fake, step=10_000).run([question.unit])
        assert accepted(question.spec, rows, 1) is None or len(lengths) == 1


def test_rows_follow_the_changes_of_the_persistent_batch() -> None:
    spec = GroupSpec("g", (0.0,), 0.0, MARKER, (STOP,))
    asked = [params(3, extra_args=GroupSpec(f"g{i}", (0.0,), 0.0, 9).arguments(0, 4)) for i in range(4)]
    outputs: list[list[int]] = [[], [5], [6, 7], [1]]
    batch = PersistentBatch()
    batch.update(None)
    added = [(place, each, [1], out) for place, (each, out) in enumerate(zip(asked, outputs, strict=True))]
    batch.update(SimpleNamespace(removed=[], added=[*added, (4, params(3), [1], [2])], moved=[]))

    def places() -> dict[str, int]:
        return {row.member.spec.group: row.place for row in batch.rows()}

    assert places() == {"g0": 0, "g1": 1, "g2": 2, "g3": 3}
    assert [(row.time, row.last) for row in batch.rows()] == [(0, None), (1, 5), (2, 7), (1, 1)]
    outputs[0].append(4)  # the engine's own list
    assert batch.rows()[0].time == 1
    swap, one_way = SimpleNamespace(name="SWAP"), SimpleNamespace(name="UNIDIRECTIONAL")
    batch.update(SimpleNamespace(removed=[1], added=[], moved=[(4, 1, one_way), (0, 3, swap)]))
    assert places() == {"g0": 3, "g2": 2, "g3": 0}
    batch.update(SimpleNamespace(removed=[], added=[(2, params(1), [1], [])], moved=[(0, 1, swap)]))
    assert places() == {"g0": 3, "g3": 1}
    malformed = params(1, extra_args={"mixrag": {"group": 1}})
    batch.update(SimpleNamespace(removed=[], added=[(3, malformed, [1], [])], moved=[]))
    assert places() == {"g3": 1} and spec.largest == MARKER


def interface(module: str, **members: Any) -> ModuleType:
    """A module with an abstract ``LogitsProcessor`` that has these members."""
    found = ModuleType(module)
    found.LogitsProcessor = type("LogitsProcessor", (ABC,), members)  # type: ignore[attr-defined]
    return found


def test_the_class_of_the_entry_point_has_both_interfaces(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(self: Any) -> None: ...

    first = {
        name: abstractmethod(nothing) for name in ("__init__", "apply", "is_argmax_invariant", "update_state")
    }
    for name in ("vllm", "vllm.v1", "vllm.v1.sample", "vllm.v1.worker", "vllm.v1.worker.gpu"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, "vllm.v1.worker.gpu.sample", ModuleType("sample"))
    monkeypatch.setitem(sys.modules, V1, interface(V1, **first))
    monkeypatch.setitem(sys.modules, V2, interface(V2, apply=abstractmethod(nothing)))
    loaded = processor_class()
    bases = [sys.modules[name].LogitsProcessor for name in (V1, V2)]
    assert all(issubclass(loaded, base) for base in bases)
    made = loaded(None, torch.device("cpu"), False), loaded(None, SimpleNamespace(max_num_reqs=8))
    assert set(made) <= set(MADE)
    assert not made[0].is_argmax_invariant()
    for runner, each in zip(RUNNERS, made, strict=True):
        question = Question(3)
        (rows,) = engine(FakeEngine(model, each, runner=runner)).run([question.unit])
        assert compare([question], [rows]) == [True]
    loaded.validate_params(params(1))
    with pytest.raises(ValueError, match="expected"):
        loaded.validate_params(params(1, extra_args={"mixrag": {}}))


def test_a_version_with_one_interface_has_that_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert interfaces() == ()
    for name in ("vllm", "vllm.v1", "vllm.v1.sample"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, V1, interface(V1))
    assert interfaces() == (sys.modules[V1].LogitsProcessor,)


def test_draws_behind_v2_slots_are_recycled() -> None:
    """A slot that had a row of a group is given to another request."""
    fake = FakeEngine(model, MixtureProcessor(None), runner="v2", rows=5)
    whole = engine(fake)
    for seed in range(6):
        question = Question(seed, drawn=seed)
        assert compare([question], whole.run([question.unit])) == [True]
        (plain,) = whole.ask([Asked((1, 2, 3), 4, {"temperature": 0.0})])
        expected: tuple[int, ...] = ()
        for _ in range(4):
            expected = (*expected, int(model((1, 2, 3, *expected)).argmax()))
        assert plain.tokens == expected

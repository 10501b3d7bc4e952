"""The branches of a question inside an engine, on synthetic steps: what groups decide, when they are broken."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from enumeration import Toy, toys
from mixrag.generator import TableGenerator
from mixrag.generator.vllm.group import ARGUMENT, GroupSpec, Member, Row, member_of
from mixrag.generator.vllm.mixer import Mixer
from mixrag.inference.mixture import Mixture
from mixrag.inference.stepwise import greedy, sample
from tables import toy_mixture

SWITCHES = (0.0, 0.3, 1.0)
TOY = Toy([0.5, 0.3, 0.2], seed=3, vocabulary=6, length=3)
names = itertools.count()


class Writing:
    """A group whose rows read every token that they are given, as in an engine that is never disturbed."""

    def __init__(self, mixture: Mixture, max_tokens: int = 4, **options: object) -> None:
        self.mixture, self.max_tokens = mixture, max_tokens
        self.stop = mixture.generator.vocabulary_size - 1
        prior = tuple(mixture.log_prior.tolist())
        marker = mixture.generator.vocabulary_size
        self.spec = GroupSpec(f"g{next(names)}", prior, mixture.switch, marker, (self.stop,), **options)
        self.outputs: list[list[int]] = [[] for _ in prior]

    @property
    def ended(self) -> bool:
        return len(self.outputs[0]) == self.max_tokens or self.outputs[0][-1:] == [self.stop]

    def logits(self) -> Tensor:
        """(K, V + 1), the marker impossible; shifted, as logits are."""
        components = self.mixture.components
        law = self.mixture.generator.next_token
        rows = [law(each.prompt.passages, tuple(out)) for each, out in zip(components, self.outputs, strict=True)]
        logits = torch.stack(rows).log() + torch.arange(len(rows))[:, None] - 1.5
        return torch.nn.functional.pad(logits, (0, 1), value=-math.inf)

    def row(self, place: int, component: int) -> Row:
        output = self.outputs[component]
        last = output[-1] if output else None
        return Row(place, Member(self.spec, component, 1), len(output), last)


def step(mixer: Mixer, writing: Sequence[Writing], order: random.Random | None = None) -> None:
    """One step of all groups under way, their rows in any order."""
    rows = [(each, j) for each in writing if not each.ended for j in range(len(each.outputs))]
    if order is not None:
        order.shuffle(rows)
    tables = {id(each): each.logits() for each, _ in rows}
    logits = torch.stack([tables[id(each)][j] for each, j in rows])
    mixed = mixer.apply(logits, [each.row(place, j) for place, (each, j) in enumerate(rows)])
    assert (mixed > -math.inf).sum(-1).tolist() == [1] * len(rows)
    for (each, j), token in zip(rows, mixed.argmax(-1).tolist(), strict=True):
        each.outputs[j].append(token)


def write(writing: Sequence[Writing], order: random.Random | None = None) -> Mixer:
    mixer = Mixer()
    while not all(each.ended for each in writing):
        step(mixer, writing, order)
    return mixer


def agrees(writing: Writing) -> None:
    """Token by token what ``greedy`` decides, in all rows."""
    expected = [each.token for each in greedy(writing.mixture, writing.max_tokens)]
    assert writing.outputs == [expected] * len(writing.outputs)


@settings(max_examples=40)
@given(toys(), st.sampled_from(SWITCHES))
def test_rows_are_given_the_token_of_the_mixture(toy: Toy, switch: float) -> None:
    writing = Writing(toy_mixture(toy, switch))
    mixer = write([writing])
    agrees(writing)
    group = mixer.group(writing.spec.group)
    assert group is not None and group.broken == ""


@pytest.mark.parametrize("switch", SWITCHES)
def test_the_weights_are_those_of_the_decoding_state(switch: float) -> None:
    writing, state = Writing(toy_mixture(TOY, switch)), toy_mixture(TOY, switch).start()
    mixer = Mixer()
    for position in range(3):
        step(mixer, [writing])
        token = torch.tensor([writing.outputs[0][-1]])
        state = state.advance(torch.tensor([0]), token)
        group = mixer.group(writing.spec.group)
        assert group is not None and group.time == position
        pending = group._pending
        assert pending is not None
        torch.testing.assert_close(pending.log_weights, state.log_weights[0], rtol=0, atol=1e-12)
        if writing.ended:
            break


def test_a_truncated_prior_stays_truncated() -> None:
    mixture = toy_mixture(Toy([0.3, 0.2, 0.1], seed=5, vocabulary=5, length=3), 0.3)
    writing = Writing(mixture)
    write([writing])
    agrees(writing)


def test_interleaved_groups_do_not_disturb_one_another() -> None:
    order = random.Random(1)
    toys = [
        Toy([0.5, 0.3, 0.2][:k] if k < 3 else [0.5, 0.3, 0.2], seed, 7, 3) for seed in range(6) for k in (2, 3)
    ]
    writing = [Writing(toy_mixture(toy, switch)) for toy, switch in zip(toys, itertools.cycle(SWITCHES))]
    write(writing, order)
    for each in writing:
        agrees(each)


@pytest.mark.parametrize("sampling", [{}, {"temperature": 0.7, "top_k": 3}, {"top_p": 0.8}])
@pytest.mark.parametrize("switch", SWITCHES)
def test_drawn_answers_are_those_of_sample(switch: float, sampling: dict[str, float]) -> None:
    for seed in range(12):
        mixture = toy_mixture(TOY, switch)
        writing = Writing(mixture, seed=seed, **sampling)
        mixer = write([writing])
        steps = [*sample(with_marker(mixture), 4, seed, sampling=sampling)]
        assert writing.outputs[0] == [each.token for each in steps]
        group = mixer.group(writing.spec.group)
        drawn = sum(each.log_drawn or 0.0 for each in steps)
        assert group is not None and group.log_drawn == pytest.approx(drawn, abs=1e-9)


class Wider(TableGenerator):
    """A table with one more token after the one that ends an answer."""

    @property
    def stop_tokens(self) -> frozenset[int]:
        return frozenset({len(self.words) - 2})


def with_marker(mixture: Mixture) -> Mixture:
    """The mixture with one more token, which is impossible, as in the tables of ``Writing``."""
    inner = mixture.generator

    def law(passage: tuple[int, ...], answer: tuple[int, ...]) -> Tensor:
        return torch.nn.functional.pad(inner.next_token(passage, answer), (0, 1))

    return replace(mixture, generator=Wider((*inner.words, "<marker>"), law))


def test_answers_given_that_they_are_not_empty() -> None:
    for seed in range(8):
        mixture = toy_mixture(Toy([0.6, 0.4], seed, vocabulary=3, length=3), 0.3, empty_answer=True)
        writing = Writing(mixture, answered=True)
        write([writing])
        assert writing.outputs[0][0] != writing.stop
        agrees(writing)


def test_impossible_tokens_are_never_decided() -> None:
    mixture = toy_mixture(TOY, 0.0)
    first = next(greedy(mixture, 1)).token
    writing = Writing(mixture, never=(first,))
    write([writing])
    assert all(first not in output for output in writing.outputs)


def broken_after(change: object, *, switch: float = 0.3) -> list[int]:
    """What the rows of a group are given that ``change`` disturbs after one step."""
    writing, mixer = Writing(toy_mixture(TOY, switch), max_tokens=9), Mixer()
    step(mixer, [writing])
    rows = change([writing.row(j, j) for j in range(3)], writing)  # type: ignore[operator]
    logits = writing.logits()
    mixed = mixer.apply(logits, rows)
    group = mixer.group(writing.spec.group)
    assert group is not None and group.broken
    return [int(mixed[row.place].argmax()) for row in rows]


def with_time(row: Row, time: int, last: int | None) -> Row:
    return Row(row.place, row.member, time, last)


DISTURBANCES = {
    "a row is missing": lambda rows, _: rows[:2],
    "a row is there twice": lambda rows, _: [rows[0], rows[1], Row(2, rows[1].member, 1, rows[1].last)],
    "a row is behind": lambda rows, _: [*rows[:2], with_time(rows[2], 0, None)],
    "a row is ahead": lambda rows, _: [*rows[:2], with_time(rows[2], 2, rows[2].last)],
    "all are ahead": lambda rows, _: [with_time(row, 2, row.last) for row in rows],
    "another token was read": lambda rows, _: [*rows[:2], with_time(rows[2], 1, (rows[2].last + 1) % 6)],
    "another group has its name": lambda rows, writing: [
        *rows[:2],
        Row(2, Member(GroupSpec(writing.spec.group, (0.0, 0.0, 0.0), 0.5, 6), 2, 1), 1, rows[2].last),
    ],
}


@pytest.mark.parametrize("name", DISTURBANCES)
def test_rows_of_a_broken_group_are_given_the_marker(name: str) -> None:
    assert set(broken_after(DISTURBANCES[name])) == {6}


def test_a_broken_group_stays_broken() -> None:
    writing, mixer = Writing(toy_mixture(TOY, 0.0), max_tokens=9), Mixer()
    mixer.apply(writing.logits(), [writing.row(j, j) for j in range(2)])
    mixed = mixer.apply(writing.logits(), [writing.row(j, j) for j in range(3)])
    assert mixed.argmax(-1).tolist() == [6] * 3


def test_numbers_that_are_no_logits_break_a_group() -> None:
    writing, mixer = Writing(toy_mixture(TOY, 0.0)), Mixer()
    logits = writing.logits()
    logits[1, 2] = math.nan
    assert mixer.apply(logits, [writing.row(j, j) for j in range(3)]).argmax(-1).tolist() == [6] * 3


@pytest.mark.parametrize("seed", [None, 4])
def test_a_decision_that_was_thrown_away_is_taken_again(seed: int | None) -> None:
    """All rows were sampled in the middle of their prompts: nothing is read, nothing counts."""
    first, second = (Writing(toy_mixture(TOY, 0.3), seed=seed) for _ in range(2))
    mixer = write([first])
    rows = [second.row(j, j) for j in range(3)]
    for _ in range(2):
        mixer.apply(torch.randn(3, 7, generator=torch.Generator().manual_seed(1)).double(), rows)
    while not second.ended:
        step(mixer, [second])
    assert second.outputs == first.outputs


def test_rows_that_read_again_do_not_break_their_group() -> None:
    """All rows of a group are stopped and come back: while they read what they had, it waits for them."""
    writing, mixer = Writing(toy_mixture(TOY, 0.3)), Mixer()
    step(mixer, [writing])
    step(mixer, [writing])
    assert not writing.ended
    for time in (-3, 0):
        rows = [with_time(writing.row(j, j), time, None) for j in range(3)]
        assert mixer.apply(writing.logits(), rows).argmax(-1).tolist() == [6] * 3
    while not writing.ended:
        step(mixer, [writing])
    agrees(writing)


def test_a_forgotten_group_is_broken() -> None:
    writing, mixer = Writing(toy_mixture(TOY, 0.0), max_tokens=9), Mixer(remembered=1)
    step(mixer, [writing])
    step(mixer, [Writing(toy_mixture(TOY, 0.0))])
    assert mixer.group(writing.spec.group) is None
    mixed = mixer.apply(writing.logits(), [writing.row(j, j) for j in range(3)])
    assert mixed.argmax(-1).tolist() == [6] * 3


def test_rows_of_no_group_and_of_another_model_are_left_alone() -> None:
    writing, mixer = Writing(toy_mixture(TOY, 0.0)), Mixer()
    logits = torch.randn(5, 4)
    assert torch.equal(mixer.apply(logits.clone(), []), logits)
    assert torch.equal(mixer.apply(logits.clone(), [writing.row(j, j) for j in range(3)]), logits)


def test_arguments_of_requests() -> None:
    spec = GroupSpec("g", (-1.0, -math.inf), 0.25, 9, (1, 2), True, (4,), 7, 0.5, 3, 0.9)
    assert member_of(spec.arguments(1, 30)) == Member(spec, 1, 30)
    assert member_of(None) is None and member_of({"other": 1}) is None


@pytest.mark.parametrize(
    "change",
    [
        {"row": 2},
        {"row": "x"},
        {"prompt": -1},
        {"switch": 1.5},
        {"log_prior": []},
        {"log_prior": [0.5]},
        {"log_prior": [math.nan, 0.0]},
        {"marker": 1},
        {"marker": -1},
        {"group": ""},
        {"top_p": 0.0},
        {"temperature": -1.0},
        {"stop_tokens": None},
        {"more": 1},
    ],
)
def test_malformed_arguments_are_refused(change: dict[str, object]) -> None:
    own = GroupSpec("g", (-1.0, -2.0), 0.25, 9, (1,)).arguments(1, 3)[ARGUMENT]
    with pytest.raises(ValueError, match="expected"):
        member_of({ARGUMENT: {**own, **change}})
    with pytest.raises(ValueError, match="expected"):
        member_of({ARGUMENT: 5})

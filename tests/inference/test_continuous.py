"""A running batch: questions join and leave between its steps, and each gets what it gets alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from enumeration import Toy
from mixrag.corpus import Passage
from mixrag.generator import Generator, MixedGenerator, load_generator
from mixrag.generator.copying import CopyingGenerator
from mixrag.generator.protocol import can_join
from mixrag.inference.batch import Written
from mixrag.inference.continuous import RunningBatch, Writing
from mixrag.inference.decoders import Beam, Greedy, Sample, begun
from mixrag.inference.mixture import Mixture, condition
from mixrag.inference.protocol import Decoder, DecoderResult
from mixrag.inference.pruning import Pruning
from tables import table_generator, toy_mixture, toy_passages
from tiny_models import build

LIMIT = 5
TEXTS = ("The river city is old.", "Short.", "Nobody wrote the letter twice. " * 3, "Its name is long.")
QUESTIONS = ("Who wrote it?", "And where does the river go from there?", "Why?", "What is long?")
DECODERS: tuple[Decoder, ...] = (Greedy(prune=0.0), Greedy(prune=0.3), Sample(seed=3, prune=0.0), Beam(1), Beam(3))
WHOLE = toy_mixture(Toy([0.4, 0.3, 0.2, 0.1], seed=23, vocabulary=4, length=LIMIT), 0.0)
SKEWED = torch.tensor([0.1, 0.1, 0.7, 0.1], dtype=torch.float64).log()
TOYS = (
    WHOLE,
    replace(WHOLE, unconditioned_log_prior=SKEWED),
    replace(WHOLE, switch=1.0),
    replace(WHOLE, switch=0.2, empty_answer=True),
    WHOLE.alone(1),
)


def alone(decoder: Decoder, mixture: Mixture, limit: int) -> DecoderResult:
    *_, found = decoder.decode(mixture, limit)
    assert isinstance(found, DecoderResult)
    return found


def same(found: DecoderResult, expected: DecoderResult, tolerance: float = 1e-9) -> None:
    """Equal answers in equal order, with equal numbers."""
    assert [each.tokens for each in found.answers] == [each.tokens for each in expected.answers]
    assert found.certified == expected.certified
    assert found.pruned == pytest.approx(expected.pruned, abs=tolerance)
    assert found.log_drawn == pytest.approx(expected.log_drawn, abs=tolerance)
    for mine, other in zip(found.answers, expected.answers, strict=True):
        torch.testing.assert_close(mine.log_likelihood, other.log_likelihood, rtol=tolerance, atol=tolerance)


def begin(decoder: Decoder, mixture: Mixture, limit: int = LIMIT) -> Writing:
    found = begun(decoder, mixture, limit)
    assert found is not None
    return found


def finished(batch: RunningBatch) -> list[Writing]:
    """All that are in the batch, written to their ends."""
    found = []
    while len(batch):
        for left in batch.step():
            assert left.error is None
            found.append(left.writing)
    return found


ASKED = st.tuples(
    st.integers(0, len(TOYS) - 1),
    st.integers(0, len(DECODERS) - 1),
    st.integers(1, LIMIT),
    st.integers(0, 6),
    st.one_of(st.none(), st.integers(0, 3)),
)
"""Which mixture and decoder, its longest answer, the step before which it joins, after how many more it leaves."""


@settings(max_examples=60, deadline=None)
@given(st.lists(ASKED, min_size=1, max_size=6))
def test_joins_and_leaves_in_any_order(asked: list[tuple[int, int, int, int, int | None]]) -> None:
    batch, under_way = RunningBatch(), dict[int, tuple[Writing, int]]()
    for now in range(7 + LIMIT):
        for place in [place for place, (_, end) in under_way.items() if end == now]:
            batch.remove(under_way.pop(place)[0])
        joining = [place for place, (*_, join, _) in enumerate(asked) if join == now]
        for place in joining:
            toy, decoder, limit, join, stay = asked[place]
            end = 10**6 if stay is None else join + stay + 1
            under_way[place] = begin(DECODERS[decoder], TOYS[toy], limit), end
        batch.add([under_way[place][0] for place in joining])
        assert len(batch) == len(under_way)
        assert batch.rows == sum(each.rows for each, _ in under_way.values())
        for left in batch.step():
            assert left.error is None
            place = next(each for each, (writing, _) in under_way.items() if writing is left.writing)
            toy, decoder, limit, *_ = asked[place]
            same(left.writing.result(), alone(DECODERS[decoder], TOYS[toy], limit))
            del under_way[place]
    assert not under_way and not len(batch)


def test_all_branches_share_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    passes = list[int]()
    first = WHOLE.generator.start([]).__class__
    advance = first.advance

    def counted(self: Any, rows: torch.Tensor, tokens: torch.Tensor) -> Any:
        passes.append(len(rows))
        return advance(self, rows, tokens)

    monkeypatch.setattr(first, "advance", counted)
    batch = RunningBatch()
    batch.add([begin(Greedy(prune=0.0), WHOLE)])
    batch.step()
    batch.add([begin(Greedy(prune=0.0), TOYS[1]), begin(Greedy(prune=0.0), TOYS[3])])
    assert batch.joins
    batch.step()
    assert passes == [4, 12]


class Failing(Written):
    """Cannot choose its second token."""

    def extend(self, state: Any) -> bool:
        if self.steps:
            raise ValueError("no second token")
        return super().extend(state)


def test_an_error_of_one_answer_is_its_own() -> None:
    longest = max(TOYS, key=lambda each: len(alone(Greedy(prune=0.0), each, LIMIT).answers[0].tokens))
    good = begin(Greedy(prune=0.0), longest)
    bad, batch = Failing(longest, LIMIT, Pruning()), RunningBatch()
    batch.add([bad, good])
    assert batch.step() == []
    (left,) = batch.step()
    assert left.writing is bad and str(left.error) == "no second token"
    assert finished(batch) == [good]
    same(good.result(), alone(Greedy(prune=0.0), longest, LIMIT))


def test_one_that_cannot_begin_leaves_the_others_as_they_are() -> None:
    def fails(tokens: object, answer: object) -> torch.Tensor:
        raise ValueError("no table")

    broken = replace(WHOLE, generator=replace(WHOLE.generator, next_token=fails), empty_answer=True)
    batch, good = RunningBatch(), begin(Greedy(prune=0.0), WHOLE)
    batch.add([good])
    with pytest.raises(ValueError, match="no table"):
        batch.add([begin(Greedy(prune=0.0), TOYS[1]), begin(Greedy(), broken)])
    assert len(batch) == 1 and finished(batch) == [good]


def doubled(kind: str, **changes: Any) -> Generator:
    model, tokenizer = build(kind)
    generator = load_generator(model.double(), tokenizer=tokenizer)
    return replace(generator, **changes)  # type: ignore[type-var]


GENERATORS: dict[str, Callable[[], Generator]] = {
    "llama": lambda: doubled("llama", prefix_cache_bytes=2**24),
    "gpt2": lambda: doubled("gpt2", prefix_cache_bytes=2**24),
    "llama without cached passages": lambda: doubled("llama", prefix_cache_bytes=None),
    "copying": lambda: CopyingGenerator(doubled("llama")),
    "t5, which cannot join": lambda: doubled("t5"),
}


def asked_of(generator: Generator, **options: Any) -> list[Mixture]:
    passages = [Passage(text, text, "/notes.txt", "Notes", 0, len(text)) for text in TEXTS]
    return [
        condition(
            generator,
            question,
            [*passages[i:], *passages[:i]][: 1 + i],
            torch.full((1 + i,), 1 / (1 + i), dtype=torch.float64).log(),
            **options,
        )
        for i, question in enumerate(QUESTIONS)
    ]


@pytest.mark.parametrize("empty_answer", [False, True])
@pytest.mark.parametrize("name", GENERATORS)
def test_questions_of_unlike_length_join_a_real_model(name: str, empty_answer: bool) -> None:
    generator = GENERATORS[name]()
    mixtures = asked_of(generator, empty_answer=empty_answer, switch=0.2)
    decoders = [Greedy(prune=0.0), Beam(3), Greedy(prune=0.3), Beam(2)]
    writings = [begin(*each, 6) for each in zip(decoders, mixtures, strict=True)]
    batch, ended = RunningBatch(), list[Writing]()
    for writing in reversed(
        writings
    ):  # the longest first, so that shorter ones join it, and it leaves before them
        batch.add([writing])
        assert batch.joins is (name != "t5, which cannot join")
        ended += [left.writing for left in batch.step() if left.error is None]
    assert len(ended + finished(batch)) == len(writings)
    again = asked_of(generator, empty_answer=empty_answer, switch=0.2)
    for writing, decoder, mixture in zip(writings, decoders, again, strict=True):
        same(writing.result(), alone(decoder, mixture, 6), 1e-8)


def test_two_weights_of_one_pair_of_generators_join() -> None:
    both = [table_generator(Toy([0.5, 0.3, 0.2], seed, 4, LIMIT)) for seed in (1, 2)]
    generator = MixedGenerator(*both, weight=0.3)
    passages = toy_passages(Toy([0.5, 0.3, 0.2], 1, 4, LIMIT))
    log_prior = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64).log()
    mixtures = [condition(generator.weighted(weight), "q", passages, log_prior) for weight in (0.3, 0.6, 0.9)]
    writings, batch = [begin(Beam(2), mixture) for mixture in mixtures], RunningBatch()
    for writing in writings:
        batch.add([writing])
        batch.step()
    finished(batch)
    for writing, mixture in zip(writings, mixtures, strict=True):
        same(writing.result(), alone(Beam(2), mixture, LIMIT))


def test_columns_that_nobody_needs_any_longer_are_left_out() -> None:
    generator = GENERATORS["llama"]()
    long, short = (generator.prompt("Why?", [Passage("a", text, "/a", "", 0, len(text))], 9) for text in TEXTS[2:])
    both, one = generator.start([long, short]), generator.start([short])
    assert can_join(both)
    joined: Any = both.join(torch.tensor([1]), [(one, torch.tensor([0, 0]))])
    assert joined.attended.shape == (3, len(short.tokens)) and bool(joined.attended.all())
    torch.testing.assert_close(joined.log_probs, one.log_probs.expand(3, -1))
    after = joined.advance(torch.arange(3), torch.tensor([7, 7, 8])).log_probs
    torch.testing.assert_close(after[0], after[1])
    torch.testing.assert_close(after[2], one.advance(torch.tensor([0]), torch.tensor([8])).log_probs[0])


def test_decoders_with_passes_of_their_own_do_not_join() -> None:
    for decoder in (Greedy(samples=1), Sample(samples=1), Beam(samples=1)):
        assert begun(decoder, WHOLE, LIMIT) is None

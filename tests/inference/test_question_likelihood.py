"""The prior weighed by the likelihood of the question, in whole mixtures: against sums in probability space."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import pytest
import torch
from torch import Tensor

from enumeration import Toy
from mixrag.errors import ModelError
from mixrag.generator import Prompt, TableGenerator
from mixrag.generator.copying import CopyingGenerator
from mixrag.inference.batch import greedy_together
from mixrag.inference.beam_search import beam, fast, thorough
from mixrag.inference.mixture import Mixture, condition
from mixrag.inference.pruning import Pruning
from mixrag.inference.stepwise import each_alone, greedy, sample, scored
from tables import table_generator, toy_passages

TOY = Toy([0.5, 0.3, 0.2], seed=3, vocabulary=3, length=3)
QUESTION = {0: 1e-9, 1: 1e-6, 2: 1e-7, -1: 1e-8}
"""p(x | z_j); -1 is the null component."""
WEIGHT = 0.2
SWITCHES = (0.0, 0.3, 1.0)
LENGTH, STOP = 3, 2


@dataclass(frozen=True)
class Reading(TableGenerator):
    """A table that also knows how probable each passage makes the question."""

    questions: dict[int, float] = field(default_factory=lambda: QUESTION)
    """By number of words of the passages, less one."""
    read: list[int] = field(default_factory=list)
    """How many prompts were read for it at a time."""

    def question_log_likelihood(self, prompts: Sequence[Prompt]) -> Tensor:
        self.read.append(len(prompts))
        found = [self.questions[len(prompt.passages) - 1] for prompt in prompts]
        return torch.tensor(found, dtype=torch.float64).log()


def reading(toy: Toy = TOY, questions: dict[int, float] | None = None) -> Reading:
    table = table_generator(toy)
    return Reading(table.words, table.next_token, questions=questions or QUESTION)


def mixture(switch: float, size: int = 3, weight: float = WEIGHT, **options: object) -> Mixture:
    prior = options.pop("log_prior", TOY.log_prior[:size])
    generator = options.pop("generator", None) or reading()
    given = {"switch": switch, "question_likelihood": weight, **options}
    return condition(generator, "q", toy_passages(TOY)[:size], prior, **given)  # type: ignore[arg-type]


def reweighted(prior: dict[int, float], questions: dict[int, float] | None = None) -> dict[int, float]:
    """π' by its definition."""
    products = {j: p * (questions or QUESTION)[j] ** WEIGHT for j, p in prior.items()}
    total = math.fsum(prior.values())
    return {j: total * each / math.fsum(products.values()) for j, each in products.items()}


def toy_with(prior: dict[int, float]) -> Toy:
    return Toy([prior.get(j, 0.0) for j in range(3)], TOY.seed, TOY.vocabulary, TOY.length)


@dataclass(frozen=True)
class Numbered(Toy):
    """The components of ``TOY``, and the null component as number 3."""

    def next_token(self, component: int, prefix: tuple[int, ...]) -> list[float]:
        return TOY.next_token((0, 1, 2, -1)[component], prefix)


WHOLE = toy_with(reweighted(dict(enumerate(TOY.prior))))
"""The mixture of all three, its prior reweighted."""


@pytest.mark.parametrize("switch", SWITCHES)
@pytest.mark.parametrize("read_first", [False, True])
def test_all_that_follows_from_a_score_is_under_the_reweighted_prior(switch: float, read_first: bool) -> None:
    found = mixture(switch)
    if read_first:
        found.start()
    assert found.unconditioned_log_prior.exp().tolist() == pytest.approx(TOY.prior)
    assert found.reweighted_log_prior.exp().tolist() == pytest.approx(WHOLE.prior)
    assert found.log_prior is found.reweighted_log_prior
    assert found.log_question_likelihood.exp().tolist() == pytest.approx([QUESTION[j] for j in range(3)])
    for answer in TOY.answers():
        written, joint = found.score_tokens(answer), WHOLE.joint(answer, switch)
        whole = math.fsum(joint.values())
        shares = [math.fsum(p * path.count(j) / LENGTH for path, p in joint.items()) / whole for j in range(3)]
        assert math.exp(written.log_prob) == pytest.approx(whole, rel=1e-11)
        assert written.posterior.tolist() == pytest.approx(shares, rel=1e-11)
        assert math.fsum(written.token_log_probs.tolist()) == pytest.approx(written.log_prob, rel=1e-11)


@pytest.mark.parametrize("switch", SWITCHES)
def test_without_a_passage_the_others_are_weighed_among_themselves(switch: float) -> None:
    """Under the top-k normaliser it is what retrieval without that passage would give, second look included."""
    for answer in TOY.answers():
        written = mixture(switch).score_tokens(answer)
        for j in range(3):
            rest = {i: p / (1 - TOY.prior[j]) for i, p in enumerate(TOY.prior) if i != j}
            expected = toy_with(reweighted(rest)).probability(answer, switch)
            assert math.exp(float(written.log_leave_one_out[j])) == pytest.approx(expected, rel=1e-11)


@pytest.mark.parametrize("switch", SWITCHES)
def test_without_a_passage_of_a_truncated_prior_all_others_are_divided_alike(switch: float) -> None:
    weighed = reweighted({0: TOY.prior[0], 1: TOY.prior[1]})
    for answer in TOY.answers():
        written = mixture(switch, 2, outside=TOY.prior[2]).score_tokens(answer)
        for j in range(2):
            other = 1 - j
            rest = toy_with({other: weighed[other] / (1 - weighed[j])})
            expected = rest.probability(answer, switch)
            assert math.exp(float(written.log_leave_one_out[j])) == pytest.approx(expected, rel=1e-11)


@pytest.mark.parametrize("switch", SWITCHES)
@pytest.mark.parametrize("size", [1, 2, 3])
def test_the_bracket_holds_the_mixture_whose_other_passages_have_their_prior(switch: float, size: int) -> None:
    outside = sum(TOY.prior[size:])
    inside = reweighted({j: TOY.prior[j] for j in range(size)})
    full = toy_with({**dict(enumerate(TOY.prior)), **inside})
    for prior in (TOY.log_prior[:size], TOY.log_prior[:size].log_softmax(0)):  # full and top-k normaliser
        found = mixture(switch, size, log_prior=prior, outside=outside)
        assert found.outside == outside
        for answer in TOY.answers():
            low, high = found.score_tokens(answer).log_bracket
            exact = math.log(full.probability(answer, switch))
            assert low - 1e-9 <= exact <= high + 1e-9
            assert size < 3 or low == pytest.approx(exact)


@pytest.mark.parametrize("switch", SWITCHES)
def test_the_null_component_predicts_the_question_in_its_own_way(switch: float) -> None:
    found = mixture(switch, log_prior=TOY.log_prior + math.log(0.9), log_null=math.log(0.1))
    expected = reweighted({0: 0.45, 1: 0.27, 2: 0.18, -1: 0.1})
    assert found.log_prior.exp().tolist() == pytest.approx([*expected.values()])
    by_component = Numbered([*expected.values()], TOY.seed, TOY.vocabulary, TOY.length)
    for answer in TOY.answers():
        log_prob = found.score_tokens(answer).log_prob
        assert math.exp(log_prob) == pytest.approx(by_component.probability(answer, switch), rel=1e-11)


def test_a_group_predicts_the_question_as_one_prompt() -> None:
    """Passages 0 and 1 together have three words, as passage 2 has alone: only the null component differs."""
    generator = reading(questions={2: 1e-8, -1: 1e-6})
    found = mixture(
        0.0, group=2, generator=generator, log_prior=TOY.log_prior + math.log(0.9), log_null=math.log(0.1)
    )
    expected = [0.9 * 0.8, 0.9 * 0.2, 0.1 * 100.0**WEIGHT]
    assert found.log_prior.exp().tolist() == pytest.approx([each / math.fsum(expected) for each in expected])


@pytest.mark.parametrize("switch", SWITCHES)
def test_the_empty_answer_is_under_the_reweighted_prior(switch: float) -> None:
    """First π', then what each leaves to answers: as a mixture retrieved with π' would be."""
    found = mixture(switch, empty_answer=True)
    expected = condition(
        table_generator(TOY), "q", toy_passages(TOY), WHOLE.log_prior, switch=switch, empty_answer=True
    )
    empty = [TOY.next_token(j, ())[STOP] for j in range(3)]
    p_empty = math.fsum(p * e for p, e in zip(WHOLE.prior, empty, strict=True))
    assert math.exp(found.log_p_empty) == pytest.approx(p_empty)
    stated = [p * (1 - e) / (1 - p_empty) for p, e in zip(WHOLE.prior, empty, strict=True)]
    assert found.log_prior.exp().tolist() == pytest.approx(stated)
    assert found.unconditioned_log_prior.exp().tolist() == pytest.approx(TOY.prior)
    for text in ("w1", "w0 w1", ""):
        mine, theirs = found.score(text), expected.score(text)
        assert mine.log_prob == pytest.approx(theirs.log_prob, rel=1e-11)
        assert mine.posterior.tolist() == pytest.approx(theirs.posterior.tolist(), rel=1e-11)
        assert mine.log_leave_one_out.tolist() == pytest.approx(theirs.log_leave_one_out.tolist(), rel=1e-11)
    assert found.unconditioned().log_prior.exp().tolist() == pytest.approx(WHOLE.prior)
    part = mixture(switch, 2, empty_answer=True, outside=0.2)
    inside = reweighted({0: 0.5, 1: 0.3})
    answered = math.fsum(inside[j] * (1 - empty[j]) for j in range(2))
    assert part.outside == pytest.approx(0.2 / (answered + 0.2))


@pytest.mark.parametrize("switch", SWITCHES)
@pytest.mark.parametrize("empty", [False, True])
def test_whatever_decodes_decodes_the_reweighted_mixture(switch: float, empty: bool) -> None:
    def both() -> tuple[Mixture, Mixture]:
        weighed = mixture(switch, empty_answer=empty)
        prior = WHOLE.log_prior
        return weighed, condition(
            table_generator(TOY), "q", toy_passages(TOY), prior, switch=switch, empty_answer=empty
        )

    decoded: list[Callable[[Mixture], object]] = [
        lambda each: scored(each, greedy(each, LENGTH)),
        lambda each: scored(each, greedy(each, LENGTH, pruning := Pruning(0.4)), pruning),
        lambda each: scored(each, sample(each, LENGTH, 5)),
        lambda each: greedy_together([each], LENGTH)[0].scored(),
        lambda each: beam(each, 4, LENGTH).answers[0],
        lambda each: thorough(each, 4, LENGTH).answers[0],
        *([lambda each: fast(each, 4, LENGTH).answers[0]] if switch == 0.0 else []),
    ]
    for decode in decoded:
        found, expected = map(decode, both())
        assert found.tokens == expected.tokens
        assert found.log_prob == pytest.approx(expected.log_prob, rel=1e-11)
    mine, theirs = both()
    assert mine.predictive("w1").tolist() == pytest.approx(theirs.predictive("w1").tolist())


def test_several_questions_in_one_batch_have_each_its_own_weight() -> None:
    several = [
        mixture(0.0),
        mixture(0.3, weight=0.0),
        mixture(0.0, 2, weight=0.5),
        mixture(1.0, empty_answer=True),
    ]
    alone = [scored(each, greedy(each, LENGTH)) for each in map(replace, several)]
    for written, expected in zip(greedy_together(several, LENGTH), alone, strict=True):
        assert written.scored().log_prob == pytest.approx(expected.log_prob, rel=1e-12)
        assert written.mixture.log_prior.tolist() == pytest.approx(expected.mixture.log_prior.tolist(), rel=1e-12)
    assert several[1].log_question_likelihood is None
    assert several[1].log_prior is several[1].unconditioned_log_prior


def test_parts_of_a_mixture_have_the_prior_that_they_had() -> None:
    found = mixture(0.3)
    some = found.part([0, 2])
    assert some.log_prior.exp().tolist() == pytest.approx([WHOLE.prior[0], WHOLE.prior[2]])
    assert found.alone(1).log_prior.tolist() == [0.0] and found.closed_book().log_prior.tolist() == [0.0]
    assert [len(written.tokens) > 0 for written in each_alone(found, LENGTH)] == [True] * 3


def test_the_question_is_read_once_and_only_where_it_matters() -> None:
    for use in (
        lambda found: scored(found, greedy(found, LENGTH)).log_prob,
        lambda found: (found.score("w1").posterior, found.score("w0").log_prob, found.log_prior),
        lambda found: (found.unconditioned().log_prior, found.log_p_empty, beam(found, 2, LENGTH)),
    ):
        generator = reading()
        found = mixture(0.0, generator=generator, empty_answer=True)
        found.log_prior
        use(found)
        use(found.unconditioned())
        assert generator.read == [3]
    generator = reading()
    for found in (mixture(0.0, 1, generator=generator), mixture(0.0, generator=generator, weight=0.0)):
        scored(found, greedy(found, LENGTH))
        assert found.log_question_likelihood is None
    assert generator.read == []


def test_a_pickle_has_what_the_model_said_of_the_question() -> None:
    written = mixture(0.3).score("w1")
    read = pickle.loads(pickle.dumps(written))  # noqa: S301 - what was just written
    assert read.log_prob == written.log_prob
    assert read.mixture.log_prior.tolist() == written.mixture.log_prior.tolist()
    with pytest.raises(ModelError):
        _ = pickle.loads(pickle.dumps(mixture(0.3))).log_prior  # noqa: S301 - what was just written


@dataclass(frozen=True)
class Finite(TableGenerator):
    def finite_answers(self, prompts: Sequence[Prompt]) -> list[object]:
        return []


def test_a_generator_that_cannot_is_refused_with_what_to_do_instead() -> None:
    table = table_generator(TOY)
    for other, remedy in (
        (table, "choose a causal language model"),
        (CopyingGenerator(table), "choose a causal language model"),
        (Finite(table.words, table.next_token), "with empty_answer"),
    ):
        with pytest.raises(ModelError, match=f"for question_likelihood; found table, which does not; .*{remedy}"):
            mixture(0.0, generator=other)
        assert mixture(0.0, generator=other, weight=0.0).log_prob("w1") < 0.0
    assert mixture(0.0, generator=CopyingGenerator(reading())).question_likelihood == WEIGHT


@dataclass(frozen=True)
class Rounded(Reading):
    rounding: float = 0.3


@pytest.mark.parametrize("empty", [False, True])
def test_what_rounding_leaves_open_is_under_the_reweighted_prior(empty: bool) -> None:
    table = table_generator(TOY)
    given = {"outside": 0.1, "switch": 0.3, "empty_answer": empty}
    plain = Rounded(table.words, table.next_token)
    retrieved = condition(plain, "q", toy_passages(TOY), WHOLE.log_prior, **given)  # type: ignore[arg-type]
    found = mixture(0.3, generator=plain, outside=0.1, empty_answer=empty)
    for text in ("w1", "w0 w1"):
        mine, theirs = found.score(text), retrieved.score(text)
        assert mine.log_bracket == pytest.approx(theirs.log_bracket)
        assert mine.log_interval == pytest.approx(theirs.log_interval)
        assert mine.log_interval[0] < mine.log_prob < mine.log_interval[1]
    best = beam(found, 40, LENGTH)
    assert best.answers[0].tokens == beam(retrieved, 40, LENGTH).answers[0].tokens
    assert best.certified == beam(retrieved, 40, LENGTH).certified

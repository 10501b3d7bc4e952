"""The empty answer against enumeration: all answers up to a length, in probability space."""

from __future__ import annotations

import itertools
import math
import pickle
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest
import torch

from enumeration import Toy
from mixrag.errors import ModelError
from mixrag.inference.batch import greedy_together
from mixrag.inference.beam_search import SearchResult, beam, fast, thorough
from mixrag.inference.mixture import Mixture, condition
from mixrag.inference.pruning import Pruning
from mixrag.inference.stepwise import each_alone, greedy, sample, scored
from tables import table_generator, toy_mixture, toy_passages

TOY = Toy([0.5, 0.3, 0.2], seed=3, vocabulary=3, length=3)
STOP = 2
SWITCHES = (0.0, 0.3, 1.0)
LENGTH = 3


def answers() -> list[tuple[int, ...]]:
    """Every answer but ∅ that ends within ``LENGTH`` tokens or is cut off there; these exhaust all answers."""
    words = range(STOP)
    ended = [(*w, STOP) for n in range(1, LENGTH) for w in itertools.product(words, repeat=n)]
    cut = [(*w, t) for w in itertools.product(words, repeat=LENGTH - 1) for t in range(STOP + 1)]
    return list(dict.fromkeys([*ended, *cut]))


@dataclass(frozen=True)
class Conditional:
    """p(· | x, ≠∅) of the components ``prior``, by loops over hidden paths; -1 is the null component."""

    prior: dict[int, float]
    switch: float
    toy: Toy = field(default=TOY)

    def empty(self, j: int) -> float:
        return self.toy.next_token(j, ())[STOP]

    @property
    def p_empty(self) -> float:
        return math.fsum(p * self.empty(j) for j, p in self.prior.items())

    @property
    def redrawn(self) -> dict[int, float]:
        """p(z | x, ≠∅) by Bayes' rule."""
        joint = {j: p * (1 - self.empty(j)) for j, p in self.prior.items()}
        return {j: p / math.fsum(joint.values()) for j, p in joint.items()}

    def joint(self, answer: tuple[int, ...]) -> dict[tuple[int, ...], float]:
        """p(y, z_1..z_T | x): the first passage from the prior, later ones given that something is stated."""
        table, again = {}, self.redrawn
        for path in itertools.product(self.prior, repeat=len(answer)):
            p = self.prior[path[0]]
            for before, now in itertools.pairwise(path):
                p *= (1 - self.switch) * (before == now) + self.switch * again[now]
            for t, j in enumerate(path):
                p *= self.toy.next_token(j, answer[:t])[answer[t]]
            table[path] = p
        return table

    def probability(self, answer: tuple[int, ...]) -> float:
        return math.fsum(self.joint(answer).values()) / (1 - self.p_empty)

    def shares(self, answer: tuple[int, ...]) -> list[float]:
        """Of each component, the expected share of the tokens that it wrote."""
        joint = self.joint(answer)
        total = math.fsum(joint.values())
        return [math.fsum(p * path.count(j) / len(path) for path, p in joint.items()) / total for j in self.prior]


def exact(switch: float) -> Conditional:
    return Conditional(dict(enumerate(TOY.prior)), switch)


def mixture(switch: float, toy: Toy = TOY, **options: object) -> Mixture:
    return toy_mixture(toy, switch, empty_answer=True, **options)


@pytest.mark.parametrize("switch", SWITCHES)
@pytest.mark.parametrize("read_first", [False, True])
def test_every_probability_is_given_that_something_is_stated(switch: float, read_first: bool) -> None:
    expected, found = exact(switch), mixture(switch)
    if read_first:
        found.start()
    total = 0.0
    for answer in answers():
        written = found.score_tokens(answer)
        assert math.exp(written.log_prob) == pytest.approx(expected.probability(answer), rel=1e-12)
        assert written.posterior.tolist() == pytest.approx(expected.shares(answer), rel=1e-12)
        assert math.fsum(written.token_log_probs.tolist()) == pytest.approx(written.log_prob, rel=1e-12)
        total += math.exp(written.log_prob)
    assert total == pytest.approx(1.0, rel=1e-12)
    assert found.log_prior.exp().tolist() == pytest.approx([*expected.redrawn.values()], rel=1e-12)
    assert found.unconditioned_log_prior.exp().tolist() == pytest.approx(TOY.prior)
    assert found.log_empty.exp().tolist() == pytest.approx([expected.empty(j) for j in range(3)], rel=1e-12)
    assert math.exp(found.log_p_empty) == pytest.approx(expected.p_empty, rel=1e-12)


@pytest.mark.parametrize("switch", SWITCHES)
def test_the_score_of_the_empty_text_is_the_probability_of_the_empty_answer(switch: float) -> None:
    expected, found = exact(switch), mixture(switch).score("")
    assert math.exp(found.log_prob) == pytest.approx(expected.p_empty, rel=1e-12)
    by_passage = [p * expected.empty(j) / expected.p_empty for j, p in enumerate(TOY.prior)]
    assert found.posterior.tolist() == pytest.approx(by_passage, rel=1e-12)
    assert found.mixture.log_p_empty == pytest.approx(found.log_prob)


@pytest.mark.parametrize("switch", SWITCHES)
def test_without_a_passage_the_rest_is_given_that_it_states_something(switch: float) -> None:
    for answer in answers():
        written = mixture(switch).score_tokens(answer)
        for j in range(3):
            rest = {i: p / (1 - TOY.prior[j]) for i, p in enumerate(TOY.prior) if i != j}
            expected = Conditional(rest, switch).probability(answer)
            assert math.exp(float(written.log_leave_one_out[j])) == pytest.approx(expected, rel=1e-11)


@pytest.mark.parametrize("switch", SWITCHES)
@pytest.mark.parametrize("size", [1, 2])
def test_a_passage_left_out_of_a_truncated_prior(switch: float, size: int) -> None:
    """The others, and what the truncation leaves out, have their prior divided by 1 - π_j."""
    passages, outside = toy_passages(TOY)[:size], sum(TOY.prior[size:])
    whole = condition(
        table_generator(TOY),
        "q",
        passages,
        TOY.log_prior[:size],
        outside=outside,
        switch=switch,
        empty_answer=True,
    )
    for answer in answers():
        for j in range(size):
            rest = [i for i in range(size) if i != j]
            log_prior = TOY.log_prior[rest] - math.log(1 - TOY.prior[j])
            if not rest:
                continue
            others = condition(
                table_generator(TOY), "q", [passages[i] for i in rest], log_prior, switch=switch, empty_answer=True
            )
            found = float(whole.score_tokens(answer).log_leave_one_out[j])
            assert found == pytest.approx(others.score_tokens(answer).log_prob, rel=1e-11)


@pytest.mark.parametrize("switch", SWITCHES)
def test_the_next_token_is_given_that_the_first_one_states_something(switch: float) -> None:
    expected = exact(switch)
    for text, prefix in (("", ()), ("w1", (1,)), ("w1 w0", (1, 0))):
        before = expected.probability(prefix) if prefix else 1.0
        values = [expected.probability((*prefix, t)) / before if prefix or t != STOP else 0.0 for t in range(3)]
        assert mixture(switch).predictive(text).exp().tolist() == pytest.approx(values, rel=1e-11)


@pytest.mark.parametrize("switch", SWITCHES)
def test_the_null_component_states_nothing_in_its_own_way(switch: float) -> None:
    log_prior = TOY.log_prior + math.log(0.9)
    found = condition(
        table_generator(TOY), "q", toy_passages(TOY), log_prior, log_null=math.log(0.1), switch=switch,
        empty_answer=True,
    )  # fmt: skip
    expected = Conditional({0: 0.45, 1: 0.27, 2: 0.18, -1: 0.1}, switch)
    assert math.exp(found.log_p_empty) == pytest.approx(expected.p_empty, rel=1e-12)
    for answer in answers():
        assert found.score_tokens(answer).log_prob == pytest.approx(math.log(expected.probability(answer)))


@pytest.mark.parametrize("switch", SWITCHES)
def test_a_group_states_nothing_as_one_prompt(switch: float) -> None:
    found = toy_mixture(TOY, switch, group=2, empty_answer=True)
    generator, prompts = found.generator, [component.prompt for component in found.components]
    raw = generator.log_likelihood(prompts, (STOP,)).exp()[:, 0].tolist()
    assert found.log_empty.exp().tolist() == pytest.approx(raw)
    assert math.exp(found.log_p_empty) == pytest.approx(0.8 * raw[0] + 0.2 * raw[1])
    total = math.fsum(math.exp(found.score_tokens(answer).log_prob) for answer in answers())
    assert total == pytest.approx(1.0)


@pytest.mark.parametrize("switch", SWITCHES)
@pytest.mark.parametrize("size", [1, 2, 3])
def test_the_bracket_of_a_truncated_mixture_holds_the_full_one(switch: float, size: int) -> None:
    expected, outside = exact(switch), sum(TOY.prior[size:])
    passages, log_prior = toy_passages(TOY)[:size], TOY.log_prior[:size]
    for prior in (log_prior, log_prior.log_softmax(0)):  # full and top-k normaliser
        found = condition(
            table_generator(TOY), "q", passages, prior, outside=outside, switch=switch, empty_answer=True
        )
        inside = math.fsum(TOY.prior[j] * (1 - expected.empty(j)) for j in range(size))
        assert found.outside == pytest.approx(outside / (inside + outside), abs=1e-15)
        for answer in answers():
            low, high = found.score_tokens(answer).log_bracket
            full = math.log(expected.probability(answer))
            assert low - 1e-9 <= full <= high + 1e-9
            assert size < 3 or low == pytest.approx(full)


@pytest.mark.parametrize("switch", SWITCHES)
def test_an_answer_that_certainly_leads_leads_in_the_full_mixture(switch: float) -> None:
    certain = 0
    for seed in range(12):
        toy = Toy([0.9, 0.08, 0.02], seed=seed, vocabulary=3, length=3)
        expected = Conditional(dict(enumerate(toy.prior)), switch, toy)
        part = condition(
            table_generator(toy), "q", toy_passages(toy)[:2], toy.log_prior[:2], outside=0.02, switch=switch,
            empty_answer=True,
        )  # fmt: skip
        written = {answer: part.score_tokens(answer) for answer in answers()}
        for one, other in itertools.permutations(answers(), 2):
            if written[one].certainly_beats(written[other]):
                certain += 1
                assert expected.probability(one) >= expected.probability(other)
    assert certain > 100


def by_probability(switch: float) -> list[tuple[int, ...]]:
    law = exact(switch)
    return sorted(answers(), key=lambda answer: -law.probability(answer))


@pytest.mark.parametrize("switch", SWITCHES)
def test_searches_find_the_most_probable_answer_that_is_not_empty(switch: float) -> None:
    best = by_probability(switch)[0]
    found = beam(mixture(switch), 40, LENGTH)
    assert found.certified and found.answers[0].tokens == best
    assert found.answers[0].log_prob == pytest.approx(math.log(exact(switch).probability(best)))
    assert thorough(mixture(switch), 40, LENGTH).answers[0].tokens == best
    if switch == 0.0:
        assert fast(mixture(switch), 40, LENGTH).answers[0].tokens == best


@pytest.mark.parametrize("switch", SWITCHES)
@pytest.mark.parametrize("budget", [0.0, 0.4])
def test_greedy_never_writes_the_empty_answer_and_scores_what_it_writes(switch: float, budget: float) -> None:
    found, pruning = mixture(switch), Pruning(budget)
    written = scored(found, greedy(found, LENGTH, pruning), pruning)
    law, prefix = exact(switch), ()
    while len(prefix) < LENGTH and STOP not in prefix:
        options = [(*prefix, t) for t in range(STOP + 1) if prefix or t != STOP]
        prefix = max(options, key=law.probability)
    if budget == 0.0:
        assert written.tokens == prefix
    assert written.tokens[0] != STOP
    assert written.log_prob == pytest.approx(math.log(law.probability(written.tokens)), rel=1e-9)


def test_pruned_components_are_restored_given_that_they_state_something() -> None:
    """What is dropped at the first token is read again with that token divided by 1 - p(∅)."""
    toy = Toy([0.4, 0.2, 0.2, 0.1, 0.1], seed=8, vocabulary=3, length=3)
    found, pruning = mixture(0.0, toy), Pruning(0.99)
    written = scored(found, greedy(found, LENGTH, pruning), pruning)
    assert pruning.spent > 0
    again = found.score_tokens(written.tokens).log_likelihood
    torch.testing.assert_close(written.log_likelihood, again, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("switch", SWITCHES)
def test_samples_come_from_the_distribution_of_answers_that_are_not_empty(switch: float) -> None:
    law, found = exact(switch), mixture(switch)
    drawn = [tuple(step.token for step in sample(found, 2, seed)) for seed in range(400)]
    assert all(each[0] != STOP for each in drawn)
    share = sum(each[0] == 1 for each in drawn) / len(drawn)
    assert abs(share - law.probability((1,))) < 4 * math.sqrt(0.25 / 400)


def test_several_questions_in_one_batch_are_each_given_that_it_states_something() -> None:
    several = [mixture(0.0), toy_mixture(TOY, 0.0), mixture(0.3), toy_mixture(TOY, 1.0, empty_answer=True)]
    alone = [scored(each, greedy(each, LENGTH)) for each in map(replace, several)]
    for written, expected in zip(greedy_together(several, LENGTH), alone, strict=True):
        assert written.scored().tokens == expected.tokens
        assert written.scored().log_prob == pytest.approx(expected.log_prob, rel=1e-12)
    assert several[1].log_empty is None and several[1].log_prior is several[1].unconditioned_log_prior


def test_each_passage_alone_states_something() -> None:
    for j, written in enumerate(each_alone(mixture(0.3), LENGTH)):
        assert written.tokens[0] != STOP
        expected = Conditional({j: 1.0}, 0.0).probability(written.tokens)
        assert math.exp(written.log_prob) == pytest.approx(expected)
        assert math.exp(mixture(0.3).alone(j).score_tokens(written.tokens).log_prob) == pytest.approx(expected)


@dataclass(frozen=True)
class Certain(Toy):
    """Some components are certain of ∅, or as good as: the others' probabilities underflow."""

    certain: tuple[int, ...] = ()
    log_rest: float = -math.inf

    def next_token(self, component: int, prefix: tuple[int, ...]) -> list[float]:
        usual = super().next_token(component, prefix)
        if component not in self.certain or prefix:
            return usual
        rest = math.exp(self.log_rest)
        return [rest * 0.75, rest * 0.25, 1.0 - rest]


def test_a_passage_that_is_certain_of_nothing_gives_all_its_weight_away() -> None:
    toy = Certain([0.9, 0.06, 0.04], seed=3, vocabulary=3, length=3, certain=(0,))
    law = Conditional({1: 0.6, 2: 0.4}, 0.3, toy)
    found = mixture(0.3, toy)
    written = scored(found, greedy(found, LENGTH))
    assert written.log_prob == pytest.approx(math.log(law.probability(written.tokens)))
    assert found.log_prior.exp().tolist()[0] == 0.0 and written.posterior[0] == 0.0
    assert beam(found, 40, LENGTH).answers[0].log_prob == pytest.approx(
        math.log(max(map(law.probability, answers())))
    )
    nothing = each_alone(found, LENGTH)[0]
    assert nothing.text == "" and nothing.log_prob == 0.0


@pytest.mark.parametrize("search", [thorough, fast])
def test_a_search_for_each_passage_does_not_answer_with_nothing(search: Callable[..., SearchResult]) -> None:
    toy = Certain([0.9, 0.06, 0.04], seed=3, vocabulary=3, length=3, certain=(0,))
    law = Conditional({1: 0.6, 2: 0.4}, 0.0, toy)
    best = search(mixture(0.0, toy), 40, LENGTH).answers[0]
    assert best.log_prob == pytest.approx(math.log(max(map(law.probability, answers()))))


def test_where_all_are_certain_of_nothing_the_empty_answer_is_the_only_one() -> None:
    toy = Certain(TOY.prior, seed=3, vocabulary=3, length=3, certain=(0, 1, 2))
    for switch in SWITCHES:
        found = mixture(switch, toy)
        written = scored(found, greedy(found, LENGTH))
        assert written.text == "" and written.finished and found.log_p_empty == 0.0
        assert written.log_prob == pytest.approx(0.0) and written.posterior.tolist() == pytest.approx(TOY.prior)
        assert beam(found, 4, LENGTH).answers[0].text == ""
        assert found.score("w1").log_prob == -math.inf


def test_probabilities_too_small_for_a_float_are_still_compared() -> None:
    toy = Certain(TOY.prior, seed=3, vocabulary=3, length=3, certain=(0, 1, 2), log_rest=-700.0)
    found = mixture(0.0, toy)
    assert found.log_prior.exp().tolist() == pytest.approx(TOY.prior)
    assert found.predictive().exp().tolist() == pytest.approx([0.75, 0.25, 0.0])
    assert found.log_p_empty == 0.0


def test_a_pickle_has_what_the_model_said_of_the_empty_answer() -> None:
    written = mixture(0.3).score("w1")
    read = pickle.loads(pickle.dumps(written))  # noqa: S301 - what was just written
    assert read.log_prob == written.log_prob and read.mixture.log_p_empty == written.mixture.log_p_empty
    assert read.log_leave_one_out.tolist() == written.log_leave_one_out.tolist()
    with pytest.raises(ModelError):
        _ = pickle.loads(pickle.dumps(mixture(0.3))).log_prior  # noqa: S301 - what was just written


class Counting:
    """A generator that counts how many prompts it reads."""

    def __init__(self, generator: object) -> None:
        self.generator, self.read = generator, 0

    def __getattr__(self, name: str) -> object:
        return getattr(self.generator, name)

    def start(self, prompts):  # type: ignore[no-untyped-def]
        self.read += len(prompts)
        return self.generator.start(prompts)

    def log_likelihood(self, prompts, answer):  # type: ignore[no-untyped-def]
        self.read += len(prompts)
        return self.generator.log_likelihood(prompts, answer)


def test_prompts_are_read_once_for_an_answer_and_once_for_a_score() -> None:
    for use in (
        lambda found: scored(found, greedy(found, LENGTH)).log_prob,
        lambda found: beam(found, 4, LENGTH).answers[0].log_prob,
        lambda found: found.score("w1").posterior,
        lambda found: found.score("").log_prob,
        lambda found: (found.log_prior, found.outside, found.log_p_empty),
    ):
        found = mixture(0.0)
        counting = Counting(found.generator)
        use(replace(found, generator=counting))
        assert counting.read == 3

"""The bound on answers that were not seen, against complete enumeration."""

from __future__ import annotations

import itertools
import math
import random

import pytest
import torch
from torch import Tensor

from enumeration import Toy
from mixrag.probability import Listed, listed, log_marginal, log_most_elsewhere


class Model:
    """K next-token distributions that depend on the whole prefix; the last of V tokens ends an answer."""

    def __init__(self, seed: int, vocabulary: int = 24, length: int = 3) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.components = 1 + seed // 2 % 4
        self.vocabulary, self.length = vocabulary, length
        self.stop = self.vocabulary - 1
        scale = 0.5 + 7.5 * torch.rand((), generator=generator)
        shared = torch.rand((), generator=generator)  # how far the components agree
        self.tables = []  # for each t: (K, V^t, V)
        for t in range(self.length):
            size = (self.components, self.vocabulary**t, self.vocabulary)
            common = torch.randn(size[1:], generator=generator, dtype=torch.float64)
            own = torch.randn(size, generator=generator, dtype=torch.float64)
            self.tables.append((scale * (shared * common + (1 - shared) * own)).log_softmax(-1))
        weights = torch.rand(self.components, generator=generator, dtype=torch.float64) + 1e-3
        self.log_prior = (weights / weights.sum()).log()

    def next_token(self, j: int, prefix: tuple[int, ...]) -> Tensor:
        return self.tables[len(prefix)][j, self.place(prefix)]

    def place(self, prefix: tuple[int, ...]) -> int:
        place = 0
        for token in prefix:
            place = place * self.vocabulary + token
        return place

    def likelihood(self, answer: tuple[int, ...]) -> Tensor:
        rows = [
            [float(self.next_token(j, answer[:t])[answer[t]]) for t in range(len(answer))]
            for j in range(self.components)
        ]
        return torch.tensor(rows, dtype=torch.float64)

    def greedy(self, j: int) -> tuple[int, ...]:
        answer: tuple[int, ...] = ()
        while len(answer) < self.length and (not answer or answer[-1] != self.stop):
            answer = (*answer, int(self.next_token(j, answer).argmax()))
        return answer

    def answers(self, switch: float, after: int | None = None) -> list[Tensor]:
        """p of every answer of t + 1 tokens, (V^t, V): the recursion of the mixture over all prefixes at once.

        ``after``: the passage is drawn again only after a token that this number divides.
        """
        found = []
        prior = self.log_prior.exp()
        alive = torch.ones(1, dtype=torch.float64)
        alpha = prior[:, None]  # (K, V^t)
        ends = torch.arange(self.vocabulary) == self.stop
        for t in range(self.length):
            last = torch.arange(self.vocabulary**t) % self.vocabulary
            drawn_again = last >= 0 if after is None else last % after == 0
            rho = switch * drawn_again.double()
            weights = alpha if t == 0 else (1 - rho) * alpha + rho * prior[:, None] * alpha.sum(0)
            joint = weights[:, :, None] * self.tables[t].exp()
            answers = joint.sum(0) * alive[:, None]
            found.append(answers if t == self.length - 1 else answers * ends)
            alive, alpha = (alive[:, None] * ~ends).flatten(), joint.flatten(1)
        return found


def top(row: Tensor, count: int, given: int | None = None) -> Listed:
    """What a server returns: the most probable tokens, and the one that was given."""
    values, tokens = row.topk(min(count, len(row)))
    log_probs = dict(zip(tokens.tolist(), values.tolist(), strict=True))
    if given is not None:
        log_probs[given] = float(row[given])
    return listed(log_probs, given)


def read(model: Model, candidates: set[tuple[int, ...]], count: int) -> list[dict[tuple[int, ...], Listed]]:
    known = []
    for j in range(model.components):
        own: dict[tuple[int, ...], Listed] = {}
        for answer in candidates:
            for t, token in enumerate(answer):
                found = top(model.next_token(j, answer[:t]), count, token)
                own[answer[:t]] = found if answer[:t] not in own else own[answer[:t]].with_others(found)
        known.append(own)
    return known


@pytest.mark.parametrize("count", [5, 20])
def test_no_other_answer_is_above_the_bound_of_1000_random_models(count: int) -> None:
    certified = tight = 0
    for seed in range(1000):
        size = (24, 3) if count == 20 or seed % 3 else (7, 4)
        model, switch = Model(2 * seed + (count == 20), *size), (0.0, 0.0, 0.3, 1.0)[seed // 4 % 4]
        candidates = {model.greedy(j) for j in range(model.components)}
        most = log_most_elsewhere(
            model.log_prior, read(model, candidates, count), candidates, model.length, switch
        )
        every = model.answers(switch)
        assert math.isclose(sum(float(level.sum()) for level in every), 1.0, rel_tol=1e-9)
        own = {}
        for answer in candidates:
            level, place = every[len(answer) - 1], (model.place(answer[:-1]), answer[-1])
            own[answer] = float(level[place])
            level[place] = 0.0
        others = max(float(level.max()) for level in every)
        assert math.log(others) <= most + 1e-12  # of rounding: the bound is often reached
        best = max(own, key=own.__getitem__)
        exact = float(log_marginal(model.log_prior, model.likelihood(best), switch))
        assert math.isclose(exact, math.log(own[best]), rel_tol=1e-9)
        if exact >= most:
            certified += 1
            assert others <= own[best]
        tight += most - math.log(others) < 1.0
    assert certified > 300  # the certificate is given, too
    assert tight > 500


def test_the_bound_holds_where_the_switch_depends_on_the_token_before() -> None:
    """As at the ends of sentences: with one ρ for all tokens some of these bounds would be too low."""
    too_low = 0
    for seed in range(200):
        model, ends = Model(seed, 12), 2 + seed % 2
        candidates = {model.greedy(j) for j in range(model.components)}
        parts = {answer[:t] for answer in candidates for t in range(1, len(answer))}
        switch = {part: 0.9 * (part[-1] % ends == 0) for part in parts}
        known = read(model, candidates, 5)
        every = model.answers(0.9, after=ends)
        assert math.isclose(sum(float(level.sum()) for level in every), 1.0, rel_tol=1e-9)
        for answer in candidates:
            every[len(answer) - 1][model.place(answer[:-1]), answer[-1]] = 0.0
        others = math.log(max(float(level.max()) for level in every))
        assert others <= log_most_elsewhere(model.log_prior, known, candidates, model.length, switch) + 1e-12
        too_low += others > log_most_elsewhere(model.log_prior, known, candidates, model.length, 0.9) + 1e-6
    assert too_low > 0


def test_without_any_reading_nothing_is_excluded() -> None:
    toy = Toy([0.5, 0.5], 0, 3, 3)
    most = log_most_elsewhere(toy.log_prior, [{}, {}], {(0, 1, 2)}, 3)
    assert most == pytest.approx(0.0)


def test_a_token_given_is_no_bound_on_others() -> None:
    """Between the list and the token that was asked for there may be others."""
    found = listed({0: math.log(0.4), 1: math.log(0.2), 9: math.log(0.001)}, given=9)
    assert found.upper(5) == pytest.approx(math.log(0.2))
    assert found.upper(9) == pytest.approx(math.log(0.001))


def test_what_a_list_leaves_bounds_the_others() -> None:
    found = listed({0: math.log(0.5), 1: math.log(0.45)}, slack=0.0)
    assert math.exp(found.log_rest) == pytest.approx(0.05)


def test_a_list_alone_of_the_token_given_leaves_the_rest() -> None:
    assert math.exp(listed({4: math.log(0.7)}, given=4, slack=0.0).log_rest) == pytest.approx(0.3)


def test_numbers_that_add_up_to_more_than_one_leave_the_slack() -> None:
    assert math.exp(listed({0: math.log(0.7), 1: math.log(0.30002)}).log_rest) == pytest.approx(1e-5)


def test_two_lists_of_one_prefix_say_what_both_say() -> None:
    both = Listed({0: -1.0}, -0.5).with_others(Listed({0: -1.1, 1: -2.0}, -0.9))
    assert (both.upper(0), both.upper(1), both.upper(2)) == (-1.0, -2.0, -0.9)


def test_bounds_of_random_readings_hold_at_every_prefix() -> None:
    """A reading may lack any prefix of any component; the bound then only grows."""
    rng = random.Random(0)
    for seed in range(50):
        model = Model(seed, 7, 4)
        candidates = {model.greedy(j) for j in range(model.components)}
        known = read(model, candidates, 5)
        whole = log_most_elsewhere(model.log_prior, known, candidates, model.length)
        for own in known:
            for prefix in [*own]:
                if rng.random() < 0.3:
                    del own[prefix]
        part = log_most_elsewhere(model.log_prior, known, candidates, model.length)
        assert part >= whole - 1e-12


def test_a_hand_made_case() -> None:
    """Two components, one candidate: the best other answer leaves it at its first token."""
    table = [
        {(): {0: 0.6, 1: 0.3, 2: 0.1}, (0,): {2: 0.9, 0: 0.1}},
        {(): {0: 0.5, 1: 0.1, 2: 0.4}, (0,): {2: 1.0}},
    ]
    known = [
        {prefix: listed({v: math.log(p) for v, p in row.items()}, slack=0.0) for prefix, row in own.items()}
        for own in table
    ]
    log_prior = torch.tensor([0.5, 0.5], dtype=torch.float64).log()
    most = log_most_elsewhere(log_prior, known, {(0, 2)}, 2)
    assert math.exp(most) == pytest.approx(0.25)  # token 2 at once: (0.1 + 0.4) / 2
    assert all(p <= 0.25 for p in itertools.chain([0.5 * (0.3 + 0.1)], [0.5 * 0.6 * 0.1]))

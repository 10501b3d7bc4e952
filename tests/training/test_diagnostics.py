"""Numbers by hand, and alarms on simulations: collapsing, healthy, ignoring the passages, sure of wrong ones."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from mixrag.training.diagnostics import UsageWindow, step_diagnostics

LN2 = math.log(2)


def log(*weights: float) -> Tensor:
    return torch.tensor(weights, dtype=torch.float64).log()


# --- One step -------------------------------------------------------------------------------------


def test_the_numbers_of_a_step_by_hand() -> None:
    prior = torch.stack([log(0.5, 0.5), log(1.0, 0.0)])
    posterior = torch.stack([log(1.0, 0.0), log(1.0, 0.0)])
    found = step_diagnostics(prior, posterior, [["a", "b"], ["a", "c"]], [True, False])
    assert found == pytest.approx(
        {
            "effective_prior": (2 + 1) / 2,
            "effective_posterior": 1.0,
            "kl": (LN2 + 0) / 2,
            "largest_share": (0.5 + 1) / 2,
            "gold_found": 0.5,
        }
    )


def test_kl_is_from_posterior_to_prior_and_not_the_other_way() -> None:
    found = step_diagnostics([log(0.25, 0.75)], [log(0.5, 0.5)], [["a", "b"]], None)
    assert found["kl"] == pytest.approx(0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75))
    assert "gold_found" not in found


def test_a_truncated_prior_is_taken_among_the_retrieved() -> None:
    whole = step_diagnostics([log(0.2, 0.8)], [log(0.5, 0.5)], [["a", "b"]], [True])
    truncated = step_diagnostics([log(0.02, 0.08)], [log(0.5, 0.5)], [["a", "b"]], [True])
    assert truncated == pytest.approx(whole)


def test_questions_may_have_different_numbers_of_passages_and_passages_may_recur() -> None:
    rows = [log(0.25, 0.25, 0.5), log(1.0)]
    found = step_diagnostics(rows, rows, [["a", "b", "a"], ["b"]], [True, True])
    assert found["largest_share"] == pytest.approx((0.25 + 1) / 2) and found["kl"] == 0.0


def test_the_component_without_a_passage_is_no_passage() -> None:
    prior = log(0.9, 0.06, 0.04)
    found = step_diagnostics([prior], [prior], [[None, "a", "b"]], [False])
    assert found["largest_share"] == pytest.approx(0.06)
    assert step_diagnostics([log(1.0)], [log(1.0)], [[None]], [False])["largest_share"] == 0.0


def test_gradients_and_half_precision_do_no_harm() -> None:
    prior = torch.tensor([[0.0, -1.0]], dtype=torch.bfloat16, requires_grad=True)
    assert step_diagnostics(prior, prior, [["a", "b"]], [True])["kl"] == 0.0


def test_an_empty_batch_says_nothing() -> None:
    assert step_diagnostics([], [], [], []) == {}


# --- The window -----------------------------------------------------------------------------------

Weights = dict[str | None, float]


def add(
    window: UsageWindow,
    questions: Sequence[str],
    weights: Callable[[str], Weights],
    posterior: Callable[[str], Weights] | None = None,
    found: bool = True,
) -> None:
    prior = [log(*weights(q).values()) for q in questions]
    after = [log(*(posterior or weights)(q).values()) for q in questions]
    window.add(questions, prior, after, [list(weights(q)) for q in questions], [found] * len(questions))


def questions(first: int, last: int) -> list[str]:
    return [f"q{i}" for i in range(first, last)]


def own(question: str) -> Weights:
    """Every question its own passage, surely."""
    return {f"passage of {question}": 1.0, "other": 0.0}


def same(_: str) -> Weights:
    return {"a": 0.5, "b": 0.5}


def test_used_and_specific_by_hand() -> None:
    window = UsageWindow()
    add(window, questions(0, 8), own)
    assert window.used == pytest.approx(8) and window.specific == pytest.approx(8)
    window = UsageWindow()
    add(window, questions(0, 8), same)
    assert window.used == pytest.approx(2) and window.specific == pytest.approx(1)
    # Two questions, (1/2, 1/2, 0) and (0, 1/2, 1/2): mean (1/4, 1/2, 1/4) has 1.5 ln 2 nats, each has ln 2.
    window = UsageWindow()
    add(window, ["q0"], lambda _: {"a": 0.5, "b": 0.5})
    add(window, ["q1"], lambda _: {"b": 0.5, "c": 0.5})
    assert window.summary() == pytest.approx({"used": math.exp(1.5 * LN2), "specific": math.exp(0.5 * LN2)})


def test_a_question_that_comes_again_counts_once_with_its_latest_weights() -> None:
    window = UsageWindow()
    add(window, ["q0"] * 50 + ["q1"], own)
    assert window.specific == pytest.approx(2) and len(window.usages) == 2
    add(window, ["q0"], lambda _: own("q1"))
    assert window.specific == pytest.approx(1)


def test_the_window_forgets_the_oldest_questions() -> None:
    window = UsageWindow(size=4)
    add(window, questions(0, 4), own)
    add(window, ["q0"], own)  # again: q1 is now the oldest
    add(window, ["q4"], own)
    assert list(window.usages) == ["q2", "q3", "q0", "q4"]


def test_specific_is_about_passages_whatever_the_component_without_one_has() -> None:
    window = UsageWindow()
    add(window, questions(0, 8), lambda q: {None: 0.99, f"passage of {q}": 0.01})
    assert window.specific == pytest.approx(8)
    add(window, ["alone"], lambda _: {None: 1.0})
    assert window.specific == pytest.approx(8)


def test_an_empty_window_raises_no_alarm() -> None:
    window = UsageWindow()
    assert window.alarms() == [] and window.summary() == {} and window.found is None


# --- Alarms ---------------------------------------------------------------------------------------


def drifting(share: float) -> Callable[[str], Weights]:
    """``share`` of the prior on passages that all questions have in common, the rest on the question's own."""

    def weights(question: str) -> Weights:
        rest = 1 - share
        return {"a": share * 0.6, "b": share * 0.4, f"{question} 1": rest * 0.8, f"{question} 2": rest * 0.2}

    return weights


def collapsing(done: float) -> Callable[[str], Weights]:
    return drifting(min(1.0, 0.05 + 2 * done))


def attentive(weights: Callable[[str], Weights]) -> Callable[[str], Weights]:
    """A posterior that prefers the first of them."""

    def posterior(question: str) -> Weights:
        given = weights(question)
        scaled = [weight * (3.0 if place == 0 else 1.0) for place, weight in enumerate(given.values())]
        return {name: weight / sum(scaled) for name, weight in zip(given, scaled, strict=True)}

    return posterior


def run(
    window: UsageWindow, steps: int, weights: Callable[[float], Callable[[str], Weights]], pairs: int
) -> list[str]:
    """Batches of 16 questions in turn; ``weights`` is of the share of the run that is done."""
    alarms = []
    for step in range(steps):
        batch = [f"q{(step * 16 + i) % pairs}" for i in range(16)]
        now = weights(step / steps)
        add(window, batch, now, attentive(now))
        alarms += window.alarms()
    return alarms


@pytest.mark.parametrize("pairs", [40, 100, 1000])
def test_a_collapsing_run_raises_the_alarm_once_with_its_numbers(pairs: int) -> None:
    window = UsageWindow()
    assert run(window, 20, lambda _: drifting(0.05), pairs) == []
    collapse = run(window, 60, collapsing, pairs)
    assert len(collapse) == 1
    assert collapse[0].startswith("retrieval has collapsed: every question gets the same passages")
    assert f"{min(pairs, 256)} different questions" in collapse[0] and "--encoder-rate" in collapse[0]
    assert "\n" not in collapse[0]


def test_the_alarm_comes_within_a_window_of_the_collapse() -> None:
    window = UsageWindow()
    run(window, 20, lambda _: drifting(0.05), 1000)
    assert run(window, 16, lambda _: drifting(1.0), 1000) != []


def test_a_collapse_before_the_window_is_full_shows_too() -> None:
    window = UsageWindow()
    assert run(window, 10, lambda _: drifting(0.05), 100) == []
    assert run(window, 30, lambda _: drifting(1.0), 100) != []


@pytest.mark.parametrize("pairs", [8, 40, 1000])
def test_a_healthy_sharpening_run_raises_none(pairs: int) -> None:
    def sharpening(done: float) -> Callable[[str], Weights]:
        p = 0.2 + 0.8 * done
        return lambda q: {f"{q} 1": p, f"{q} 2": (1 - p) / 2, "a": (1 - p) / 2}

    window = UsageWindow()
    assert run(window, 80, sharpening, pairs) == []
    assert window.specific > 0.7 * min(pairs, 256)


def test_the_same_few_questions_again_and_again_are_no_collapse() -> None:
    window = UsageWindow()
    run(window, 20, lambda _: drifting(0.05), 1000)
    assert run(window, 40, lambda _: drifting(0.05), 40) == []


def test_a_corpus_of_one_passage_has_nothing_to_lose() -> None:
    window = UsageWindow()
    assert run(window, 40, lambda _: lambda __: {"a": 0.9, None: 0.1}, 100) == []


def test_few_questions_that_share_their_passages_are_no_collapse() -> None:
    window = UsageWindow()
    run(window, 20, lambda _: drifting(0.05), 31)
    assert run(window, 20, lambda _: drifting(1.0), 31) == []


def test_an_alarm_that_has_cleared_may_come_again() -> None:
    window = UsageWindow()
    run(window, 20, lambda _: drifting(0.05), 40)
    assert len(run(window, 10, lambda _: drifting(1.0), 40)) == 1
    assert run(window, 10, lambda _: drifting(0.05), 40) == []
    assert len(run(window, 10, lambda _: drifting(1.0), 40)) == 1


def test_a_value_that_wavers_at_the_threshold_raises_one_alarm() -> None:
    window = UsageWindow()
    run(window, 20, lambda _: drifting(0.05), 40)
    alarms = []
    for wanted in (3.1, 3.7) * 5:  # of 40 questions; the threshold is a tenth of the 40**0.95 at the beginning
        weights = drifting(1 - math.log(wanted) / math.log(40))
        add(window, questions(0, 40), weights, attentive(weights))
        assert window.specific == pytest.approx(wanted)
        alarms += window.alarms()
    assert len(alarms) == 1


@pytest.mark.parametrize("pairs", [20, 1000])
def test_a_language_model_that_ignores_the_passages_is_reported(pairs: int) -> None:
    window, alarms = UsageWindow(), []
    for step in range(20):
        batch = [f"q{(step * 16 + i) % pairs}" for i in range(16)]
        add(window, batch, drifting(0.1))  # posterior = prior
        alarms += window.alarms()
    assert len(alarms) == 1 and alarms[0].startswith("the language model ignores the passages")
    assert "0 nats" in alarms[0]


def test_a_single_passage_is_not_an_ignored_one() -> None:
    window = UsageWindow()
    add(window, questions(0, 300), lambda q: {f"{q} 1": 0.999, f"{q} 2": 0.001})
    assert window.alarms() == []


def test_a_point_on_wrong_passages_is_reported_and_one_on_right_passages_is_not() -> None:
    for found, expected in ((True, 0), (False, 1)):
        window = UsageWindow()
        add(window, questions(0, 300), drifting(0.1), attentive(drifting(0.1)))
        assert window.alarms() == []
        add(window, questions(0, 200), own, found=found)
        add(window, questions(200, 300), own, found=True)
        alarms = window.alarms()
        assert len(alarms) == expected
        if alarms:
            assert alarms[0].startswith("the prior has become a point") and "39% of them" in alarms[0]
            assert "at the beginning 100%" in alarms[0]


def test_a_flat_prior_on_wrong_passages_is_no_point() -> None:
    window = UsageWindow()
    add(window, questions(0, 300), drifting(0.1), attentive(drifting(0.1)))
    add(window, questions(0, 300), drifting(0.1), attentive(drifting(0.1)), found=False)
    assert window.alarms() == []


def test_a_restored_window_goes_on_as_if_it_had_never_stopped() -> None:
    whole, stopped = UsageWindow(), UsageWindow()
    for window in (whole, stopped):
        run(window, 20, lambda _: drifting(0.05), 300)
    restored = UsageWindow.from_state(json.loads(json.dumps(stopped.state())))
    assert restored == stopped and list(restored.usages) == list(stopped.usages)
    assert run(whole, 40, collapsing, 300) == run(restored, 40, collapsing, 300) != []
    again = UsageWindow.from_state(json.loads(json.dumps(restored.state())))
    assert again == whole and again.alarms() == []

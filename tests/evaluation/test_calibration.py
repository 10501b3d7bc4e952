"""Calibration against its definitions, and against answers whose chances are planted."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from mixrag.answers.confidence import ConfidenceMap, level_of
from mixrag.answers.signals import Form, Signals, log_odds, sigmoid
from mixrag.errors import PairsError
from mixrag.evaluation.calibration import (
    CANDIDATES,
    METHODS,
    Candidate,
    Outcome,
    Target,
    check_enough,
    confidences_of,
    rights,
    unanswerable_weight,
    with_unanswerable,
)
from mixrag.evaluation.map_fits import fit_candidate
from mixrag.evaluation.selection import Measured, cross_fitted, fit, fit_selected, folds_of, not_worse, select
from mixrag.evaluation.trust_measures import (
    auroc,
    brier_score,
    chance_error,
    chance_errors,
    expected_calibration_error,
)


def planted(n: int, scale: float, seed: int = 0, support: float = 0.5) -> list[Outcome]:
    """Answers right with probability sigmoid(scale · logit(p)): p is wrong by ``scale``."""
    source = np.random.default_rng(seed)
    found = []
    for odds in source.normal(0.0, 2.0, n):
        right = float(source.random() < sigmoid(scale * odds))
        found.append(Outcome(Signals(math.log(sigmoid(odds)), support), right))
    return found


@pytest.mark.parametrize("scale", [0.25, 1.0, 3.0])
def test_temperature_finds_the_planted_one(scale: float) -> None:
    found = fit_candidate(Candidate("temperature"), planted(4000, scale))
    assert found.right["plain"] == pytest.approx(scale, rel=0.1)


@pytest.mark.parametrize("method", ["temperature", "logistic", "isotonic"])
def test_every_method_mends_overconfidence_on_answers_it_has_not_seen(method: str) -> None:
    seen, unseen = planted(1000, 0.3), planted(1000, 0.3, seed=9)
    raw = confidences_of(ConfidenceMap(), unseen)
    mended = confidences_of(fit_candidate(Candidate(method), seen), unseen)  # type: ignore[arg-type]
    before, after = (expected_calibration_error(each, rights(unseen)) for each in (raw, mended))
    assert before > 0.15 and after < 0.05
    assert brier_score(mended, rights(unseen)) < brier_score(raw, rights(unseen))


def noisy(n: int, seed: int, answerable: bool = True) -> list[Outcome]:
    """Outcomes of chance with all signals, some of which rise where answers are wrong."""
    source, forms = np.random.default_rng(seed), ("text", "number", "yes-no")
    found = []
    for _ in range(n):
        right = float(answerable and source.random() < 0.5)
        signals = Signals(
            math.log(sigmoid(source.normal(1 - 2 * right, 2.0))),
            source.random(),
            float(sigmoid(source.normal(2 * right - 1, 2.0))),
            float(source.exponential()),
            source.random(),
            int(source.integers(1, 9)),
            forms[int(source.integers(3))],  # type: ignore[arg-type]
            source.random(),
            source.random(),
            source.random() * right,
            source.random(),
        )
        found.append(Outcome(signals, right))
    return found


@pytest.mark.parametrize("candidate", CANDIDATES, ids=str)
def test_more_mass_never_lowers_and_more_of_the_empty_answer_never_raises(candidate: Candidate) -> None:
    """Fitted where the less probable answers are right and the empty answer is likely: still of the right sign."""
    found = fit_candidate(candidate, noisy(200, 1), noisy(60, 2, answerable=False))
    start = noisy(1, 3)[0].signals
    forms: tuple[Form, ...] = ("text", "yes-no", "number")
    for form in forms:
        signals = replace(start, form=form)
        by_mass = [found.confidence(replace(signals, log_mass=x)) for x in np.linspace(-40.0, 0.0, 100)]
        by_empty = [found.confidence(replace(signals, p_empty=p)) for p in np.linspace(1.0, 0.0, 100)]
        for rising in (by_mass, by_empty):
            assert all(0 <= low <= high <= 1 for low, high in itertools.pairwise(rising))


def on_and_off_corpus(spread: float = 0.1) -> tuple[list[Outcome], list[Outcome]]:
    """300 of each: equally probable answers, to questions that are near to the passages or far from them."""
    source = np.random.default_rng(2)
    inside, outside = planted(300, 1.0), planted(300, 1.0, seed=5)
    near, far = source.normal(0.7, spread, 300), source.normal(0.2, spread, 300)
    return (
        [replace(each, signals=replace(each.signals, support=s)) for each, s in zip(inside, near, strict=True)],
        [Outcome(replace(each.signals, support=s), 0.0) for each, s in zip(outside, far, strict=True)],
    )


TWO_PARTS = Candidate("two-part", ("mass",), ("answered", "support"))


def test_the_second_part_tells_questions_without_an_answer_apart() -> None:
    inside, outside = on_and_off_corpus(spread=0.0)
    target = Target(coverage=0.8)
    found = cross_fitted(TWO_PARTS, inside, outside, target)
    assert found.off_corpus_answered.mean() < 0.05 and 0.7 < found.answered.mean() < 0.9
    blind = cross_fitted(Candidate("logistic", ("mass",)), inside, outside, target)
    assert blind.off_corpus_answered.mean() > 0.5


@pytest.mark.parametrize("times", [1, 10])
def test_confidence_is_p_right_where_at_most_a_fifth_of_the_questions_have_no_answer(times: int) -> None:
    inside, outside = on_and_off_corpus()
    found = fit_candidate(TWO_PARTS, inside, outside * times)
    accuracy = rights(inside).mean()
    every, right, count = with_unanswerable(
        confidences_of(found, inside), rights(inside), confidences_of(found, outside * times)
    )
    assert count.sum() == pytest.approx(300 / 0.8) and count[0] == 1.0
    assert np.average(every, weights=count) == pytest.approx(np.average(right, weights=count), abs=0.01)
    assert confidences_of(found, outside).mean() < accuracy / 2
    factor = np.mean([found.answerable_of({"support": each.signals.support, "answered": 7.0}) for each in outside])
    assert factor < 0.1


def test_the_empty_answer_is_learnt_as_a_sign_of_no_answer() -> None:
    inside, outside = planted(200, 1.0), planted(100, 1.0, seed=4)
    inside = [replace(each, signals=replace(each.signals, p_empty=0.1)) for each in inside]
    outside = [Outcome(replace(each.signals, p_empty=0.8), 0.0) for each in outside]
    found = fit_candidate(TWO_PARTS, inside, outside)
    assert found.answerable is not None and found.answerable["answered"] > 0
    assert confidences_of(found, outside).max() < 0.2


def test_a_fit_has_no_weight_for_what_is_not_known_or_never_varies() -> None:
    every = ("mass", "mass_yes_no", "yes_no", "number", "length", "spread", "support", "overlap", "answered")
    found = fit_candidate(Candidate("logistic", every), planted(100, 1.0))
    assert set(found.right) == {"mass"}


def test_answers_that_are_yes_or_no_have_a_mass_of_their_own() -> None:
    """Words: p is right; yes or no: p says nothing, and half are right."""
    source = np.random.default_rng(0)
    either = [
        Outcome(replace(each.signals, form="yes-no"), float(source.random() < 0.5))
        for each in planted(300, 1.0, 3)
    ]
    found = fit_candidate(Candidate("logistic", ("mass", "mass_yes_no", "yes_no")), [*planted(300, 1.0), *either])
    assert found.right["mass"] == pytest.approx(1.0, abs=0.2)
    assert found.right.get("mass_yes_no", 0.0) < 0.15


def test_agreement_of_generators_is_learnt_where_it_tells_right_from_wrong() -> None:
    """Answers of equal probability, on which the generators agree where they are right."""
    source = np.random.default_rng(0)
    outcomes = [
        replace(each, signals=replace(each.signals, agreement=float(source.random() ** (1 if each.right else 4))))
        for each in planted(300, 1.0)
    ]
    found = fit("logistic", outcomes)
    assert found.right["agreement"] > 0
    alone = cross_fitted(Candidate("logistic"), outcomes)
    best = select(outcomes).methods["logistic"]
    assert (
        "agreement" in best.candidate.right and best.loss(rights(outcomes)) < alone.loss(rights(outcomes)) - 0.02
    )


def test_folds_are_disjoint_and_share_right_and_wrong_of_each_group() -> None:
    outcomes = [replace(each, group="ab"[i % 2]) for i, each in enumerate(planted(100, 1.0))]
    folds, right = folds_of(outcomes, seed=3), rights(outcomes)
    assert set(folds.tolist()) == set(range(5))
    for group in "ab":
        own = np.array([each.group == group for each in outcomes])
        for value in (0.0, 1.0):
            counts = np.bincount(folds[own & (right == value)], minlength=5)
            assert counts.max() - counts.min() <= 1
    assert folds.tolist() == folds_of(outcomes, seed=3).tolist() != folds_of(outcomes, seed=4).tolist()


def test_all_answers_to_one_question_are_in_one_fold() -> None:
    """Questions equal once normalised: answered right and wrong, in several groups, and off the corpus."""
    asked = [replace(each, question=f"Which is number {i}?", group="a") for i, each in enumerate(planted(60, 1.0))]
    again = [
        replace(each, question=f"which is  the number {i}", group="bc"[i % 2], right=1 - each.right)
        for i, each in enumerate(asked)
    ]
    alone = planted(50, 1.0)  # whose questions are not known
    folds = folds_of([*asked, *again, *alone])
    assert folds[:60].tolist() == folds[60:120].tolist()
    assert np.bincount(folds[:60]).tolist() == [12] * 5 and len(set(folds[120:].tolist())) == 5
    outside = [Outcome(each.signals, 0.0, "off", each.question) for each in asked]
    measured = cross_fitted(Candidate("isotonic"), [*asked, *alone], outside)
    place = {each.question: fold for each, fold in zip(asked, measured.folds, strict=False)}
    for each, confidence in zip(outside, measured.off_corpus, strict=True):
        fold = place[each.question]
        rest = [one for one, own in zip([*asked, *alone], measured.folds, strict=True) if own != fold]
        found = fit_candidate(Candidate("isotonic"), rest, [one for one in outside if place[one.question] != fold])
        assert confidence == found.confidence(each.signals)


def test_a_confidence_is_measured_on_answers_it_has_not_seen() -> None:
    """Isotonic regression on answers of equal probability gives each fold the rate of the others, not its own."""
    found = [Outcome(Signals(math.log(0.4), 0.0), float(i < 31)) for i in range(80)]
    measured, right = cross_fitted(Candidate("isotonic"), found), rights(found)
    for fold in range(5):
        own = measured.folds == fold
        assert measured.confidences[own] == pytest.approx(right[~own].mean())


def test_the_threshold_is_that_of_confidences_of_fits_that_have_not_seen_the_answers() -> None:
    """Many signals of pure chance: the answers on which they were fitted look far better than they are."""
    outcomes = noisy_signals(120, seed=4)
    candidate = Candidate("logistic", ("mass", "support", "spread", "best_prior", "overlap", "length", "number"))
    right, target = rights(outcomes), Target(precision=0.7)
    measured = cross_fitted(candidate, outcomes, target=target)
    assert measured.threshold == target.threshold(measured.confidences, right)
    for fold in range(5):
        own = measured.folds == fold
        bar = target.threshold(measured.confidences[~own], right[~own]).value
        assert (measured.answered[own] == (measured.confidences[own] >= bar)).all()
    seen = confidences_of(fit_candidate(candidate, outcomes), outcomes)
    optimistic = target.threshold(seen, right)
    assert optimistic.reached and not measured.threshold.reached
    selection = select(outcomes, target=target, method="logistic")
    best = selection.methods["logistic"]
    found = fit("logistic", outcomes, target=target)
    assert found.threshold == best.threshold.value


def noisy_signals(n: int, seed: int) -> list[Outcome]:
    """Half right, whatever the signals."""
    source = np.random.default_rng(seed)
    signals = [replace(each.signals, p_empty=0.0, form="text") for each in noisy(n, seed)]
    return [Outcome(each, float(source.random() < 0.5)) for each in signals]


def test_answers_to_questions_without_one_are_wrong_in_every_map_threshold_and_level() -> None:
    """Half as many questions without an answer, whose answers are as probable: they count as one in five."""
    inside, outside = planted(400, 1.0), planted(200, 1.0, seed=3)
    weight = unanswerable_weight(400, 200)
    assert weight == 0.5 and unanswerable_weight(400, 60) == 1.0 == unanswerable_weight(400, 0)
    for method in ("logistic", "isotonic"):
        found = fit_candidate(Candidate(method), inside, outside)  # type: ignore[arg-type]
        every, _, count = with_unanswerable(
            confidences_of(found, inside), rights(inside), confidences_of(found, outside)
        )
        assert np.average(every, weights=count) == pytest.approx(rights(inside).sum() / 500, abs=0.01)
    without, with_them = (fit_candidate(Candidate("temperature"), inside, some) for some in ((), outside))
    assert with_them.right["plain"] < without.right["plain"]
    measured = cross_fitted(Candidate("logistic"), inside, outside)
    levels = fit("logistic", inside, outside).levels
    assert sum(n for n, _ in levels.values()) == pytest.approx(400 + 200 * weight, abs=2)
    assert sum(right for _, right in levels.values()) == rights(inside).sum()
    precision = measured.precision(rights(inside))
    given = rights(inside)[measured.answered]
    assert precision is not None
    assert precision.mean == pytest.approx(
        given.sum() / (len(given) + weight * measured.off_corpus_answered.sum())
    )


def test_all_pairs_are_used_and_the_levels_count_confidences_of_fits_that_have_not_seen_them() -> None:
    outcomes = planted(300, 0.5)
    measured = cross_fitted(Candidate("temperature"), outcomes)
    found, words = fit("temperature", outcomes), [level_of(each) for each in measured.confidences.tolist()]
    assert sum(n for n, _ in found.levels.values()) == 300
    for level, (n, right) in found.levels.items():
        own = [each for each, word in zip(outcomes, words, strict=True) if word == level]
        assert (n, right) == (len(own), sum(each.right for each in own))


def with_confidences(outcomes: list[Outcome], confidences: np.ndarray) -> Measured:
    nothing = np.zeros(0)
    answered = np.ones(len(outcomes), bool)
    threshold = Target().threshold(confidences, rights(outcomes))
    return Measured(
        CANDIDATES[0], confidences, folds_of(outcomes), answered, nothing, nothing.astype(bool), threshold
    )


def test_what_is_worse_than_plain_p_in_one_group_is_not_chosen() -> None:
    """Support orders the answers of the large group perfectly, and those of the small one the wrong way round."""
    large, small = planted(300, 0.3, seed=1), planted(80, 1.0, seed=2)
    source = np.random.default_rng(0)
    large = [
        Outcome(replace(each.signals, support=each.right + source.random() / 2), each.right, "large")
        for each in large
    ]
    small = [
        Outcome(replace(each.signals, support=1 - each.right + source.random() / 2), each.right, "small")
        for each in small
    ]
    outcomes = [*large, *small]
    tempting = Candidate("logistic", ("mass", "support"))
    found, plain = cross_fitted(tempting, outcomes), cross_fitted(CANDIDATES[0], outcomes)
    assert found.loss(rights(outcomes)) < plain.loss(rights(outcomes)) - 0.1
    own = np.arange(300, 380)
    assert auroc(found.confidences[own], rights(small)) < auroc(plain.confidences[own], rights(small))  # type: ignore[operator]
    assert not_worse(found, plain, outcomes) is False
    assert not_worse(cross_fitted(tempting, large), cross_fitted(CANDIDATES[0], large), large)
    chosen = select(outcomes)
    best = chosen.methods[chosen.chosen]
    assert not_worse(best, chosen.methods["none"], outcomes)
    assert chosen.chosen != "logistic" or "support" not in best.candidate.right


def test_the_rule_looks_at_order_and_at_error() -> None:
    outcomes = [replace(each, group="one") for each in planted(400, 1.0)]
    plain = with_confidences(outcomes, confidences_of(ConfidenceMap(), outcomes))
    assert not_worse(plain, plain, outcomes)
    turned = with_confidences(outcomes, 1 - plain.confidences)
    squeezed = with_confidences(outcomes, 0.2 + plain.confidences / 10)
    assert not not_worse(turned, plain, outcomes), "the wrong order"
    assert not not_worse(squeezed, plain, outcomes), "the same order, but another error"
    assert not_worse(plain, squeezed, outcomes)


def test_an_order_that_is_worse_beyond_chance_is_refused() -> None:
    """Confidences that are calibrated and say nothing: of many answers that is worse, a swap of two is chance."""
    outcomes = [replace(each, group="one") for each in planted(400, 1.0)]
    true = confidences_of(ConfidenceMap(), outcomes)
    plain = with_confidences(outcomes, true)
    nothing = float(rights(outcomes).mean()) + np.random.default_rng(5).uniform(-1e-3, 1e-3, len(outcomes))
    assert not not_worse(with_confidences(outcomes, nothing), plain, outcomes)
    swapped, right = true.copy(), rights(outcomes) == 1.0
    best, worst = (
        int(np.flatnonzero(right)[true[right].argmax()]),
        int(np.flatnonzero(~right)[true[~right].argmin()]),
    )
    swapped[[best, worst]] = swapped[[worst, best]]
    assert auroc(swapped, rights(outcomes)) < auroc(true, rights(outcomes))  # type: ignore[operator]
    assert not_worse(with_confidences(outcomes, swapped), plain, outcomes)


def test_an_error_that_perfect_confidences_show_by_chance_is_none() -> None:
    """The true chances of being right, on answers where they look worse than usual, beside the same, tuned."""
    outcomes = planted(80, 1.0, seed=7)
    right, true = rights(outcomes), confidences_of(ConfidenceMap(), outcomes)
    odds = np.log(true / (1 - true))
    tuned = min(
        (
            1 / (1 + np.exp(-(scale * odds + shift)))
            for scale in np.linspace(0.3, 2, 18)
            for shift in (-0.5, 0, 0.5)
        ),
        key=lambda each: expected_calibration_error(each, right),
    )
    errors = [expected_calibration_error(each, right) for each in (true, tuned)]
    assert errors[0] > chance_error(true) and errors[0] > errors[1]
    assert errors[0] < np.quantile(chance_errors(true), 0.95)
    assert not_worse(with_confidences(outcomes, true), with_confidences(outcomes, tuned), outcomes)


def test_the_choice_has_the_least_loss_of_what_is_allowed() -> None:
    outcomes = planted(400, 0.3)
    found = select(outcomes)
    right = rights(outcomes)
    allowed = [each for each in found.methods.values() if not_worse(each, found.methods["none"], outcomes)]
    assert found.chosen == min(allowed, key=lambda each: each.loss(right)).candidate.method != "none"
    assert select(outcomes, method="isotonic").chosen == "isotonic"
    assert "two-part" not in found.methods


def test_a_map_of_the_mass_alone_orders_as_the_mass_does_within_folds() -> None:
    outcomes = planted(200, 0.5)
    found = select(outcomes, compared=("temperature",)).methods
    own, plain = (
        auroc(found[name].confidences, rights(outcomes), found[name].folds) for name in ("temperature", "none")
    )
    assert own == plain


@pytest.mark.parametrize("n, right, message", [(39, 20, "40 pairs"), (40, 5, "6 right"), (60, 55, "6 right")])
def test_too_few_pairs_are_refused_with_the_number_that_is_needed(n: int, right: int, message: str) -> None:
    found = [Outcome(Signals(math.log(0.5), 0.0), float(i < right)) for i in range(n)]
    for call in (
        lambda: check_enough(found),
        lambda: fit("isotonic", found),
        lambda: cross_fitted(CANDIDATES[0], found),
    ):
        with pytest.raises(PairsError, match=message):
            call()
    assert log_odds(math.log(0.5)) == pytest.approx(0.0)


def test_two_parts_need_questions_without_an_answer() -> None:
    with pytest.raises(PairsError, match="20 questions"):
        fit("two-part", planted(100, 1.0), planted(19, 1.0))
    assert fit("two-part", *on_and_off_corpus()).method == "two-part"
    assert set(select(*on_and_off_corpus()).methods) == set(METHODS)


@pytest.mark.parametrize("target", [Target(0.8), Target(0.99), Target(coverage=0.5)], ids=str)
def test_at_threshold_0_the_share_that_is_right_is_stored_and_not_the_target(target: Target) -> None:
    known = planted(200, 1.0)
    selection = select(known, target=target, method="none")
    plain = selection.methods["none"]
    nothing = target.threshold(np.zeros(200), rights(known))
    withheld_never = replace(selection, methods={"none": replace(plain, threshold=nothing)})
    found = fit_selected(withheld_never, known, (), target=target)
    assert found.threshold == 0.0 and found.precision == pytest.approx(rights(known).mean())
    some = fit_selected(selection, known, (), target=target)
    assert some.threshold > 0.0 and some.precision == (None if target.coverage else target.precision)

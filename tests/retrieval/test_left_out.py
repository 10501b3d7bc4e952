"""Passages that are left out: the prior of the others, and what is outside, as if they had never been found."""

from __future__ import annotations

import math

import pytest
import torch

from mixrag.errors import QuestionError
from mixrag.retrieval.left_out import leave_out
from mixrag.retrieval.retriever import Retrieval
from tables import passage

SCORES = torch.tensor([3.0, 2.5, 1.0, 0.2, -1.0], dtype=torch.float64)
NAMES = ("a", "b", "c", "d", "e")


def found(k: int, *, full: bool = False, null: float | None = None) -> Retrieval:
    """The first k of all passages, under one of both normalisers."""
    weights = SCORES.exp()
    everything = weights.sum() + (0.0 if null is None else math.exp(null))
    listed = weights[:k].sum() + (0.0 if null is None else math.exp(null))
    total = everything if full else listed
    return Retrieval(
        tuple(map(passage, NAMES[:k])),
        (weights[:k] / total).log(),
        SCORES[:k],
        log_null=None if null is None else null - float(total.log()),
        outside=float(1 - listed / everything),
    )


@pytest.mark.parametrize("null", [None, 1.5])
@pytest.mark.parametrize("ids", [{"a"}, {"b"}, {"a", "c"}])
def test_the_others_are_as_likely_as_if_these_did_not_exist(null: float | None, ids: set[str]) -> None:
    rest = [i for i in range(3) if NAMES[i] not in ids]
    left = leave_out(found(3, null=null), ids)
    weights = SCORES[rest].exp()
    total = weights.sum() + (0.0 if null is None else math.exp(null))
    assert [each.id for each in left.passages] == [NAMES[i] for i in rest]
    assert left.log_prior.exp().tolist() == pytest.approx((weights / total).tolist())
    assert left.inner_products.tolist() == SCORES[rest].tolist()
    if null is not None and left.log_null is not None:
        assert math.exp(left.log_null) == pytest.approx(float(math.exp(null) / total))


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("null", [None, 1.5])
@pytest.mark.parametrize("ids", [{"a"}, {"b", "c"}])
def test_what_is_outside_is_a_share_of_all_that_is_left(full: bool, null: float | None, ids: set[str]) -> None:
    before = found(3, full=full, null=null)
    left = leave_out(before, ids)
    others = [i for i in range(5) if NAMES[i] not in ids]
    everything = SCORES[others].exp().sum() + (0.0 if null is None else math.exp(null))
    assert left.outside == pytest.approx(float(SCORES[3:].exp().sum() / everything))
    prior = left.log_prior.exp().sum() + (0.0 if left.log_null is None else math.exp(left.log_null))
    assert float(prior) == pytest.approx(1.0 - left.outside if full else 1.0)


def test_bounds_on_what_is_outside_still_have_it_between_them() -> None:
    exact = found(3)
    assert exact.outside is not None
    bounds = (0.5 * exact.outside, min(1.0, 1.5 * exact.outside))
    left = leave_out(
        Retrieval(exact.passages, exact.log_prior, exact.inner_products, outside_bounds=bounds), {"a"}
    )
    known = leave_out(exact, {"a"}).outside
    assert left.outside is None and left.outside_bounds is not None and known is not None
    assert left.outside_bounds[0] < known < left.outside_bounds[1]


def test_nothing_left_out_changes_nothing() -> None:
    before = found(3)
    assert leave_out(before, ()) is before


@pytest.mark.parametrize(("ids", "null"), [({"x"}, None), ({"a", "x"}, None), ({"a", "b", "c"}, None)])
def test_something_has_to_be_there_and_to_be_left(ids: set[str], null: float | None) -> None:
    with pytest.raises(QuestionError):
        leave_out(found(3, null=null), ids)


def test_the_null_component_may_be_all_that_is_left() -> None:
    left = leave_out(found(3, null=1.5), {"a", "b", "c"})
    assert left.passages == () and left.log_null == pytest.approx(0.0)

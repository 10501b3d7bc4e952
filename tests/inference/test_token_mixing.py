"""Certified decoding with models behind a server that cuts its lists, against complete enumeration.

``benchmarks/certificates.py`` does the same with 2,000 models.
"""

from __future__ import annotations

import pytest

from certificates import random_models as models
from table_servers import Found, by_sentence, exactly_mixed, mixed, thorough


def never_wrong(found: list[Found]) -> None:
    assert [each.wrong for each in found if each.wrong] == []


@pytest.mark.parametrize("count", [5, 20])
def test_thorough_decoding_is_never_wrong(count: int) -> None:
    found = [thorough(model, count, switch) for model, switch in models(count, 60)]
    never_wrong(found)
    assert sum(each.certified for each in found) > 18
    assert {each.calls for each in found} == {2}


@pytest.mark.parametrize("count", [5, 20])
def test_token_mixing_is_never_wrong(count: int) -> None:
    """Lists alone: tokens and answers are certified, or it is said that they are not."""
    found = [mixed(model, count, switch, scores=False) for model, switch in models(count, 50)]
    never_wrong(found)
    share = sum(each.certain for each in found) / sum(each.tokens for each in found)
    assert share > (0.5 if count == 5 else 0.9)
    assert sum(each.certified for each in found) > 10
    assert all(each.calls == each.tokens for each in found)


@pytest.mark.parametrize("count", [5, 20])
def test_a_server_that_scores_tokens_is_asked_for_what_the_lists_lack(count: int) -> None:
    for model, switch in models(count, 20):
        lists, more = (mixed(model, count, switch, scores=scores) for scores in (False, True))
        never_wrong([lists, more])
        assert more.certain >= lists.certain
        assert more.calls >= lists.calls


def test_numbers_are_exact_where_the_server_scores_tokens() -> None:
    never_wrong([exactly_mixed(model, 5, switch) for model, switch in models(5, 20)])


def test_weights_move_at_the_ends_of_sentences_only() -> None:
    """Tokens are those of a loop in probability space, which differ from those with one switch for all tokens."""
    ended = 0
    for model, _ in models(20, 40):
        written, expected, ends = by_sentence(model, 20, 0.9)
        assert written == expected
        ended += bool(ends & set(expected[:-1]))
    assert ended > 5

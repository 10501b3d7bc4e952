"""The trainable prior is the retriever's prior, and its gradient is that of its definition."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mixrag.errors import StoreEmptyError
from mixrag.pairs.pairs import Pair
from mixrag.rag import RAG
from mixrag.retrieval.encoders import load_encoder
from mixrag.training.examples import Example
from mixrag.training.trainable_prior import TrainablePrior
from training.conftest import PAIRS

EXAMPLES = [Example(i, pair, ((1, 2),)) for i, pair in enumerate(PAIRS)]
SETTINGS = [
    {},
    {"lexical": 0.4},
    {"null": 0.7},
    {"normaliser": "full"},
    {"normaliser": "full", "null": 0.7, "lexical": 0.3},
    {"k": "all", "lexical": 1.0},
    {"where": {"document": "*.txt"}, "lexical": 0.5},
]


def trainable(rag: RAG, *parts: str) -> TrainablePrior:
    return TrainablePrior(rag.store, rag.encoder, rag.settings, frozenset(parts))  # type: ignore[arg-type]


@pytest.mark.parametrize("parts", [(), ("question-encoder", "temperature")])
@pytest.mark.parametrize("changes", SETTINGS)
def test_it_is_the_retriever(
    open_rag: Callable[..., RAG], changes: dict[str, object], parts: tuple[str, ...]
) -> None:
    rag = open_rag(**changes)
    prior = trainable(rag, *parts)
    candidates = prior.candidates(EXAMPLES)
    for example, chosen, found in zip(EXAMPLES, candidates, prior.priors(EXAMPLES, candidates), strict=True):
        expected = rag.passages(example.pair.question)
        assert [p.id for p in chosen.passages] == [p.id for p in expected.passages]
        torch.testing.assert_close(found.log_prior.detach(), expected.log_prior, rtol=1e-5, atol=1e-5)
        if expected.log_null is not None:
            assert found.log_null.item() == pytest.approx(expected.log_null, abs=1e-5)


def test_vectors_with_gradient_are_those_without(encoder_folder: Path) -> None:
    encoder = load_encoder(encoder_folder, device="cpu")
    texts = ["to fish cod", "in winter, when the harbour is closed"]
    for differentiable, plain in (
        (encoder.question_tensor, encoder.encode_questions),
        (encoder.passage_tensor, encoder.encode_passages),
    ):
        tensor = differentiable(texts)
        assert tensor.requires_grad
        np.testing.assert_allclose(tensor.detach().numpy(), plain(texts), atol=1e-6)


def test_the_gradient_in_temperature_and_null_is_that_of_a_finite_difference(open_rag: Callable[..., RAG]) -> None:
    prior = trainable(open_rag(lexical=0.3, null=0.2), "temperature", "null")
    candidates = prior.candidates(EXAMPLES[:1])

    def value() -> torch.Tensor:
        return prior.priors(EXAMPLES[:1], candidates)[0].log_prior[0]

    value().backward()
    for scalar in (prior.log_temperature, prior.null):
        with torch.no_grad():
            scalar += 1e-5
            above = float(value())
            scalar -= 2e-5
            below = float(value())
            scalar += 1e-5
        assert float(scalar.grad) == pytest.approx((above - below) / 2e-5, rel=1e-4)
        assert abs(float(scalar.grad)) > 1e-4


def test_training_the_question_encoder_leaves_the_passages_alone(open_rag: Callable[..., RAG]) -> None:
    rag = open_rag()
    before = rag.encoder.fingerprint
    prior = trainable(rag, "question-encoder")
    candidates = prior.candidates(EXAMPLES)
    loss = -torch.stack([found.log_prior[-1] for found in prior.priors(EXAMPLES, candidates)]).sum()
    loss.backward()
    assert any(
        float(weight.grad.abs().sum()) > 0 for weight in prior.weights().values() if weight.grad is not None
    )
    assert all(name.startswith("question/") for name in prior.weights())
    with torch.no_grad():
        for weight in prior.weights().values():
            weight += 0.1
    assert replace(prior.encoder).fingerprint == before


def test_fresh_passage_vectors_stand_in_for_the_index(open_rag: Callable[..., RAG]) -> None:
    prior = trainable(open_rag(), "encoder")
    with torch.no_grad():
        for weight in prior.weights().values():
            weight += 0.05 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    candidates = prior.candidates(EXAMPLES)
    stale = prior.staleness(candidates, EXAMPLES, step=7)
    assert stale.steps == 7 and stale.shift > 1e-3
    fresh = [found.log_prior.detach() for found in prior.priors(EXAMPLES, candidates)]
    prior.refresh(step=7)
    rebuilt = [found.log_prior.detach() for found in prior.priors(EXAMPLES, candidates)]
    torch.testing.assert_close(torch.stack(rebuilt), torch.stack(fresh), rtol=1e-4, atol=1e-4)
    assert prior.staleness(prior.candidates(EXAMPLES), EXAMPLES, step=7).shift < 1e-4


def test_a_pairs_own_filter_is_kept(open_rag: Callable[..., RAG]) -> None:
    prior = trainable(open_rag())
    pair = Pair(PAIRS[0].question, ("x",), None, {"document": "tax.txt"}, "pairs.jsonl:1")
    (found,) = prior.candidates([Example(0, pair, ((1,),))])
    assert [Path(p.document).name for p in found.passages] == ["tax.txt"]
    nowhere = replace(pair, where={"document": "none.txt"})
    with pytest.raises(StoreEmptyError, match=r"pairs\.jsonl:1"):
        prior.candidates([Example(1, nowhere, ((1,),))])


def test_a_null_score_that_was_not_given_starts_at_a_tenth(open_rag: Callable[..., RAG]) -> None:
    prior = trainable(open_rag(lexical=0.3), "null")
    prior.place_null(EXAMPLES)
    found = prior.priors(EXAMPLES, prior.candidates(EXAMPLES))
    shares = [each.log_null.exp().item() for each in found]
    assert sum(shares) / len(shares) == pytest.approx(0.1, abs=0.02)
    given = trainable(open_rag(null=0.3), "null")
    given.place_null(EXAMPLES)
    assert given.null.item() == 0.3

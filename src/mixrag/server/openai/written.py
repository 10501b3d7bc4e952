"""From what a server without exact probabilities writes to a ``Reply``: no number says more than is known."""

from __future__ import annotations

from typing import Any

from mixrag.answers.bounded import IntervalAnswer
from mixrag.answers.written import WrittenAnswer, WrittenComponent
from mixrag.retrieval.retriever import Retrieval
from mixrag.server.openai.replies import Cited, Reply, Weighed, best_writers


def written_reply(answer: WrittenAnswer | IntervalAnswer, retrieval: Retrieval) -> Reply:
    """What is shown of it. Passages are cited by their prior, or by the least that their posterior can be."""
    shares = _shares(answer)
    priors = retrieval.log_prior.exp().tolist()
    sources = tuple(Weighed(each, prior, None) for each, prior in zip(retrieval.passages, priors, strict=True))
    weights = tuple(shares.get(each.id, 0.0) for each in retrieval.passages)
    cited = best_writers(sources, weights) if any(weights) else []
    interval = isinstance(answer, IntervalAnswer)
    return Reply(
        text=answer.text,
        cited=tuple(Cited(0, len(answer.text), each) for each in cited),
        passages=sources,
        tokens=None,
        read=0,
        written=len(answer.tokens) if isinstance(answer, IntervalAnswer) else 0,
        finished=answer.finished if isinstance(answer, IntervalAnswer) else _finished(answer),
        numbers=_numbers(answer.to_dict(), interval),
    )


def _numbers(document: dict[str, Any], interval: bool) -> dict[str, Any]:
    return {
        "kind": "span",
        "withheld": False,
        "best_guess": document["answer"],
        "probability": document["probability"],
        "confidence": None,
        "how_sure": document["no_probability"]
        or "its probability is known, how often such answers are right is not",
        "guarantee": None,
        "p_empty": None,
        "no_probability": document["no_probability"],
        **({"log_interval": document["log_interval"]} if interval else {}),
    }


def _shares(answer: WrittenAnswer | IntervalAnswer) -> dict[str, float]:
    """By passage, how much of the answer its component certainly wrote; of text alone, the prior of who did."""
    known = dict[tuple[str, ...], float]()
    for each in answer.components:
        if isinstance(each, WrittenComponent):
            known[each.passages] = each.prior if _same(each.text, answer.text) else 0.0
        else:
            known[each.passages] = each.prior if each.posterior is None else each.posterior[0]
    return {passage: share for passages, share in known.items() for passage in passages}


def _finished(answer: WrittenAnswer) -> bool:
    return all(each.finished for each in answer.components if _same(each.text, answer.text))


def _same(one: str, other: str) -> bool:
    """As texts count as equal where their priors are added up."""
    return one.casefold().split() == other.casefold().split()

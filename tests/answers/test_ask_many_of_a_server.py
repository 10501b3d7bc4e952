"""Questions that are not decoded in batches, and gold answers, go to a server several at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mixrag import RAG, Settings
from mixrag.evaluation.scoring import score_together
from mixrag.generator.remote.capabilities import Capabilities
from mixrag.pairs.pairs import Pair
from scripted import scripted
from words_encoder import WordsEncoder

SECONDS = 20
LAWS = {"cod": {"nine crowns": 0.6, "yes": 0.3}, "eel": {"four crowns": 0.5, "no": 0.4}, "": {"no": 0.9}}
FISH = ("cod", "eel", "cod or eel")


class Waiting:
    """A model of which a call ends when another one is under way as well, or was."""

    def __init__(self) -> None:
        self.model = scripted(LAWS)
        self.capabilities = Capabilities("vllm", "scripted", whole=True)
        self.waits, self.running, self.most = False, 0, 0
        self.met = threading.Condition()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.model, name)
        return self._together(found) if name in ("start", "log_likelihood") else found

    def _together(self, work: Callable[..., Any]) -> Callable[..., Any]:
        def called(*given: Any) -> Any:
            with self.met:
                self.running += 1
                self.most = max(self.most, self.running)
                self.met.notify_all()
                if self.waits and not self.met.wait_for(lambda: self.most > 1, SECONDS):
                    raise TimeoutError
                self.running -= 1
            return work(*given)

        return called


@pytest.fixture
def rag(tmp_path: Path) -> Iterator[RAG]:
    settings = Settings(max_tokens=4, k=2, copy=False, empty_answer=False, abstain_below=0.0, decoder="greedy")
    with RAG.open(tmp_path / "store", create=True, settings=settings) as rag:
        rag._encoder, rag._generator = WordsEncoder(), Waiting()  # type: ignore[assignment]
        rag.add([{"id": name, "text": f"a licence to fish {name} costs crowns"} for name in ("cod", "eel")])
        yield rag


@pytest.mark.parametrize(
    ("question", "changes"),
    [
        ("is a licence to fish {} free", {"kind": "yes-no"}),
        ("what does a licence for {} cost", {"kind": "span", "max_tokens": "all"}),
    ],
    ids=["yes or no", "of any length"],
)
def test_answers_are_those_of_one_by_one_and_calls_overlap(
    rag: RAG, question: str, changes: dict[str, Any]
) -> None:
    server: Any = rag.generator
    asked = [question.format(name) for name in FISH]
    alone = [rag.ask(each, **changes) for each in asked]
    assert server.most == 1
    server.waits = True
    together = rag.ask_many(asked, **changes)
    assert server.most > 1
    for one, other in zip(together, alone, strict=True):
        assert (one.question, one.text, one.log_prob) == (other.question, other.text, other.log_prob)
    assert len({each.log_prob for each in alone}) > 1, "else the order would not be seen"


def test_gold_answers_of_an_evaluation_are_scored_side_by_side(rag: RAG) -> None:
    server: Any = rag.generator
    pairs = [Pair(f"what does a licence for {name} cost", ("nine crowns", "no")) for name in FISH]
    changes = {"kind": "span"}
    alone = [score_together(rag, [pair], changes)[0] for pair in pairs]
    asked = rag.ask_many([pair.question for pair in pairs], **changes)
    assert server.most == 1
    patched = pytest.MonkeyPatch()
    with patched.context() as patch:
        patch.setattr(rag, "ask_many", lambda *given, **also: asked, raising=True)
        server.waits = True
        together = score_together(rag, pairs, changes)
    assert server.most > 1
    assert [each.nll for each in together] == [each.nll for each in alone]
    assert len({each.nll for each in together}) > 1

"""Generator as a plug-in: the least that is to be written, the whole protocol, and bad input in one line."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import tiny_models
from mixrag import RAG
from mixrag.corpus.passage import Passage
from mixrag.errors import ModelError, PluginError, QuestionError
from mixrag.generator import BaseGenerator, Branches, Generator, PromptTemplate, TableGenerator, load_generator
from mixrag.generator.base import RereadBranches
from plugins.how_to import run_page
from tiny_encoder import save_encoder

TEXTS = {
    "cod.txt": "A licence to fish cod costs nine crowns.",
    "eel.txt": "A licence to fish eel costs four crowns.",
}
WORDS = ("nine", "four", "crowns", "<end>")
QUESTION = "what does a licence for cod cost"


def next_token(passage: tuple[int, ...], answer: tuple[int, ...]) -> Tensor:
    """The number that the passage states, mostly, then "crowns", then the end."""
    if len(answer) == 1:
        return torch.tensor([0.0, 0.0, 0.9, 0.1], dtype=torch.float64)
    if answer:
        return torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=torch.float64)
    nine = 0.9 if 0 in passage else 0.2 if 1 in passage else 0.5
    return torch.tensor([nine, 1 - nine, 0.0, 0.0], dtype=torch.float64)


TABLE = TableGenerator(WORDS, next_token)


class Wrapped(BaseGenerator):
    """A tiny transformers model behind the one method that a subclass writes."""

    def __init__(self, kind: str, **options: Any) -> None:
        self.model, tokenizer = tiny_models.build(kind)
        super().__init__(tokenizer, name=kind, **options)

    @torch.inference_mode()
    def next_log_probs(self, rows: Sequence[tuple[int, ...]]) -> Tensor:
        return torch.stack([self.model(torch.tensor([row])).logits[0, -1].log_softmax(-1) for row in rows])


@pytest.fixture
def store(tmp_path: Path) -> Callable[..., RAG]:
    """Opens a small store."""
    for name, text in TEXTS.items():
        (tmp_path / name).write_text(text)
    encoder = save_encoder(tmp_path / "encoder")

    def opened(**options: Any) -> RAG:
        return RAG.open(tmp_path / "store", create=True, encoder=encoder, device="cpu", **options)

    with opened() as rag:
        rag.index([tmp_path / name for name in TEXTS])
    return opened


def test_the_how_to_page_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_folder: Callable[[str], Path]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MIXRAG_ENCODER", str(save_encoder(tmp_path / "encoder")))
    shutil.copytree(tiny_folder("llama"), "language-model")
    Path("documents").mkdir()
    for name, text in TEXTS.items():
        Path("documents", name).write_text(text)
    found = run_page("own-language-model.md")
    rows = found["copying"].next_log_probs([(5, 6, 5), (7,)])
    torch.testing.assert_close(rows.exp().sum(-1), torch.ones(2))


@pytest.mark.parametrize("kind", tiny_models.CAUSAL)
def test_one_method_gives_the_numbers_of_the_model(kind: str, tiny_generator: Callable[[str], Any]) -> None:
    template = PromptTemplate(header="Read:\n")
    named = load_generator(tiny_models.build(kind)[0], tokenizer=tiny_models.build(kind)[1], template=template)
    own = Wrapped(kind, template=template, context_size=tiny_models.CONTEXT)
    passages = [Passage("p", "The city lies on the river. " * n, "/d", "Title", 0, 9) for n in (1, 99)]
    prompts = [own.prompt("What is its name?", [passage], 10) for passage in passages]
    assert prompts == [named.prompt("What is its name?", [passage], 10) for passage in passages]
    assert prompts[1].shortened and own.prompt_text(prompts[0]) == named.prompt_text(prompts[0])
    for name in ("vocabulary_size", "stop_tokens", "context_size"):
        assert getattr(own, name) == getattr(named, name), name
    answer = own.answer_tokens("the author")
    assert answer == named.answer_tokens("the author") and own.text(answer) == "the author"
    close = {"rtol": 1e-4, "atol": 1e-4}
    torch.testing.assert_close(own.log_likelihood(prompts, answer), named.log_likelihood(prompts, answer), **close)
    found: list[Any] = [own.start(prompts), named.start(prompts)]
    for rows, tokens in (([1, 0, 1], [7, 8, 9]), ([2, 0], [5, 5])):
        found = [each.advance(torch.tensor(rows), torch.tensor(tokens)) for each in found]
    chosen = [each.select(torch.tensor([1])) for each in found]
    assert isinstance(found[0], RereadBranches) and found[0].log_probs.shape == (2, own.vocabulary_size)
    torch.testing.assert_close(found[0].log_probs, found[1].log_probs, **close)
    torch.testing.assert_close(chosen[0].score((4, 5, 6)), chosen[1].score((4, 5, 6)), **close)


def test_a_question_that_does_not_fit_is_refused() -> None:
    with pytest.raises(QuestionError):
        Wrapped("llama", context_size=20).prompt("why " * 40, [], 5)


def test_a_tokenizer_that_cannot_end_an_answer() -> None:
    tokenizer = tiny_models.build("llama")[1]
    tokenizer.eos_token = None

    class Own(BaseGenerator):
        def next_log_probs(self, rows: Sequence[tuple[int, ...]]) -> Tensor:
            raise AssertionError

    with pytest.raises(ModelError, match="end-of-text"):
        Own(tokenizer)


@pytest.mark.parametrize("generator", [TABLE, Wrapped("llama")], ids=["protocol", "base class"])
def test_all_that_is_asked_of_a_store_works_with_it(
    generator: Any, store: Callable[..., RAG], monkeypatch: pytest.MonkeyPatch
) -> None:
    with store(generator=generator, settings={"k": 2, "max_tokens": 4}) as rag:
        assert rag.generator is generator
        answer = rag.ask(QUESTION)
        assert rag.score(QUESTION, "nine crowns").log_prob <= 0.0
        for options in ({"switch": 0.4}, {"decoder": "beam"}, {"samples": 3, "seed": 1}, {"prune": 0.3}, {"k": 0}):
            assert rag.ask(QUESTION, **options).log_prob <= 0.0
        stream = rag.stream(QUESTION)
        assert len(list(stream)) == len(answer.tokens) and stream.answer.log_prob == answer.log_prob
        for decoder in ("thorough", "fast", "sample"):
            assert math.isfinite(rag.ask(QUESTION, decoder=decoder).log_prob)
        together = rag.ask_many([QUESTION, "what does eel cost"])
        assert together[0].log_prob == pytest.approx(answer.log_prob, abs=1e-5)
        assert answer.explain().prefix_cache is None
        monkeypatch.setitem(vars(generator), "prefix_cache", "one of its own")
        assert answer.explain().prefix_cache is None
        with pytest.raises(ModelError, match=r"with a prefix cache; found (table|llama)"):
            rag.precompute()
        (rag.store.directory / "warm").mkdir()
    with store(generator=generator, settings={"k": 2, "max_tokens": 4}) as rag:
        assert rag.ask(QUESTION).log_prob == pytest.approx(answer.log_prob)


def test_the_answer_of_a_table_is_the_mixture_of_its_rows(store: Callable[..., RAG]) -> None:
    with store(generator=TABLE, settings={"k": 2}) as rag:
        found = rag.passages(QUESTION)
        stated = [0.9 if "nine" in passage.text else 0.2 for passage in found.passages]
        expected = sum(p * q * 0.9 for p, q in zip(found.log_prior.exp().tolist(), stated, strict=True))
        assert math.exp(rag.score(QUESTION, "nine crowns").log_prob) == pytest.approx(expected)


def members(protocol: type) -> list[str]:
    return [name for name in vars(protocol) if not name.startswith("_")]


@pytest.mark.parametrize("missing", members(Generator))
def test_a_missing_member_is_named_in_one_line(missing: str, store: Callable[..., RAG]) -> None:
    given = {name: getattr(TABLE, name) for name in members(Generator) if name != missing}
    incomplete = type("Incomplete", (), given)()
    with store(generator=incomplete) as rag, pytest.raises(PluginError) as caught:
        rag.ask(QUESTION)
    assert caught.value.found == f"Incomplete without {missing}"
    assert "as generator" in caught.value.expected and "\n" not in str(caught.value)


def test_branches_are_the_documented_ones() -> None:
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "own-language-model.md").read_text()
    for name in (*members(Generator), *members(Branches)):
        assert f"| `{name}" in page, name

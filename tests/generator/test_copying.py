"""Answers that are texts of their passage: the constrained distribution, enumerated, and with real tokenizers."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import cast

import pytest
import torch
from tokenizers import Tokenizer, models
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from mixrag.corpus import Passage
from mixrag.generator import Generator, Prompt, TableGenerator
from mixrag.generator.copying import CopyingGenerator
from mixrag.generator.occurrences import Occurrences, Source, Vocabulary, whole_words
from mixrag.generator.prompt_tokenizer import PromptTokenizer
from mixrag.generator.token_bytes import token_bytes
from mixrag.inference.decoders import Beam, Greedy, Sample, Thorough
from mixrag.inference.mixture import Mixture, condition
from mixrag.inference.protocol import DecoderResult
from tables import passage

Loaded = Callable[[str], Generator]
PIECES = ("a", "b", "ab", " ", " c", "d", "<end>")
END = len(PIECES) - 1
TEXTS = ("ab c", "b  ab\ncd", "d")
PRIOR = (0.5, 0.3, 0.2)
LENGTH = 6


@dataclass(frozen=True)
class Model(TableGenerator):
    """A table whose tokens are pieces of words."""

    def text(self, tokens: Sequence[int]) -> str:
        return "".join(self.words[token] for token in tokens if token != END).removeprefix(" ")

    def answer_tokens(self, answer: str) -> tuple[int, ...]:
        assert answer == ""
        return (END,)

    def prompt(self, question: str, passages: Sequence[Passage], reserve: int) -> Prompt:
        return Prompt((), tuple(map(ord, "|".join(each.text for each in passages))), (0,))


def law(prompt: tuple[int, ...], answer: tuple[int, ...]) -> Tensor:
    seeded = torch.Generator().manual_seed(hash((prompt, answer)) % 2**31)
    return (2 * torch.randn(len(PIECES), generator=seeded, dtype=torch.float64)).softmax(0)


MODEL = Model(PIECES, law)
COPYING = CopyingGenerator(MODEL)


def is_copied(texts: Sequence[str], answer: tuple[int, ...], *, whole: bool) -> bool:
    """Whether the answer stands in a text, from the beginning of a word on and, where whole, to the end of one."""
    written = "".join(PIECES[token] for token in answer)
    written = written.removeprefix(" ") if answer else written
    end = r"(?![a-z])(?<! )" if whole else ""
    return any(
        re.search(rf"(?<![a-z])(?! ){re.escape(written)}{end}", re.sub(r"\s+", " ", text)) for text in texts
    )


def constrained(texts: Sequence[str], answer: tuple[int, ...]) -> dict[int, float]:
    """p'(v | answer so far) by trying every token of the vocabulary."""
    model = law(MODEL.prompt("", [passage("x", "|".join(texts))], 0).passages, answer).tolist()
    written = "".join(PIECES[token] for token in answer)
    allowed = {v for v in range(END) if is_copied(texts, (*answer, v), whole=False)}
    if not answer or (written.strip() and is_copied(texts, answer, whole=True)):
        allowed.add(END)
    if answer == (PIECES.index(" "),):  # a space and nothing after it
        allowed = {v for v in range(END) if is_copied(texts, (*answer, v), whole=False)}
    total = math.fsum(model[v] for v in allowed)
    return {v: model[v] / total for v in allowed} if allowed else {END: 1.0}


def every_answer(texts: Sequence[str]) -> dict[tuple[int, ...], float]:
    """All finished answers of at most ``LENGTH`` tokens, and the unfinished ones of that length: probabilities."""
    found, live = {}, {(): 1.0}
    for _ in range(LENGTH):
        longer = {}
        for answer, p in live.items():
            for v, q in constrained(texts, answer).items():
                (found if v == END else longer)[(*answer, v)] = p * q
        live = longer
    return found | live


def mixture(switch: float = 0.0, group: int | None = 1) -> Mixture:
    passages = [passage(f"p{i}", text) for i, text in enumerate(TEXTS)]
    log_prior = torch.tensor(PRIOR, dtype=torch.float64).log()
    return condition(COPYING, "q", passages, log_prior, switch=switch, group=group)


@pytest.mark.parametrize("texts", [(text,) for text in TEXTS])
def test_likelihood_is_that_of_the_renormalised_table(texts: tuple[str, ...]) -> None:
    prompt = COPYING.prompt("q", [passage("x", text) for text in texts], 0)
    expected = every_answer(texts)
    assert math.fsum(expected.values()) == pytest.approx(1.0, abs=1e-12)
    assert len(expected) >= 3
    for length in range(1, 5):
        for answer in itertools.product(range(len(PIECES)), repeat=length):
            if END in answer[:-1]:
                continue
            found = float(COPYING.log_likelihood([prompt], answer).sum().exp())
            if answer[-1] == END:
                assert found == pytest.approx(expected.get(answer, 0.0), rel=1e-12, abs=0.0)


def test_a_group_copies_from_each_of_its_passages() -> None:
    texts = TEXTS[:2]
    prompt = COPYING.prompt("q", [passage(f"x{i}", text) for i, text in enumerate(texts)], 0)
    rows = COPYING.start([prompt]).log_probs[0].exp()
    expected = constrained(texts, ())
    assert rows.tolist() == pytest.approx([expected.get(v, 0.0) for v in range(len(PIECES))], rel=1e-12)


def test_texts_of_a_group_do_not_join() -> None:
    source = Source(["ab", "cd"], Vocabulary([b"abc", b"b", b"ab", b"\xffcd"]))
    assert Occurrences.none_yet(source).tokens == [2]


@pytest.mark.parametrize("switch", [0.0, 0.4, 1.0])
def test_answers_that_no_passage_has_are_impossible_and_nothing_is_nan(switch: float) -> None:
    scored = mixture(switch).score_tokens((PIECES.index("d"), PIECES.index("a"), END))
    assert scored.log_prob == -math.inf
    for table in (scored.posterior, scored.responsibilities, scored.log_leave_one_out, scored.token_log_probs):
        assert not table.isnan().any()
    known = mixture(switch).score_tokens((PIECES.index("d"), END))
    assert known.log_component[0] == -math.inf
    assert known.posterior[2] == pytest.approx(1.0)


def test_the_mixture_sums_to_one() -> None:
    whole, total = mixture(), 0.0
    for answer in set().union(*(every_answer((text,)) for text in TEXTS)):
        total += math.exp(whole.score_tokens(answer).log_prob)
    assert total == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("decoder", [Greedy(0.0), Greedy(0.3), Sample(3, 0.0), Beam(3), Thorough(3)])
@pytest.mark.parametrize("switch", [0.0, 0.3])
def test_every_decoder_writes_texts_of_a_passage(decoder: Greedy, switch: float) -> None:
    for result in decoder.decode(mixture(switch), LENGTH):
        if isinstance(result, DecoderResult):
            for answer in result.answers:
                assert any(is_copied((text,), answer.tokens[:-1], whole=False) for text in TEXTS)
                assert answer.log_prob == pytest.approx(mixture(switch).score_tokens(answer.tokens).log_prob)


def test_beam_finds_the_most_probable_answer() -> None:
    result = next(r for r in Beam(8).decode(mixture(), LENGTH) if isinstance(r, DecoderResult))
    answers = set().union(*(every_answer((text,)) for text in TEXTS))
    best = max(mixture().score_tokens(answer).log_prob for answer in answers if answer[-1] == END)
    assert result.certified and result.answers[0].log_prob == pytest.approx(best)


def test_with_an_empty_answer_the_others_add_up_to_one() -> None:
    passages = [passage(f"p{i}", text) for i, text in enumerate(TEXTS)]
    log_prior = torch.tensor(PRIOR, dtype=torch.float64).log()
    given = condition(COPYING, "q", passages, log_prior, empty_answer=True)
    tables = [every_answer((text,)) for text in TEXTS]
    expected = math.fsum(prior * table[END,] for prior, table in zip(PRIOR, tables, strict=True))
    assert given.log_p_empty == pytest.approx(math.log(expected))
    total = 0.0
    for answer in set().union(*tables) - {(END,)}:
        p = math.fsum(prior * table.get(answer, 0.0) for prior, table in zip(PRIOR, tables, strict=True))
        found = math.exp(given.score_tokens(answer).log_prob)
        assert found == pytest.approx(p / (1 - expected))
        total += found
    assert total == pytest.approx(1.0)
    result = next(r for r in Greedy(0.0).decode(given, LENGTH) if isinstance(r, DecoderResult))
    assert result.answers[0].tokens[0] != END


def test_without_passages_nothing_is_constrained() -> None:
    closed = mixture().closed_book()
    answer = (PIECES.index("d"), PIECES.index("a"), END)
    assert closed.score_tokens(answer).log_prob == pytest.approx(
        float(MODEL.log_likelihood([MODEL.prompt("q", [], 0)], answer).sum())
    )
    null = condition(COPYING, "q", [passage("x", "d")], torch.tensor([0.5]).log(), log_null=math.log(0.5))
    assert null.start().log_probs()[0, 1].isfinite().all()


def test_where_no_token_fits_the_answer_ends() -> None:
    unwritable = condition(COPYING, "q", [passage("x", "abx y")], torch.zeros(1))
    state = unwritable.start().advance(torch.tensor([0]), torch.tensor([PIECES.index("ab")]))
    assert state.log_probs()[0, 0, END] == 0.0


@pytest.mark.parametrize("kind", ["llama", "llama-chat", "gpt2", "t5", "bart"])
def test_with_a_tokenizer(kind: str, tiny_generator: Loaded) -> None:
    """Byte-level tokens that hold parts of characters, spaces in front of words, several rows."""
    generator = tiny_generator(kind)
    copying = CopyingGenerator(generator)
    texts = ["Cod costs €9 or 東京 naïve, a year.", "Eel — four crowns."]
    passages = [passage(f"p{i}", text) for i, text in enumerate(texts)]
    whole = condition(copying, "What is it?", passages, torch.tensor([0.6, 0.4]).log(), reserve=40)
    for answer, j in (("€9", 0), ("東京 naïve", 0), ("Eel", 1), ("four crowns", 1), ("東", 0)):
        scored = whole.score(answer)
        assert scored.log_component[j].isfinite() and scored.log_component[1 - j] == -math.inf, answer
        assert scored.text == answer
    for wrong in ("cod", "Co", "osts", "naive", "Cod or", "year four"):
        assert whole.score(wrong).log_prob == -math.inf, wrong
    rows = whole.start().log_probs()[0].exp().sum(-1)
    assert rows.tolist() == pytest.approx([1.0, 1.0], abs=1e-5)
    for seed in range(5):
        last = [*Sample(seed, 0.0).decode(whole, 40)][-1]
        assert isinstance(last, DecoderResult)
        assert any(last.answers[0].text.strip() in text for text in texts)
        assert whole.score_tokens(last.answers[0].tokens).log_prob == pytest.approx(
            last.answers[0].log_prob, abs=1e-3
        )


@pytest.mark.parametrize("says", [True, False], ids=["by the tokenizer", "by the prompt"])
@pytest.mark.parametrize("kind", ["llama", "llama-chat", "gpt2", "t5"])
def test_of_a_shortened_passage_only_what_was_read_is_copied(
    kind: str, says: bool, tiny_generator: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = tiny_generator(kind)
    if not says:
        monkeypatch.setattr(PromptTokenizer, "_characters", lambda *_: None)
    words = [f"word{number}" for number in range(400)]
    long, short = passage("p0", " ".join(words)), passage("p1", "Eel — four crowns.")
    copying = CopyingGenerator(generator)
    prompt = copying.prompt("What is it?", [long, short], 40)
    assert [each.passage for each in prompt.shortened] == ["p0"]
    read, whole = prompt.texts
    assert whole == short.text and 0 < len(read) < len(long.text)
    count = len(read.split())
    assert read.split() == words[:count], "a word that was cut is not there"
    shown = generator.prompt_text(prompt)
    assert words[count - 1] in shown and words[count + 1] not in shown
    for number, possible in ((0, True), (count - 1, True), (count, False), (count + 1, False), (399, False)):
        answer = copying.answer_tokens(words[number])
        found = float(copying.log_likelihood([prompt], answer).sum())
        assert math.isfinite(found) == possible, words[number]


def test_where_nothing_of_a_passage_was_read_nothing_is_copied() -> None:
    assert whole_words("har\u00adbour", 3) == "" and whole_words("har\u00adbour x", 8) == "har\u00adbour"
    assert whole_words("東京", 1) == "東" and whole_words("e\u0301t x", 1) == ""
    answer = Occurrences.none_yet(Source(["", " "], Vocabulary([b"a"])))
    assert answer.tokens == [] and answer.may_end


@pytest.mark.parametrize("kind", ["llama", "gpt2", "t5"])
def test_bytes_of_tokens_spell_any_text(kind: str, tiny_generator: Loaded) -> None:
    generator = tiny_generator(kind)
    spelled = token_bytes(generator)
    assert len(spelled) == generator.vocabulary_size
    for text in ("A licence — €9", "東京"):
        tokens = generator.answer_tokens(text)[:-1]
        assert b"".join(spelled[token] or b"?" for token in tokens).decode().strip() == text
    assert all(spelled[token] is None for token in generator.stop_tokens)


def test_bytes_of_a_sentencepiece_vocabulary() -> None:
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(
            models.Unigram([("<unk>", 0.0), ("\u2581cod", -1.0), ("s", -2.0), ("<0xE2>", -3.0), ("</s>", 0.0)], 0)
        ),
        unk_token="<unk>",
        eos_token="</s>",
    )
    generator = SimpleNamespace(tokens=SimpleNamespace(tokenizer=tokenizer), vocabulary_size=6)
    assert token_bytes(cast(Generator, generator)) == [None, b" cod", b"s", b"\xe2", None, None]


def borders(text: str) -> Iterator[str]:
    """The words that an answer may begin with, as the text goes on from there."""
    source = Source([text], Vocabulary([]))
    yield from (source.data[start:].decode() for start in source.starts)


def test_where_an_answer_may_begin() -> None:
    assert list(borders("(in 1.5 km)")) == ["(in 1.5 km)", "in 1.5 km)", "1.5 km)", ".5 km)", "5 km)", "km)", ")"]
    assert list(borders("東京")) == ["東京", "京"]
    assert list(borders("e\u0301t\u00ade x")) == ["e\u0301t\u00ade x", "x"]

"""Decoders as objects: those of the library under the names of the settings, and a user's own."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from enumeration import Toy
from mixrag import RAG, Decoder, Generator, MixragError, Settings
from mixrag.answers.confidence import ConfidenceMap, conditions, read_calibration, write_calibration
from mixrag.config.settings import DECODERS
from mixrag.corpus import Store
from mixrag.errors import ModelError, PluginError, SettingError
from mixrag.inference import (
    Beam,
    DecodedToken,
    DecoderResult,
    DecodingState,
    Fast,
    Greedy,
    Mixture,
    Sample,
    Thorough,
    decoder_for,
    scored,
    stepwise,
)
from mixrag.inference.decoders import BUILT_IN, decode_all, decoder_name, recorded
from mixrag.utils.plugins import check_plugin
from tables import toy_mixture
from words_encoder import WordsEncoder

QUESTION = "What does a licence for cod cost?"
HOW_TO = Path(__file__).parents[2] / "docs" / "how-to" / "own-decoder.md"
TOY = Toy([0.5, 0.3, 0.2], seed=11, vocabulary=4, length=4)


class Second:
    """The second most probable token first, then the most probable one: nothing that the library has."""

    streams, certifies, batches = True, False, False

    def decode(self, mixture: Mixture, max_tokens: int) -> Iterator[DecodedToken | DecoderResult]:
        places = iter([1])

        def choose(state: DecodingState) -> int:
            return int(state.log_mixed()[0].topk(2).indices[next(places, 0)])

        steps = []
        for step in stepwise(mixture, max_tokens, choose):
            steps.append(step)
            yield step
        yield DecoderResult((scored(mixture, steps),))


class Batched(Second):
    """As ``Second``, for several questions."""

    batches = True

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def decode_batch(self, mixtures: Sequence[Mixture], max_tokens: int) -> Iterator[DecoderResult]:
        self.sizes.append(len(mixtures))
        for mixture in mixtures:
            *_, result = self.decode(mixture, max_tokens)
            assert isinstance(result, DecoderResult)
            yield result


class Whole:
    """One of two given answers."""

    streams, certifies, batches = False, True, False

    def decode(self, mixture: Mixture, max_tokens: int) -> Iterator[DecodedToken | DecoderResult]:
        answers = sorted((mixture.score(text) for text in ("nine", "four")), key=lambda answer: -answer.log_prob)
        yield DecoderResult(tuple(answers), certified=True)


@pytest.fixture
def rag(tmp_path: Path, tiny_generator: Callable[[str], Generator]) -> Iterator[RAG]:
    folder = tmp_path / "documents"
    folder.mkdir()
    (folder / "cod.txt").write_text("A licence to fish cod costs nine crowns a year.")
    (folder / "eel.txt").write_text("A licence to fish eel costs four crowns a season.")
    store = Store.open(tmp_path / "store", create=True)
    with RAG(
        store, encoder=WordsEncoder(), generator=tiny_generator("llama-chat"), settings=Settings(max_tokens=6)
    ) as rag:
        rag.index([folder])
        yield rag


def test_names_of_settings_are_the_decoders_that_there_are() -> None:
    assert tuple(BUILT_IN) == DECODERS
    options = {"beams": 7, "seed": 3, "samples": 2, "prune": 0.25}
    found = [decoder_for(Settings(decoder=name, **options)) for name in DECODERS]
    assert found == [Greedy(0.25, 2, 3), Sample(3, 0.25, 2), Beam(7, 2, 3), Thorough(7), Fast(7)]
    for decoder in found:
        assert check_plugin(decoder, Decoder, "decoder") is decoder
    traits = [(each.streams, each.certifies, each.batches) for each in found]
    assert traits == [(True, False, False), (True, False, False), (False, True, False), *[(False,) * 3] * 2]
    assert Greedy().batches and not Greedy(samples=1).batches


@pytest.mark.parametrize("decoder", [Greedy(0.0), Sample(4, 0.0), Beam(3), Thorough(3), Fast(3)], ids=str)
def test_every_decoder_ends_with_its_result(decoder: Decoder) -> None:
    mixture = toy_mixture(TOY, 0.0)
    *steps, result = decoder.decode(mixture, 4)
    assert isinstance(result, DecoderResult) and all(isinstance(step, DecodedToken) for step in steps)
    answer = result.answers[0]
    assert answer.log_prob == pytest.approx(mixture.score_tokens(answer.tokens).log_prob)
    assert (result.certified is not None) is decoder.certifies
    assert bool(steps) is decoder.streams
    if decoder.streams:
        assert tuple(step.token for step in steps) == answer.tokens


def test_answers_drawn_beside_one_have_the_seeds_after_its_own() -> None:
    mixture = toy_mixture(TOY, 0.0)
    *_, result = Sample(seed=4, prune=0.0, samples=2).decode(mixture, 4)
    alone = [[*Sample(seed, prune=0.0).decode(mixture, 4)][-1].answers[0].tokens for seed in (4, 5, 6)]
    assert [answer.tokens for answer in result.answers] == alone


@pytest.mark.parametrize(
    "make",
    [lambda: Beam(0), lambda: Fast(0), lambda: Thorough(-1), lambda: Greedy(1.0), lambda: Sample(samples=-1)],
)
def test_options_outside_their_range_are_refused(make: Callable[[], Decoder]) -> None:
    with pytest.raises(SettingError, match="expected"):
        make()


def test_an_object_gives_what_its_name_gives(rag: RAG) -> None:
    for name, decoder in (("greedy", Greedy()), ("sample", Sample(0)), ("beam", Beam(2)), ("fast", Fast(2))):
        named, given = rag.ask(QUESTION, decoder=name, beams=2), rag.ask(QUESTION, decoder=decoder)
        assert (named.best_guess, named.certified) == (given.best_guess, given.certified)
        assert named.log_prob == pytest.approx(given.log_prob, abs=1e-6)


def test_a_users_decoder_streams_its_tokens(rag: RAG) -> None:
    stream = rag.stream(QUESTION, decoder=Second())
    tokens = list(stream)
    answer = stream.answer
    assert "".join(token.text for token in tokens) == answer.best_guess
    assert [token.log_prob for token in tokens] == pytest.approx(
        [token.log_prob for token in answer.tokens], abs=1e-4
    )
    mixture = rag.condition(QUESTION)
    assert answer.scored.tokens[0] == int(mixture.predictive().topk(2).indices[1])
    assert answer.log_prob == pytest.approx(mixture.score_tokens(answer.scored.tokens).log_prob, abs=1e-3)
    assert answer.certified is None and answer.explain().components


def test_a_users_decoder_of_whole_answers(rag: RAG) -> None:
    stream = rag.stream(QUESTION, decoder=Whole())
    assert "".join(token.text for token in stream) == stream.answer.best_guess
    best = max(("nine", "four"), key=lambda text: rag.score(QUESTION, text).log_prob)
    assert stream.answer.best_guess == best and stream.answer.certified


def test_questions_asked_together_are_one_batch_where_the_decoder_batches(rag: RAG) -> None:
    batched = Batched()
    found = rag.ask_many([QUESTION, "And eel?"], decoder=batched)
    assert batched.sizes == [2]
    alone = rag.ask_many([QUESTION, "And eel?"], decoder=Second())
    assert [answer.best_guess for answer in found] == [answer.best_guess for answer in alone]
    assert [each.answers[0].tokens for each in decode_all(Greedy(), [toy_mixture(TOY, 0.0)] * 2, 4)]


def test_reports_name_a_users_decoder_by_its_class() -> None:
    assert decoder_name("beam") == "beam" and decoder_name(Second()) == "Second"


class Parametrised(Second):
    def __init__(self, share: float, options: tuple[str, ...]) -> None:
        self.share, self.options, self._asked, self.model = share, options, 3, object()


def test_reports_tell_a_users_decoders_apart_by_their_parameters() -> None:
    assert decoder_name(Parametrised(0.1, ("a", "b"))) == "Parametrised(share=0.1, options=('a', 'b'))"
    assert decoder_name(Thorough(3)) == "Thorough(width=3)"
    settings = Settings(decoder=Parametrised(0.1, ()), where={"title": "Fees"})
    assert json.loads(json.dumps(recorded(settings))) == {
        **asdict(replace(settings, decoder="greedy")),
        "decoder": "Parametrised(share=0.1, options=())",
    }


def test_a_calibration_of_a_users_decoder_is_read_and_holds_for_it_alone(tmp_path: Path) -> None:
    own = Settings(decoder=Parametrised(0.1, ()))
    path = tmp_path / "confidence.json"
    write_calibration(ConfidenceMap(settings=conditions(own)), path)
    found = read_calibration(path)
    assert found.mismatch(own, "") is None
    for other in (Parametrised(0.2, ()), Second(), "greedy"):
        assert found.mismatch(replace(own, decoder=other), "") == "decoder"
    path.write_text(path.read_text().replace('"Parametrised(share=0.1, options=())"', "3"))
    with pytest.raises(ModelError, match="decoder") as caught:
        read_calibration(path)
    assert "\n" not in str(caught.value)


class NoMethod:
    streams, certifies, batches = True, False, False


class NoTraits:
    def decode(self, mixture: Mixture, max_tokens: int) -> Iterator[DecoderResult]:
        yield from ()


class NoBatch(Second):
    batches = True


@pytest.mark.parametrize(
    ("decoder", "found"),
    [
        (NoMethod(), "NoMethod without decode"),
        (NoTraits(), "NoTraits without batches, certifies, streams"),
        (NoBatch(), "NoBatch without decode_batch"),
        (Second, "the class Second"),
        (object(), "object without"),
    ],
)
def test_an_object_that_is_no_decoder_is_refused_in_one_line(rag: RAG, decoder: Any, found: str) -> None:
    for refused in (rag.ask, rag.stream, lambda question, **changes: rag.ask_many([question], **changes)):
        with pytest.raises(PluginError, match=found) as caught:
            refused(QUESTION, decoder=decoder)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("decoder", [7, None, True, ["greedy"]], ids=str)
def test_a_value_that_can_be_no_decoder_is_refused_in_one_line(rag: RAG, decoder: Any) -> None:
    with pytest.raises(MixragError, match=r"[dD]ecoder") as caught:
        rag.ask(QUESTION, decoder=decoder)
    assert "\n" not in str(caught.value)


class Silent(Second):
    def decode(self, mixture: Mixture, max_tokens: int) -> Iterator[DecodedToken | DecoderResult]:
        yield from (each for each in super().decode(mixture, max_tokens) if isinstance(each, DecodedToken))


def test_a_decoder_without_a_result_is_named(rag: RAG) -> None:
    with pytest.raises(PluginError, match=r"last item of Silent.decode; found none"):
        rag.ask(QUESTION, decoder=Silent())
    with pytest.raises(PluginError, match="at least one answer"):
        DecoderResult(())


def test_an_unknown_name_is_a_setting_error(rag: RAG) -> None:
    with pytest.raises(SettingError, match="decoder"):
        rag.ask(QUESTION, decoder="best")


def test_the_how_to_page_runs(rag: RAG, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its blocks, one after the other, on tiny models."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(RAG, "open", lambda *args, **options: rag)
    names: dict[str, Any] = {}
    blocks = re.findall(r"^```python\n(.*?)^```", HOW_TO.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    for block in blocks:
        exec(compile(block, HOW_TO.name, "exec"), names)
    assert len(blocks) == 3 and names["answer"].best_guess in ("nine crowns", "four crowns")
    *steps, _ = names["MinP"](share=1.0).decode(toy_mixture(TOY, 0.3), 4)
    assert [step.token for step in steps] == [
        step.token for step in Greedy(0.0).decode(toy_mixture(TOY, 0.3), 4) if isinstance(step, DecodedToken)
    ]
    assert torch.is_tensor(steps[0].posterior)


def test_a_beam_with_samples_has_both() -> None:
    mixture, length = toy_mixture(TOY, 0.0), 4

    def found(decoder: Decoder) -> DecoderResult:
        return next(r for r in decoder.decode(mixture, length) if isinstance(r, DecoderResult))

    without, with_samples = found(Beam(3)), found(Beam(3, 2, seed=5))
    drawn = [found(Sample(5 + n, 0.0)) for n in (1, 2)]
    tokens = [[answer.tokens for answer in each.answers] for each in (without, with_samples, *drawn)]
    assert tokens[1] == [*tokens[0], *tokens[2], *tokens[3]]
    assert with_samples.certified == without.certified

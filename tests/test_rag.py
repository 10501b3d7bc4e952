"""The facade: the settings are one family, and answers say what the mixture says."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import mixrag
from mixrag import RAG, Generator, ModelConfig, PromptTemplate, Settings
from mixrag.config.bundle import Bundle, read_bundle, write_bundle
from mixrag.corpus import Store
from mixrag.errors import (
    EncoderMismatchError,
    ModelError,
    QuestionError,
    SettingError,
    StoreEmptyError,
    StoreMissingError,
)
from words_encoder import WordsEncoder

TEXTS = {
    "cod.txt": "A licence to fish cod costs nine crowns a year.",
    "eel.txt": "A licence to fish eel costs four crowns a season.",
    "hen.txt": "Hens lay fewer eggs during winter.",
}
QUESTION = "What does a licence for cod cost?"
KINDS = ["llama-chat", "gpt2", "t5", "bart"]
Loaded = Callable[[str], Generator]


@pytest.fixture(params=KINDS)
def rag(request: pytest.FixtureRequest, tmp_path: Path, tiny_generator: Loaded) -> Iterator[RAG]:
    with opened(tmp_path, tiny_generator(request.param)) as rag:
        yield rag


@pytest.fixture
def chat(tmp_path: Path, tiny_generator: Loaded) -> Iterator[RAG]:
    with opened(tmp_path, tiny_generator("llama-chat")) as rag:
        yield rag


def opened(tmp_path: Path, generator: Generator) -> RAG:
    folder = tmp_path / "files"
    folder.mkdir()
    for name, text in TEXTS.items():
        (folder / name).write_text(text)
    store = Store.open(tmp_path / "store", create=True)
    rag = RAG(store, encoder=WordsEncoder(), generator=generator, settings=Settings(max_tokens=6))
    rag.index([folder])
    return rag


def test_every_public_name_is_there_and_documented() -> None:
    for name in mixrag.__all__:
        assert getattr(mixrag, name).__doc__
    assert set(mixrag._HOME) == set(mixrag.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        mixrag.nothing


@pytest.mark.parametrize("switch", [0.0, 0.5, 1.0])
def test_the_probability_of_an_answer_is_the_sum_over_its_passages(rag: RAG, switch: float) -> None:
    """A loop in probability space, each passage's prompt scored by itself."""
    answer = rag.score(QUESTION, "nine crowns", k="all", switch=switch)
    mixture, retrieval = rag.condition(QUESTION, k="all", switch=switch), rag.passages(QUESTION, k="all")
    tokens = rag.generator.answer_tokens("nine crowns")
    prior = retrieval.log_prior.exp().tolist()
    alone = [
        rag.generator.log_likelihood([c.prompt], tokens)[0].double().exp().tolist() for c in mixture.components
    ]
    weights = list(prior)  # p(z_t and the tokens so far)
    for t in range(len(tokens)):
        if t > 0:
            total = sum(weights)
            weights = [(1 - switch) * w + switch * p * total for w, p in zip(weights, prior, strict=True)]
        weights = [w * law[t] for w, law in zip(weights, alone, strict=True)]
    assert answer.probability == pytest.approx(sum(weights), rel=1e-3)


def test_settings_reach_the_systems_that_they_name(rag: RAG) -> None:
    tokens = rag.generator.answer_tokens("nine")
    closed = rag.score(QUESTION, "nine", k=0)
    bare = rag.generator.prompt(QUESTION, (), 6)
    assert closed.log_prob == pytest.approx(float(rag.generator.log_likelihood([bare], tokens).sum()), abs=1e-4)
    assert closed.passages == () and closed.null_prior == 1.0
    together = rag.score(QUESTION, "nine", k=3, group="all")
    ranked = rag.passages(QUESTION, k=3).passages
    joined = rag.generator.prompt(QUESTION, ranked, 6)
    assert together.log_prob == pytest.approx(
        float(rag.generator.log_likelihood([joined], tokens).sum()), abs=1e-4
    )
    assert len(together.scored.mixture.components) == 1
    assert [weighted.posterior for weighted in together.passages] == pytest.approx([1.0] * 3)


def test_sequence_and_token_agree_on_one_passage_and_differ_on_several(rag: RAG) -> None:
    def log_probs(k: int) -> list[float]:
        return [rag.score(QUESTION, "nine crowns", k=k, switch=s, temperature=5.0).log_prob for s in (0.0, 1.0)]

    sequence, token = log_probs(1)
    assert sequence == pytest.approx(token, abs=1e-6)
    sequence, token = log_probs(3)
    assert sequence != pytest.approx(token, abs=1e-6)


@pytest.mark.parametrize("decoder", ["greedy", "sample", "beam", "thorough", "fast"])
def test_every_decoder_returns_an_answer_with_its_exact_probability(rag: RAG, decoder: str) -> None:
    answer = rag.ask(QUESTION, k=3, decoder=decoder, beams=2)
    again = rag.condition(QUESTION, k=3).score_tokens(answer.scored.tokens)
    assert answer.log_prob == pytest.approx(again.log_prob, abs=1e-3)
    assert "".join(token.text for token in answer.tokens) == answer.best_guess
    assert sum(token.log_prob for token in answer.tokens) == pytest.approx(answer.log_prob)
    assert (answer.certified is None) == (decoder != "beam")
    assert answer.finished == (answer.scored.tokens[-1] in rag.generator.stop_tokens)


def test_weights_are_probabilities_and_belong_to_their_passages(chat: RAG) -> None:
    answer = chat.ask(QUESTION, k=2, null=1.0, switch=0.5)
    names = [Path(weighted.document).name for weighted in answer.passages]
    assert names == ["cod.txt", "eel.txt"]
    assert sum(w.prior for w in answer.passages) + answer.null_prior == pytest.approx(1.0)
    assert sum(w.posterior for w in answer.passages) + answer.null_posterior == pytest.approx(1.0)
    for token in answer.tokens:
        assert sum(token.responsibility) + token.null == pytest.approx(1.0)
    for weighted in answer.passages:
        text = TEXTS[Path(weighted.document).name]
        assert text[weighted.start : weighted.end] == weighted.text
    assert 1.0 <= answer.effective_posterior <= 3.0


def test_streaming_gives_the_same_answer_as_asking(chat: RAG) -> None:
    stream = chat.stream(QUESTION, k=3, prune=0.0)
    tokens = list(stream)
    assert (
        "".join(token.text for token in tokens) == stream.answer.best_guess == chat.ask(QUESTION, k=3).best_guess
    )
    assert [token.log_prob for token in tokens] == pytest.approx([t.log_prob for t in stream.answer.tokens])
    # The live posterior after the last token is the posterior of the whole answer.
    assert tokens[-1].posterior == pytest.approx([w.posterior for w in stream.answer.passages])


def test_top_k_certificates_bracket_the_mixture_over_the_whole_corpus(chat: RAG) -> None:
    for switch in (0.0, 0.5, 1.0):
        full = chat.score(QUESTION, "nine crowns", k="all", switch=switch)
        assert full.outside == 0.0 and full.log_bounds == pytest.approx((full.log_prob, full.log_prob))
        for k in (1, 2):
            for normaliser in ("top-k", "full"):
                part = chat.score(QUESTION, "nine crowns", k=k, switch=switch, normaliser=normaliser)
                low, high = part.log_bounds
                assert low <= full.log_prob <= high
                assert 0 < part.outside < 1
            assert part.log_prob == pytest.approx(low)


def test_k_beyond_the_corpus_is_the_corpus(chat: RAG) -> None:
    assert len(chat.ask(QUESTION, k=50).passages) == 3


def test_why_takes_an_answer_apart(chat: RAG) -> None:
    answer = chat.ask(QUESTION, k=2, null=1.0)
    apart = answer.explain()
    assert len(apart.components) == 3
    total = sum(c.prior * math.exp(c.log_likelihood) for c in apart.components)
    assert math.log(total) == pytest.approx(answer.log_prob)
    null = apart.components[-1]
    assert null.passages == () and null.log_likelihood == pytest.approx(apart.log_null_likelihood, abs=1e-4)
    assert null.log_evidence_ratio == pytest.approx(0.0, abs=1e-4)
    first = apart.components[0]
    assert TEXTS["cod.txt"] in first.prompt and QUESTION in first.prompt and "<|im_start|>" in first.prompt
    rest = sum(c.prior * math.exp(c.log_likelihood) for c in apart.components[1:])
    assert first.log_without == pytest.approx(math.log(rest / (1 - first.prior)), abs=1e-6)
    assert first.poisoning == pytest.approx(first.prior)
    assert first.inner_products == (answer.passages[0].inner_product,)
    assert null.inner_products == () and null.poisoning is None
    only = chat.ask(QUESTION, k=1)
    assert first.alone == only.best_guess and first.alone_log_prob == pytest.approx(only.log_prob, abs=1e-3)


def test_a_long_passage_is_shortened_and_reported(tmp_path: Path, tiny_generator: Loaded) -> None:
    folder = tmp_path / "long"
    folder.mkdir()
    (folder / "a.txt").write_text("cod licence " * 50)
    store = Store.open(tmp_path / "other", create=True)
    with RAG(
        store, encoder=WordsEncoder(), generator=tiny_generator("gpt2"), settings=Settings(max_tokens=4)
    ) as rag:
        rag.index([folder])
        answer = rag.ask("cod?")
        (short,) = answer.shortened
        assert short.passage == answer.passages[0].id and 0 < short.kept < short.total
        with pytest.raises(QuestionError, match="shorten the question"):
            rag.ask("cod " * 300)


def test_a_long_answer_takes_its_room_from_the_passages(chat: RAG) -> None:
    short = chat.score(QUESTION, "nine", k=1)
    long = chat.score(QUESTION, "nine crowns " * 12, k=1)
    assert short.shortened == () and long.shortened != ()
    with pytest.raises(QuestionError, match="tokens of answer"):
        chat.score(QUESTION, "nine crowns " * 200, k=1)


def test_an_answer_beyond_the_decoder_is_refused(tmp_path: Path, tiny_generator: Loaded) -> None:
    with opened(tmp_path, tiny_generator("bart")) as rag, pytest.raises(QuestionError, match="decoder can write"):
        rag.score(QUESTION, "nine crowns " * 200)


def test_a_changed_store_is_seen_at_the_next_question(chat: RAG, tmp_path: Path) -> None:
    assert len(chat.passages(QUESTION, k="all").passages) == 3
    (tmp_path / "files" / "eel.txt").unlink()
    assert chat.index([tmp_path / "files"]).removed == 1
    assert len(chat.passages(QUESTION, k="all").passages) == 2
    assert chat.remove([tmp_path / "files" / "hen.txt"]).passages == 1
    assert chat.info().counts.passages == 1


@pytest.mark.parametrize(
    ("question", "changes", "error"),
    [
        ("", {}, QuestionError),
        ("  \n", {"k": 0}, QuestionError),
        ("cod \udcff?", {}, QuestionError),
        (None, {}, QuestionError),
        (QUESTION, {"switch": 2.0}, SettingError),
        (QUESTION, {"temperature": 0.0}, SettingError),
        (QUESTION, {"width": 3}, SettingError),
        (QUESTION, {"where": {"document": "none.txt"}}, StoreEmptyError),
        (QUESTION, {"decoder": "fast", "switch": 1.0}, SettingError),
    ],
)
def test_bad_input_is_one_line(chat: RAG, question: str, changes: dict, error: type[Exception]) -> None:
    with pytest.raises(error) as caught:
        chat.ask(question, **changes)
    assert "\n" not in str(caught.value) and "expected" in str(caught.value)


def test_an_empty_and_a_missing_store_are_told_apart(tmp_path: Path, tiny_generator: Loaded) -> None:
    store = Store.open(tmp_path / "empty", create=True)
    with RAG(store, encoder=WordsEncoder(), generator=tiny_generator("gpt2")) as rag:
        with pytest.raises(StoreEmptyError, match="mixrag index"):
            rag.ask(QUESTION)
        assert rag.ask(QUESTION, k=0, max_tokens=2).passages == ()
    with pytest.raises(StoreMissingError):
        RAG.open(tmp_path / "nowhere", models=ModelConfig())


def test_another_encoder_is_refused_and_re_embedding_mends_it(chat: RAG, tmp_path: Path) -> None:
    other = WordsEncoder(name="other", fingerprint="other-1", dimension=64)
    with RAG(Store.open(tmp_path / "store"), encoder=other, generator=chat.generator) as rag:
        with pytest.raises(EncoderMismatchError, match="--re-embed"):
            rag.ask(QUESTION)
        assert rag.index([], reembed=True).embedded == 3
        assert len(rag.ask(QUESTION, max_tokens=2).passages) == 3


def test_to_dict_is_plain_json(chat: RAG) -> None:
    answer = chat.ask(QUESTION, k=2)
    assert json.loads(json.dumps(answer.to_dict()))["answer"] == answer.best_guess


def test_the_mixture_itself_can_be_asked(chat: RAG) -> None:
    mixture = chat.condition(QUESTION, k=3, switch=0.3)
    law = mixture.predictive("nine").exp()
    assert float(law.sum()) == pytest.approx(1.0, abs=1e-5)
    assert mixture.log_prob("nine") == pytest.approx(chat.score(QUESTION, "nine", k=3, switch=0.3).log_prob)
    torch.testing.assert_close(mixture.posterior("nine").sum(), torch.tensor(1.0, dtype=torch.float64))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A trained folder; none of its models is loaded here."""
    folder = tmp_path / "trained"
    for part in ("adapter", "question-encoder"):
        (folder / part).mkdir(parents=True)
    settings = {"k": 3, "group": 2, "switch": 0.5, "null": -2.0, "temperature": 0.7, "lexical": 0.25}
    trained = Bundle(
        folder,
        generator="someone/some-model",
        adapter="adapter",
        question_encoder="question-encoder",
        settings=settings,
        prompt={"header": "READ:\n"},
        titles=False,
    )
    write_bundle(trained)
    return folder


def at(tmp_path: Path, **options: object) -> RAG:
    with RAG.open(tmp_path / "empty", create=True, **options) as rag:
        return rag


def test_a_trained_folder_gives_models_and_settings(tmp_path: Path, model: Path) -> None:
    rag = at(tmp_path, model=str(model))
    assert rag.models == ModelConfig(
        generator="someone/some-model",
        adapter=model / "adapter",
        question_encoder=model / "question-encoder",
        prompt=PromptTemplate(header="READ:\n"),
        titles=False,
    )
    expected = Settings(k=3, group=2, switch=0.5, null=-2.0, temperature=0.7, lexical=0.25)
    assert rag.settings == expected and rag.model == model


def test_what_is_given_comes_before_the_trained_folder(tmp_path: Path, model: Path) -> None:
    prompt = PromptTemplate(header="ELSE:\n")
    given = ModelConfig(generator="other/model", adapter="none", prompt=prompt, device="cpu", dtype="bfloat16")
    rag = at(tmp_path, model=model, models=given, settings={"k": 10, "null": None, "seed": 4})
    assert rag.models == replace(given, question_encoder=model / "question-encoder", titles=False)
    assert rag.settings == Settings(k=10, group=2, switch=0.5, null=None, temperature=0.7, lexical=0.25, seed=4)


def test_of_whole_settings_only_the_temperature_is_left_to_the_trained_folder(tmp_path: Path, model: Path) -> None:
    assert at(tmp_path, model=model, settings=Settings(k=10)).settings == Settings(k=10, temperature=0.7)
    hot = Settings(temperature=2.0)
    assert at(tmp_path, model=model, settings=hot).settings == hot
    bare = ModelConfig(adapter="none")
    assert at(tmp_path, models=bare, settings=Settings(k=10)).settings == Settings(k=10)


def test_the_trained_temperature_reaches_the_prior(tmp_path: Path, tiny_generator: Loaded) -> None:
    with opened(tmp_path, tiny_generator("gpt2")) as rag:
        plain = rag.passages(QUESTION)
    folder = tmp_path / "trained"
    folder.mkdir()
    write_bundle(Bundle(folder, settings={"temperature": 0.5, "k": 2}))
    for settings, expected in ((None, 0.5), (Settings(k=3), 0.5), ({"temperature": 3.0}, 3.0)):
        with RAG.open(tmp_path / "store", model=folder, settings=settings) as rag:
            rag._encoder = WordsEncoder()
            found = rag.passages(QUESTION)
            assert found.temperature == expected != plain.temperature
            assert rag.passages(QUESTION, k=1).temperature == expected


@pytest.mark.parametrize("given", [{"encoder": "other"}, {"question_encoder": "other"}], ids=str)
def test_another_encoder_leaves_out_what_was_fitted_to_the_trained_one(
    given: dict, tmp_path: Path, model: Path
) -> None:
    rag = at(tmp_path, model=model, models=ModelConfig(**given))
    assert (rag.models.encoder, rag.models.question_encoder, rag.models.titles) == (
        given.get("encoder"),
        given.get("question_encoder"),
        None,
    )
    assert rag.models.adapter == model / "adapter"
    assert rag.settings == Settings(k=3, group=2, switch=0.5, lexical=0.25)


def test_the_trained_encoder_named_again_is_no_other_one(tmp_path: Path, model: Path) -> None:
    given = ModelConfig(question_encoder=model / "adapter" / ".." / "question-encoder")
    assert at(tmp_path, model=model, models=given).settings.temperature == 0.7
    (model / "encoder").mkdir()
    write_bundle(replace(read_bundle(model), encoder="encoder"))
    rag = at(tmp_path, model=model, models=ModelConfig(encoder=str(model / "encoder")))
    assert rag.settings.temperature == 0.7 and rag.models.question_encoder == model / "question-encoder"


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"settings": {"switch": 2.0}}, SettingError),
        ({"settings": {"temperature": 0}}, SettingError),
        ({"prompt": {"question": "no field"}}, SettingError),
        ({"format": 2}, ModelError),
    ],
    ids=str,
)
def test_a_trained_folder_with_bad_values_is_named(
    changes: dict, error: type[Exception], tmp_path: Path, model: Path
) -> None:
    document = json.loads((model / "mixrag.json").read_text())
    (model / "mixrag.json").write_text(json.dumps(document | changes))
    with pytest.raises(error) as caught:
        at(tmp_path, model=model)
    assert "\n" not in str(caught.value) and str(model / "mixrag.json") in str(caught.value)
    assert not (tmp_path / "empty").exists()


def test_settings_that_are_none_are_refused_at_opening(tmp_path: Path, model: Path) -> None:
    for settings in ({"width": 3}, {"switch": 2.0}):
        with pytest.raises(SettingError):
            at(tmp_path, model=model, settings=settings)


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A reader that ships with the package."""
    from mixrag.config import model_config as models

    folder = tmp_path / "reader"
    folder.mkdir()
    write_bundle(Bundle(folder, adapter=".", settings={"temperature": 0.03, "null": 20.0, "lexical": 0.5}))
    monkeypatch.setattr(models, "packaged_reader", lambda: folder)
    return folder


def test_the_packaged_models_are_opened_as_their_reader_was_trained(tmp_path: Path, reader: Path) -> None:
    rag = at(tmp_path)
    assert rag.models == ModelConfig(adapter=reader) and rag.model is None
    assert rag.settings == Settings(temperature=0.03, null=20.0, lexical=0.5)
    assert at(tmp_path, settings=Settings(k=2)).settings == Settings(k=2, temperature=0.03)
    other = at(tmp_path, models=ModelConfig(encoder="other"))
    assert other.models.adapter == reader and other.settings == Settings(lexical=0.5)


@pytest.mark.parametrize("given", [{"generator": "other"}, {"adapter": "none"}, {"adapter": "mine"}], ids=str)
def test_another_language_model_is_opened_without_the_reader(given: dict, tmp_path: Path, reader: Path) -> None:
    rag = at(tmp_path, models=ModelConfig(**given))
    assert rag.models == ModelConfig(**given) and rag.settings == Settings()


def test_a_trained_folder_comes_before_the_reader(tmp_path: Path, reader: Path, model: Path) -> None:
    assert at(tmp_path, model=model).settings.temperature == 0.7


def test_another_encoder_is_refused_with_the_trained_folder_in_the_command(tmp_path: Path, chat: RAG) -> None:
    other = WordsEncoder(name="other", fingerprint="other-1", dimension=64)
    with RAG(Store.open(tmp_path / "store"), encoder=other, model=Path("trained/one")) as rag:
        command = f"mixrag index --re-embed --model trained/one --store {tmp_path / 'store'}"
        for refused in (lambda: rag.passages(QUESTION), lambda: rag.index([tmp_path / "files"])):
            with pytest.raises(EncoderMismatchError) as caught:
                refused()
            assert command in str(caught.value)
        assert rag.info().model == Path("trained/one")


def test_many_questions_get_the_answers_that_they_get_alone(rag: RAG, monkeypatch: pytest.MonkeyPatch) -> None:
    questions = [QUESTION, "And hens?", "What does a licence to fish for eel cost in the season?", QUESTION]
    for changes in ({}, {"group": "all"}, {"k": 0}, {"switch": 0.3, "prune": 0.0}, {"decoder": "beam"}):
        alone = [rag.ask(question, **changes) for question in questions]
        for rows in (1, 64):
            monkeypatch.setattr("mixrag.inference.batch.ROWS", rows)
            for one, other in zip(rag.ask_many(questions, **changes), alone, strict=True):
                assert (one.question, one.best_guess) == (other.question, other.best_guess)
                assert one.log_prob == pytest.approx(other.log_prob, rel=1e-4, abs=1e-4)
                assert [each.posterior for each in one.passages] == pytest.approx(
                    [each.posterior for each in other.passages], abs=1e-3
                )
    assert rag.ask_many([]) == []
    with pytest.raises(QuestionError):
        rag.ask_many([QUESTION, " "])


def test_dropped_passages_leave_the_numbers_of_the_whole_mixture(chat: RAG) -> None:
    found = chat.ask(QUESTION, prune=0.9, temperature=0.02)
    assert 0 < found.pruned <= 0.9
    again = chat.condition(QUESTION, temperature=0.02).score_tokens(found.scored.tokens)
    torch.testing.assert_close(found.scored.log_likelihood, again.log_likelihood, rtol=1e-4, atol=1e-4)
    assert found.log_prob == pytest.approx(again.log_prob, abs=1e-4)
    assert found.to_dict()["pruned"] == found.pruned
    assert chat.ask(QUESTION, prune=0.0).pruned == 0.0
    with pytest.raises(SettingError, match=r"prune to be a number in \[0, 1\)"):
        chat.ask(QUESTION, prune=1.0)

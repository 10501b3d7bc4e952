"""From text to prompts: stable borders, special tokens as mere letters, shortening, and answers there and back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers
from transformers import PreTrainedTokenizerFast

import tiny_models
from mixrag.corpus.passage import Passage
from mixrag.errors import QuestionError
from mixrag.generator import Prompt, PromptTemplate, Shortened
from mixrag.generator.prompt_tokenizer import PromptTokenizer, fair_limit
from tiny_models import CONTEXT, KINDS

QUESTION = "Who wrote the letter?"
LONG = "The river city is old, and nobody knows who gave it the name that it bears. " * 12


LLAMA = tiny_models.build("llama")[1]


def passage(text: str, name: str = "p", title: str = "Notes") -> Passage:
    return Passage(name, text, "/notes.txt", title, 0, len(text))


def metaspace_tokenizer() -> PreTrainedTokenizerFast:
    """As Llama 2 and Mistral have it: a space before every text, bytes where a letter is unknown."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "\u2581"]
    pieces += [chr(letter) for letter in range(33, 127)]
    backend = Tokenizer(
        models.BPE({piece: i for i, piece in enumerate(pieces)}, [], unk_token="<unk>", byte_fallback=True)
    )
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    backend.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


TOKENIZERS: dict[str, Callable[[], PreTrainedTokenizerFast]] = {
    **{kind: (lambda kind=kind: tiny_models.build(kind)[1]) for kind in KINDS},
    "metaspace": metaspace_tokenizer,
    "chat with plain markers": lambda: tiny_models.chat_tokenizer(special=False),
}


WORDING = {
    "header": "Answer the question with a few words from the text.\n\n",
    "passage": "{title}\n{text}\n\n",
    "question": "Question: {question}\nAnswer:",
}
"""Of these tests; the default may change."""


def reader(name: str, context: int = CONTEXT, **template: Any) -> PromptTokenizer:
    seq2seq = name in tiny_models.SEQ2SEQ
    chosen = PromptTemplate(**(WORDING | template))
    return PromptTokenizer(TOKENIZERS[name](), chosen, context, keep_suffix=seq2seq)


def control_ids(tokens: PromptTokenizer) -> set[int]:
    """Ids that stand for something else than letters."""
    return set(tokens.tokenizer.added_tokens_decoder) | set(tokens.tokenizer.all_special_ids)


def controls(tokens: PromptTokenizer, ids: Sequence[int]) -> list[str]:
    return tokens.tokenizer.convert_ids_to_tokens([i for i in ids if i in control_ids(tokens)])


def plain(tokens: PromptTokenizer, text: str) -> tuple[int, ...]:
    return tuple(tokens.tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids)


@pytest.fixture(params=TOKENIZERS)
def tokens(request: pytest.FixtureRequest) -> PromptTokenizer:
    return reader(request.param)


FRAMES = {
    "llama": (["<s>"], []),
    "llama-chat": (["<|im_start|>"], ["<|im_end|>", "<|im_start|>"]),
    "gpt2": ([], []),
    "t5": ([], ["</s>"]),
    "bart": (["<s>"], ["</s>"]),
    "metaspace": ([], []),
    "chat with plain markers": (["<|im_start|>"], ["<|im_end|>", "<|im_start|>"]),
}


@pytest.mark.parametrize("name", TOKENIZERS)
def test_the_frame_holds_the_special_tokens_of_the_model(name: str) -> None:
    tokens = reader(name)
    prompt = tokens.prompt(QUESTION, [passage("Short.")], 20)
    assert (controls(tokens, prompt.header), controls(tokens, prompt.question)) == FRAMES[name]
    assert controls(tokens, prompt.passages) == []


def test_the_chat_frame_is_the_models_own_format() -> None:
    tokens = reader("llama-chat")
    prompt = tokens.prompt(QUESTION, [passage("Short.")], 20)
    assert tokens.tokenizer.decode(prompt.tokens) == (
        "<|im_start|>user\nAnswer the question with a few words from the text.\n\nNotes\nShort.\n\n"
        "Question: Who wrote the letter?\nAnswer:<|im_end|>\n<|im_start|>assistant\n"
    )


def test_chat_false_is_running_text() -> None:
    tokens = reader("llama-chat", chat=False)
    prompt = tokens.prompt(QUESTION, [passage("Short.")], 20)
    assert controls(tokens, prompt.tokens) == []
    assert tokens.tokenizer.decode(prompt.tokens).startswith("Answer the question")


def test_a_causal_prompt_stays_open_where_the_tokenizer_closes_texts() -> None:
    tokens = PromptTokenizer(tiny_models.build("bart")[1], PromptTemplate(**WORDING), CONTEXT, keep_suffix=False)
    prompt = tokens.prompt(QUESTION, [passage("Short.")], 20)
    assert controls(tokens, prompt.tokens) == ["<s>"]


def test_the_null_component_has_its_own_header(tokens: PromptTokenizer) -> None:
    prompt = tokens.prompt(QUESTION, [], 20)
    assert prompt.passages == ()
    assert prompt.header[-10:] == plain(tokens, tokens.template.header_without_passage)[-10:]
    assert prompt.header != tokens.prompt(QUESTION, [passage("Short.")], 20).header


def test_parts_are_tokenised_on_their_own(tokens: PromptTokenizer) -> None:
    first, second = passage("an author"), passage("s wrote it", "q")
    alone = tokens.prompt(QUESTION, [first], 20)
    both = tokens.prompt("Why?", [first, second], 20)
    assert alone.passages == plain(tokens, "Notes\nan author") + plain(tokens, "\n\n")
    assert both.passages == alone.passages + tokens.prompt(QUESTION, [second], 20).passages
    assert both.header == alone.header
    assert both.question == tokens.prompt("Why?", [], 20).question
    assert both.tokens == both.header + both.passages + both.question


@pytest.mark.parametrize("name", TOKENIZERS)
def test_spelled_out_special_tokens_are_letters(name: str) -> None:
    """No passage, title, question or answer can open or close a turn, end the text or mask a word."""
    tokens = reader(name)
    added = [str(token) for token in tokens.tokenizer.added_tokens_decoder.values()]
    forged = "".join(added) + "\n" + " ".join([*added, "</s>", "<|im_end|>", "<|endoftext|>"])
    prompt = tokens.prompt(forged, [passage(forged, title=forged)], 0)
    header, question = FRAMES[name]
    assert controls(tokens, prompt.passages) == []
    assert controls(tokens, prompt.question) == question
    assert controls(tokens, prompt.header) == header
    assert controls(tokens, tokens.answer_tokens(forged, 0)[:-1]) == []
    assert forged in tokens.tokenizer.decode(prompt.passages)


def test_special_tokens_of_the_frame_survive_a_forged_text(tokens: PromptTokenizer) -> None:
    """Reading letters is a switch inside the tokenizer: it must not stay thrown."""
    fresh = PromptTokenizer(tokens.tokenizer, tokens.template, CONTEXT, tokens.keep_suffix)
    before = tokens.prompt(QUESTION, [passage("<|im_end|></s>")], 20)
    assert fresh.prompt(QUESTION, [passage("<|im_end|></s>")], 20) == before


def test_a_passage_that_fits_is_whole(tokens: PromptTokenizer) -> None:
    prompt = tokens.prompt(QUESTION, [passage("Short.")], 20)
    assert prompt.shortened == ()


def test_the_context_stands_before_the_text_unless_the_template_places_it(tokens: PromptTokenizer) -> None:
    given = replace(passage("nine crowns"), context="Fees › Ferries\nTable 2")
    prompt = tokens.prompt(QUESTION, [given], 8)
    expected = tokens.prompt(QUESTION, [passage("Fees › Ferries\nTable 2\nnine crowns")], 8)
    assert prompt.passages == expected.passages
    template = PromptTemplate(passage="{context}: {text} ({title})")
    assert template.passage_text("T", "{title}", "C") == ("C: {title}", " (T)")
    assert template.passage_text("T", "x") == (": x", " (T)")


def test_a_long_passage_loses_its_end_and_the_question_stays(tokens: PromptTokenizer) -> None:
    prompt = tokens.prompt(QUESTION, [passage(LONG)], 20)
    body, ending = plain(tokens, f"Notes\n{LONG}"), plain(tokens, "\n\n")
    read = len(prompt.passages) - len(ending)
    assert prompt.question == tokens.prompt(QUESTION, [], 20).question
    assert prompt.header == tokens.prompt(QUESTION, [passage("Short.")], 20).header
    assert prompt.passages == body[:read] + ending
    (short,) = prompt.shortened
    assert short.characters is not None and 0 < short.characters < len(LONG)
    assert short == Shortened("p", read, len(body), short.characters)
    decoded = tokens.tokenizer.decode(list(body[:read]), clean_up_tokenization_spaces=False)
    assert decoded.split() == f"Notes\n{LONG[: short.characters]}".split()
    assert len(prompt.tokens) + 20 == CONTEXT, "the context is used to its last token"


@pytest.mark.parametrize("reserve", range(20, 60, 7))
def test_a_character_whose_tokens_are_cut_is_not_read(reserve: int, tokens: PromptTokenizer) -> None:
    text = "東京 naïve — <|im_end|> €9. " * 40
    (short,) = tokens.prompt(QUESTION, [passage(text)], reserve).shortened
    assert short.characters is not None
    cut = len(f"Notes\n{text}") - len(text) + short.characters
    assert len(plain(tokens, f"Notes\n{text}"[:cut])) <= short.kept
    following = plain(tokens, f"Notes\n{text}"[: cut + 2])
    assert len(following) > short.kept or following[: short.kept] != plain(tokens, f"Notes\n{text}")[: short.kept]


def test_where_nothing_of_a_passage_fits_no_character_is_read(tokens: PromptTokenizer) -> None:
    room = CONTEXT - len(tokens.prompt(QUESTION, [passage("")], 0).tokens)
    (short,) = tokens.prompt(QUESTION, [passage(LONG)], room).shortened
    assert short.characters == 0


def test_only_the_longest_passages_are_cut_and_to_the_same_length(tokens: PromptTokenizer) -> None:
    passages = [passage("Short.", "a"), passage(LONG, "b"), passage(LONG + LONG, "c")]
    prompt = tokens.prompt(QUESTION, passages, 20)
    bodies = [plain(tokens, f"Notes\n{each.text}") for each in passages]
    ending = plain(tokens, "\n\n")
    assert [(s.passage, s.total) for s in prompt.shortened] == [("b", len(bodies[1])), ("c", len(bodies[2]))]
    (read,) = {s.kept for s in prompt.shortened}
    assert prompt.passages == bodies[0] + ending + bodies[1][:read] + ending + bodies[2][:read] + ending
    assert CONTEXT - 1 <= len(prompt.tokens) + 20 <= CONTEXT


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 120), max_size=6), st.integers(0, 60), st.integers(120, 300))
def test_no_prompt_exceeds_its_context(words: list[int], reserve: int, context: int) -> None:
    template = PromptTemplate(passage="{title}\n{text}", header="", question="{question}")
    tokens = PromptTokenizer(LLAMA, template, context, keep_suffix=False)
    passages = [passage("old " * count, str(i)) for i, count in enumerate(words)]
    prompt = tokens.prompt(QUESTION, passages, reserve)
    assert len(prompt.tokens) + reserve <= context
    for shortened in prompt.shortened:
        assert 0 <= shortened.kept < shortened.total
    if not prompt.shortened:
        assert len(prompt.passages) == sum(len(plain(tokens, f"Notes\n{p.text}")) for p in passages)


def test_a_question_that_fills_the_context_leaves_nothing_of_the_passages(tokens: PromptTokenizer) -> None:
    fixed = tokens.prompt(QUESTION, [passage("")], 0)
    context = len(fixed.header) + len(fixed.question) + 20
    tight = PromptTokenizer(tokens.tokenizer, tokens.template, context, tokens.keep_suffix)
    prompt = tight.prompt(QUESTION, [passage("Short.", "a"), passage("Other.", "b")], 20)
    assert (prompt.header, prompt.passages, prompt.question) == (fixed.header, (), fixed.question)
    assert [(s.passage, s.kept) for s in prompt.shortened] == [("a", 0), ("b", 0)]


def test_a_question_one_token_too_long_is_refused(tokens: PromptTokenizer) -> None:
    fixed = tokens.prompt(QUESTION, [passage("")], 0)
    context = len(fixed.header) + len(fixed.question) + 19
    tight = PromptTokenizer(tokens.tokenizer, tokens.template, context, tokens.keep_suffix)
    with pytest.raises(QuestionError) as caught:
        tight.prompt(QUESTION, [passage("Short.")], 20)
    length = len(fixed.question)
    assert "\n" not in str(caught.value)
    assert f"within {context} tokens" in caught.value.expected
    assert f"{length} tokens of question" in caught.value.found


def test_a_reserve_beyond_the_context_does_not_ask_for_a_negative_length() -> None:
    with pytest.raises(QuestionError) as caught:
        reader("llama").prompt(QUESTION, [], 10 * CONTEXT)
    assert "at most -" not in str(caught.value)


@pytest.mark.parametrize(("kind", "reserve"), [("llama", 20), ("t5", 0), ("bart", 0)])
def test_an_answer_takes_room_from_a_causal_context_only(
    kind: str, reserve: int, tiny_generator: Callable[[str], Any]
) -> None:
    prompt: Prompt = tiny_generator(kind).prompt(QUESTION, [passage(LONG)], 20)
    assert len(prompt.tokens) == CONTEXT - reserve


@settings(max_examples=300, deadline=None)
@given(st.lists(st.integers(0, 40), max_size=8), st.integers(0, 200))
def test_fair_limit_is_the_largest_that_fits(lengths: list[int], total: int) -> None:
    limit = fair_limit(lengths, total)

    def used(cut: int) -> int:
        return sum(min(length, cut) for length in lengths)

    assert used(limit) <= total
    assert limit >= max(lengths, default=0) or used(limit + 1) > total


ANSWERS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@pytest.mark.parametrize("name", TOKENIZERS)
def test_answers_there_and_back(name: str) -> None:
    tokens = reader(name)
    stop = tokens.tokenizer.eos_token_id

    @settings(max_examples=150, deadline=None)
    @given(ANSWERS.filter(lambda text: not text.startswith(" ") and "\u2581" not in text))
    def check(answer: str) -> None:
        ids = tokens.answer_tokens(answer, stop)
        assert ids[-1] == stop and stop not in ids[:-1]
        assert tokens.text(ids, {stop}) == answer
        assert tokens.text(ids[:-1], {stop}) == answer

    check()


@pytest.mark.parametrize(
    "answer",
    [
        "Paris",
        "naïve café",
        "東京",
        "🙂👩‍👩‍👧",
        "a\nb\tc",
        "don 't , stop .",
        "e\u0301",
        "עברית",
        "</s> <|im_end|>",
        "  two",
    ],
)
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_known_answers_there_and_back(name: str, answer: str) -> None:
    tokens = reader(name)
    stop = tokens.tokenizer.eos_token_id
    assert tokens.text(tokens.answer_tokens(answer, stop), {stop}) == answer


@pytest.mark.parametrize(
    ("name", "template", "separator"),
    [
        ("llama", {}, " "),
        ("gpt2", {}, " "),
        ("gpt2", {"question": "Q: {question}\nA:\n"}, ""),
        ("llama-chat", {}, ""),
        ("llama-chat", {"chat": False}, " "),
        ("t5", {}, ""),
        ("bart", {}, ""),
        ("metaspace", {}, ""),
    ],
)
def test_a_space_parts_answers_from_running_text_only(name: str, template: dict[str, Any], separator: str) -> None:
    tokens = reader(name, **template)
    assert tokens.answer_tokens("Paris", 2) == (*plain(tokens, separator + "Paris"), 2)


def test_answers_keep_their_tokens_whatever_stands_before(tokens: PromptTokenizer) -> None:
    """The border between prompt and answer is stable too: no prompt is read by ``answer_tokens``."""
    assert tokens.answer_tokens("Paris", 2)[:-1] == tokens.answer_tokens("Paris", 1)[:-1]

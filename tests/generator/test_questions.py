"""p(x | z): which tokens count, and the same number in one pass, in two, behind cached passages and without."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from test_prefix_cache import CONFIGS, TOLERANCE, built, plain, prompts_of
from test_prompts import TOKENIZERS
from torch import Tensor

import tiny_models
from mixrag.corpus.passage import Passage
from mixrag.errors import SettingError
from mixrag.generator import BaseGenerator, CausalGenerator, Generator, Prompt, PromptTemplate
from mixrag.generator.copying import CopyingGenerator
from mixrag.generator.prompt_tokenizer import PromptTokenizer
from mixrag.generator.questions import check_reads_questions, own_tokens, start_with_question
from mixrag.generator.uncached import UncachedGenerator

QUESTION = "Who wrote it, and when?"
OTHER = "And where does the river go from there?"


def exact(generator: Any, prompt: Prompt) -> float:
    """One forward pass over one row, without cache, padding or mask; the log-probabilities added up in a loop."""
    tokens, (first, end) = prompt.tokens, prompt.own_question or (0, len(prompt.question))
    with torch.no_grad():
        log_probs = generator.model(input_ids=torch.tensor([tokens])).logits[0].double().log_softmax(-1)
    before = len(prompt.header) + len(prompt.passages)
    return math.fsum(float(log_probs[before + t - 1, tokens[before + t]]) for t in range(first, end))


def all_exact(generator: Any, prompts: list[Prompt]) -> Tensor:
    return torch.tensor([exact(generator, prompt) for prompt in prompts], dtype=torch.float64)


@pytest.mark.parametrize("kind", CONFIGS)
def test_behind_cached_passages_it_is_that_of_a_plain_forward_pass(kind: str) -> None:
    generator = built(CONFIGS[kind])
    null = generator.prompt(QUESTION, [], 20)
    prompts = [*prompts_of(generator, QUESTION), null]
    expected = all_exact(generator, prompts)
    assert expected.std() > 0.1, "the passages of this test must matter"
    whole = plain(generator)
    first = torch.cat([whole.start([prompt]).log_probs for prompt in prompts])
    for _ in range(3):  # before and after the passages are read
        branches, together = generator.start_with_question(prompts)
        torch.testing.assert_close(together, expected, **TOLERANCE)
        torch.testing.assert_close(branches.log_probs, first, **TOLERANCE)
        torch.testing.assert_close(generator.question_log_likelihood(prompts), expected, **TOLERANCE)
    for row, prompt in enumerate(
        prompts
    ):  # each alone: some models' own attention makes NaN of padding in float64
        found = torch.cat([whole.start_with_question([prompt])[1], whole.question_log_likelihood([prompt])])
        torch.testing.assert_close(found, expected[row].expand(2), **TOLERANCE)
    assert together.dtype == torch.float64 and together.device.type == "cpu"


@pytest.mark.parametrize("kind", tiny_models.CAUSAL)
def test_of_loaded_models_too_and_several_questions_at_once(
    kind: str, tiny_generator: Callable[[str], Generator]
) -> None:
    generator: Any = tiny_generator(kind)
    prompts = [*prompts_of(generator, QUESTION), *prompts_of(generator, OTHER)]
    expected = all_exact(generator, prompts)
    branches, found = start_with_question(generator, prompts)
    near: dict[str, float] = {"rtol": 1e-4, "atol": 1e-4}
    torch.testing.assert_close(found, expected, **near)
    torch.testing.assert_close(generator.question_log_likelihood(prompts), expected, **near)
    torch.testing.assert_close(branches.log_probs, generator.start(prompts).log_probs, **near)
    copying = CopyingGenerator(generator)
    passages = [Passage(text, text, "/notes.txt", "Notes", 0, len(text)) for text in ("The river.", "Short.")]
    copied = [copying.prompt(QUESTION, [each], 40) for each in passages]
    assert copied[0].own_question == generator.prompt(QUESTION, passages[:1], 40).own_question
    for likelihood in (copying.question_log_likelihood(copied), start_with_question(copying, copied)[1]):
        torch.testing.assert_close(likelihood, all_exact(generator, copied), **near)


def test_models_without_states_and_generators_of_ones_own(tiny_generator: Callable[[str], Generator]) -> None:
    loaded: Any = tiny_generator("gpt2")
    uncached = UncachedGenerator(loaded.name, loaded.model, loaded.tokens, loaded.stop_tokens, loaded.stop_token)

    class Own(BaseGenerator):
        def next_log_probs(self, rows: Any) -> Tensor:
            with torch.no_grad():
                every = [loaded.model(input_ids=torch.tensor([row])).logits[0, -1] for row in rows]
            return torch.stack(every).log_softmax(-1)

    own = Own(loaded.tokens.tokenizer, context_size=tiny_models.CONTEXT)
    for generator in (uncached, own):
        prompts = prompts_of(generator, QUESTION)
        for found in (generator.question_log_likelihood(prompts), start_with_question(generator, prompts)[1]):
            torch.testing.assert_close(found, all_exact(loaded, prompts), rtol=1e-4, atol=1e-4)


def test_one_pass_reads_what_start_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """More where the output of all positions would be too large, or where nothing is before the question."""
    generator = built(CONFIGS["grouped"])
    prompts, passes = prompts_of(generator, QUESTION), list[int]()
    generator.start(prompts)
    hook = generator.model.register_forward_pre_hook(
        lambda module, args, options: passes.append(options["input_ids"].numel()), with_kwargs=True
    )
    expected = generator.start_with_question(prompts)[1]
    assert passes == [sum(len(prompt.question) for prompt in prompts)]
    monkeypatch.setattr("mixrag.generator.causal.DISTRIBUTIONS_AT_ONCE", 5)
    found = generator.start_with_question(prompts)[1]
    assert len(passes) >= 3
    monkeypatch.undo()
    torch.testing.assert_close(found, expected, **TOLERANCE)
    bare = [replace(prompt, own_question=None) for prompt in prompts]
    torch.testing.assert_close(generator.start_with_question(bare)[1], all_exact(generator, bare), **TOLERANCE)
    hook.remove()


@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize(
    "wording", ["Question: {question}", "Question: {question}\nAnswer:", "{question}", "Q {question} {question} A"]
)
def test_the_questions_own_tokens_are_those_with_a_letter_of_it(name: str, wording: str) -> None:
    tokenizer = TOKENIZERS[name]()
    for keep_suffix in (False, True):
        tokens = PromptTokenizer(tokenizer, PromptTemplate(question=wording), 512, keep_suffix)
        for question in (QUESTION, "x", "  Is the: answer: A ?"):
            prompt = tokens.prompt(question, (), 10)
            first, end = prompt.own_question or (0, 0)
            own = tokenizer.decode(own_tokens(prompt), clean_up_tokenization_spaces=False)
            before, after = (tokenizer.decode(part) for part in (prompt.question[:first], prompt.question[end:]))
            assert own.strip(" \u2581\n") == question.strip(), "and none of the words around it"
            assert before.strip(" \u2581") in wording and first < end
            assert ("Answer" in after) == ("Answer" in wording)


def test_no_question_has_no_tokens_and_probability_one() -> None:
    generator = built(CONFIGS["grouped"])
    prompt = replace(prompts_of(generator)[0], own_question=(2, 2))
    assert own_tokens(prompt) == ()
    assert generator.question_log_likelihood([prompt]).tolist() == [0.0]
    assert generator.start_with_question([prompt])[1].tolist() == [0.0]


def test_a_first_token_that_nothing_predicts_is_refused() -> None:
    generator: CausalGenerator = built(CONFIGS["grouped"])
    template = PromptTemplate(question="{question}", header_without_passage="", chat=False)
    generator = replace(generator, tokens=replace(generator.tokens, template=template))
    prompts = [*prompts_of(generator), generator.prompt(QUESTION, [], 20)]
    with pytest.raises(SettingError, match="text before the question"):
        generator.start_with_question(prompts)


def test_an_encoder_decoder_does_not_read_the_question_after_the_passage(
    tiny_generator: Callable[[str], Generator],
) -> None:
    with pytest.raises(Exception, match="choose a causal language model"):
        check_reads_questions(tiny_generator("t5"))
    check_reads_questions(tiny_generator("gpt2"))

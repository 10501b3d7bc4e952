"""Pairs as the step needs them: answers in tokens, too long ones left out, and a notice about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mixrag.corpus import Passage
from mixrag.errors import PairsError, QuestionError
from mixrag.generator import Generator, Prompt
from mixrag.generator.huggingface import ModelGenerator
from mixrag.pairs.pairs import Pair


@dataclass(frozen=True, slots=True)
class Example:
    """One pair, ready for training."""

    number: int
    """Its own number in the run, over train and dev pairs; what caches go by."""
    pair: Pair
    answers: tuple[tuple[int, ...], ...]
    """Token ids of each gold answer, with the token that ends it; A of them."""

    prompt: Prompt | None = None
    """What is read before the answer, where it is not to be made of question and passages."""

    @property
    def length(self) -> int:
        """Tokens of the longest answer."""
        return max(map(len, self.answers))


def examples_from(
    pairs: Sequence[Pair], generator: Generator, max_answer_tokens: int, first: int = 0, reserve: int | None = None
) -> tuple[list[Example], list[str]]:
    """The examples, numbered from ``first``, and notices about answers that were left out.

    ``reserve``: tokens that the step leaves for an answer, however short it is; None: ``max_answer_tokens``.

    Raises:
        PairsError: no answer is short enough, or a question does not fit into the model's context.
    """
    examples: list[Example] = []
    dropped_answers = dropped_pairs = 0
    for pair in pairs:
        answers = dict.fromkeys(generator.answer_tokens(answer) for answer in pair.answers)
        short = tuple(answer for answer in answers if len(answer) <= max_answer_tokens)
        dropped_answers += len(answers) - len(short)
        if not short:
            dropped_pairs += 1
            continue
        check_fits(pair, generator, max(reserve or max_answer_tokens, *map(len, short)))
        examples.append(Example(first + len(examples), pair, short))
    if not examples:
        expected = f"pairs with an answer of at most {max_answer_tokens} tokens"
        raise PairsError(expected, f"{len(pairs)} pairs, none of them so", "raise --max-answer-tokens")
    if not dropped_answers:
        return examples, []
    also = f", and with them {dropped_pairs} pairs that have no other" if dropped_pairs else ""
    notice = f"{dropped_answers} answers of more than {max_answer_tokens} tokens left out{also}"
    return examples, [f"{notice} (--max-answer-tokens)"]


def passage_examples(passages: Sequence[Passage], generator: ModelGenerator, first: int = 0) -> list[Example]:
    """The passages as texts to be learnt by heart: the closed-book way, which retrieval replaces.

    Each is written after nothing but the token that ends a text; what exceeds the context is cut off.
    """
    start = Prompt((generator.stop_token,), (), ())
    room = generator.context_size - 1
    texts = [generator.answer_tokens(f"{p.title}. {p.body}" if p.title else p.body)[:room] for p in passages]
    return [
        Example(first + i, Pair("", (passage.text,), None, {}, passage.document), (tokens,), start)
        for i, (passage, tokens) in enumerate(zip(passages, texts, strict=True))
    ]


_SOME = Passage("", "a", "", "", 0, 1)


def check_fits(pair: Pair, generator: Generator, answer: int) -> None:
    """Refuse a pair whose question leaves no room for ``answer`` tokens.

    Raises:
        PairsError: it does not fit.
    """
    try:
        # With a passage, since its prompt may begin otherwise; passages themselves are shortened to fit.
        generator.prompt(pair.question, (_SOME,), answer)
        generator.prompt(pair.question, (), answer)
    except QuestionError as error:
        raise PairsError(
            f"question and answer within the model's {generator.context_size} tokens",
            f"{error.found}, for {answer} tokens of answer, at {pair.source}",
            "shorten or remove this pair, or lower --max-answer-tokens",
        ) from error

"""Which gold answers an extractive reader can give: those that are spans of a passage, in its spelling."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from mixrag.config.training_settings import TrainingSettings
from mixrag.corpus import Passage
from mixrag.errors import PairsError
from mixrag.generator import ExtractiveGenerator, Prompt
from mixrag.generator.extractive import Answers
from mixrag.generator.span_windows import SpanPrompt
from mixrag.training.examples import Example
from mixrag.training.span_examples import occurrences
from mixrag.training.trainable_prior import TrainablePrior
from mixrag.utils.progress import Progress, ProgressEvent

RETRIEVING = "finding passages"
"""What progress calls it."""
Retrieve = Callable[[Sequence[Example]], Sequence[Sequence[Passage]]]
"""From examples to the passages of each."""


def possible_answers(
    generator: ExtractiveGenerator, prompt: Prompt, answers: Sequence[str]
) -> tuple[tuple[int, ...], ...]:
    """The tokens of those answers that are spans of a prompt's text.

    An answer that does not occur as it is written counts in the passage's capital and small letters.
    """
    if not isinstance(prompt, SpanPrompt):
        return ()
    places = [place for answer in answers for place in occurrences(prompt, answer)]
    if not places:
        return ()
    texts = dict.fromkeys(" ".join(prompt.text[start:end].split()) for start, end in places)
    spans = _without_scores(generator, prompt)
    tokens = dict.fromkeys(generator.answer_tokens(text) for text in texts)
    return tuple(each for each in tokens if len(spans.spelling(each)))


def answerable(
    examples: Sequence[Example],
    generator: ExtractiveGenerator,
    retrieve: Retrieve,
    max_answer_tokens: int,
    batch: int = 32,
) -> list[Example]:
    """The examples that a retrieved passage can answer, with their answers as the passages spell them.

    Args:
        examples: pairs in tokens.
        generator: the reader; its model reads nothing here.
        retrieve: finds the passages.
        max_answer_tokens: of the longest spelling.
        batch: examples that are retrieved at a time.
    """
    found: list[Example] = []
    for start in range(0, len(examples), batch):
        some = examples[start : start + batch]
        for example, passages in zip(some, retrieve(some), strict=True):
            prompts = [generator.prompt(example.pair.question, (passage,), 0) for passage in passages]
            answers = dict.fromkeys(
                answer
                for prompt in prompts
                for answer in possible_answers(generator, prompt, example.pair.answers)
                if len(answer) <= max_answer_tokens
            )
            if answers:
                found.append(replace(example, answers=tuple(answers)))
    return found


def answered_by_spans(
    examples: Sequence[Example],
    dev: Sequence[Example],
    generator: ExtractiveGenerator,
    prior: TrainablePrior,
    settings: TrainingSettings,
    report: Progress,
) -> tuple[list[Example], list[Example], list[str]]:
    """Training and dev pairs that can be answered (``answerable``), and notices about those that cannot.

    Raises:
        PairsError: no training pair can.
    """
    limit, total = settings.max_answer_tokens, len(examples) + len(dev)

    def retrieve(some: Sequence[Example]) -> list[tuple[Passage, ...]]:
        done[0] += len(some)
        found = [chosen.passages for chosen in prior.candidates(some)]
        report(ProgressEvent(RETRIEVING, done[0], total))
        return found

    done = [0]
    found, found_dev = (answerable(some, generator, retrieve, limit) for some in (examples, dev))
    if not found:
        expected = f"pairs whose answer stands in one of the {prior.settings.k} passages retrieved"
        remedy = "write answers as the documents do, or raise -k"
        raise PairsError(expected, f"{len(examples)} pairs, none of them so", remedy)
    notices = []
    for kind, before, after in (("pairs", examples, found), ("dev pairs", dev, found_dev)):
        if len(after) < len(before):
            left = f"{len(before) - len(after)} of {len(before)} {kind} left out"
            notices.append(f"{left}: their answers are no span of the passages retrieved (raise -k)")
    return found, found_dev, notices


def _without_scores(generator: ExtractiveGenerator, prompt: SpanPrompt) -> Answers:
    """The spans of a prompt, all alike: what they are does not depend on the model."""
    windows = generator.windows(prompt)
    alike = [(torch.zeros(len(window.ids)), torch.zeros(len(window.ids))) for window in windows]
    return generator.answers_from(prompt, windows, alike)

"""A run with the composite objective: reading sets are made, the generator learns on them, then the retriever."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from mixrag.config.training_settings import SCALARS
from mixrag.errors import PairsError
from mixrag.pairs.pairs import Pair, sample
from mixrag.training.calibrate import FittedScalars, calibrate
from mixrag.training.composite import CompositeLoop, Reader, drawing, span_drawing, steps_of
from mixrag.training.examples import Example, examples_from
from mixrag.training.generators import TrainableGenerator, undo_compilation
from mixrag.training.loop import Loop, LoopState
from mixrag.training.optimiser import parts
from mixrag.training.packing import Row
from mixrag.training.reading_sets import (
    Matching,
    ReadingSet,
    SetTokenizer,
    Target,
    by_posterior,
    counted,
    gathered,
    own_sets,
)
from mixrag.training.row_reader import RowReader
from mixrag.training.run_spec import RunSpec
from mixrag.training.span_answers import RETRIEVING, answered_by_spans
from mixrag.training.span_rows import SpanReading, SpanRowReader
from mixrag.training.step import TrainingStep
from mixrag.training.trainable_prior import TrainablePrior
from mixrag.training.trainable_spans import Trainable, TrainableSpans, likelihoods_of
from mixrag.utils.progress import Progress, ProgressEvent

CALIBRATED = 400
"""Pairs to which temperature and null score are fitted: of more the two numbers learn nothing."""
_logger = logging.getLogger("mixrag.training")


@dataclass(frozen=True)
class CompositeRun:
    """What takes part in the run."""

    spec: RunSpec
    trained: Trainable
    prior: TrainablePrior | None
    run_id: Mapping[str, str]
    accelerator: Any
    progress: Progress
    stage: str
    claim: Callable[[], None]
    """Called once nothing can be refused any more."""

    def learn(self) -> tuple[LoopState, FittedScalars | None]:
        """Train the generator, then what is trained of the retriever.

        Raises:
            PairsError: there are no pairs for a part, or fewer than one batch.
            SettingError: prompt and question do not fit into a row.
            TrainingError: a loss that is not finite, or a full disk.
        """
        asked, dev_asked = ([p for p in pairs if p.passage is None] for pairs in (self.spec.pairs, self.spec.dev))
        examples = self._examples(asked)
        self._check(examples)
        if self.prior is not None and examples:
            self.prior.place_null(examples)
        dev_examples = self._examples(dev_asked, len(examples))
        learn = self._learn_spans if isinstance(self.trained, TrainableSpans) else self._learn_language_model
        state = learn(examples, dev_examples)
        undo_compilation(self.trained.generator.model)
        return state, self._learn_retriever(examples)

    def _learn_language_model(self, examples: Sequence[Example], dev_examples: Sequence[Example]) -> LoopState:
        assert isinstance(self.trained, TrainableGenerator)
        settings, generator = self.spec.settings, self.trained.generator
        length = min(settings.row_tokens, generator.context_size)
        tokenizer = SetTokenizer(generator, length, settings.max_answer_tokens)
        read = tokenizer.readable(self._sets(self.spec.pairs, examples))
        dev = tokenizer.readable(self._sets(self.spec.dev, dev_examples))
        if tokenizer.left_out:
            _logger.info(
                f"{tokenizer.left_out} questions of passages left out: they or their answers are too long "
                "(--max-answer-tokens, --row-tokens)"
            )
        stop = generator.stop_token
        draw, dev_draw = (drawing(sets, stop, settings, length) for sets in (read, dev))
        per_epoch, steps = steps_of(draw, settings)
        reader = RowReader(self.trained, length, steps[0])
        return self._run(counted(read), per_epoch, steps, dev_draw("dev"), reader, f"rows of {length} tokens")

    def _learn_spans(self, examples: Sequence[Example], dev_examples: Sequence[Example]) -> LoopState:
        assert isinstance(self.trained, TrainableSpans)
        settings, generator = self.spec.settings, self.trained.generator
        if settings.targets == "posterior" and examples:
            examples, dev_examples = self._answered(examples, dev_examples)
        reading = SpanReading(generator, settings.max_answer_tokens)
        read = reading.readable(self._sets(self.spec.pairs, examples))
        dev = reading.readable(self._sets(self.spec.dev, dev_examples))
        if reading.left_out:
            _logger.info(
                f"{reading.left_out} questions of passages left out: their answers are no span of the passage, "
                "or they are too long (--max-answer-tokens)"
            )
        draw, dev_draw = (span_drawing(sets, generator.stop_token, settings) for sets in (read, dev))
        per_epoch, steps = steps_of(draw, settings)
        reader = SpanRowReader(self.trained)
        return self._run(counted(read), per_epoch, steps, dev_draw("dev"), reader, "questions")

    def _run(
        self,
        counts: Mapping[str, int],
        per_epoch: int,
        steps: Sequence[list[Row]],
        dev_rows: Sequence[Row],
        reader: Reader,
        unit: str,
    ) -> LoopState:
        """The steps; ``unit`` is what their rows are called."""
        settings, generator = self.spec.settings, self.trained.generator
        loop = CompositeLoop(
            TrainingStep(None, generator, self.trained, settings, self.spec.rag.settings),
            parts(self.trained.weights(), {}, {}, settings),
            steps,
            dev_rows,
            settings,
            self.spec.folder,
            self.run_id,
            self.accelerator,
            self.progress,
            self.stage,
            reader=reader,
            per_epoch=per_epoch,
            stops=frozenset(generator.stop_tokens | {generator.stop_token}),
        )
        _logger.info(
            f"{counts['passages']} passages with {counts['answered']} questions that they answer and "
            f"{counts['unanswered']} that they do not; {len(steps)} steps, {sum(map(len, steps))} {unit}"
        )
        self.claim()
        return loop.run()

    def _learn_retriever(self, examples: Sequence[Example]) -> FittedScalars | None:
        """By the marginal likelihood, with the generator as it is now: its likelihoods are computed once."""
        others = tuple(part for part in self.spec.settings.parts if part != "generator")
        if not others or self.prior is None:
            return None
        settings = replace(self.spec.settings, parts=others, objective="marginal", compile=False)
        step = TrainingStep(self.prior, self.trained.generator, None, settings, self.spec.rag.settings)
        step.likelihoods = likelihoods_of(self.trained, frozen=True)
        if isinstance(self.trained, TrainableSpans):
            examples, _ = self._answered(examples, ())
        if set(others) <= SCALARS:
            some = sample(examples, CALIBRATED, settings.seed)
            _logger.info(f"fitting {' and '.join(others)} to {len(some)} pairs")
            return calibrate(step, some)
        weights = parts({}, self.prior.weights(), self.prior.scalars(), settings)
        folder = self.spec.folder / "retriever"
        stage = "learning to retrieve"
        Loop(
            step, weights, examples, [], settings, folder, self.run_id, self.accelerator, self.progress, stage
        ).run()
        return None

    def _answered(
        self, examples: Sequence[Example], dev: Sequence[Example]
    ) -> tuple[Sequence[Example], Sequence[Example]]:
        """Those that a retrieved passage can answer."""
        assert isinstance(self.trained, TrainableSpans) and self.prior is not None
        found, found_dev, notices = answered_by_spans(
            examples, dev, self.trained.generator, self.prior, self.spec.settings, self.progress
        )
        for notice in notices:
            _logger.info(notice)
        return found, found_dev

    def _examples(self, pairs: Sequence[Pair], first: int = 0) -> list[Example]:
        """Pairs that ask for passages of the store."""
        if not pairs:
            return []
        generator = self.trained.generator
        limit = self.spec.settings.max_answer_tokens
        examples, notices = examples_from(pairs, generator, limit, first)
        for notice in notices:
            _logger.info(notice)
        return examples

    def _check(self, examples: Sequence[Example]) -> None:
        if self.spec.settings.trains_retriever and not examples:
            remedy = "add some, or train --parts generator"
            found = "only pairs with a passage of their own"
            raise PairsError("pairs to find passages for, to train the retriever", found, remedy)

    def _sets(self, pairs: Sequence[Pair], examples: Sequence[Example]) -> list[ReadingSet]:
        return [*own_sets(pairs), *gathered(self._targets(examples))]

    def _targets(self, examples: Sequence[Example]) -> list[tuple[Any, Target]]:
        """The passages that the retriever finds for each pair, and what they are to say."""
        found: list[tuple[Any, Target]] = []
        if not examples:
            return found
        assert self.prior is not None
        matching, size = Matching(self.spec.rag.store), self.spec.settings.batch
        for start in range(0, len(examples), size):
            some = examples[start : start + size]
            if self.spec.settings.targets == "posterior":
                found += self._by_posterior(some)
            else:
                for example, chosen in zip(some, self.prior.candidates(some), strict=True):
                    found += matching.targets(example.pair, chosen.passages)
            self.progress(ProgressEvent(RETRIEVING, min(start + size, len(examples)), len(examples)))
        return found

    def _by_posterior(self, examples: Sequence[Example]) -> list[tuple[Any, Target]]:
        spec, trained = self.spec, self.trained
        step = TrainingStep(self.prior, trained.generator, trained, spec.settings, spec.rag.settings)
        found: list[tuple[Any, Target]] = []
        with torch.no_grad():
            for question in step.questions(examples):
                coefficients = step.coefficients(question)
                if not coefficients.possible:  # nothing says which passage states the answer
                    continue
                shares = coefficients.log_posterior.exp().tolist()
                # The component without a passage, where there is one, is the last.
                passages = [passage for component in question.components for passage in component.passages]
                found += by_posterior(question.example.pair, passages, shares[: len(passages)])
        return found

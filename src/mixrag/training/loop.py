"""The loop: batches, steps, evaluations on the dev pairs, checkpoints; it resumes where a killed run stopped."""

from __future__ import annotations

import logging
import math
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mixrag.config.training_settings import TrainingSettings
from mixrag.errors import CheckpointError, PairsError, TrainingError
from mixrag.training.batches import epoch_batches, rate_factor, steps_in_epoch
from mixrag.training.checkpoint import (
    Checkpoint,
    checkpoint_at,
    latest_checkpoint,
    optimizer_tensors,
    restore_optimizer,
    save_checkpoint,
)
from mixrag.training.diagnostics import UsageWindow, step_diagnostics
from mixrag.training.e_step_cache import EStepCache
from mixrag.training.examples import Example
from mixrag.training.metrics import MetricsLog
from mixrag.training.optimiser import ParameterGroup, adamw, add_up, all_finite, clip, named_weights
from mixrag.training.step import StepOutput, TrainingStep, component_name, gold_found
from mixrag.training.trainable_prior import aligned
from mixrag.utils.progress import Progress, ProgressEvent

DEV = "dev pairs"
"""The stage of progress that reports an evaluation: ``values`` holds nll and best, in nats per answer."""
UNREACHED = 20.0
"""Nats that a dev pair counts whose answer no retrieved passage can give: a change of the retriever can bring this
about with an extractive reader. The mean over the other pairs would be less, as if something had been learnt."""
_logger = logging.getLogger("mixrag.training")


@dataclass
class LoopState:
    """The state of a run; part of every checkpoint."""

    step: int = 0
    """Optimizer steps done."""
    best_nll: float = math.inf
    best_step: int = 0
    worse: int = 0
    """Evaluations on the dev pairs since the best one."""
    stopped: bool = False


@dataclass
class Loop:
    """One training run. ``step`` holds what is trained; ``parts`` its weights."""

    step: TrainingStep
    parts: list[ParameterGroup]
    train: Sequence[Any]
    """Examples; where the steps are made of something else, that."""
    dev: Sequence[Any]
    settings: TrainingSettings
    folder: Path
    fingerprint: Mapping[str, str]
    accelerator: Any
    progress: Progress
    stage: str = "training"
    """What progress calls it."""
    state: LoopState = field(default_factory=LoopState)

    def __post_init__(self) -> None:
        self.epoch, self.total = self._planned()
        self.evaluation_interval = self.settings.evaluate_every or max(1, self.epoch // 4)
        self.resumed = False
        self.optimizer = adamw(self.parts)
        self.window = UsageWindow()
        self.best_before = 0
        """The best step at the last checkpoint."""

    def _planned(self) -> tuple[int, int]:
        """Steps in an epoch, and in all."""
        size = self.settings.batch
        if len(self.train) < size:
            found = f"{len(self.train)} usable ones"
            raise PairsError(
                f"at least {size} pairs, one batch", found, f"lower --batch to {len(self.train)} or less"
            )
        epoch = steps_in_epoch(len(self.train), size)
        return epoch, self.settings.steps or max(1, round(self.settings.epochs * epoch))

    def run(self) -> LoopState:
        """Train to the end, and leave the best or the last weights in the models.

        Raises:
            TrainingError: a loss that is not finite, or a checkpoint that cannot be written.
            CheckpointError: the folder holds checkpoints of another run.
        """
        self._resume()
        # No process may write the first checkpoint while another still looks for one to continue from.
        self.accelerator.wait_for_everyone()
        log = MetricsLog(self.folder, self.state.step if self.resumed else None) if self._main else None
        self.progress(ProgressEvent(self.stage, self.state.step, self.total))
        try:
            if not self.resumed:
                # What training has to beat; if it never does, these weights are the result.
                self._evaluate(log)
                self._save()
            while self.state.step < self.total and not self.state.stopped:
                self._one(log)
        finally:
            if log is not None:
                log.close()
        self._take_best()
        return self.state

    @property
    def _main(self) -> bool:
        return bool(self.accelerator.is_main_process)

    def _one(self, log: MetricsLog | None) -> None:
        start, number = time.perf_counter(), self.state.step
        metrics = self._update(number, self._learnt(number))
        self.state.step += 1
        metrics["seconds"] = time.perf_counter() - start
        self._report(log, metrics)
        self._refresh(log)
        last = self.state.step == self.total
        evaluated = bool(self.dev) and (last or self.state.step % self.evaluation_interval == 0)
        if evaluated:
            self._evaluate(log)
        if evaluated or last or self.state.step % self.settings.checkpoint_every == 0:
            self._save()

    def _learnt(self, number: int) -> dict[str, float]:
        """Add the gradient of a step to the weights; what it measured, its "loss" among it."""
        lengths = [example.length for example in self.train]
        batches = epoch_batches(lengths, self.settings.batch, self.settings.seed, number // self.epoch)
        batch = [self._with_some_answers(self.train[i], number) for i in batches[number % self.epoch]]
        e_step = (number // self.epoch) % self.settings.e_step_every == 0
        output = self.step.learn(self._share(batch), len(batch), e_step=e_step)
        return self._measure(output, len(batch))

    def _share(self, batch: list[Example]) -> list[Example]:
        """This process' part of a batch."""
        index, count = self.accelerator.process_index, self.accelerator.num_processes
        if self.settings.e_step_every == 1:
            return batch[index::count]
        # Responsibilities stay where they were computed: a question always comes to the same process.
        return [example for example in batch if example.number % count == index]

    def _with_some_answers(self, example: Example, step: int) -> Example:
        limit = self.settings.max_answers
        if len(example.answers) <= limit:
            return example
        source = random.Random(f"{self.settings.seed}/{step}/{example.number}")
        return replace(example, answers=tuple(source.sample(example.answers, limit)))

    def _update(self, number: int, metrics: dict[str, float]) -> dict[str, float]:
        """Make the step; its measurements, and those of the optimizer."""
        add_up(self.parts, self.accelerator)
        factor = rate_factor(number, self.total, self.settings.warmup)
        for group, part in zip(self.optimizer.param_groups, self.parts, strict=True):
            group["lr"] = part.rate * factor
        norms = clip(self.parts, self.settings.clip)
        if not all_finite({"loss": metrics["loss"], **norms}):
            raise TrainingError(
                "a finite loss and gradient",
                f"loss {metrics['loss']} and gradient norms {norms} at step {number + 1}",
                f"lower the learning rate; the checkpoints in {self.folder} are as before",
            )
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        for part in self.parts:
            metrics[f"gradient_{part.name}"] = norms[part.name]
            metrics[f"rate_{part.name}"] = part.rate * factor
        return metrics

    def _measure(self, output: StepOutput, size: int) -> dict[str, float]:
        learnt = [c for c in output.coefficients if c.possible]
        sums = torch.tensor(
            [
                sum(c.loss for c in learnt),
                sum(c.nll for c in learnt),
                float(output.rows),
                float(output.backward),
                float(output.tokens),
                float(len(output.coefficients) - len(learnt)),
            ],
            dtype=torch.float64,
        )
        loss, nll, rows, backward, tokens, unreached = self._total(sums).tolist()
        size = max(1, size - round(unreached))
        metrics = {"loss": loss / size, "nll": nll / size, "rows": rows, "rows_backward": backward}
        metrics["tokens"] = tokens
        if unreached:
            metrics["unreached"] = unreached
        metrics["skipped"] = output.skipped
        if not output.exact:
            del metrics["nll"]
        return metrics | self._diagnose(output) | self._retriever_state(output)

    def _total(self, values: Tensor) -> Tensor:
        if self.accelerator.num_processes == 1:
            return values
        summed: Tensor = self.accelerator.reduce(values.to(self.accelerator.device), "sum")
        return summed.cpu()

    def _diagnose(self, output: StepOutput) -> dict[str, float]:
        both = zip(output.questions, output.coefficients, strict=True)
        # One component has nothing to diagnose; where the answer is impossible there is no posterior.
        some = [(q, c) for q, c in both if len(q.components) > 1 and c.possible]
        if not some:
            return {}
        questions = [q for q, _ in some]
        ids = [[component_name(c) for c in q.components] for q in questions]
        priors = [q.log_prior.detach() for q in questions]
        found = [gold_found(q) for q in questions]
        posteriors = [c.log_posterior for _, c in some]
        self.window.add([q.example.pair.question for q in questions], priors, posteriors, ids, found)
        return step_diagnostics(priors, posteriors, ids, found) | self.window.summary()

    def _retriever_state(self, output: StepOutput) -> dict[str, float]:
        prior = self.step.prior
        if prior is None or not self.settings.trains_retriever:
            return {}
        state = {"temperature": prior.temperature}
        if prior.null is not None:
            state["null"] = prior.null.item()
        return state

    def _report(self, log: MetricsLog | None, metrics: dict[str, float]) -> None:
        self.progress(ProgressEvent(self.stage, self.state.step, self.total, values=metrics))
        if log is not None:
            log.write(self.state.step, "train", metrics)
        for alarm in self.window.alarms():
            _logger.warning(alarm)
            if log is not None:
                log.write(self.state.step, "alarm", {"text": alarm})

    def _refresh(self, log: MetricsLog | None) -> None:
        prior, step = self.step.prior, self.state.step
        if prior is None or not self.settings.trains_passages or step % self.settings.refresh_every:
            return
        some = list(self.train[: self.settings.batch])
        stale = prior.staleness(prior.candidates(some), some, step)
        prior.refresh(step)
        found = {"steps": float(stale.steps), "shift": stale.shift}
        _logger.info(
            f"index rebuilt after {stale.steps} steps; candidates' logits had moved by {stale.shift:.3f} (mean)"
        )
        if log is not None:
            log.write(step, "refresh", found)

    def _evaluate(self, log: MetricsLog | None) -> None:
        """-log p(gold) of the dev pairs; remember the best, count how long ago it was."""
        if not self.dev:
            return
        measured, state = self._dev_values(), self.state
        nll = measured["nll"]
        if nll < state.best_nll:
            state.best_nll, state.best_step, state.worse = nll, state.step, 0
        else:
            state.worse += 1
            state.stopped = self.settings.keep == "best" and state.worse >= self.settings.patience
        values = {**measured, "best": state.best_nll}
        self.progress(ProgressEvent(DEV, state.step, self.total, values=values))
        if log is not None:
            log.write(state.step, "dev", measured)
        if state.stopped:
            _logger.info(f"stopped early: no better than at step {state.best_step} {state.worse} times")

    def _dev_values(self) -> dict[str, float]:
        """What the dev pairs measure; "nll" decides which weights are the best."""
        return {"nll": self.dev_nll()}

    def dev_nll(self) -> float:
        """Mean -log p(any gold answer) over the dev pairs, in nats; ``UNREACHED`` where p is zero."""
        mine = self.dev[self.accelerator.process_index :: self.accelerator.num_processes]
        total = torch.zeros(1, dtype=torch.float64)
        with torch.no_grad():
            for start in range(0, len(mine), self.settings.batch):
                for question in self.step.questions(mine[start : start + self.settings.batch]):
                    found = self.step.coefficients(question)
                    total += found.nll if found.possible else UNREACHED
        return float(self._total(total)) / len(self.dev)

    def _save(self) -> None:
        if self._main:
            weights = named_weights(self.parts)
            tensors, state = optimizer_tensors(self.optimizer, list(weights.items()))
            tensors |= {f"weights/{name}": weight.detach().cpu() for name, weight in weights.items()}
            if self.step.prior is not None and self.settings.trains_passages:
                tensors["index/vectors"] = self.step.prior.vectors
                state["built_at"] = self.step.prior.built_at
            # The keys are those of the format: a run that was started earlier can be continued.
            state |= {"progress": vars(self.state), "window": self.window.state()}
            state |= {"held": self.step.e_steps.state(), "likelihoods": self.step.likelihoods.state()}
            tensors |= {**self.step.likelihoods.tensors(), **self.step.e_steps.tensors()}
            checkpoint = Checkpoint(self.state.step, tensors, state)
            # The best of before stays as long as this checkpoint may turn out damaged, and the one before be used.
            best = self.state.best_step
            protect = {best, self.best_before}
            save_checkpoint(self.folder / "checkpoints", checkpoint, self.fingerprint, protect=protect)
            self.best_before = best
        self.accelerator.wait_for_everyone()

    def _resume(self) -> None:
        found = latest_checkpoint(self.folder / "checkpoints", self.fingerprint)
        self.resumed = found is not None
        if found is None:
            return
        for notice in found.notices:
            _logger.warning(notice)
        restore_optimizer(self.optimizer, list(named_weights(self.parts).items()), found.tensors, found.state)
        self._load(found)
        self.step.likelihoods.restore(found.tensors, found.state["likelihoods"])
        self.step.e_steps = EStepCache.restored(found.tensors, found.state["held"])
        self.state = LoopState(**found.state["progress"])
        self.best_before = self.state.best_step
        self.window = UsageWindow.from_state(found.state["window"])
        _logger.info(f"resumed at step {self.state.step}")

    def _load(self, checkpoint: Checkpoint) -> None:
        with torch.no_grad():
            for name, weight in named_weights(self.parts).items():
                weight.copy_(checkpoint.tensors[f"weights/{name}"])
        if self.step.prior is not None and self.settings.trains_passages:
            self.step.prior.vectors = aligned(checkpoint.tensors["index/vectors"])
            self.step.prior.built_at = checkpoint.state["built_at"]

    def _take_best(self) -> None:
        """Where dev pairs decide which weights are the best, restore these."""
        if self.dev and self.settings.keep == "best" and self.state.best_step != self.state.step:
            try:
                found = checkpoint_at(self.folder / "checkpoints", self.state.best_step, self.fingerprint)
            except CheckpointError as error:
                _logger.warning(f"the last weights are the result, for want of the best: {error}")
                return
            self._load(found)
            _logger.info(f"the weights of step {self.state.best_step} are the result, the best on the dev pairs")

"""Training an extractive reader: an encoder learns which spans of a passage answer a question, or that none does.

    loss = Σ_i w_i (-log Σ over spans with text y_i of p(span | x_i, z_i)) / Σ_i w_i,   w = 1, or λ for ∅

A run that was killed is continued by the same call: its order is a function of the seed and the step.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mixrag.answers.saving import CARD
from mixrag.config.bundle import Bundle, write_bundle
from mixrag.config.default_models import default_encoder, span_model_folder
from mixrag.config.span_training import SpanTrainingSettings
from mixrag.errors import ModelError, PairsError, TrainingError
from mixrag.generator.adapter import WEIGHTS
from mixrag.generator.span_loading import TASK, write_span_config
from mixrag.generator.span_windows import SpanConfig
from mixrag.generator.tokenizer import loaded_tokenizer
from mixrag.probability import span_loss
from mixrag.training.batches import epoch_batches, rate_factor, steps_in_epoch
from mixrag.training.checkpoint import (
    Checkpoint,
    latest_checkpoint,
    optimizer_tensors,
    restore_optimizer,
    save_checkpoint,
)
from mixrag.training.generators import ALPHA_OVER_RANK
from mixrag.training.output import save_part
from mixrag.training.span_examples import ReadExample, SpanExample, read_example, span_batch
from mixrag.utils.atomic import remove
from mixrag.utils.hashing import model_digest
from mixrag.utils.progress import Progress, ProgressEvent, guarded
from mixrag.utils.quiet import quiet_libraries

HEAD = "qa_outputs"
"""transformers' name of the layer that scores the ends of spans."""
SHAPE = 32
"""Lengths of batches are multiples of it: few shapes, which kernels are prepared for once each."""
READING, TRAINING = "reading examples", "training"
_logger = logging.getLogger("mixrag.training")


@dataclass(frozen=True)
class SpanTrainingResult:
    """What a run left."""

    folder: Path
    """Which ``--model`` opens; its sub-folder ``generator`` is the reader alone."""
    steps: int
    loss: float
    """Mean of the last steps, exponentially weighted, in nats."""
    examples: int
    left_out: int
    """Examples whose answers do not occur in their passages, or are too long."""


def train_span_model(
    examples: Iterable[SpanExample],
    out: str | Path,
    settings: SpanTrainingSettings | None = None,
    *,
    base: str | Path | None = None,
    start: str | Path | None = None,
    answering: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> SpanTrainingResult:
    """Train a span model, and write the folder that ``--model OUT`` and ``--generator OUT/generator`` open.

    Args:
        examples: read once, in their order.
        out: the folder.
        settings: how and how long.
        base: encoder to start from, a folder or hub name; None is the packaged one.
        start: folder of a reader trained before, with an adapter of that encoder and of ``settings.rank``, which
            is trained further; None is a new one.
        answering: fields of ``Settings`` that belong to the reader, such as a temperature, for ``mixrag.json``.
        progress: called with stages "reading examples" and "training", the latter with values loss, stated
            and empty (mean losses of the two kinds of examples), seconds and tokens (a step, means) and left
            (seconds to come).

    Raises:
        PairsError: no example is usable.
        CheckpointError: the folder has checkpoints of another run.
        ModelError: ``start`` is not a reader with such an adapter.
        TrainingError: a loss that is not finite, or a full disk.
    """
    chosen, report, folder = settings or SpanTrainingSettings(), guarded(progress), Path(out)
    source = default_encoder() if base is None else base
    tokenizer = loaded_tokenizer(None, str(source), {})
    config = SpanConfig(chosen.longest, chosen.window, chosen.window // 4, chosen.whole_words)
    every = list(examples)
    read = _all_read(tokenizer, every, config, report)
    if not read:
        raise PairsError("examples whose passages state their answers", "none", "check passages and answers")
    model = _model(source, chosen, None if start is None else Path(span_model_folder(start)))
    run_id = {**{name: str(value) for name, value in asdict(chosen).items()}, "examples": _digest(every)}
    run_id |= {"encoder": model_digest(source)}
    if start is not None:
        run_id |= {"start": model_digest(span_model_folder(start))}
    run = _Run(model, read, chosen, config, folder, run_id, report)
    run.learn()
    save_part(folder, "generator", lambda path: _save(path, run, tokenizer, base))
    bundle = Bundle(folder, generator="generator", adapter="none", settings=answering or {})
    write_bundle(bundle)
    remove(folder / "checkpoints")
    return SpanTrainingResult(folder, run.step, run.loss, len(read), len(every) - len(read))


def _all_read(
    tokenizer: Any, examples: Sequence[SpanExample], config: SpanConfig, report: Progress
) -> list[ReadExample]:
    found = []
    for number, example in enumerate(examples):
        if number % 500 == 0:
            report(ProgressEvent(READING, number, len(examples)))
        if (read := read_example(tokenizer, example, config)) is not None:
            found.append(read)
    report(ProgressEvent(READING, len(examples), len(examples)))
    if len(found) < len(examples):
        _logger.info(f"{len(examples) - len(found)} examples left out: no answer in the passage, or too long")
    return found


def _model(source: str | Path, settings: SpanTrainingSettings, start: Path | None) -> Any:
    """The encoder with a new head, in training mode; where a rank is given, with an adapter."""
    from transformers import AutoModelForQuestionAnswering

    with torch.random.fork_rng(), quiet_libraries():
        torch.manual_seed(settings.seed)
        model = AutoModelForQuestionAnswering.from_pretrained(
            str(source), use_safetensors=True, trust_remote_code=False, dtype=torch.float32
        )
        if settings.rank:
            model = with_new_adapter(model, settings.rank)
    if start is not None:
        _continue_from(model, start)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = settings.dropout
    return model.train()


def with_new_adapter(model: Any, rank: int) -> Any:
    """peft's model with a new adapter of all layers, whose product is zero; the head is trained whole."""
    from peft import LoraConfig, get_peft_model

    layers = {name.rsplit(".", 1)[-1] for name, each in model.named_modules() if isinstance(each, nn.Linear)}
    config = LoraConfig(
        task_type=TASK,
        r=rank,
        lora_alpha=ALPHA_OVER_RANK * rank,
        target_modules=sorted(layers - {HEAD}),
        modules_to_save=[HEAD],
    )
    return get_peft_model(model, config)


def _continue_from(model: Any, start: Path) -> None:
    """Take the weights of the adapter in a folder, and of its head."""
    from peft import set_peft_model_state_dict

    expected = f"{start}/{WEIGHTS}, an adapter of the same encoder and rank"
    remedy = "name a reader that train_span_model wrote, and give its rank"
    if not (start / WEIGHTS).is_file() or not hasattr(model, "peft_config"):
        raise ModelError(expected, "no such file" if hasattr(model, "peft_config") else "rank 0", remedy)
    try:
        found: Any = set_peft_model_state_dict(model, load_file(start / WEIGHTS))
    except (RuntimeError, SafetensorError) as error:
        raise ModelError(expected, str(error).splitlines()[0], remedy) from error
    absent = [name for name in found.missing_keys if "lora_" in name or (HEAD in name and "original" not in name)]
    if absent or found.unexpected_keys:
        raise ModelError(expected, f"other weights, such as {[*absent, *found.unexpected_keys][0]}", remedy)


class _Run:
    """The loop over steps, with its checkpoints."""

    def __init__(
        self,
        model: Any,
        examples: Sequence[ReadExample],
        settings: SpanTrainingSettings,
        config: SpanConfig,
        folder: Path,
        run_id: Mapping[str, str],
        report: Progress,
    ) -> None:
        self.model, self.examples, self.settings, self.config = model, examples, settings, config
        self.folder, self.run_id, self.report = folder, run_id, report
        # peft's own model for this task drops the segments of tokens (token_type_ids; peft 0.21).
        self.reader = model.get_base_model() if settings.rank else model
        self.weights = {name: each for name, each in model.named_parameters() if each.requires_grad}
        self.optimizer = torch.optim.AdamW(
            list(self.weights.values()), lr=settings.rate, weight_decay=settings.weight_decay
        )
        self.epoch = steps_in_epoch(len(examples), settings.batch)
        self.total = settings.steps or max(1, round(settings.epochs * self.epoch))
        self.step, self.loss = 0, 0.0
        self.tokens = 0  # of this call's steps
        self.lengths = [len(example.ids) for example in examples]

    def learn(self) -> None:
        """Train to the last step, from the newest checkpoint on."""
        self._resume()
        self.report(ProgressEvent(TRAINING, self.step, self.total))
        begun, first = time.perf_counter(), self.step
        batches: list[list[int]] = []
        while self.step < self.total:
            number, place = divmod(self.step, self.epoch)
            if not batches or place == 0:
                batches = epoch_batches(self.lengths, self.settings.batch, self.settings.seed, number)
            values = self._one([self.examples[i] for i in batches[place]])
            self.step += 1
            took = (time.perf_counter() - begun) / (self.step - first)
            values |= {"seconds": took, "left": took * (self.total - self.step)}
            values["tokens"] = self.tokens / (self.step - first)
            self.report(ProgressEvent(TRAINING, self.step, self.total, values=values))
            if self.step % self.settings.checkpoint_every == 0 and self.step < self.total:
                self._save()

    def _one(self, examples: Sequence[ReadExample]) -> dict[str, float]:
        settings = self.settings
        torch.manual_seed(settings.seed * 1_000_003 + self.step)  # dropout: a resumed run draws the same
        length = -(-max(len(example.ids) for example in examples) // SHAPE) * SHAPE
        length = min(length, self.config.window)
        padding = self.reader.config.pad_token_id or 0
        self.tokens += sum(len(example.ids) for example in examples)
        inputs, possible, right = span_batch(examples, self.config.longest, length, padding)
        output = self.reader(**inputs)
        losses = span_loss(output.start_logits, output.end_logits, possible, right)
        stated = torch.tensor([bool(example.right) for example in examples])
        weights = torch.where(stated, 1.0, settings.empty_weight)
        loss = (weights * losses).sum() / weights.sum().clamp(min=1e-9)
        rate = settings.rate * rate_factor(self.step, self.total, settings.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        loss.backward()
        norm = float(nn.utils.clip_grad_norm_(list(self.weights.values()), settings.clip))
        value = float(loss.detach())
        if not (norm < float("inf") and value < float("inf")):
            found = f"loss {value} and gradient norm {norm} at step {self.step + 1}"
            remedy = f"lower learning_rate; the checkpoints in {self.folder} are as before"
            raise TrainingError("a finite loss and gradient", found, remedy)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.loss = 0.98 * self.loss + 0.02 * value if self.step else value
        return {"loss": self.loss, "rate": rate, **_by_kind(losses.detach(), stated)}

    def _save(self) -> None:
        tensors, state = optimizer_tensors(self.optimizer, list(self.weights.items()))
        tensors |= {f"weights/{name}": weight for name, weight in self.weights.items()}
        found = Checkpoint(self.step, tensors, {**state, "loss": self.loss})
        save_checkpoint(self.folder / "checkpoints", found, self.run_id)

    def _resume(self) -> None:
        found = latest_checkpoint(self.folder / "checkpoints", self.run_id)
        if found is None:
            return
        for notice in found.notices:
            _logger.warning(notice)
        restore_optimizer(self.optimizer, list(self.weights.items()), found.tensors, found.state)
        with torch.no_grad():
            for name, weight in self.weights.items():
                weight.copy_(found.tensors[f"weights/{name}"])
        self.step, self.loss = found.step, float(found.state["loss"])
        _logger.info(f"resumed at step {self.step}")


def _by_kind(losses: Tensor, stated: Tensor) -> dict[str, float]:
    kinds = {"stated": losses[stated], "empty": losses[~stated]}
    return {name: float(some.mean()) for name, some in kinds.items() if len(some)}


def _save(folder: Path, run: _Run, tokenizer: Any, base: str | Path | None) -> None:
    """The reader: an adapter in bfloat16, or the whole model with its tokenizer."""
    run.model.eval()
    if run.settings.rank:
        for config in run.model.peft_config.values():
            config.base_model_name_or_path = str(base or default_encoder()).rsplit("/", 1)[-1]
        run.model.save_pretrained(str(folder), safe_serialization=True, save_embedding_layers=False)
        (folder / CARD).unlink(missing_ok=True)
        halves = {name: tensor.to(torch.bfloat16) for name, tensor in load_file(folder / WEIGHTS).items()}
        save_file(halves, folder / WEIGHTS, metadata={"format": "pt"})
    else:
        run.model.save_pretrained(str(folder))
        tokenizer.save_pretrained(str(folder))
    # Asked, it reads all that the encoder can, not only as much as in training.
    config = SpanConfig(longest=run.config.longest, whole_words=run.config.whole_words)
    write_span_config(folder, config, None if base is None else str(base))


def _digest(examples: Sequence[SpanExample]) -> str:
    digest = hashlib.sha256()
    for each in examples:
        passage = each.passage
        digest.update(repr((each.question, passage.title, passage.context, passage.text, each.answers)).encode())
    return digest.hexdigest()[:16]

"""The generator under training: a low-rank adapter or all weights, scored without and trained with gradient."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mixrag.config.training_settings import TrainingSettings
from mixrag.errors import ModelError
from mixrag.generator import CausalGenerator, Prompt
from mixrag.generator.adapter import added, check_adapter
from mixrag.generator.huggingface import ModelGenerator
from mixrag.generator.kernels.onednn_linear import use_torch_linears
from mixrag.training.likelihoods import tokens_of

ALPHA_OVER_RANK = 2
"""Scale of an adapter's product, as is common."""


@dataclass(frozen=True)
class ScoredRows:
    """R rows of a step: a prompt, an answer, and what the loss changes by with each token's log-likelihood."""

    prompts: Sequence[Prompt]
    answers: Sequence[Sequence[int]]
    coefficients: Sequence[Tensor]
    """R tensors (T,): ∂ loss / ∂ log p(y_t | prompt, y_<t)."""
    owners: Tensor
    """(R,) which question of the step each is of."""


class TrainableGenerator:
    """A language model whose weights, or whose adapter, are trained. ``adapted`` is peft's model, if any."""

    any_answer = True
    """It gives every answer a probability above zero."""

    def __init__(self, generator: ModelGenerator, settings: TrainingSettings, adapter: Path | None = None) -> None:
        if isinstance(generator, CausalGenerator):
            # Weights that change make states of passages stale: none is cached, and rows are read in one pass.
            generator = replace(generator, prefix_cache_bytes=None)
        self.generator, self.settings = generator, settings
        model = generator.model
        use_torch_linears(model)
        model.requires_grad_(settings.method == "full")
        self.adapted = _adapted(model, generator.name, settings, adapter) if settings.method == "lora" else None
        if settings.dtype == "bfloat16" and settings.method == "lora":
            # What autocast would make of weights that are not trained, at every step.
            for parameter in model.parameters():
                if not parameter.requires_grad:
                    parameter.data = parameter.data.to(torch.bfloat16)
        if settings.dtype == "bfloat16" and model.device.type == "cpu":
            # On CPUs fused attention is slower than plain matrix products, above all backwards.
            model.set_attn_implementation("eager")
        if settings.checkpointing:
            checkpoint_activations(model)
        if settings.compile and settings.objective != "composite":  # there it depends on how rows are read
            compile_layers(model)

    def weights(self) -> dict[str, Tensor]:
        """The trained weights, by name."""
        return {name: p for name, p in self.generator.model.named_parameters() if p.requires_grad}

    def log_likelihoods(self, prompts: Sequence[Prompt], answers: Sequence[Sequence[int]]) -> Tensor:
        """(R, T) without gradient, zero after each answer's end."""
        with self.autocast():
            return self.generator.log_likelihoods(prompts, answers).clone()

    def tokens_read(self, prompts: Sequence[Prompt], answers: Sequence[Sequence[int]]) -> int:
        """Tokens that the model reads to score R rows."""
        return tokens_of(prompts, answers)

    def backward(self, rows: ScoredRows) -> Tensor:
        """Add Σ coefficient · ∂ log-likelihood / ∂ weight to the weights' gradients, a few rows at a time.

        Returns (R,) Σ_t coefficient · log-likelihood of each row.

        Given the coefficients the loss is a sum over rows, so memory is that of ``settings.rows`` of them.
        """
        values = torch.zeros(len(rows.prompts), dtype=torch.float64)
        order = sorted(range(len(rows.prompts)), key=lambda i: len(rows.prompts[i].tokens) + len(rows.answers[i]))
        for start in range(0, len(order), self.settings.rows):
            some = order[start : start + self.settings.rows]
            with self.autocast():
                scored = self.generator.token_log_probs(
                    [rows.prompts[i] for i in some], [rows.answers[i] for i in some]
                )
            coefficients = [rows.coefficients[i].to(scored) for i in some]
            padded = nn.utils.rnn.pad_sequence(coefficients, batch_first=True)
            weighted = (scored * padded).sum(-1)
            weighted.sum().backward()
            values[some] = weighted.detach().double().cpu()
        return values

    @contextmanager
    def autocast(self) -> Iterator[None]:
        """Matrix products in bfloat16, where the settings say so."""
        with autocast(self.generator.model, self.adapted, self.settings.dtype):
            yield


@contextmanager
def autocast(model: Any, adapted: Any, dtype: str) -> Iterator[None]:
    """Matrix products in bfloat16, where it is the ``dtype``; ``adapted`` is peft's model around it, if any."""
    if dtype != "bfloat16":
        yield
        return
    with ExitStack() as stack:
        stack.enter_context(torch.autocast(model.device.type, torch.bfloat16))
        if adapted is not None:
            from peft.helpers import disable_input_dtype_casting

            # Autocast brings inputs to the type of the product; peft's own cast would first widen them.
            stack.enter_context(disable_input_dtype_casting(adapted))
        yield


def _adapted(model: Any, base: str, settings: TrainingSettings, adapter: Path | None) -> Any:
    """The model with a fresh adapter, whose product is zero, or with an existing one, in float32."""
    from peft import LoraConfig, get_peft_model
    from transformers.pytorch_utils import Conv1D

    if adapter is not None:
        check_adapter(adapter)
        return added(model, adapter, base, trainable=True)
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=ALPHA_OVER_RANK * settings.rank,
        target_modules=linear_layers(model),
        # GPT-2 and its kin have projections that store their weights the other way round.
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in model.modules()),
    )
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        return get_peft_model(model, config)


def linear_layers(model: Any) -> list[str]:
    """Names of the projections inside a model's layers; the output layer and embeddings are not among them.

    Raises:
        ModelError: the model has none.
    """
    from transformers.pytorch_utils import Conv1D

    head = model.get_output_embeddings()
    inside = (
        name.rsplit(".", 1)[-1]
        for name, module in model.named_modules()
        if isinstance(module, (nn.Linear, Conv1D)) and module is not head and "." in name
    )
    names = sorted(set(inside))
    if not names:
        raise ModelError("a model with linear layers for an adapter", "none", "train all weights: --method full")
    return names


def compile_layers(model: Any, *, dynamic: bool = True) -> None:
    """The layers alone: one is compiled for all, as their code is the same, and names of weights do not change.

    ``dynamic``: lengths differ from batch to batch, and must not be compiled in.

    Raises:
        ModelError: there is no compiler, or the model does not name its layers.
    """
    compiler = os.environ.get("CXX", "g++")
    if model.device.type == "cpu" and shutil.which(compiler) is None:
        raise ModelError(f"a C++ compiler for --compile ({compiler})", "none", "install one, or leave it out")
    layers = _layers(model)
    if not layers:
        raise ModelError("a model that names its layers, for --compile", type(model).__name__, "leave it out")
    for layer in layers:
        layer.compile(dynamic=dynamic)


def undo_compilation(model: Any) -> None:
    """Run the layers as they are written: what follows has other lengths than those that were compiled in."""
    for layer in _layers(model):
        layer._compiled_call_impl = None


def _layers(model: Any) -> list[Any]:
    names = set(model._no_split_modules or ())
    return [module for module in model.modules() if type(module).__name__ in names]


def checkpoint_activations(model: Any) -> None:
    """Compute activations again in the backward pass: less memory, more time."""
    # transformers is renaming this; the old name warns.
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable()
    # Only in training mode do models recompute; dropout stays off, since responsibilities are computed without.
    model.train()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name in ("dropout", "attention_dropout", "activation_dropout", "layerdrop"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)

"""A compiled model of OpenVINO, called as a model of transformers is, with its keys and values inside the engine.

``OpenVINOModel`` takes the arguments of a causal model of transformers that ``CausalGenerator`` gives, and
``OpenVINOStates`` is its cache: the rows of one running batch, in an infer request of their own.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mixrag.generator.openvino.runtime import core, openvino
from mixrag.generator.openvino.states import States, state_number

GROUP = 32
"""With weights in bytes, what they are multiplied with is rounded to bytes too, this many values with one scale: a
decoding step takes less than half the time, and most of the rounding is that of the weights. 0 would leave it."""
IDLE = 4
"""Infer requests that wait for their next use; each has buffers of its own."""
LARGEST = 2**26
"""Bytes of logits that such a request has written at most: their buffer stays as large as it was."""
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def compiled(
    file: Path | Any, weights: str, activations: str, threads: int, remembered: Path | None = None
) -> Any:
    """A converted model, from its file or in memory, compiled for this processor.

    Args:
        file: the .xml of the model; its weights are mapped, not read.
        weights: int8, bfloat16 or float32.
        activations: float32 or bfloat16: of everything but weights.
        threads: of the processor.
        remembered: folder in which OpenVINO leaves the compiled model of a file, for the next process.
    """
    options = compile_options(weights, activations, threads)
    if remembered is not None:
        # OPTIMIZE_SIZE would leave the weights out, but a model with states then cannot be run (2026.4).
        options |= {"CACHE_DIR": str(remembered), "CACHE_MODE": "OPTIMIZE_SPEED"}
    return core().compile_model(file, "CPU", options)


def compile_options(weights: str, activations: str, threads: int) -> dict[str, Any]:
    """OpenVINO's options for these formats; see ``compiled``."""
    number_format = {"float32": "f32", "bfloat16": "bf16"}[activations]
    return {
        "INFERENCE_PRECISION_HINT": number_format,
        "KV_CACHE_PRECISION": number_format,
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": GROUP if weights == "int8" else 0,
        "NUM_STREAMS": "1",
        "INFERENCE_NUM_THREADS": threads,
        "ENABLE_CPU_PINNING": False,  # several processes would all choose the same cores
    }


class Request:
    """An infer request of the engine: one running batch. Of its owners only one may run it."""

    def __init__(self, request: Any) -> None:
        self.request, self.owners, self.output = request, 0, 0
        variables = sorted(request.query_state(), key=lambda each: state_number(each.name))
        self.variables: Sequence[Any] = variables


@dataclass(eq=False)
class OpenVINOModel:
    """A compiled causal model."""

    compiled: Any
    config: Any
    """Of transformers."""
    sizes: States
    weights: str
    """Format of the matrices: int8, bfloat16 or float32."""
    activations: str
    """Format of everything else."""
    digest: str
    """Of weights, adapter, formats and versions."""

    def __post_init__(self) -> None:
        self._idle: list[Request] = []
        self._lock = Lock()

    @property
    def vocabulary_size(self) -> int:
        """V."""
        return int(self.compiled.output(0).get_partial_shape()[2].get_length())

    @property
    def dtype(self) -> torch.dtype:
        """Of the activations, and of keys and values."""
        return DTYPES[self.activations]

    def __call__(self, **arguments: Any) -> SimpleNamespace:
        """See ``forward``."""
        return self.forward(**arguments)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        position_ids: Tensor,
        logits_to_keep: Tensor,
        past_key_values: OpenVINOStates | None = None,
        use_cache: bool = True,
    ) -> SimpleNamespace:
        """Run the engine once.

        Args:
            input_ids: (R, T).
            attention_mask: (R, L) 0 at padding; L - T tokens are in the states.
            position_ids: (R, T).
            logits_to_keep: (n,) places among the T tokens.
            past_key_values: the states of R rows, which are advanced in place; None: of none.
            use_cache: whether the states are given back.

        Returns:
            ``logits`` (R, n, V) in float32, in memory that the next run of these states overwrites, and
            ``past_key_values``.
        """
        states = OpenVINOStates(self) if past_key_values is None else past_key_values
        request, rows = states.to_run(len(input_ids))
        inputs = {
            "input_ids": input_ids.contiguous().numpy(),
            "attention_mask": attention_mask.contiguous().numpy(),
            "position_ids": position_ids.contiguous().numpy(),
            "logits_to_keep": logits_to_keep.numpy(),
            "beam_idx": rows,
        }
        found = request.request.infer(inputs, share_inputs=True, share_outputs=True)
        logits = torch.from_numpy(found[0])
        request.output = max(request.output, logits.nbytes)
        if not use_cache:
            logits = logits.clone()  # the request, with its output, goes back with its states
        return SimpleNamespace(logits=logits, past_key_values=states if use_cache else None)

    def states_of(self, prefixes: Sequence[Tensor]) -> tuple[OpenVINOStates, Tensor]:
        """States of R rows that begin with these, each (layers, 2, G, P, D), aligned at their ends.

        Also returns the mask (R, longest P), False where a row has no token.
        """
        lengths = [prefix.shape[-2] for prefix in prefixes]
        longest = max(lengths)
        shape = (len(prefixes), self.sizes.heads, longest, self.sizes.size)
        joined = torch.empty(2 * self.sizes.layers, *shape, dtype=self.dtype)
        for row, (prefix, length) in enumerate(zip(prefixes, lengths, strict=True)):
            joined[:, row, :, : longest - length] = 0  # masked, but unset memory times 0 may be NaN
            joined[:, row, :, longest - length :] = prefix.flatten(0, 1)
        states = OpenVINOStates(self)
        if longest:
            states.fill(joined)
        starts = torch.tensor([longest - length for length in lengths])
        return states, torch.arange(longest) >= starts.unsqueeze(1)

    def acquire(self) -> Request:
        """A request without states."""
        with self._lock:
            if self._idle:
                return self._idle.pop()
        return Request(self.compiled.create_infer_request())

    def release(self, request: Request) -> None:
        """Give back a request that nobody owns."""
        request.request.reset_state()
        with self._lock:
            if len(self._idle) < IDLE and request.output <= LARGEST:
                self._idle.append(request)

    @property
    def lock(self) -> Lock:
        """Guards the count of a request's owners."""
        return self._lock


class OpenVINOStates:
    """Keys and values of the rows of one batch.

    A copy shares the request of its original until one of the two is run; that one then moves to another request.
    """

    def __init__(self, model: OpenVINOModel, request: Request | None = None, rows: Tensor | None = None) -> None:
        self.model, self.rows = model, rows
        """``rows``: which rows of the request these are; None: all, in their order."""
        self.request = model.acquire() if request is None else request
        with model.lock:
            self.request.owners += 1

    def __copy__(self) -> OpenVINOStates:
        return OpenVINOStates(self.model, self.request, self.rows)

    def __del__(self) -> None:
        """Give the request back with its last owner."""
        request = getattr(self, "request", None)
        if request is not None and not sys.is_finalizing():
            self._leave(request)

    def _leave(self, request: Request) -> None:
        with self.model.lock:
            request.owners -= 1
            last = request.owners == 0
        if last:
            self.model.release(request)

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Replace all rows by the rows ``beam_idx`` (R',); nothing is moved before the next run."""
        rows = beam_idx.cpu()
        self.rows = rows if self.rows is None else self.rows[rows]

    def fill(self, states: Tensor) -> None:
        """Begin with keys and values (2 · layers, R, G, L, D) of R rows."""
        for variable, values in zip(self.request.variables, states, strict=True):
            variable.state = _as_tensor(values)

    def read(self) -> Tensor:
        """Copies (2 · layers, R, G, L, D) of the keys and values, in the model's dtype."""
        states = (_of_tensor(each.state, self.rows) for each in self.request.variables)
        return torch.stack([each.to(self.model.dtype) for each in states])

    def to_run(self, rows: int) -> tuple[Request, Any]:
        """A request that nobody else owns, and which of its rows (R,) each row continues."""
        with self.model.lock:
            alone = self.request.owners == 1
        if not alone:
            values, former = self.read(), self.request
            self.request = self.model.acquire()
            with self.model.lock:
                self.request.owners += 1
            self._leave(former)
            self.fill(values)
            self.rows = None
        chosen = torch.arange(rows) if self.rows is None else self.rows
        self.rows = None
        return self.request, chosen.to(torch.int32).numpy()


def _as_tensor(values: Tensor) -> Any:
    """OpenVINO's tensor over the memory of torch's."""
    if values.dtype == torch.float32:
        return openvino().Tensor(values.numpy())
    bits = values.view(torch.int16).numpy().view(np.uint16)
    return openvino().Tensor(bits, list(values.shape), openvino().Type.bf16)


def _of_tensor(tensor: Any, rows: Tensor | None) -> Tensor:
    """torch's tensor of some rows of OpenVINO's, None: all; the memory may be shared."""
    data = tensor.data if rows is None else tensor.data[rows.numpy()]
    if tensor.element_type == openvino().Type.bf16:
        return torch.from_numpy(np.array(data).view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(data)

"""From a causal model of transformers to a stateful model of OpenVINO.

Inputs of the result, for R rows of T tokens behind what the states hold, L tokens in all:

    input_ids (R, T)
    position_ids (R, T)
    attention_mask (R, L), 0 at padding
    logits_to_keep (n,) places among the T
    beam_idx (R,) the row of the states that each row continues

Output: logits (R, n, V). Keys and values are inside the model: variables (R, G, L, D), two for each layer.

The model is traced as torch runs it, with a mask and a cache of ours, so that whatever transformers computes is
what OpenVINO computes. Whether it does is found by a trial (files.py).
"""

from __future__ import annotations

import warnings
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer
from transformers.integrations.sdpa_attention import repeat_kv

from mixrag.generator.kv_cache import uncacheable
from mixrag.generator.openvino.runtime import openvino
from mixrag.generator.openvino.states import NotConvertibleError, States
from mixrag.utils.quiet import quiet_libraries

MASKED = -1e30
"""Added to the score of what is not attended to. Finite, also in bfloat16: a row of padding attends to nothing."""
_ATTENTION = "mixrag_traced"
_KNOWN = {"dropout", "scaling", "is_causal", "sliding_window", "position_ids", "use_cache", "output_attentions"}
"""Arguments of attention that change nothing here; any other is refused."""


def unconvertible(config: Any) -> str | None:
    """Why a model with this configuration cannot be converted; None: no reason is known."""
    if config.is_encoder_decoder:
        return "it is an encoder-decoder"
    try:
        if (reason := uncacheable(config)) is not None:
            return reason
        other = next((each for each in DynamicCache(config=config).layers if type(each) is not DynamicLayer), None)
    except Exception as error:
        return " ".join(str(error).split())[:200] or type(error).__name__
    return None if other is None else "a layer attends to a window of tokens only"


@torch.inference_mode()
def convert(model: Any) -> tuple[Any, States]:
    """The stateful model, in float32, and the sizes of its states; ``model`` is not changed.

    It shares the memory of the weights with ``model``, which must not be freed before it is saved.

    Raises:
        NotConvertibleError: it has states of another kind, or something that cannot be traced.
    """
    if (reason := unconvertible(model.config)) is not None:
        raise NotConvertibleError(reason)
    attention = model.config._attn_implementation
    AttentionInterface.register(_ATTENTION, _attention)
    try:
        with quiet_libraries():
            model.set_attn_implementation(_ATTENTION)
            sizes = _sizes(model)
            found = _translated(_traced(model, sizes))
    except NotConvertibleError:
        raise
    except Exception as error:  # a model's own code, or an operation without translation
        raise NotConvertibleError(" ".join(str(error).split())[:200] or type(error).__name__) from error
    finally:
        model.set_attn_implementation(attention)
    _name_ports(found, sizes)
    _make_stateful(found, sizes)
    return found, sizes


class _PastLayer(DynamicLayer):  # type: ignore[misc]
    """Keys and values of one layer, given as inputs of the traced function."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        super().__init__()
        self.lazy_initialization(keys, values)
        self.keys, self.values = keys, values

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        self.keys = torch.cat([self.keys, key_states], -2)
        self.values = torch.cat([self.values, value_states], -2)
        return self.keys, self.values


class _Traced(nn.Module):
    """A model as a function of tensors."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, position_ids: Tensor, keep: Tensor, *states: Tensor
    ) -> tuple[Tensor, ...]:
        layers = [_PastLayer(*pair) for pair in zip(states[::2], states[1::2], strict=True)]
        places = torch.arange(attention_mask.shape[1])
        asking = places[attention_mask.shape[1] - input_ids.shape[1] :]
        seen = (places[None, :] <= asking[:, None])[None, None] & (attention_mask[:, None, None, :] > 0)
        output = self.model(
            input_ids=input_ids,
            attention_mask=torch.where(seen, 0.0, MASKED),
            position_ids=position_ids,
            past_key_values=Cache(layers=layers),
            use_cache=True,
            logits_to_keep=keep,
        )
        return output.logits, *chain.from_iterable((layer.keys, layer.values) for layer in layers)


def _attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor,
    scaling: float | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Attention as one operation, which OpenVINO joins with the variables of keys and values."""
    unknown = [name for name, given in others.items() if name not in _KNOWN and given is not None]
    if unknown:
        raise NotConvertibleError(f"its attention has {unknown[0]}")
    groups = getattr(module, "num_key_value_groups", 1)
    found = nn.functional.scaled_dot_product_attention(
        query, repeat_kv(key, groups), repeat_kv(value, groups), attn_mask=attention_mask, scale=scaling
    )
    return found.transpose(1, 2).contiguous(), None


def _example(sizes: States) -> tuple[Tensor, ...]:
    """Two rows of four tokens behind three; no size is one, which a trace would take for a constant."""
    rows, past, count = 2, 3, 4
    states = torch.zeros(2 * sizes.layers, rows, sizes.heads, past, sizes.size)
    ids = torch.ones(rows, count, dtype=torch.long)
    positions = (torch.arange(count) + past).expand(rows, count)
    return ids, torch.ones(rows, past + count, dtype=torch.long), positions, torch.tensor([2, 3]), *states


def _sizes(model: Any) -> States:
    cache = DynamicCache(config=model.config)
    ids = torch.ones(2, 3, dtype=torch.long)
    mask = torch.zeros(2, 1, 3, 3)
    model(input_ids=ids, attention_mask=mask, past_key_values=cache, use_cache=True)
    shapes = {(tuple(layer.keys.shape), tuple(layer.values.shape)) for layer in cache.layers}
    (keys, values), *others = shapes
    if others or keys != values:
        raise NotConvertibleError("its layers have states of several sizes")
    return States(len(cache.layers), keys[1], keys[3])


def _traced(model: Any, sizes: States) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # about constants and old names in transformers; a trial judges what is made
        return torch.jit.trace(_Traced(model).eval(), _example(sizes), check_trace=False, strict=False)


def _translated(traced: Any) -> Any:
    openvino()
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    frontend = FrontEndManager().load_by_framework("pytorch")
    decoder = TorchScriptPythonDecoder(traced)  # has to live until the end of the conversion
    return frontend.convert(frontend.load(decoder))


def _name_ports(model: Any, sizes: States) -> None:
    past = [f"past.{number}" for number in range(2 * sizes.layers)]
    inputs = ["input_ids", "attention_mask", "position_ids", "logits_to_keep", *past]
    outputs = ["logits", *(f"present.{number}" for number in range(2 * sizes.layers))]
    parameters = model.get_parameters()
    if len(parameters) != len(inputs) or len(model.outputs) != len(outputs):
        raise NotConvertibleError("it does not read all of tokens, positions and states")
    for parameter, name in zip(parameters, inputs, strict=True):
        parameter.set_friendly_name(name)
        parameter.output(0).get_tensor().set_names({name})
        if name in past:
            parameter.set_partial_shape(openvino().PartialShape([-1, sizes.heads, -1, sizes.size]))
    for output, name in zip(model.outputs, outputs, strict=True):
        output.get_tensor().set_names({name})


def _make_stateful(model: Any, sizes: States) -> None:
    """Keys and values become variables, empty at the start, whose rows ``beam_idx`` chooses."""
    from openvino import opset13 as op
    from openvino._offline_transformations import apply_make_stateful_transformation

    past = [each for each in model.get_parameters() if each.get_friendly_name().startswith("past.")]
    rows = op.parameter([-1], openvino().Type.i32, name="beam_idx")
    rows.output(0).get_tensor().set_names({"beam_idx"})
    model.add_parameters([rows])
    for parameter in past:
        readers = parameter.output(0).get_target_inputs()
        chosen = op.gather(parameter, rows, op.constant(0))
        for reader in readers:
            reader.replace_source_output(chosen.output(0))
    model.validate_nodes_and_infer_types()
    pairs = {f"past.{number}": f"present.{number}" for number in range(len(past))}
    apply_make_stateful_transformation(model, pairs)
    batch = op.gather(op.shape_of(model.input("input_ids")), op.constant([0]), op.constant(0))
    shape = op.concat([batch, *(op.constant([each]) for each in (sizes.heads, 0, sizes.size))], 0)
    for operation in model.get_ops():
        if operation.get_type_name() == "ReadValue":
            zero = op.constant(0.0, dtype=operation.get_output_element_type(0))
            operation.set_arguments([op.broadcast(zero, shape)])
    model.validate_nodes_and_infer_types()

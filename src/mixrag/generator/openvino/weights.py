"""The weights of a converted model in fewer bits.

int8: each row of a matrix (the weights of one output) in 256 steps between its smallest and its largest value;
products are computed with the values these steps stand for (what they are multiplied with: see ``model.GROUP``).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from mixrag.generator.openvino.runtime import openvino

SMALLEST = 4096
"""Matrices of fewer weights are left as they are."""
_READERS = {"MatMul": 1, "Gather": 0}
"""Which input of an operation is a matrix of weights."""


def compress(model: Any, dtype: str) -> list[Any]:
    """Change the matrices of a converted model in place; ``dtype``: int8, bfloat16 or float32 (no change).

    Returns memory that the model uses, and which has to live until it is saved.
    """
    if dtype == "float32":
        return []
    from openvino import opset13 as op

    compressed: dict[int, Any] = {}
    memory: list[Any] = []
    for operation in model.get_ordered_ops():
        place = _READERS.get(operation.get_type_name())
        source = None if place is None else operation.input_value(place).get_node()
        if source is None or source.get_type_name() != "Constant" or not _is_matrix(source):
            continue
        values = source.data
        key = values.__array_interface__["data"][0]  # embedding and output layer may be one matrix
        if key not in compressed:
            axis = _axis_of_products(operation)
            made = _int8(op, values, axis) if dtype == "int8" else _bfloat16(op, values, memory)
            made.set_friendly_name(f"{source.get_friendly_name()}/values")
            compressed[key] = made
        operation.input(place).replace_source_output(compressed[key].output(0))
    model.validate_nodes_and_infer_types()
    return memory


def _is_matrix(constant: Any) -> bool:
    shape = constant.get_output_shape(0)
    return (
        len(shape) == 2
        and np.prod(list(shape)) >= SMALLEST
        and constant.get_output_element_type(0) == openvino().Type.f32
    )


def _axis_of_products(operation: Any) -> int:
    """The axis along which a product sums: weights across it share their steps."""
    if operation.get_type_name() == "Gather":
        return 1
    return 1 if operation.get_attributes()["transpose_b"] else 0


def _int8(op: Any, values: Any, axis: int) -> Any:
    low = np.minimum(values.min(axis, keepdims=True), 0.0)
    high = np.maximum(values.max(axis, keepdims=True), 0.0)
    scale = ((high - low) / 255).astype(np.float32)
    scale[scale == 0] = 1.0
    zero = np.round(-low / scale).clip(0, 255)
    steps = np.round(values / scale + zero).clip(0, 255).astype(np.uint8)
    centred = op.subtract(
        op.convert(op.constant(steps), "f32"), op.convert(op.constant(zero.astype(np.uint8)), "f32")
    )
    return op.multiply(centred, op.constant(scale))


def _bfloat16(op: Any, values: Any, memory: list[Any]) -> Any:
    rounded = torch.from_numpy(values).to(torch.bfloat16).view(torch.int16).numpy().view(np.uint16)
    memory.append(openvino().Tensor(rounded, list(values.shape), openvino().Type.bf16))
    return op.convert(openvino().op.Constant(memory[-1], shared_memory=True), "f32")

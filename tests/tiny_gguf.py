"""Random language models as GGUF files: a tiny Llama of ``tiny_models`` in the formats of llama.cpp."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, LlamaFileType, RopeScalingType, quantize

import tiny_models

FORMATS = {
    "F32": (GGMLQuantizationType.F32, LlamaFileType.ALL_F32),
    "Q8_0": (GGMLQuantizationType.Q8_0, LlamaFileType.MOSTLY_Q8_0),
    "Q4_0": (GGMLQuantizationType.Q4_0, LlamaFileType.MOSTLY_Q4_0),
}
_NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "embed_tokens": "token_embd",
    "norm": "output_norm",
    "lm_head": "output",
}
_NORMAL, _CONTROL = 1, 3
"""Types of tokens."""


def save(
    file: Path,
    kind: str = "llama-chat",
    format: str = "F32",
    architecture: str = "llama",
    long_rope: tuple[float, bool] | None = None,
) -> Path:
    """The GGUF file of what ``tiny_models.build`` gives for a kind of Llama, its matrices in a format.

    ``long_rope``: the factor of long texts, beyond 600 tokens, and whether the file states the type of scaling.
    """
    model, tokenizer = tiny_models.build(kind)
    quantization, file_type = FORMATS[format]
    writer = GGUFWriter(file, architecture)
    _write_sizes(writer, model.config)
    _write_tokenizer(writer, tokenizer)
    writer.add_file_type(file_type)
    for name, values in model.state_dict().items():
        values = values.numpy()
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            heads = model.config.num_attention_heads if "q_proj" in name else model.config.num_key_value_heads
            values = _pairs_side_by_side(values, heads)
        if values.ndim == 1:
            writer.add_tensor(_name(name), values)
        else:
            writer.add_tensor(_name(name), quantize(values, quantization), raw_dtype=quantization)
    if long_rope is not None:
        _write_long_rope(writer, model.config, *long_rope)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def _write_sizes(writer: GGUFWriter, config: Any) -> None:
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)


def _write_long_rope(writer: GGUFWriter, config: Any, factor: float, stated: bool) -> None:
    if stated:
        writer.add_rope_scaling_type(RopeScalingType.LONGROPE)
    writer.add_rope_scaling_orig_ctx_len(600)
    half = config.hidden_size // config.num_attention_heads // 2
    for name, value in {"long": factor, "short": 1.0}.items():
        writer.add_tensor(f"rope_factors_{name}.weight", np.full(half, value, np.float32))


def _write_tokenizer(writer: GGUFWriter, tokenizer: Any) -> None:
    tokens = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    special = set(tokenizer.all_special_tokens)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([_CONTROL if token in special else _NORMAL for token in tokens])
    writer.add_token_merges(_merges(tokenizer))
    for name in ("bos", "eos", "pad"):
        getattr(writer, f"add_{name}_token_id")(getattr(tokenizer, f"{name}_token_id"))
    writer.add_add_bos_token(False)
    if tokenizer.chat_template:
        writer.add_chat_template(tokenizer.chat_template)


def _merges(tokenizer: Any) -> list[str]:
    import json

    found = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    return [" ".join(pair) if isinstance(pair, list) else pair for pair in found]


def _name(name: str) -> str:
    *place, last, _ = name.removeprefix("model.").split(".")
    if place[:1] != ["layers"]:
        return f"{_NAMES[last]}.weight"
    return f"blk.{place[1]}.{_NAMES['.'.join([*place[2:], last])]}.weight"


def _pairs_side_by_side(values: np.ndarray, heads: int) -> np.ndarray:
    """Rows of queries and keys in the order of llama.cpp, whose rotary pairs are neighbours."""
    rows, columns = values.shape
    halves = values.reshape(heads, 2, rows // heads // 2, columns)
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(rows, columns))

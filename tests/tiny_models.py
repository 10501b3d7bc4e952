"""Random language models of a few kilobytes, built in memory: one of each kind that the library loads.

They say nonsense, but all their parts are real: byte-level BPE tokenizers with special tokens, absolute, rotary
and relative positions, key-value caches, encoders. Weights are drawn wide, so that what is read matters.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

CAUSAL = ("llama", "llama-chat", "gpt2")
SEQ2SEQ = ("t5", "bart")
KINDS = CAUSAL + SEQ2SEQ

CONTEXT = 256
"""Tokens that each of them can read."""

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

_TEXT = (
    "Answer the question with a few words from the text.",
    "Question: who wrote the letter? Answer: the author wrote it.",
    "The passage says that the city lies on the river, and the question asks for its name.",
)


def build(kind: str) -> tuple[Any, PreTrainedTokenizerFast]:
    """A model in evaluation mode and its tokenizer; equal in every call."""
    tokenizer = _TOKENIZERS[kind]()
    with torch.random.fork_rng():
        torch.manual_seed(KINDS.index(kind))
        model = _MODELS[kind](tokenizer)
    return model.eval(), tokenizer


def save(kind: str, folder: Path) -> Path:
    """The folder with what ``build`` gives, as Hugging Face models come."""
    model, tokenizer = build(kind)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def byte_level_tokenizer(specials: list[str], frame: str | None = None, vocabulary: int = 300) -> Tokenizer:
    """Byte-level BPE over any text; ``frame`` is what it puts around one, such as ``<s> $A </s>``."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=specials,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_TEXT, trainer)
    if frame is not None:
        used = [(token, tokenizer.token_to_id(token)) for token in specials if token in frame.split()]
        tokenizer.post_processor = processors.TemplateProcessing(single=frame, special_tokens=used)
    return tokenizer


def chat_tokenizer(*, special: bool = True) -> PreTrainedTokenizerFast:
    """A ChatML tokenizer; with ``special`` false its turn markers are added tokens like any other."""
    if special:
        backend = byte_level_tokenizer(["<pad>", "<|im_start|>", "<|im_end|>"])
        return PreTrainedTokenizerFast(
            tokenizer_object=backend,
            bos_token="<|im_start|>",
            eos_token="<|im_end|>",
            pad_token="<pad>",
            chat_template=CHATML,
        )
    backend = byte_level_tokenizer(["<pad>", "<eos>"])
    backend.add_tokens([AddedToken(marker, special=False) for marker in ("<|im_start|>", "<|im_end|>")])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<eos>", pad_token="<pad>", chat_template=CHATML
    )


def _llama_tokenizer() -> PreTrainedTokenizerFast:
    backend = byte_level_tokenizer(["<pad>", "<s>", "</s>"], frame="<s> $A")
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", pad_token="<pad>")


def _gpt2_tokenizer() -> PreTrainedTokenizerFast:
    end = "<|endoftext|>"
    return PreTrainedTokenizerFast(
        tokenizer_object=byte_level_tokenizer([end]), bos_token=end, eos_token=end, pad_token=end
    )


def _t5_tokenizer() -> PreTrainedTokenizerFast:
    backend = byte_level_tokenizer(["<pad>", "</s>", "<extra_id_0>"], frame="$A </s>")
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token="</s>",
        pad_token="<pad>",
        additional_special_tokens=["<extra_id_0>"],
        model_max_length=CONTEXT,
    )


def _bart_tokenizer() -> PreTrainedTokenizerFast:
    backend = byte_level_tokenizer(["<s>", "<pad>", "</s>", "<mask>"], frame="<s> $A </s>")
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", pad_token="<pad>", mask_token="<mask>"
    )


def llama(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """Rotary positions, grouped queries."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        initializer_range=0.35,
        **_special_ids(tokenizer),
    )
    return LlamaForCausalLM(config)


def gpt2(tokenizer: PreTrainedTokenizerFast) -> GPT2LMHeadModel:
    """Absolute learned positions, tied embeddings."""
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=CONTEXT,
        n_embd=32,
        n_layer=2,
        n_head=4,
        initializer_range=0.35,
        **_special_ids(tokenizer),
    )
    return GPT2LMHeadModel(config)


def t5(tokenizer: PreTrainedTokenizerFast, **changes: Any) -> T5ForConditionalGeneration:
    """Relative positions; the decoder starts with the padding token."""
    ids = {key: value for key, value in _special_ids(tokenizer).items() if key != "bos_token_id"}
    options: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "d_model": 32,
        "d_kv": 8,
        "d_ff": 64,
        "num_layers": 2,
        "num_heads": 4,
        "decoder_start_token_id": tokenizer.pad_token_id,
        "tie_word_embeddings": False,
    }
    model = T5ForConditionalGeneration(T5Config(**{**options, **ids, **changes}))
    # An untied output layer is drawn with variance one, which would make every law a point mass.
    model.lm_head.weight.data.mul_(0.35)
    return model


def bart(tokenizer: PreTrainedTokenizerFast, **changes: Any) -> BartForConditionalGeneration:
    """Absolute positions on both sides; the decoder starts with </s> and is made to say <s> (as BART large)."""
    options: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "d_model": 32,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 4,
        "encoder_ffn_dim": 64,
        "decoder_ffn_dim": 64,
        "max_position_embeddings": CONTEXT,
        "decoder_start_token_id": tokenizer.eos_token_id,
        "init_std": 0.35,
    }
    model = BartForConditionalGeneration(BartConfig(**{**options, **_special_ids(tokenizer), **changes}))
    model.generation_config.forced_bos_token_id = tokenizer.bos_token_id
    return model


def _special_ids(tokenizer: PreTrainedTokenizerFast) -> dict[str, int | None]:
    return {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


_TOKENIZERS: dict[str, Any] = {
    "llama": _llama_tokenizer,
    "llama-chat": chat_tokenizer,
    "gpt2": _gpt2_tokenizer,
    "t5": _t5_tokenizer,
    "bart": _bart_tokenizer,
}
_MODELS: dict[str, Any] = {"llama": llama, "llama-chat": llama, "gpt2": gpt2, "t5": t5, "bart": bart}

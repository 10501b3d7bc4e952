"""From a transformers model and its tokenizer to a generator: context length, stop tokens, decoder start."""

from __future__ import annotations

from typing import Any

from mixrag.config.prompt_template import PromptTemplate
from mixrag.errors import ModelError
from mixrag.generator.causal import CausalGenerator
from mixrag.generator.prompt_tokenizer import UNLIMITED_CONTEXT, PromptTokenizer
from mixrag.generator.seq2seq import Seq2SeqGenerator


def assembled(
    name: str, model: Any, tokenizer: Any, template: PromptTemplate
) -> CausalGenerator | Seq2SeqGenerator:
    """The generator of a model in evaluation mode; the model is not changed.

    Raises:
        ModelError: the tokenizer has no end-of-text token.
    """
    parts = reading_parts(model.config, model.generation_config, tokenizer, template)
    if model.config.is_encoder_decoder:
        return Seq2SeqGenerator(name, model, *parts, decoder_start(model))
    return CausalGenerator(name, model, *parts)


def reading_parts(
    config: Any, generation: Any, tokenizer: Any, template: PromptTemplate
) -> tuple[PromptTokenizer, frozenset[int], int]:
    """What reads and ends texts for a model: tokenizer with prompt, stop tokens, the one after a given answer.

    Args:
        config: of the model.
        generation: its generation configuration.
        tokenizer: its tokenizer.
        template: the prompt.

    Raises:
        ModelError: the tokenizer has no end-of-text token.
    """
    tokens = PromptTokenizer(tokenizer, template, context_size(config, tokenizer), config.is_encoder_decoder)
    tokens.prompt("", (), 0)  # a chat template that fails should fail here
    if tokenizer.eos_token_id is None:
        raise ModelError("a model with an end-of-text token", "none", "set eos_token in its tokenizer")
    stated = getattr(generation, "eos_token_id", None)
    ids = stated if isinstance(stated, (list, tuple)) else [stated]
    stop_tokens = frozenset(int(i) for i in (*ids, tokenizer.eos_token_id) if i is not None)
    stop_token = tokens.turn_end(stop_tokens) or tokenizer.eos_token_id
    return tokens, stop_tokens if config.is_encoder_decoder else stop_tokens | {stop_token}, int(stop_token)


def context_size(config: Any, tokenizer: Any) -> int:
    """Tokens that the model can read, as its configuration or its tokenizer states."""
    stated = [getattr(config, key, None) for key in ("max_position_embeddings", "n_positions")]
    if config.is_encoder_decoder and config.model_type in ("t5", "mt5", "umt5"):
        stated = []
    limits = [
        int(limit) for limit in (*stated, tokenizer.model_max_length) if limit and 0 < limit < UNLIMITED_CONTEXT
    ]
    return min(limits, default=UNLIMITED_CONTEXT)


def decoder_start(model: Any) -> tuple[int, ...]:
    """The ids a seq2seq decoder starts with: its start token, and a first token that it is forced to write."""
    config, generation = model.config, model.generation_config
    start = generation.decoder_start_token_id
    start = config.decoder_start_token_id if start is None else start
    forced = getattr(generation, "forced_bos_token_id", None)
    return (int(start),) if forced is None else (int(start), int(forced))


def refuse_text_encoder(name: str, config: Any) -> None:
    """transformers loads BERT and similar as causal models, though each token sees those after it.

    Raises:
        ModelError: it is one of these.
    """
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES as ENCODERS

    if config.model_type in ENCODERS and not config.is_encoder_decoder and not config.is_decoder:
        raise ModelError(
            "a causal or seq2seq language model", f"the text encoder {name}", "use it as --encoder instead"
        )

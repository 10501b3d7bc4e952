"""Encoder-decoder language models (T5, BART, ...) as generators.

The encoder reads the whole prompt once for each component. The decoder's start tokens are given, not predicted, so
that an answer's probability is that of its text and its end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from mixrag.corpus.passage import Passage
from mixrag.errors import QuestionError
from mixrag.generator.batching import (
    batches_by_length,
    is_identity,
    log_probs_of,
    pad_right,
    scored_in_parts,
    shallow_copy,
)
from mixrag.generator.huggingface import ModelGenerator, next_log_probs
from mixrag.generator.kernels.shared_cross_attention import distinct_prompts, uses_shared_cross_attention
from mixrag.generator.prompt_tokenizer import UNLIMITED_CONTEXT
from mixrag.generator.protocol import Prompt
from mixrag.utils.turns import turn

ENCODED_AT_ONCE = 512
"""Tokens that the encoder reads in one batch on a CPU."""


@dataclass(frozen=True)
class Encoded:
    """The encoder's output for P prompts."""

    states: Tensor
    """(P, S, D)."""
    attended: Tensor
    """(P, S) bool: False at padding."""

    def of(self, prompts: Tensor) -> Encoded:
        """These prompts (P',) as copies, or the object itself if they are all of them in order."""
        return (
            self
            if is_identity(prompts, len(self.states))
            else Encoded(self.states[prompts], self.attended[prompts])
        )


@dataclass(frozen=True)
class Seq2SeqBranches:
    """Rows of a decoder with its cache, and the prompts they attend to."""

    model: Any
    cache: Any
    """Self-attention of R rows; cross-attention of P prompts."""
    encoded: Encoded
    prompts: Tensor
    """(R,) the prompt of each row, in the order (W, P)."""
    log_probs: Tensor
    """(R, V), on the output device."""

    @torch.inference_mode()
    def advance(self, rows: Tensor, tokens: Tensor) -> Seq2SeqBranches:
        """See ``Branches.advance``."""
        device = self.prompts.device
        rows, tokens = rows.to(device), tokens.to(device)
        if not is_identity(rows, len(self.prompts)):
            self.cache.self_attention_cache.reorder_cache(rows)
        chosen = self._of(self.cache, rows)
        logits, cache = _decode(self.model, tokens.unsqueeze(1), chosen.encoded, self.cache)
        return replace(chosen, cache=cache, log_probs=next_log_probs(logits, device))

    @torch.inference_mode()
    def select(self, rows: Tensor) -> Seq2SeqBranches:
        """See ``Branches.select``."""
        chosen, cache = rows.to(self.prompts.device), shallow_copy(self.cache)
        cache.self_attention_cache.reorder_cache(chosen)  # a copy even of all rows: their buffers are written into
        return replace(self._of(cache, chosen), log_probs=self.log_probs[rows])

    @torch.inference_mode()
    def score(self, tokens: Sequence[int]) -> Tensor:
        """See ``Branches.score``."""
        columns, cache, size = [self.log_probs[:, tokens[0], None]], self.cache, len(self.prompts)
        for read, wanted in scored_in_parts(tokens, size):
            rows = torch.tensor(read, device=self.prompts.device).expand(size, -1)
            logits, cache = _decode(self.model, rows, self.encoded, cache)
            columns.append(log_probs_of(logits, [wanted] * size, [0] * size).to(columns[0].device))
        return torch.cat(columns, -1)

    def _of(self, cache: Any, rows: Tensor) -> Seq2SeqBranches:
        """The prompts that the rows ``rows`` attend to; their states are copied only where they change."""
        prompts = self.prompts[rows]
        needed = distinct_prompts(prompts) if uses_shared_cross_attention(self.model) else prompts
        if not is_identity(needed, len(self.encoded.states)):
            cache.cross_attention_cache.reorder_cache(needed)
        order = torch.arange(len(needed), device=rows.device).repeat(len(rows) // len(needed))
        return replace(self, cache=cache, encoded=self.encoded.of(needed), prompts=order)


@dataclass(frozen=True)
class Seq2SeqGenerator(ModelGenerator):
    """An encoder-decoder model with its tokenizer."""

    decoder_start: tuple[int, ...]
    """Ids that the decoder reads before the answer: the start token, and a forced first token (BART)."""

    def prompt(self, question: str, passages: Sequence[Passage], reserve: int) -> Prompt:
        """See ``Generator.prompt``; the answer has the decoder's context to itself."""
        longest = self.answer_room(())
        if reserve > longest:
            found, remedy = f"{reserve} tokens", "lower max_tokens or shorten the answer"
            raise QuestionError(
                f"an answer of at most {longest} tokens, which the decoder can write", found, remedy
            )
        return self.tokens.prompt(question, passages, reserve=0)

    def answer_room(self, prompts: Sequence[Prompt]) -> int:
        """See ``protocol.answer_room``; learned positions end with their table, T5's relative ones do not."""
        learned = getattr(self.model.config, "max_position_embeddings", None)
        return UNLIMITED_CONTEXT if learned is None else int(learned) - len(self.decoder_start)

    def token_log_probs(self, prompts: Sequence[Prompt], answers: Sequence[Sequence[int]]) -> Tensor:
        """See ``ModelGenerator.token_log_probs``."""
        encoded = self._encode(prompts)
        # Padding is at the end of an answer: no token there is scored.
        ids, _ = pad_right([(*self.decoder_start, *answer[:-1]) for answer in answers], encoded.states.device)
        logits, _ = _decode(self.model, ids, encoded, None)
        return log_probs_of(logits, answers, [len(self.decoder_start) - 1] * len(answers))

    @torch.inference_mode()
    def start(self, prompts: Sequence[Prompt]) -> Seq2SeqBranches:
        """See ``Generator.start``."""
        from transformers import DynamicCache, EncoderDecoderCache
        from transformers.cache_utils import Cache

        from mixrag.generator.kv_cache import GrowingLayer

        encoded = self._encode(prompts)
        # Not made from the configuration: T5's counts the encoder's layers.
        cache = EncoderDecoderCache(Cache(layer_class_to_replicate=GrowingLayer), DynamicCache())
        order = torch.arange(len(prompts), device=encoded.states.device)
        read = torch.tensor(self.decoder_start, device=order.device).expand(len(prompts), -1)
        logits, cache = _decode(self.model, read, encoded, cache)
        return Seq2SeqBranches(self.model, cache, encoded, order, next_log_probs(logits, self.device))

    def _encode(self, prompts: Sequence[Prompt]) -> Encoded:
        """All prompts, each once; on a CPU in small batches of similar lengths."""
        lengths = torch.tensor([len(prompt.tokens) for prompt in prompts], device=self.device)
        longest = int(lengths.max())
        at_once = ENCODED_AT_ONCE if self.device.type == "cpu" else longest * len(prompts)
        batches = batches_by_length(lengths.tolist(), at_once, len(prompts))
        states = [self._read([prompts[i] for i in batch], longest) for batch in batches]
        places = torch.tensor([i for batch in batches for i in batch], device=lengths.device).argsort()
        attended = torch.arange(longest, device=lengths.device) < lengths.unsqueeze(1)
        return Encoded(torch.cat(states)[places], attended)

    def _read(self, prompts: Sequence[Prompt], longest: int) -> Tensor:
        """(R, longest, D) encoder states, zero after the longest of these prompts."""
        ids, attended = pad_right([prompt.tokens for prompt in prompts], self.device)
        with turn(self.model):
            states = self.model.get_encoder()(input_ids=ids, attention_mask=attended.long()).last_hidden_state
        return pad(states, (0, 0, 0, longest - states.shape[1]))


def _decode(model: Any, ids: Tensor, encoded: Encoded, cache: Any) -> tuple[Tensor, Any]:
    from transformers.modeling_outputs import BaseModelOutput

    # transformers uses a mask of four dimensions unchanged, also for more rows than there are prompts.
    attended = encoded.attended[:, None, None] if uses_shared_cross_attention(model) else encoded.attended.long()
    with turn(model):
        output = model(
            encoder_outputs=BaseModelOutput(last_hidden_state=encoded.states),
            attention_mask=attended,
            decoder_input_ids=ids,
            past_key_values=cache,
            use_cache=cache is not None,
        )
    return output.logits.float(), output.past_key_values

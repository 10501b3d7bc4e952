"""Encoder-decoder language models (T5, BART, ...) as generators.

The encoder reads the whole prompt once for each component; the decoder's own start tokens are conditioned on,
so that an answer's probability is that of its text and its end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mixrag.corpus.passage import Passage
from mixrag.errors import QuestionError
from mixrag.generator.base import ModelGenerator
from mixrag.generator.batching import log_probs_of, pad_right, part_of
from mixrag.generator.protocol import Prompt


@dataclass(frozen=True)
class Seq2SeqBranches:
    """Rows of a decoder with its cache, and the encoder's states they attend to."""

    model: Any
    cache: Any
    encoded: Tensor
    """(R, S, D) encoder states."""
    attended: Tensor
    """(R, S) bool: False at the encoder's padding."""
    log_probs: Tensor
    """(R, V)."""

    @torch.inference_mode()
    def advance(self, rows: Tensor, tokens: Tensor) -> Seq2SeqBranches:
        """See ``Branches.advance``."""
        self.cache.reorder_cache(rows)
        encoded, attended = self.encoded[rows], self.attended[rows]
        logits, cache = _decode(self.model, tokens.unsqueeze(1), encoded, attended, self.cache)
        return Seq2SeqBranches(self.model, cache, encoded, attended, logits[:, -1].log_softmax(-1))

    @torch.inference_mode()
    def part(self, rows: Tensor) -> Seq2SeqBranches:
        """See ``Branches.part``."""
        cache = part_of(self.cache, rows)
        return Seq2SeqBranches(self.model, cache, self.encoded[rows], self.attended[rows], self.log_probs[rows])

    @torch.inference_mode()
    def read(self, tokens: Sequence[int]) -> Tensor:
        """See ``Branches.read``."""
        first = self.log_probs[:, tokens[0], None]
        if len(tokens) == 1:
            return first
        rows = torch.tensor(tokens[:-1], device=first.device).expand(len(first), -1)
        logits, _ = _decode(self.model, rows, self.encoded, self.attended, self.cache)
        rest = log_probs_of(logits, [tokens[1:]] * len(first), [0] * len(first))
        return torch.cat([first, rest], -1)


@dataclass(frozen=True)
class Seq2SeqGenerator(ModelGenerator):
    """An encoder-decoder model with its tokenizer."""

    decoder_start: tuple[int, ...]
    """Ids that the decoder reads before the answer: the start token, and a forced first token (BART)."""

    def prompt(self, question: str, passages: Sequence[Passage], reserve: int) -> Prompt:
        """See ``Generator.prompt``; the answer has the decoder's context to itself."""
        longest = self._longest_answer
        if reserve > longest:
            found, remedy = f"{reserve} tokens", "lower --max-tokens or shorten the answer"
            raise QuestionError(
                f"an answer of at most {longest} tokens, which the decoder can write", found, remedy
            )
        return self.tokens.prompt(question, passages, reserve=0)

    @property
    def _longest_answer(self) -> int:
        # Learned positions end where their table ends; T5's relative ones do not.
        learned = getattr(self.model.config, "max_position_embeddings", None)
        return 2**20 if learned is None else int(learned) - len(self.decoder_start)

    def token_log_probs(self, prompts: Sequence[Prompt], answers: Sequence[Sequence[int]]) -> Tensor:
        """See ``ModelGenerator.token_log_probs``."""
        encoded, attended = self._encode(prompts)
        # Padding stands behind an answer: what is read there is never scored.
        ids, _ = pad_right([(*self.decoder_start, *answer[:-1]) for answer in answers], encoded.device)
        logits, _ = _decode(self.model, ids, encoded, attended, None)
        return log_probs_of(logits, answers, [len(self.decoder_start) - 1] * len(answers))

    @torch.inference_mode()
    def start(self, prompts: Sequence[Prompt]) -> Seq2SeqBranches:
        """See ``Generator.start``."""
        from transformers import DynamicCache, EncoderDecoderCache

        encoded, attended = self._encode(prompts)
        # Not made from the configuration: T5's counts the encoder's layers.
        cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        read = torch.tensor(self.decoder_start, device=encoded.device).expand(len(prompts), -1)
        logits, cache = _decode(self.model, read, encoded, attended, cache)
        return Seq2SeqBranches(self.model, cache, encoded, attended, logits[:, -1].log_softmax(-1))

    def _encode(self, prompts: Sequence[Prompt]) -> tuple[Tensor, Tensor]:
        ids, attended = pad_right([prompt.tokens for prompt in prompts], self.model.device)
        states = self.model.get_encoder()(input_ids=ids, attention_mask=attended.long())
        return states.last_hidden_state, attended


def _decode(model: Any, ids: Tensor, encoded: Tensor, attended: Tensor, cache: Any) -> tuple[Tensor, Any]:
    from transformers.modeling_outputs import BaseModelOutput

    output = model(
        encoder_outputs=BaseModelOutput(last_hidden_state=encoded),
        attention_mask=attended.long(),
        decoder_input_ids=ids,
        past_key_values=cache,
        use_cache=cache is not None,
    )
    return output.logits.float(), output.past_key_values

"""Beam search of a seq2seq model over K passages, beside transformers' own RAG.

    python benchmarks/seq2seq.py [--rounds N] [--layers N] [--width N] [--only 3|4|beams]

Random weights of the shape of BART-base (six layers on each side, width 768, vocabulary 50,265), float32 for both.
The output layer is drawn wide, so that laws are peaked and no two answers are nearly equal. Contexts have 150 to 300
tokens, padded to 300 for the peer, as its retriever gives them (``max_combined_length``); answers have a fixed number
of tokens. Row 3: ``RagTokenForGeneration``; both must write identical tokens. Row 4: ``RagSequenceForGeneration``
(thorough decoding); the answers' log p(y|x) stand beside the times.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mixrag.decoding import Search, beam
from mixrag.generator import Prompt, PromptTemplate, Seq2SeqGenerator
from mixrag.generator.loading import faster
from mixrag.generator.tokens import PromptTokenizer
from mixrag.mixture import Component, Mixture
from side_by_side import Row, alternately, keep, seconds, show

BOS, PAD, EOS = 0, 1, 2
PADDED = 300
"""Tokens to which the peer's retriever pads a context."""


@dataclass(frozen=True)
class Models:
    """One set of weights, twice: in one of them prompts are shared."""

    ours: Seq2SeqGenerator
    peer: Any


@dataclass(frozen=True)
class Question:
    """K contexts and the scores of their passages."""

    contexts: tuple[tuple[int, ...], ...]
    scores: Tensor
    """(K,)"""

    @classmethod
    def drawn(cls, seed: int, k: int, shortest: int, longest: int) -> Question:
        source = torch.Generator().manual_seed(seed)
        lengths = torch.randint(shortest, longest + 1, (k,), generator=source).tolist()
        contexts = tuple(tuple(torch.randint(4, 50_265, (n,), generator=source).tolist()) for n in lengths)
        return cls(contexts, 2 * torch.randn(k, generator=source))

    def mixture(self, generator: Seq2SeqGenerator, switch: float) -> Mixture:
        components = tuple(Component((), Prompt((), context, ())) for context in self.contexts)
        return Mixture(generator, "", components, self.scores.double().log_softmax(0), switch, None)

    def padded(self, length: int) -> dict[str, Any]:
        """As transformers' RAG takes them."""
        rows = torch.tensor([[*context, *[PAD] * (length - len(context))] for context in self.contexts])
        return {
            "context_input_ids": rows,
            "context_attention_mask": (rows != PAD).long(),
            "doc_scores": self.scores[None],
        }


def models(layers: int, width: int, vocabulary: int = 50_265) -> Models:
    """BART with random weights that say something, and end no answer."""
    from transformers import BartConfig, BartForConditionalGeneration

    torch.manual_seed(0)
    shape = {f"{side}_{part}": n for side in ("encoder", "decoder")
             for part, n in (("layers", layers), ("attention_heads", width // 64), ("ffn_dim", 4 * width))}
    config = BartConfig(vocab_size=vocabulary, d_model=width, tie_word_embeddings=False, **shape)
    model = BartForConditionalGeneration(config).eval()
    model.lm_head.weight.data.normal_(std=5 * width**-0.5)
    for layer in model.model.decoder.layers:  # what is said must depend on single words of a passage
        for part in ("q_proj", "k_proj", "out_proj"):
            getattr(layer.encoder_attn, part).weight.data.mul_(4.0)
    model.final_logits_bias[0, [BOS, PAD, EOS]] = -torch.inf
    tokens = PromptTokenizer(None, PromptTemplate(), 1024, keep_suffix=True)
    ours = faster(
        Seq2SeqGenerator("bart", deepcopy(model), tokens, frozenset({EOS}), EOS, (EOS,))
    )
    return Models(ours, model)


def theirs(model: Any, question: Question, padded: int, beams: int, tokens: int) -> list[int]:
    """The answer of transformers' RAG, with the same rules: no penalty of length, answers of ``tokens`` tokens."""
    found = model.generate(
        **question.padded(padded),
        num_beams=beams,
        do_sample=False,
        length_penalty=0.0,
        early_stopping=False,
        decoder_start_token_id=EOS,
        forced_bos_token_id=None,
        forced_eos_token_id=None,
        eos_token_id=EOS,
        pad_token_id=PAD,
        max_length=1 + tokens,
    )
    written: list[int] = found[0].tolist()[1:]
    return written


def rag(peer: Any, kind: str, k: int) -> Any:
    """RagTokenForGeneration or RagSequenceForGeneration around a model; the question encoder is never run."""
    import transformers

    encoder = transformers.DPRConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    config = transformers.RagConfig.from_question_encoder_generator_configs(encoder, peer.config, n_docs=k)
    return getattr(transformers, kind)(config, generator=peer).eval()

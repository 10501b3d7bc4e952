"""A random span model of a few kilobytes, and the distribution that it means, in probability space."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertForQuestionAnswering, PreTrainedTokenizerFast

from mixrag.corpus.passage import Passage
from mixrag.generator import ExtractiveGenerator
from mixrag.generator.answer_tokens import AnswerTokenizer
from mixrag.generator.span_windows import SpanConfig
from tiny_models import chat_tokenizer

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
WORDS = "the ferry to costs nine crowns in and ten june who pays harbour master fee of 50 12 ase ødegard"
"""Words that are one token; all others are several."""


@cache
def encoder_tokenizer() -> PreTrainedTokenizerFast:
    letters = "abcdefghijklmnopqrstuvwxyz0123456789øß"
    marks = ".,;:?!()[]<>|_$%-'"
    parts = [*letters, *(f"##{letter}" for letter in letters), *marks, "##ing", "##er", "##s"]
    vocabulary = {token: number for number, token in enumerate(dict.fromkeys([*SPECIAL, *WORDS.split(), *parts]))}
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    pair = [(token, backend.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=pair
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=96,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


def span_bert(seed: int = 0) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = BertConfig(
            vocab_size=len(encoder_tokenizer()),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=64,
            max_position_embeddings=96,
            initializer_range=0.3,
        )
        return BertForQuestionAnswering(config).eval()


def span_generator(seed: int = 0, **config: Any) -> ExtractiveGenerator:
    options = {"longest": 6, "window": 96, "stride": 16} | config
    answers = AnswerTokenizer(chat_tokenizer())
    return ExtractiveGenerator("spans", span_bert(seed), encoder_tokenizer(), answers, SpanConfig(**options))


def passage(text: str, title: str = "", context: str = "") -> Passage:
    return Passage(f"{title}/{text}", text, "/notes.txt", title, 0, len(text), context=context)


def reference(
    generator: ExtractiveGenerator, question: str, text: str, whole_words: bool = True
) -> dict[str, float]:
    """p(answer) by a double loop over the ends of spans in one window; "" is the empty answer."""
    longest, tokenizer = generator.config.longest, generator.tokenizer
    read = tokenizer(question, text, return_offsets_mapping=True, return_tensors="pt")
    offsets, parts = read.pop("offset_mapping")[0].tolist(), read.sequence_ids(0)
    with torch.inference_mode():
        output = generator.model(**read)
    start, end = output.start_logits[0].double().tolist(), output.end_logits[0].double().tolist()
    weights = {"": math.exp(start[0] + end[0])}
    for i in range(len(parts)):
        for j in range(i, min(i + longest, len(parts))):
            if parts[i] != 1 or parts[j] != 1:
                continue
            first, last = offsets[i][0], offsets[j][1]
            if whole_words and (inside_word(text, first) or inside_word(text, last)):
                continue
            answer = " ".join(text[first:last].split())
            weights[answer] = weights.get(answer, 0.0) + math.exp(start[i] + end[j])
    total = sum(weights.values())
    return {answer: weight / total for answer, weight in weights.items()}


def inside_word(text: str, place: int) -> bool:
    if not 0 < place < len(text):
        return False
    before, after = text[place - 1], text[place]
    if "\u3000" < before < "\ua000":  # ideographs, which are words of their own
        return False
    return (before.isalpha() and after.isalpha()) or (before.isdigit() and after.isdigit())

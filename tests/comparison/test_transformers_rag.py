"""mixrag against the RAG models of transformers, on the same random weights.

Where both are right they agree. Where transformers is not, its value stands beside the exact one, which is
enumerated in probability space.
"""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import DPRConfig, RagConfig, RagSequenceForGeneration, RagTokenForGeneration
from transformers.models.rag import retrieval_rag

import tiny_models
from mixrag.corpus.passage import Passage
from mixrag.generator import Prompt, PromptTemplate, Seq2SeqGenerator, TableGenerator, load_generator
from mixrag.generator.kernels.onednn_linear import use_onednn_linears
from mixrag.generator.kernels.shared_cross_attention import uses_shared_cross_attention
from mixrag.generator.prompt_tokenizer import PromptTokenizer
from mixrag.generator.self_check import with_shared_cross_attention
from mixrag.inference.beam_search import beam
from mixrag.inference.components import Component
from mixrag.inference.mixture import Mixture, condition
from mixrag.inference.stepwise import greedy
from mixrag.probability import log_marginal
from mixrag.retrieval.index import ExactIndex, build_faiss

NEAR = {"rel": 0.0, "abs": 1e-5}
K = 4
LENGTHS = (9, 17, 3, 12)
"""Tokens of the K contexts: ragged, so that masks matter."""


@dataclass(frozen=True)
class Both:
    """One set of weights as transformers' RAG model and as a mixture of mixrag."""

    rag: Any
    contexts: Tensor
    """(K, S) padded ids, as RagRetriever gives them."""
    attended: Tensor
    scores: Tensor
    """(1, K) inner products of question and passages."""
    mixture: Mixture

    def inputs(self) -> dict[str, Tensor]:
        return {
            "context_input_ids": self.contexts,
            "context_attention_mask": self.attended,
            "doc_scores": self.scores,
        }

    def nll(self, labels: list[int], **options: Any) -> float:
        with torch.no_grad():
            return self.rag(**self.inputs(), labels=torch.tensor([labels]), **options).loss.item()

    def table(self, answer: list[int]) -> Tensor:  # (K, T)
        prompts = [component.prompt for component in self.mixture.components]
        return self.mixture.generator.log_likelihood(prompts, answer).double()

    def log_prob(self, answer: list[int]) -> float:
        return float(log_marginal(self.mixture.log_prior, self.table(answer), self.mixture.switch))

    def enumerated(self, answer: list[int]) -> float:
        """log p(y | x) by loops over passages and tokens, probabilities from plain forward passes."""
        prior = self.scores[0].double().softmax(0).tolist()
        laws = [self._plain_probabilities(j, answer) for j in range(K)]
        if self.mixture.switch == 0.0:
            return math.log(math.fsum(prior[j] * math.prod(laws[j]) for j in range(K)))
        steps = [math.fsum(prior[j] * laws[j][t] for j in range(K)) for t in range(len(answer))]
        return math.log(math.prod(steps))

    def _plain_probabilities(self, j: int, answer: list[int]) -> list[float]:
        generator: Any = self.mixture.generator
        ids = self.contexts[j, : LENGTHS[j]][None]
        read = torch.tensor([[*generator.decoder_start, *answer[:-1]]])
        with torch.no_grad():
            logits = generator.model(input_ids=ids, decoder_input_ids=read).logits[0, -len(answer) :]
        table = logits.double().softmax(-1)
        return [table[t, token].item() for t, token in enumerate(answer)]


def both(kind: str, switch: float, seed: int = 0, *, double: bool = True, start: tuple[int, ...] = ()) -> Both:
    """RagSequence (switch 0) or RagToken (switch 1) over a tiny BART or T5, and the same as a mixture.

    ``start`` is what the decoder reads before the answer: the first label, since transformers' RAG reads the
    labels themselves and scores all but the first.
    """
    _, tokenizer = tiny_models.build(kind)
    torch.manual_seed(seed)
    generator = {"bart": tiny_models.bart, "t5": tiny_models.t5}[kind](tokenizer, tie_word_embeddings=False)
    _make_talkative(generator)
    config = RagConfig.from_question_encoder_generator_configs(_question_encoder(), generator.config, n_docs=K)
    rag_class = RagSequenceForGeneration if switch == 0.0 else RagTokenForGeneration
    rag = rag_class(config, generator=generator).eval()
    rag = rag.double() if double else rag
    contexts = torch.randint(4, len(tokenizer), (K, max(LENGTHS)))
    attended = (torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]).long()
    contexts = contexts.masked_fill(attended == 0, tokenizer.pad_token_id)
    scores = 2 * torch.randn(1, K, dtype=torch.float64 if double else torch.float32)

    eos = tokenizer.eos_token_id
    tokens = PromptTokenizer(tokenizer, PromptTemplate(), tiny_models.CONTEXT, keep_suffix=True)
    wrapped = Seq2SeqGenerator(kind, rag.generator, tokens, frozenset({eos}), eos, start or (eos,))
    rows = [tuple(row[:length].tolist()) for row, length in zip(contexts, LENGTHS, strict=True)]
    components = tuple(Component((), Prompt((), row, ())) for row in rows)
    log_prior = scores[0].double().log_softmax(0)
    mixture = Mixture(wrapped, "", components, log_prior, switch, None)
    return Both(rag, contexts, attended, scores, mixture)


def _make_talkative(model: Any) -> None:
    """Random weights repeat one word for ever, unless the words before it weigh enough beside the passages."""
    for name, weight in model.named_parameters():
        if name.endswith("decoder.embed_positions.weight"):
            weight.data.mul_(4.0)
        elif name.endswith("encoder_attn.out_proj.weight"):
            weight.data.mul_(0.1)
    if model.config.model_type == "t5":
        model.get_input_embeddings().weight.data.mul_(0.25)


def _question_encoder() -> DPRConfig:
    return DPRConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        vocab_size=50,
        max_position_embeddings=16,
    )


BOS, EOS = 0, 2
"""Of the tiny BART."""

ANSWERS = ([10, EOS], [10, 11, EOS], [40, 41, 42, EOS], [99, 20, 120, 7, 33, 250, EOS])
SEEDS = range(3)


@pytest.mark.parametrize("answer", [[EOS], *ANSWERS], ids=len)
@pytest.mark.parametrize("seed", SEEDS)
def test_rag_token_has_the_same_nll(answer: list[int], seed: int) -> None:
    pair = both("bart", 1.0, seed, start=(BOS,))
    assert -pair.nll([BOS, *answer]) == pytest.approx(pair.enumerated(answer), **NEAR)
    assert pair.log_prob(answer) == pytest.approx(pair.enumerated(answer), **NEAR)


@pytest.mark.parametrize("answer", [[EOS], *ANSWERS], ids=len)
def test_rag_token_has_the_same_nll_on_t5_where_a_start_token_is_prepended(answer: list[int]) -> None:
    start, end = 0, 1
    answer = [*answer[:-1], end]
    pair = both("t5", 1.0, start=(start,))
    assert -pair.nll([start, *answer]) == pytest.approx(pair.enumerated(answer), **NEAR)
    assert pair.log_prob(answer) == pytest.approx(pair.enumerated(answer), **NEAR)


@pytest.mark.parametrize("answer", ANSWERS, ids=len)
@pytest.mark.parametrize("seed", SEEDS)
def test_rag_sequence_has_the_same_nll_from_three_labels_on(answer: list[int], seed: int) -> None:
    pair = both("bart", 0.0, seed, start=(BOS,))
    assert -pair.nll([BOS, *answer]) == pytest.approx(pair.enumerated(answer), **NEAR)
    assert pair.log_prob(answer) == pytest.approx(pair.enumerated(answer), **NEAR)


@pytest.mark.parametrize("answer", [[EOS], *ANSWERS], ids=len)
def test_rag_sequence_without_its_forced_first_token(answer: list[int]) -> None:
    """As its decoding scores candidates: </s> starts the decoder, <s> is forced and not counted."""
    pair = both("bart", 0.0, start=(EOS, BOS))
    found = -pair.nll([EOS, BOS, *answer], exclude_bos_score=True)
    assert found == pytest.approx(pair.enumerated(answer), **NEAR)
    assert pair.log_prob(answer) == pytest.approx(pair.enumerated(answer), **NEAR)


def test_loading_a_bart_conditions_on_the_forced_first_token(tmp_path: Path) -> None:
    """What ``load_generator`` makes of the weights is what the test above compares."""
    pair = both("bart", 0.0, start=(EOS, BOS), double=False)
    pair.rag.generator.save_pretrained(tmp_path)
    tiny_models.build("bart")[1].save_pretrained(tmp_path)
    loaded: Any = load_generator(tmp_path, device="cpu")
    assert loaded.decoder_start == (EOS, BOS)
    mixture = replace(pair.mixture, generator=loaded)
    assert mixture.score_tokens(ANSWERS[1]).log_prob == pytest.approx(pair.enumerated(ANSWERS[1]), **NEAR)


class TestDeviations:
    """What mixrag does differently on purpose: transformers' value, and the exact one beside it."""

    @pytest.mark.parametrize("seed", SEEDS)
    def test_short_answers_keep_their_prior(self, seed: int) -> None:
        """With two labels transformers masks the place where it added the prior."""
        pair = both("bart", 0.0, seed, start=(BOS,))
        answer = [EOS]
        exact, theirs = pair.enumerated(answer), -pair.nll([BOS, *answer])
        without_prior = float(log_marginal(torch.zeros(K).double(), pair.table(answer), switch=0.0))
        assert theirs == pytest.approx(without_prior, **NEAR)
        assert abs(theirs - exact) > 0.5
        assert pair.log_prob(answer) == pytest.approx(exact, **NEAR)

    def test_a_single_label_has_probability_one(self) -> None:
        """Nothing is scored; transformers gives it probability K."""
        pair = both("bart", 0.0, start=(BOS,))
        assert -pair.nll([BOS]) == pytest.approx(math.log(K), **NEAR)
        assert float(log_marginal(pair.mixture.log_prior, torch.empty(K, 0), 0.0)) == pytest.approx(0.0, **NEAR)

    def test_t5_labels_keep_their_first_token(self) -> None:
        """T5 labels come without a start token; transformers reads the first of them and does not score it."""
        start, labels = 0, [10, 11, 12, 1]
        pair = both("t5", 1.0, start=(start,))
        theirs = -pair.nll(labels)
        lost = both("t5", 1.0, start=(labels[0],)).enumerated(labels[1:])
        assert theirs == pytest.approx(lost, **NEAR)
        assert abs(theirs - pair.enumerated(labels)) > 0.5
        assert pair.log_prob(labels) == pytest.approx(pair.enumerated(labels), **NEAR)

    @pytest.mark.parametrize("answer", [[1], [10, 1], [40, 41, 42, 1]], ids=len)
    def test_t5_works_as_rag_sequence(self, answer: list[int]) -> None:
        """transformers has no RAG-Sequence likelihood for T5, whose configuration names no <s>."""
        pair = both("t5", 0.0, start=(0,))
        with pytest.raises(AttributeError, match="bos_token_id"):
            pair.nll([0, *answer])
        assert pair.log_prob(answer) == pytest.approx(pair.enumerated(answer), **NEAR)

    def test_labels_of_minus_100(self) -> None:
        """Labels padded with -100, as training code has them, raise an error there."""
        pair = both("bart", 1.0, start=(BOS,))
        with pytest.raises((IndexError, RuntimeError)):
            pair.nll([BOS, 10, EOS, -100])


class StubDataset:
    """The part of ``datasets.Dataset`` that transformers' index calls: columns, and FAISS with ids of -1."""

    column_names = ("title", "text", "embeddings")

    def __init__(self, texts: list[str], vectors: np.ndarray) -> None:
        import faiss

        self.texts, self.vectors = texts, vectors
        self.faiss_index = faiss.IndexFlatIP(vectors.shape[1])
        self.faiss_index.add(vectors)

    def set_format(self, *_: Any, **__: Any) -> None:
        """Rows are numpy already."""

    def list_indexes(self) -> list[str]:
        return ["embeddings"]

    def search_batch(self, _: str, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        return self.faiss_index.search(queries, k)

    def __getitem__(self, rows: list[int]) -> dict[str, Any]:
        texts = [self.texts[row] for row in rows]
        return {"title": texts, "text": texts, "embeddings": self.vectors[rows]}


TEXTS = ["a", "b", "c"]
VECTORS = np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]], dtype=np.float32)
QUESTION = np.array([[-2.5, -1.5]], dtype=np.float32)
"""Away from every passage: inner products -2.5, -2.7 and -1.5, all below the phantoms' zero."""


@pytest.fixture
def transformers_retriever(monkeypatch: pytest.MonkeyPatch) -> Any:
    """RagRetriever and CustomHFIndex as they are; only the class of the dataset is a stand-in."""
    monkeypatch.setattr(retrieval_rag, "requires_backends", lambda *_: None)
    monkeypatch.setattr(retrieval_rag, "Dataset", StubDataset, raising=False)
    index = retrieval_rag.CustomHFIndex(VECTORS.shape[1], StubDataset(TEXTS, VECTORS))
    config = SimpleNamespace(n_docs=5, retrieval_batch_size=8)
    return retrieval_rag.RagRetriever(config, None, None, index=index)


def test_transformers_pads_a_short_result_with_phantoms(transformers_retriever: Any) -> None:
    """In a corpus of three it finds five: the last document twice more, as zero vectors with most of the prior."""
    vectors, ids, documents = transformers_retriever.retrieve(QUESTION, n_docs=5)
    scores = torch.from_numpy(vectors @ QUESTION[0])[0]  # as RagModel.forward
    assert ids[0].tolist() == [2, 0, 1, -1, -1]
    assert documents[0]["text"] == ["c", "a", "b", "c", "c"]
    assert scores.tolist() == pytest.approx([-1.5, -2.5, -2.7, 0.0, 0.0])
    assert scores.softmax(0)[3:].sum() > 0.8


@pytest.mark.parametrize("kind", ["exact", "faiss"])
def test_fewer_passages_than_k_are_fewer_components(kind: str) -> None:
    rows = np.arange(len(TEXTS), dtype=np.int64)
    index: Any = ExactIndex(rows, VECTORS) if kind == "exact" else build_faiss(rows, VECTORS)
    hits = index.search(QUESTION[0], 5)
    assert hits.rows.tolist() == [2, 0, 1]
    passages = [Passage(TEXTS[i], TEXTS[i], "d", "", 0, 1) for i in hits.rows]
    log_prior = torch.from_numpy(hits.inner_products).double().log_softmax(0)
    generator = TableGenerator(("a", "<end>"), lambda *_: torch.tensor([0.5, 0.5]))
    mixture = condition(generator, "?", passages, log_prior)
    assert [component.passages[0].text for component in mixture.components] == ["c", "a", "b"]
    weights = [math.exp(score) for score in (-1.5, -2.5, -2.7)]
    expected = [weight / sum(weights) for weight in weights]
    assert mixture.log_prior.exp().tolist() == pytest.approx(expected, abs=1e-6)


def theirs(pair: Both, end: int, tokens: int, beams: int = 1) -> list[int]:
    """Decoder start and answer as RagTokenForGeneration decodes them; its generate ignores max_new_tokens."""
    generator: Any = pair.mixture.generator
    start = generator.decoder_start
    return pair.rag.generate(
        **pair.inputs(),
        num_beams=beams,
        do_sample=False,
        length_penalty=0.0,
        decoder_start_token_id=start[0],
        forced_bos_token_id=start[1] if len(start) > 1 else None,
        forced_eos_token_id=None,
        eos_token_id=end,
        max_length=len(start) + tokens,
    )[0].tolist()


@pytest.mark.parametrize(
    ("kind", "start", "end"), [("bart", (EOS,), EOS), ("bart", (EOS, BOS), EOS), ("t5", (0,), 1)], ids=str
)
def test_greedy_rag_token_decoding_gives_the_same_tokens(kind: str, start: tuple[int, ...], end: int) -> None:
    distinct = []
    for seed in range(8):
        pair = both(kind, 1.0, seed, double=False, start=start)
        ours = [step.token for step in greedy(pair.mixture, 20)]
        assert theirs(pair, end, 20) == [*start, *ours]
        distinct.append(len(set(ours)))
    assert sum(distinct) > 2 * len(distinct), "answers that say something"


def test_greedy_answers_end_where_transformers_ends_them() -> None:
    ended = 0
    for seed in range(8):
        pair = both("bart", 1.0, seed, double=False, start=(EOS,))
        pair.rag.generator.final_logits_bias[0, EOS] = 3.0
        ours = [step.token for step in greedy(pair.mixture, 20)]
        assert theirs(pair, EOS, 20) == [EOS, *ours]
        ended += ours[-1] == EOS and 1 < len(ours) < 20
    assert ended >= 2


@pytest.mark.parametrize("beams", [2, 4, 7])
def test_beam_search_of_rag_token_gives_the_same_tokens(beams: int) -> None:
    """Of answers of equal length, with prompts shared between beams and packed weights."""
    changed = []
    for seed in range(8):
        pair = both("bart", 1.0, seed, double=False, start=(EOS,))
        pair.rag.generator.final_logits_bias[0, EOS] = -1e4
        plain: Any = pair.mixture.generator
        fast = with_shared_cross_attention(replace(plain, model=deepcopy(plain.model), stop_tokens=frozenset()))
        use_onednn_linears(fast.model)
        assert uses_shared_cross_attention(fast.model) and not uses_shared_cross_attention(plain.model)
        found = beam(replace(pair.mixture, generator=fast), beams, 12).answers[0].tokens
        assert theirs(pair, EOS, 12, beams) == [EOS, *found]
        changed.append(found != tuple(step.token for step in greedy(pair.mixture, 12)))
    assert sum(changed) >= 2, "beams that find something"

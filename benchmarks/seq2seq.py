"""Beam search of a seq2seq model over K passages, beside transformers' own RAG.

    python benchmarks/seq2seq.py [--only token|sequence|wide|beams|rows|products] [--rounds N]

Random weights of the shape of BART-base (six layers on each side, width 768, vocabulary 50,265), float32 for
both. The output layer is drawn wide, so distributions are peaked and no two answers nearly equal. Passages are
drawn with 150 to 300 tokens, padded to 300 for the peer, as its retriever gives them (``max_combined_length``), or
all with 200 and no padding. An answer has a fixed number of tokens: what ends it has probability e^-10000.

token: ``RagTokenForGeneration``, which must write identical tokens. sequence: ``RagSequenceForGeneration``
(thorough decoding), whose likelihood of an answer must be ours; wide: ours with as many rows of the decoder.
beams: seconds a token by the number of beams, as a picture. rows: log p(y|x) of both answers at equal rows of the
decoder, on a small model. products: the rate of matrix products of these shapes.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mixrag.generator import Prompt, PromptTemplate, Seq2SeqGenerator
from mixrag.generator.kernels.onednn_linear import OneDNNLinear, use_onednn_linears
from mixrag.generator.prompt_tokenizer import PromptTokenizer
from mixrag.generator.self_check import with_shared_cross_attention
from mixrag.inference.beam_search import beam
from mixrag.inference.components import Component
from mixrag.inference.mixture import Mixture
from side_by_side import Row, alternately, keep, seconds, show

BOS, PAD, EOS = 0, 1, 2
VOCABULARY = 50_265
BEAMS = 4
TOKENS = 16
"""Of an answer."""
EQUAL_ROWS = 24
"""Beams of one pass that take about as many rows of the decoder as thorough decoding with ``BEAMS`` (``rows``)."""
PICTURE = Path(__file__).parent.parent / "docs" / "measurements" / "pictures" / "seq2seq-beams.svg"


@dataclass(frozen=True)
class Contexts:
    """How long the contexts of a question are drawn, and to what length the peer's are padded."""

    shortest: int
    longest: int
    padded: int
    words: str


RETRIEVED = Contexts(150, 300, 300, "contexts of 150 to 300 tokens, the peer's padded to 300")
EQUAL = Contexts(200, 200, 200, "contexts of 200 tokens, none padded")


@dataclass(frozen=True)
class Question:
    """K contexts and the scores of their passages."""

    contexts: tuple[tuple[int, ...], ...]
    scores: Tensor
    """(K,)"""
    padded: int

    @classmethod
    def drawn(cls, seed: int, k: int, kind: Contexts) -> Question:
        source = torch.Generator().manual_seed(seed)
        lengths = torch.randint(kind.shortest, kind.longest + 1, (k,), generator=source).tolist()
        contexts = [tuple(torch.randint(4, VOCABULARY, (n,), generator=source).tolist()) for n in lengths]
        return cls(tuple(contexts), 2 * torch.randn(k, generator=source), kind.padded)

    def mixture(self, generator: Seq2SeqGenerator, switch: float) -> Mixture:
        components = tuple(Component((), Prompt((), context, ())) for context in self.contexts)
        return Mixture(generator, "", components, self.scores.double().log_softmax(0), switch, None)

    def inputs(self) -> dict[str, Tensor]:
        """As transformers' RAG takes them."""
        rows = torch.tensor([[*context, *[PAD] * (self.padded - len(context))] for context in self.contexts])
        attended = (rows != PAD).long()
        return {
            "context_input_ids": rows,
            "context_attention_mask": attended,
            "doc_scores": self.scores[None],
        }


@dataclass(frozen=True)
class Models:
    """One set of weights twice: ours as ``load_generator`` would make it, and as it is."""

    ours: Seq2SeqGenerator
    plain: Any

    @classmethod
    def drawn(cls, layers: int, width: int) -> Models:
        """A BART whose random weights say something, and end no answer."""
        from transformers import BartConfig, BartForConditionalGeneration

        torch.manual_seed(0)
        sizes = {"layers": layers, "attention_heads": width // 64, "ffn_dim": 4 * width}
        shape = {f"{side}_{part}": n for side in ("encoder", "decoder") for part, n in sizes.items()}
        config = BartConfig(vocab_size=VOCABULARY, d_model=width, tie_word_embeddings=False, **shape)
        model = BartForConditionalGeneration(config).eval()
        model.lm_head.weight.data.normal_(std=5 * width**-0.5)
        model.final_logits_bias[0, [BOS, PAD, EOS]] = -1e4
        for layer in model.model.decoder.layers:  # what is said must depend on single words of a passage
            for part in ("q_proj", "k_proj", "out_proj"):
                getattr(layer.encoder_attn, part).weight.data.mul_(4.0)
        tokens = PromptTokenizer(None, PromptTemplate(), 1024, keep_suffix=True)
        generator = Seq2SeqGenerator("bart", deepcopy(model), tokens, frozenset(), EOS, (EOS,))
        use_onednn_linears(generator.model)
        return cls(with_shared_cross_attention(generator), model)

    def rag(self, kind: str, k: int) -> Any:
        """transformers' RAG model of this kind; its question encoder is never run."""
        import transformers

        encoder = transformers.DPRConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
        make = transformers.RagConfig.from_question_encoder_generator_configs
        config = make(encoder, self.plain.config, n_docs=k)
        return getattr(transformers, kind)(config, generator=self.plain).eval()


def ours(models: Models, question: Question, switch: float, beams: int, tokens: int = TOKENS) -> list[int]:
    """The answer of one beam search over the mixture."""
    return [*beam(question.mixture(models.ours, switch), beams, tokens).answers[0].tokens]


def theirs(rag: Any, question: Question, beams: int, tokens: int = TOKENS) -> list[int]:
    """The answer of transformers' RAG, by the same rules: no penalty of length, none that ends early."""
    found = rag.generate(
        **question.inputs(),
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


def token(models: Models, rounds: int) -> Iterator[Row]:
    """Row 3: identical tokens, then the time of an answer."""
    rag = models.rag("RagTokenForGeneration", 10)
    for kind in (RETRIEVED, EQUAL):
        questions = [Question.drawn(seed, 10, kind) for seed in range(3)]
        for question in questions:
            agree(ours(models, question, 1.0, BEAMS), theirs(rag, question, BEAMS))
        yield alternately(
            "3 RAG-Token",
            f"K=10, {BEAMS} beams, {TOKENS} tokens, {kind.words}",
            ">= 2.5",
            timed(partial(ours, models, switch=1.0, beams=BEAMS), questions),
            timed(partial(theirs, rag, beams=BEAMS), questions),
            rounds,
        )


def agree(mine: list[int], other: list[int]) -> None:
    """Stop where they do not."""
    if len(set(mine)) < TOKENS // 2 or mine != other:
        raise SystemExit(f"expected equal answers that say something, found {mine} and {other}")


def timed(work: Callable[[Question], object], questions: Sequence[Question]) -> Callable[[], float]:
    """Seconds for one question after the other, at each call the next."""
    calls = iter(range(10**9))
    return lambda: seconds(lambda: work(questions[next(calls) % len(questions)]))


def sequence(models: Models, rounds: int) -> Iterator[Row]:
    """Row 4: the same likelihood of an answer, then the time of finding one."""
    for kind in (RETRIEVED, EQUAL):
        yield of_sequence(models, kind, BEAMS, rounds)


def wide(models: Models, rounds: int) -> Iterator[Row]:
    """Row 4 with as many rows of the decoder."""
    yield of_sequence(models, RETRIEVED, EQUAL_ROWS, rounds)


def of_sequence(models: Models, kind: Contexts, beams: int, rounds: int) -> Row:
    """One pass with so many beams beside thorough decoding with ``BEAMS``."""
    rag = models.rag("RagSequenceForGeneration", 5)
    questions = [Question.drawn(seed, 5, kind) for seed in range(2)]
    same_likelihood(models, rag, questions[0])
    return alternately(
        "4 RAG-Sequence",
        f"K=5, {beams} beams (peer {BEAMS}), {TOKENS} tokens, {kind.words}",
        ">= 10",
        timed(partial(ours, models, switch=0.0, beams=beams), questions),
        timed(partial(theirs, rag, beams=BEAMS), questions),
        rounds,
    )


def same_likelihood(models: Models, rag: Any, question: Question) -> None:
    """Stop where an answer's log p(y|x) is not the same in both."""
    answer = ours(models, question, 0.0, 1)
    with torch.no_grad():
        loss = rag(**question.inputs(), labels=torch.tensor([[EOS, *answer]]), exclude_bos_score=True).loss
    mine = question.mixture(models.ours, 0.0).score_tokens(answer).log_prob
    if not abs(mine + float(loss)) <= 1e-3:
        raise SystemExit(f"expected the same log p(y|x), found {mine} and {-float(loss)}")


@dataclass
class Rows:
    """Rows that a model's encoder and decoder compute; a decoder's row counts once for each token it reads."""

    encoder: int = 0
    decoder: int = 0

    @classmethod
    def counted(cls, model: Any, work: Callable[[], list[int]]) -> tuple[list[int], Rows]:
        """What ``work`` writes, and the rows of ``model`` that it takes."""
        rows = cls()

        def encoded(_: Any, args: Any, options: dict[str, Any]) -> None:
            rows.encoder += len(options["input_ids"] if "input_ids" in options else args[0])

        def decoded(_: Any, args: Any, options: dict[str, Any]) -> None:
            rows.decoder += options["input_ids"].numel()

        hooks = [
            model.get_encoder().register_forward_pre_hook(encoded, with_kwargs=True),
            model.model.decoder.register_forward_pre_hook(decoded, with_kwargs=True),
        ]
        try:
            return work(), rows
        finally:
            for hook in hooks:
                hook.remove()


def equal_rows(questions: int) -> None:
    """Row 4: log p(y|x) of the answers, ours with as many beams as thorough decoding's rows allow."""
    models = Models.drawn(layers=2, width=256)
    rag = models.rag("RagSequenceForGeneration", 5)
    drawn = [Question.drawn(seed, 5, EQUAL) for seed in range(questions)]
    same_likelihood(models, rag, drawn[0])
    outcomes = [at_equal_rows(models, rag, question) for question in drawn]
    print("| | mean log p(y given x) | better, equal, worse | encoder rows | decoder rows |\n|" + " --- |" * 5)
    for name in outcomes[0]:
        signs = [round(each[name].log_prob - each[THOROUGH].log_prob, 3) for each in outcomes]
        compared = f"{sum(s > 0 for s in signs)}, {sum(s == 0 for s in signs)}, {sum(s < 0 for s in signs)}"
        found, encoder, decoder = (
            fmean(column) for column in zip(*(each[name] for each in outcomes), strict=True)
        )
        print(f"| {name} | {found:.3f} | {compared} | {encoder:.0f} | {decoder:.0f} |")


THOROUGH = f"transformers, thorough, {BEAMS} beams"


class Outcome(NamedTuple):
    """An answer's log p(y|x), and the rows that it took to find it."""

    log_prob: float
    encoder: int
    decoder: int


def at_equal_rows(models: Models, rag: Any, question: Question) -> dict[str, Outcome]:
    """What thorough decoding finds, one pass with as many rows, and one pass with as many beams."""

    def outcome(model: Any, work: Callable[[], list[int]]) -> Outcome:
        answer, rows = Rows.counted(model, work)
        return Outcome(log_prob(question.mixture(models.ours, 0.0), answer), rows.encoder, rows.decoder)

    def one_pass(beams: int) -> Outcome:
        return outcome(models.ours.model, lambda: ours(models, question, 0.0, beams))

    thorough = outcome(models.plain, lambda: theirs(rag, question, BEAMS))
    k = len(question.contexts)
    equal = one_pass((thorough.decoder - k) // (k * (TOKENS - 1)))
    if equal.decoder > thorough.decoder:
        raise SystemExit(f"expected at most {thorough.decoder} rows of the decoder, found {equal.decoder}")
    return {THOROUGH: thorough, "one pass, equal rows": equal, f"one pass, {BEAMS} beams": one_pass(BEAMS)}


def log_prob(mixture: Mixture, answer: list[int]) -> float:
    """log p(y|x) of an answer, by whomever it was found."""
    return mixture.score_tokens(answer).log_prob


def by_beams(models: Models, rounds: int) -> Iterator[Row]:
    """Seconds of a token behind the first, for several numbers of beams; and the picture."""
    rag, question = models.rag("RagTokenForGeneration", 10), Question.drawn(0, 10, EQUAL)
    rows = []
    for beams in (1, 2, 4, 8):
        row = alternately(
            "3 RAG-Token, one token",
            f"K=10, {beams} beams, {EQUAL.words}",
            "",
            a_token(partial(ours, models, question, 1.0, beams)),
            a_token(partial(theirs, rag, question, beams)),
            rounds,
        )
        rows.append(row)
        yield row
    draw([1, 2, 4, 8], rows)


def a_token(work: Callable[[int], object]) -> Callable[[], float]:
    """What a further token costs: an answer of many tokens less one of a single token."""
    return lambda: (seconds(lambda: work(TOKENS + 1)) - seconds(lambda: work(1))) / TOKENS


def draw(beams: list[int], rows: Sequence[Row]) -> None:
    """Milliseconds of a token by the number of beams, as SVG."""
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.rcParams["svg.hashsalt"] = "mixrag"  # equal pictures are equal files
    figure = Figure(figsize=(5.5, 3.4), layout="constrained")
    axis = figure.subplots()
    lines = (
        ("transformers", "#D55E00", "--", "s", [row.peer for row in rows]),
        ("mixrag", "#0072B2", "-", "o", [row.ours for row in rows]),
    )
    for name, colour, line, marker, values in lines:
        axis.plot(beams, [1000 * v for v in values], line, color=colour, marker=marker, label=name)
    axis.set(xlabel="beams", ylabel="milliseconds a token", xticks=beams, ylim=(0, None))
    axis.legend()
    figure.savefig(PICTURE, format="svg", metadata={"Date": None})


def products() -> None:
    """Matrix products of the model's shapes: what the processor can do, which bounds all of the above."""
    print("| rows | inputs, outputs | torch, GFLOP/s | packed, GFLOP/s |\n|" + " --- |" * 4)
    for outputs in (768, 3072, VOCABULARY):
        plain = torch.nn.Linear(768, outputs)
        packed = deepcopy(plain)
        packed.__class__ = OneDNNLinear
        for rows in (10, 40, 512):
            read, operations = torch.randn(rows, 768), 2e-9 * rows * 768 * outputs
            rates = [f"{operations / best_of(partial(layer, read)):.0f}" for layer in (plain, packed)]
            print(f"| {rows} | 768, {outputs} | {' | '.join(rates)} |")


@torch.inference_mode()
def best_of(work: Callable[[], object], times: int = 15) -> float:
    """The shortest time of several, in seconds, after one that does not count."""
    work()
    return min(seconds(work) for _ in range(times))


def main() -> None:
    """Check, measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("token", "sequence", "wide", "beams", "rows", "products"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--questions", type=int, default=40, help="of the comparison at equal rows")
    options = parser.parse_args()
    parts = {"token": token, "sequence": sequence, "wide": wide, "beams": by_beams}
    chosen = [measure for name, measure in parts.items() if options.only in (None, name)]
    if chosen:
        models = Models.drawn(layers=6, width=768)
        for measure in chosen:
            for row in measure(models, options.rounds):
                show([row])
                keep([row])
    if options.only in (None, "rows"):
        equal_rows(options.questions)
    if options.only in (None, "products"):
        products()


if __name__ == "__main__":
    main()

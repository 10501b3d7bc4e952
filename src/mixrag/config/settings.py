"""The settings of the mixture: every system that mixrag can be is a point among them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator

from mixrag.config.filters import filter_of_options, filter_texts
from mixrag.config.sampling import sampling_of_options, sampling_settings
from mixrag.config.schema import (
    ASKING,
    WRITING,
    Count,
    CountOrNone,
    InnerShare,
    NotNegative,
    Score,
    Seed,
    Share,
    ShareBelowOne,
    Temperature,
    names_where,
    schema,
    setting,
)
from mixrag.config.values import Words, is_plain, one_of

Normaliser = Literal["top-k", "full"]
Weights = Literal["retriever", "uniform"]
AskedKind = Literal["auto", "span", "yes-no", "list", "extract"]
SwitchAt = Literal["token", "sentence"]
MaxTokens = Count | Literal["all"]
DecoderName = Literal["greedy", "sample", "beam", "thorough", "fast"]
DECODERS: tuple[DecoderName, ...] = get_args(DecoderName)


def _checked_decoder(value: Any) -> Any:
    """The name of a decoder, or an object that is one; values that can be neither are refused."""
    if value not in DECODERS and is_plain(value):
        raise ValueError("no decoder")
    return value


AnyDecoder = Annotated[
    Any, BeforeValidator(_checked_decoder), Words(f"{one_of(DECODERS)} or a Decoder", one_of(DECODERS))
]

Where = Annotated[Mapping[str, str], BeforeValidator(filter_texts), Words("a mapping of keys to conditions")]
"""A filter; every condition becomes the text that it means (``mixrag.config.filters``)."""


Sampling = Annotated[
    Mapping[str, float],
    BeforeValidator(sampling_settings),
    Words("a mapping of temperature, top_k or top_p to numbers"),
]


@schema
class Settings:
    """How a question is answered.

    RAG-Sequence is ``switch=0``, RAG-Token ``switch=1``; the concatenated prompt is ``group="all"``; the
    closed-book language model is ``k=0``; the exact mixture over the whole corpus is ``k="all"``.

    Raises:
        SettingError: a value of another type or outside its range, or a name that is not a setting.
    """

    k: CountOrNone | Literal["all"] = setting(
        default=5,
        help="Passages to retrieve; all = every one, 0 = none.",
        more="`all` takes the whole corpus as components (exact index only), 0 is the closed-book language model. "
        "`score` reads the components in batches; `ask` needs the key-value states of all of them at once.",
        commands=ASKING,
        shown_first=True,
        short="-k",
        calibrated=True,
        trained=True,
    )
    group: Count | Literal["all"] = setting(
        default=1,
        help="Passages in one prompt; all = all k.",
        more="In order of rank; `all` is concatenation.",
        commands=ASKING,
        calibrated=True,
        trained=True,
    )
    switch: Share = setting(
        default=0.0,
        help="Chance of another passage for each next token.",
        more="The probability ρ that the passage is drawn again between two tokens: 0 is "
        "RAG-Sequence, 1 RAG-Token.",
        commands=ASKING,
        shown_first=True,
        calibrated=True,
        trained=True,
    )
    switch_at: SwitchAt = setting(
        default="token",
        help="Where it may change: token or sentence.",
        more="Where the passage is drawn again with the probability `switch`: between any two tokens, or after "
        "each sentence of the answer, so that a sentence is of one passage. See "
        "[sentences](../background/mathematics.md#sentences).",
        commands=ASKING,
        calibrated=True,
        trained=True,
    )
    null: Score | None = setting(
        default=None,
        help="Score of a component that reads no passage.",
        more="On the scale of the passages' scores, inner product / T where `lexical` is 0. "
        "`--null none` removes that of a trained folder.",
        absent="none",
        commands=ASKING,
        none="none",
        calibrated=True,
        trained=True,
    )
    temperature: Temperature | None = setting(
        default=None,
        help="T of p(passage | question).",
        more="p(z given x) ∝ exp(d(z)·q(x) / T). The encoder's own is 0.045 for vectors of length "
        "one, 1 for others.",
        absent="the encoder's",
        commands=ASKING,
        calibrated=True,
        trained=True,
    )
    normaliser: Normaliser = setting(
        default="top-k",
        help="Prior sums to one over top-k, or full.",
        more="`full` is over all M passages of the store and needs exact search.",
        commands=ASKING,
        calibrated=True,
    )
    weights: Weights = setting(
        default="retriever",
        help="Prior: retriever, or uniform.",
        more="`uniform` gives equal prior to what is retrieved; its total stays, under `full` the share of "
        "what is retrieved.",
        commands=ASKING,
        calibrated=True,
    )
    max_outside: ShareBelowOne | None = setting(
        default=None,
        help="Adaptive k: most prior mass left to others.",
        more="The fewest passages that leave at most this prior mass to all others, and at most `k`; "
        "exact index only.",
        absent="fixed k",
        commands=ASKING,
        calibrated=True,
    )
    lexical: Share = setting(
        default=0.0,
        help="Weight of BM25 in the prior; packaged: 0.5.",
        more="λ of the score (1-λ) inner product / T + λ BM25 / T' of a passage, of which p(z given x) is the "
        "softmax; 0 is dense alone, 1 BM25 alone.",
        commands=ASKING,
        calibrated=True,
        trained=True,
    )
    lexical_temperature: Temperature = setting(
        default=1.0,
        help="Temperature T' of BM25 scores.",
        metavar="T",
        commands=ASKING,
        calibrated=True,
        trained=True,
    )
    typos: bool = setting(
        default=False,
        help="BM25 takes the nearest word for a misspelt one.",
        more="A word of the question that no passage has stands for the word of the corpus with the fewest slips: "
        "one, or two from eight letters on.",
        commands=ASKING,
        calibrated=True,
    )
    where: Where = setting(
        default={},
        help="Only such documents: KEY=VALUE, KEY>=VALUE.",
        repeat=True,
        read=filter_of_options,
        more="Keys are those of the metadata, `document` (or `file`: a path, a file name or a pattern such as "
        "`*/law/*`), `title` and `page`. A value is a text, a number, a range (`2019..2021`, `>=2020`, "
        "also of ISO dates) or a list, of which one must fit; the option may be repeated. See "
        "[filters](../how-to/filters.md).",
        absent="none",
        commands=(*ASKING, "clozes"),
        shown_first=True,
        metavar="KEY=VALUE",
    )
    copy: bool = setting(
        default=False,
        help="An answer is a stretch of its passage.",
        more="Each passage gives probability only to texts that occur in it, from word to word, and to the empty "
        "text; letter case counts, white space in a row is one space. A text that no passage has gets "
        "probability 0.",
        commands=ASKING,
        calibrated=True,
        trained=True,
    )
    empty_answer: bool = setting(
        default=False,
        help="An empty answer of the model means: not stated.",
        more="For a model that was trained to answer with nothing where a passage does not state it: the "
        "probability of that is shown, other answers are given that there is one. See "
        "[the empty answer](../background/mathematics.md#the-empty-answer). `--no-empty-answer` removes that of a "
        "trained folder.",
        commands=ASKING,
        calibrated=True,
        trained=True,
    )
    language_model_weight: InnerShare = setting(
        default=0.5,
        help="Weight of the language model beside spans.",
        more="w of p(y given x, z) = w p_LM(y given x, z) + (1-w) p_ext(y given x, z), where an extractive reader "
        "is mixed with the language model (`--generator both`); a trained folder has it fitted. See "
        "[two generators](../background/mathematics.md#two-generators).",
        commands=("score", "decide", "eval", "guarantee"),
        calibrated=True,
        trained=True,
    )
    question_likelihood: NotNegative = setting(
        default=0.0,
        help="Power β of p(question | passage) in the prior.",
        metavar="β",
        more="The prior becomes p(z given x) · p(x given z)^β, divided so that its total stays; 0 leaves that of "
        "the retriever. Causal language models alone have p(x given z): they read the question after the passage. "
        "Training leaves it out. See "
        "[the second look at the prior](../background/mathematics.md#the-second-look-at-the-prior), also for how "
        "it is fitted.",
        commands=(*WRITING, "score", "decide"),
        calibrated=True,
        trained=True,
    )
    kind: AskedKind = setting(
        default="span",
        help="auto, span, yes-no, list or extract.",
        more="What kind of answer is given: a `span` that the language model writes; `yes-no`, of which both are "
        "scored; a `list`, the span with the other items of its enumeration; an `extract` of the best sentences, "
        "which no language model writes. `auto` takes it from the wording of the question. "
        "Training and evaluation, which compare with short answers, take `auto` as `span`; a guarantee leaves out "
        "the questions that `auto` answers in another kind.",
        commands=("ask", "serve", "mcp", "chat", "score", "guarantee"),
        trained=True,
    )
    decoder: AnyDecoder = setting(
        default="greedy",
        help="greedy, sample or beam; thorough, fast.",
        more="`greedy`, `sample` and `beam` are exact and take one pass; `thorough` and `fast` are "
        "the paper's, for comparison. "
        "In Python also an object with the methods of `Decoder`. A trained folder may bring one: "
        "the packaged reader brings `beam`.",
        commands=WRITING,
        trained=True,
        calibrated=True,
    )
    beams: Count = setting(
        default=4, help="Width of beam, thorough and fast.", commands=WRITING, trained=True, calibrated=True
    )
    max_tokens: MaxTokens = setting(
        default=64,
        help="Longest answer in tokens, or all.",
        more="`all`: to the end of the answer, or of the model's context, a quarter of which the passages then "
        "leave to it. See [long answers](../how-to/long-answers.md#to-the-end).",
        commands=ASKING,
    )
    seed: Seed = setting(
        default=0,
        help="Seed of all random choices.",
        more="Of `sample`: equal seeds and settings draw equal answers. Also of training and evaluation.",
        commands=(*ASKING, "clozes", "calibrate"),
    )
    samples: CountOrNone = setting(
        default=0,
        help="Further answers, drawn by chance.",
        more="Drawn from p(y given x), in addition to the answers of `greedy`, `sample` or `beam`: equal "
        "ones add to the answer's mass.",
        commands=WRITING,
        calibrated=True,
    )
    sampling: Sampling = setting(
        default={},
        help="temperature=T, top_p=P, top_k=N of sample.",
        repeat=True,
        read=sampling_of_options,
        more="How a token is drawn from the next-token distribution of the mixture: divided by a temperature, "
        "then of the `top_k` most probable tokens, then of the fewest that reach the probability `top_p`. For "
        "`sample`, and the further answers of `samples`. See [sampling](../how-to/long-answers.md#sampling).",
        absent="none",
        commands=WRITING,
        metavar="K=V",
        calibrated=True,
    )
    prune: ShareBelowOne = setting(
        default=1e-3,
        help="Total variation for dropping passages.",
        more="0 drops none. `greedy` and `sample` drop passages whose posterior has become negligible, and read "
        "them once at the end: the probability is that of the whole mixture. With `engine` `openvino` none is "
        "dropped.",
        commands=WRITING,
    )
    abstain_below: Share | None = setting(
        default=None,
        help="Least confidence of an answer; 0 = answer always.",
        absent="the calibration's",
        commands=WRITING,
    )
    guaranteed_only: bool = setting(
        default=False,
        help="Withhold answers that no guarantee covers.",
        more="See [guarantee](../how-to/guarantee.md).",
        commands=WRITING,
    )


CALIBRATED = names_where(Settings, lambda declared: declared.calibrated)
"""Settings that change what probabilities mean: a calibration of the confidence applies to one value of each."""
TRAINED = names_where(Settings, lambda declared: declared.trained)
"""Settings that a trained folder may hold: fitted, or part of what was fitted."""


def trained_settings(settings: Settings) -> dict[str, Any]:
    """The settings that a trained folder records; None, and a decoder that is an object, are left out."""
    found = {name: getattr(settings, name) for name in TRAINED}
    plain = (str, int, float)
    return {name: value for name, value in found.items() if isinstance(value, plain)}

"""What an answer consists of. Every number in it has a stated definition.

``AnswerFields`` is the data. ``Answer`` (answer.py) adds what is computed from it: explanation, HTML page, JSON.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from mixrag.answers.confidence import Confidence
from mixrag.answers.guarantee import Coverage
from mixrag.answers.kinds import Kind
from mixrag.answers.signals import Signals
from mixrag.config.settings import SwitchAt
from mixrag.corpus import Scalar
from mixrag.generator import Shortened
from mixrag.inference.contributions import Contribution
from mixrag.inference.mixture import ScoredAnswer


@dataclass(frozen=True, slots=True, repr=False)
class AnswerPassage:
    """A passage behind an answer, with its weights before and after the answer is known."""

    id: str
    """Stable over re-indexing."""
    document: str
    """Absolute path of the source; '#record' is appended for a record of a file."""
    page: int | None
    """Page or slide of the document where the passage begins, from 1; None where it has none."""
    title: str
    text: str
    start: int
    """Offset of the first character in the document's extracted text."""
    end: int
    """Offset after the last character."""
    metadata: Mapping[str, Scalar] = field(hash=False)
    prior: float
    """p(z | x), as retrieved."""
    posterior: float
    """Posterior of the component that it is part of: the expected share of the answer's tokens which it wrote
    (at switch 0, the probability that it wrote the answer), among the passages listed. Members of one group
    share their component's."""
    inner_product: float
    """d(z)·q(x), from which the prior comes."""
    place: str = ""
    """The page in words, or the sheet or section: "page 12", "sheet Fees"; empty where the document has none."""
    context: str = ""
    """Headings above the passage, and the caption of its table, which the models read before it."""
    p_empty: float | None = None
    """p(∅ | x, z): the probability that its component states no answer; None without ``empty_answer``."""
    reweighted_prior: float | None = None
    """The prior times p(x | z)^β of its component, divided so that the total stays; None where β is 0
    (``question_likelihood``) or there is one component."""
    log_question_likelihood: float | None = None
    """log p(x | z), in nats: the whole question after its component's passages; None as ``reweighted_prior``."""

    def __repr__(self) -> str:
        """Where it is from, its weights, and how it begins."""
        begins = self.text if len(self.text) <= 40 else f"{self.text[:39]}…"
        weights = f"prior={self.prior:.4g}, posterior={self.posterior:.4g}"
        return f"AnswerPassage({self.document!r}, {self.start}:{self.end}, {weights}, {begins!r})"


@dataclass(frozen=True, slots=True)
class AnswerToken:
    """A token of the answer and who wrote it."""

    text: str
    log_prob: float
    """log p(token | question, tokens before)."""
    responsibility: tuple[float, ...]
    """For each passage, p(its component wrote this token | question, answer)."""
    null: float
    """The same for the null component."""


@dataclass(frozen=True, slots=True)
class WrittenSentence:
    """A sentence of the answer and who wrote it."""

    text: str
    """Without the white space around it."""
    start: int
    """Position of its first token among ``AnswerFields.tokens``."""
    end: int
    """Position after its last token."""
    posterior: tuple[float, ...]
    """For each passage, the expected share of the sentence's tokens that its component wrote, given the question
    and the whole answer: the mean of their ``responsibility``. With ``switch_at`` "sentence", and at switch 0, one
    component writes all of a sentence, and this is the probability that it was this one."""
    null: float
    """The same for the null component."""


@dataclass(frozen=True, slots=True)
class AnswerItem:
    """One item of a list, or one of yes and no."""

    text: str
    probability: float | None
    """Of a list: Σ p(y | question) over the answers found that are equal to it once normalised; None where it is
    not among them (an extractive reader knows all of them). Of yes and no: p(y | question), divided by the sum of
    both."""
    passage: str | None = None
    """Id of the passage that it stands in; None for yes and no."""
    start: int | None = None
    """Offset of its first character in the document's extracted text."""
    end: int | None = None
    """Offset after its last character."""


@dataclass(frozen=True, slots=True)
class AnswerSentence:
    """One sentence of an extract."""

    text: str
    """White space in a row is one space."""
    passage: str
    """Id of its passage."""
    document: str
    page: int | None
    """Page or slide where its passage begins, from 1; None where there is none."""
    place: str
    """The same in words; empty where the document has none."""
    start: int
    """Offset of its first character in the document's extracted text."""
    end: int
    """Offset after its last character."""
    probability: float
    """p(sentence | question, one of the passages listed is right), summed over the places of sentences that are
    equal once normalised; those of all sentences of these passages add up to one (``read_sentences.py``)."""


@dataclass(frozen=True, repr=False)
class AnswerFields:
    """An answer, its probability, and the passages behind it."""

    question: str
    best_guess: str
    """The text of the answer, whether or not it is withheld; see ``text``."""
    log_prob: float
    """log p(answer, and its end | question) in nats, under the mixture that ``normaliser`` names; with
    ``empty_answer`` given that an answer is stated, as are ``log_bounds``, ``log_mass`` and all posteriors."""
    normaliser: str
    """"top-k": the prior sums to one over the passages listed (and null). "full": over the whole corpus, and
    ``log_prob`` is the part of these passages."""
    temperature: float
    """T in p(z | x) ∝ exp(inner product / T)."""
    switch: float
    """ρ."""
    passages: tuple[AnswerPassage, ...]
    """In order of rank."""
    tokens: tuple[AnswerToken, ...]
    """Their texts join to ``best_guess``."""
    null_prior: float | None
    """Prior of the null component, as retrieved; None where there is none."""
    null_posterior: float | None
    """Its posterior."""
    outside: float | None
    """Prior mass, under the full normaliser, of all passages not listed; None where it is unknown (approximate
    search, uniform weights)."""
    log_bounds: tuple[float, float] | None
    """Bounds on log p(answer | question) under the mixture of all passages (that the filter lets through), without
    ``rounding``; None where ``outside`` is unknown, or where a group was cut short by k."""
    finished: bool
    """False where the answer was cut off at max_tokens."""
    signals: Signals
    """What its confidence is computed from."""
    confidence: Confidence | None
    """Calibrated probability that the answer is right; of a list, its span. None where no calibration applies,
    where the answer is cut off, and for yes or no and extracts: it is fitted on what a language model writes."""
    uncalibrated: str | None
    """What has changed since the calibration was fitted, which is why there is no confidence. None where nothing
    has, where there is no calibration, and for yes or no and extracts, to which none applies in any case."""
    certified: bool | None
    """Beam search: True if no answer is more probable, also without ``rounding``. None for decoders that do not
    determine it."""
    pruned: float
    """Total variation spent on passages dropped while it was written; 0 where none was. Every answer spends at
    most ``Settings.prune``, which therefore bounds how far the distribution of answers is from the mixture's. All
    other numbers are the mixture's own."""
    shortened: tuple[Shortened, ...]
    """Passages that the model could not read to their end."""
    effective_prior: float
    """e^H of the prior over components, as retrieved: how many passages it spreads over."""
    effective_posterior: float
    """e^H of the posterior over components."""
    scored: ScoredAnswer = field(compare=False)
    """The likelihood table, for further questions."""
    outside_bounds: tuple[float, float] | None = None
    """Bounds on ``outside`` where approximate search leaves it unknown; always valid. None elsewhere."""
    guarantee: Coverage | None = None
    """What a guarantee says of answers as sure as this one; None where none covers it."""
    not_covered: str | None = None
    """Why the guarantee that there is does not cover it, in words; None where it does, or there is none."""
    p_empty: float | None = None
    """p(∅ | question): the probability that the passages listed (and null) state no answer; under the full
    normaliser with k < M their part of it, to which the others add at most ``outside``. None without
    ``empty_answer``. Of an extract it is what the language model says of the same passages: nothing is given ≠∅,
    and nothing withheld for it."""
    p_empty_within: float | None = None
    """p(∅ | question, one of the passages listed, or null, is the one): ``p_empty`` divided by their prior mass.
    The same under both normalisers. None without ``empty_answer``."""
    empty_bounds: tuple[float, float] | None = None
    """Bounds on p(∅ | question) under the mixture of all passages: that part alone, and with all of ``outside``.
    None without ``empty_answer``, and as ``log_bounds``."""
    empty_threshold: float | None = None
    """Without a confidence, the answer is withheld where ``p_empty_within`` reaches this; None: it is not."""
    question_likelihood: float = 0.0
    """β: where it is above 0, posteriors and all probabilities of answers are under the reweighted prior."""
    null_reweighted_prior: float | None = None
    """As ``AnswerPassage.reweighted_prior``, of the null component."""
    guaranteed_only: bool = False
    """Withheld unless a guarantee covers it."""
    kind: Kind = "span"
    """"span": what the language model wrote. "yes-no": the more probable of both. "list": a span that is one item
    of an enumeration, or the whole. "extract": the best sentences; no language model wrote them, and ``log_prob``
    is the logarithm of the sum of their probabilities, given that one of the passages listed is right
    (``normaliser`` "top-k", no null component). It has no confidence."""
    items: tuple[AnswerItem, ...] = ()
    """Of a list, in the order of the text; of "yes-no", the answer and the other one."""
    sentences: tuple[AnswerSentence, ...] = ()
    """Of an extract, in reading order."""
    written_sentences: tuple[WrittenSentence, ...] = ()
    """The sentences of ``best_guess`` with the passages that they come from; none of an extract. The end of the
    answer, and marks without a letter or digit between two sentences, are in none of them."""
    switch_at: SwitchAt = "token"
    """Where the passage may change with probability ``switch``: between two tokens, or after a sentence."""
    generators: Mapping[str, Contribution] | None = field(default=None, hash=False)
    """What the language model and the extractive reader each contribute to ``best_guess`` (to the span of a list),
    where the generator is a mixture of both; None where there is but one."""
    rounding: float | None = 0.0
    """How far the log-odds of a token may be from those that the language model has in float32, by measurement
    (docs/reference/models.md#rounding); certificates and bounds allow for it. 0 in float32.
    None for a model behind a server: certificates and bounds are about the numbers that it returned, and what it
    rounded is not known."""
    log_interval: tuple[float, float] | None = None
    """Between what ``log_prob`` lies without ``rounding``; None where there is none."""
    notices: tuple[str, ...] = ()
    """What must be known to read these numbers, one line each: a shard that did not answer, and the most prior
    mass that its passages may have; passages that are in several shards."""

    log_drawn: float | None = None
    """With decoder "sample", the log-probability with which this answer was drawn: under ``Settings.sampling``,
    among the passages not dropped by each token. Without either it is ``log_prob``, which never depends on them.
    None elsewhere."""

    @property
    def text(self) -> str | None:
        """The answer; None where it is withheld (``abstains``). ``best_guess`` has the text in either case.

        Of a list all its items; ``best_guess`` and all numbers are then of the span that the language model wrote.
        """
        if self.abstains:
            return None
        return ", ".join(item.text for item in self.items) if self.kind == "list" else self.best_guess

    @property
    def log_mass(self) -> float:
        """log Σ p(y | question) over this answer and the decoder's further answers that are equal to it
        once normalised; with greedy and sample, ``log_prob``.
        """
        return self.signals.log_mass

    @property
    def support(self) -> float:
        """Largest inner product of the question with a passage listed; 0 where there is none."""
        return self.signals.support

    @property
    def probability(self) -> float:
        """p(answer | question)."""
        return math.exp(self.log_prob)

    @property
    def abstains(self) -> bool:
        """True where ``best_guess`` is a guess, and no answer.

        The confidence is below its threshold, or there is none and the documents do not seem to state an answer;
        or only answers that a guarantee covers are wanted, and none covers this one.
        """
        if self.guaranteed_only and self.guarantee is None:
            return True
        return self.seems_unstated if self.confidence is None else self.confidence.abstains

    @property
    def seems_unstated(self) -> bool:
        """True where ``p_empty_within`` reaches its threshold: as probably as not, what was read states nothing.

        Whether the passages outside state an answer is not known, and counts neither way.
        """
        empty, threshold = self.p_empty_within, self.empty_threshold
        return empty is not None and threshold is not None and empty >= threshold

    def __repr__(self) -> str:
        """The text, its probability, its confidence, and the number of passages."""
        text = f"withheld, best_guess={self.best_guess!r}" if self.abstains else repr(self.text)
        sure = "" if self.confidence is None else f", confidence={self.confidence.value:.4g}"
        return f"Answer({text}, probability={self.probability:.4g}{sure}, {len(self.passages)} passages)"

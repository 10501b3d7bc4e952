"""An answer under way: tokens as they are decided, then the whole answer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mixrag.answers.answer import Answer, TextPieces, build_answer, holders
from mixrag.answers.confidence import Judge
from mixrag.config.settings import Settings
from mixrag.inference.decoders import DecodedToken, SearchResult, beam, fast, greedy, sample, scored, thorough
from mixrag.inference.mixture import Mixture, ScoredAnswer
from mixrag.inference.pruning import Pruning
from mixrag.retrieval.retriever import Retrieval


@dataclass(frozen=True, slots=True)
class StreamedToken:
    """A token of an answer under way."""

    text: str
    log_prob: float
    """log p(token | question, tokens before), over the passages not dropped by then (``prune``)."""
    posterior: tuple[float, ...]
    """For each passage in order of rank, p(its component is writing | question, answer so far); where a decoder
    decides on whole answers, given the whole answer."""


class Stream:
    """Iterate over the tokens of an answer; ``answer`` is the whole of it.

    Greedy and sampled answers appear token by token; the other decoders decide on whole answers, whose tokens
    come all at once.
    """

    def __init__(
        self,
        mixture: Mixture,
        retrieval: Retrieval,
        settings: Settings,
        judge: Judge | None = None,
    ) -> None:
        self.mixture = mixture
        self.retrieval = retrieval
        self.settings = settings
        self.judge = judge
        self._answer: Answer | None = None
        self._tokens = self._run()

    def __iter__(self) -> Iterator[StreamedToken]:
        """The tokens not yet taken."""
        return self._tokens

    @property
    def may_abstain(self) -> bool:
        """True where the answer may yet be withheld, once its confidence is known."""
        return self.judge is not None and self.judge.differs is None and self.judge.threshold > 0

    @property
    def answer(self) -> Answer:
        """The finished answer; takes the tokens that are left."""
        for _ in self._tokens:
            pass
        assert self._answer is not None  # _run sets it before it ends
        return self._answer

    def _run(self) -> Iterator[StreamedToken]:
        if self.settings.decoder in ("greedy", "sample"):
            yield from self._stepwise()
        else:
            yield from self._searched()

    def _stepwise(self) -> Iterator[StreamedToken]:
        pieces, taken, held = TextPieces(self.mixture.generator), list[DecodedToken](), holders(self.mixture)
        pruning = Pruning(self.settings.prune)
        for step in self._steps(pruning):
            taken.append(step)
            last = step.token in self.mixture.generator.stop_tokens or len(taken) == self.settings.max_tokens
            posterior = step.posterior.tolist()
            per_passage = tuple(posterior[j] for j in held)
            yield StreamedToken(pieces.add(step.token, last=last), step.log_prob, per_passage)
        whole = scored(self.mixture, taken, pruning)
        self._answer = build_answer(
            whole,
            self.retrieval,
            self.settings,
            found=self._sampled(),
            judge=self.judge,
            pruned=pruning.spent,
        )

    def _sampled(self) -> list[ScoredAnswer]:
        """Further answers drawn from the mixture, by the seeds after the answer's own."""
        limit, first = self.settings.max_tokens, self.settings.seed + 1
        return [self._drawn(limit, seed) for seed in range(first, first + self.settings.samples)]

    def _drawn(self, limit: int, seed: int) -> ScoredAnswer:
        pruning = Pruning(self.settings.prune)
        return scored(self.mixture, list(sample(self.mixture, limit, seed, pruning)), pruning)

    def _steps(self, pruning: Pruning) -> Iterator[DecodedToken]:
        if self.settings.decoder == "greedy":
            return greedy(self.mixture, self.settings.max_tokens, pruning)
        return sample(self.mixture, self.settings.max_tokens, self.settings.seed, pruning)

    def _searched(self) -> Iterator[StreamedToken]:
        found = self._search()
        certified = found.certified if self.settings.decoder == "beam" else None
        answer = build_answer(
            found.answers[0],
            self.retrieval,
            self.settings,
            certified=certified,
            found=found.answers,
            judge=self.judge,
        )
        for token in answer.tokens:
            yield StreamedToken(token.text, token.log_prob, token.responsibility)
        self._answer = answer

    def _search(self) -> SearchResult:
        decode = {"beam": beam, "thorough": thorough, "fast": fast}[self.settings.decoder]
        return decode(self.mixture, self.settings.beams, self.settings.max_tokens)

"""An answer under way: tokens as they are decided, then the whole answer."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from mixrag.answers.answer import Answer, TextPieces, answer_of, empty_threshold
from mixrag.answers.applied_calibration import AppliedCalibration
from mixrag.answers.in_kind import Complete
from mixrag.config.settings import Settings
from mixrag.errors import PluginError, StreamClosedError
from mixrag.inference.length import longest_answer
from mixrag.inference.mixture import Mixture
from mixrag.inference.protocol import DecodedToken, Decoder, DecoderResult
from mixrag.retrieval.retriever import Retrieval
from mixrag.utils.cancellation import Cancellation


@dataclass(frozen=True, slots=True)
class StreamedToken:
    """A token of an answer under way."""

    text: str
    log_prob: float
    """log p(token | question, tokens before), over the passages not dropped by then (``prune``)."""
    posterior: tuple[float, ...]
    """For each passage in order of rank, p(its component is writing | question, answer so far); where a decoder
    decides on whole answers, given the whole answer."""


class Stream(Iterator[StreamedToken]):
    """Iterate over the tokens of an answer; ``answer`` is the whole of it.

    Greedy and sampled answers appear token by token; decoders that do not stream decide on whole answers, whose
    tokens come all at once. An error ends the stream: iterating again and ``answer`` raise the same error.
    """

    def __init__(
        self,
        mixture: Mixture,
        retrieval: Retrieval,
        settings: Settings,
        decoder: Decoder,
        calibration: AppliedCalibration | None = None,
        complete: Complete | None = None,
    ) -> None:
        self.mixture = mixture
        self.retrieval = retrieval
        self.settings = settings
        self.decoder = decoder
        self.calibration = calibration
        self._complete = complete
        self._answer: Answer | None = None
        self._error: BaseException | None = None
        self._closed = False
        self._running = threading.Lock()
        self._cancellation = Cancellation()
        self._tokens = self._run()

    def __iter__(self) -> Self:
        """The tokens not yet taken."""
        return self

    def __next__(self) -> StreamedToken:
        """The next token.

        Raises:
            StreamClosedError: ``close`` was called before the answer ended.
        """
        with self._running:
            if self._error is not None:
                raise self._error
            if self._closed and self._answer is None:
                raise self._closed_error()
            try:
                return self._cancellation.run(next, self._tokens)
            except StopIteration:
                raise
            except BaseException as error:
                self._error = error
                raise
            finally:
                if self._closed:
                    self._tokens.close()

    @property
    def may_abstain(self) -> bool:
        """True where the finished answer may be withheld, so that its tokens should not be shown before.

        Its confidence decides; where it has none (no calibration holds, it was cut off, it is yes or no)
        ``p_empty_within`` does; with ``guaranteed_only``, whether a guarantee covers it. See ``Answer.abstains``.
        """
        calibration = self.calibration
        judged = calibration is not None and calibration.may_abstain
        return judged or self.settings.guaranteed_only or empty_threshold(self.settings) is not None

    @property
    def ended(self) -> bool:
        """True where no token will come: the answer is whole, an error ended it, or it was closed."""
        return self._answer is not None or self._error is not None or self._closed

    @property
    def answer(self) -> Answer:
        """The finished answer; takes the tokens that are left.

        Raises:
            MixragError: the error that ended the stream, whatever its kind.
            StreamClosedError: ``close`` was called before the answer ended.
        """
        if self._answer is None:
            for _ in self:
                pass
        if self._answer is None:  # the last token came, and the stream was closed before what follows it
            raise self._closed_error()
        return self._answer

    def close(self) -> None:
        """End the stream after the token that is being decided, and let go of what it holds in memory.

        Requests to a server of language models, and to shards, end at once.
        May be called from another thread, more than once, and after the end, where it changes nothing.
        """
        self._closed = True
        self._cancellation.cancel()
        if self._running.acquire(blocking=False):
            try:
                self._tokens.close()
            finally:
                self._running.release()

    def __enter__(self) -> Self:
        """For ``with rag.stream(...) as stream``."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the stream."""
        self.close()

    def _closed_error(self) -> StreamClosedError:
        return StreamClosedError("a stream that was read to its end", "one closed before it", "ask again")

    def _run(self) -> Generator[StreamedToken, None, None]:
        decoder = self.decoder
        pieces, components = TextPieces(self.mixture.generator), self.mixture.component_of_passage
        count, result = 0, None
        longest = longest_answer(self.settings.max_tokens, self.mixture)
        for each in decoder.decode(self.mixture, longest):
            if isinstance(each, DecoderResult):
                result = each
            elif isinstance(each, DecodedToken) and decoder.streams:
                count += 1
                last = each.token in self.mixture.generator.stop_tokens or count == longest
                posterior = each.posterior.tolist()
                per_passage = tuple(posterior[j] for j in components)
                yield StreamedToken(pieces.add(each.token, last=last), each.log_prob, per_passage)
        if result is None:
            expected = f"a DecoderResult as the last item of {type(decoder).__name__}.decode"
            raise PluginError(expected, "none", "see the how-to on Decoder in the documentation")
        answer = answer_of(result, self.retrieval, self.settings, self.calibration)
        if self._complete is not None:
            answer = self._complete(answer, result)
        if not decoder.streams:
            for token in answer.tokens:
                yield StreamedToken(token.text, token.log_prob, token.responsibility)
        self._answer = answer

"""Finding out what a server can return, by asking it for a few tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mixrag.errors import ModelError, ServerError
from mixrag.generator.protocol import Written
from mixrag.generator.remote.client import Refused, reason_of
from mixrag.generator.remote.completions import refused_for_number
from mixrag.generator.remote.engine import Engine
from mixrag.generator.tokenizer import SAMPLES
from mixrag.probability import Listed

COUNTS = (20, 5, 1, 0)
"""Numbers of listed tokens that are asked for, until one is not refused."""
MOST_DIFFERENCE = 0.5
"""Of the log-probability of one token, written and given: the order of additions differs, the model does not."""


@dataclass(frozen=True, slots=True)
class Probed:
    """What the probe found."""

    engine: Engine
    """As it scores."""
    given_text: bool
    top: int
    reason: str = ""
    listed: bool = False
    """Whether it lists next tokens after any answer begun."""


class Changing(ServerError):
    """The server gives one token two probabilities."""


def probe(engine: Engine, row: tuple[int, ...]) -> Probed:
    """Let the server continue a row by a few tokens, and score what it wrote.

    Raises:
        ServerError: it cannot be reached, is busy, or lets nobody in.
    """
    try:
        written, top = _written(engine, row)
    except ServerError as error:
        return Probed(engine, False, 0, reason_of(error))
    scoring: Engine | None = engine
    reason = ""
    while scoring is not None:
        try:
            _compare(scoring, row, written, top)
        except Changing as error:
            return Probed(engine, False, 0, reason_of(error))
        except ServerError as error:
            reason = reason or reason_of(error)
            scoring = scoring.other()
        else:
            return Probed(scoring, True, top, listed=top > 0)
    try:
        if top > 1:
            _continue(engine, row, written, top)
            return Probed(engine, False, top, reason, listed=True)
    except ServerError as error:
        reason = reason_of(error)
    return Probed(engine, False, top, reason)


def check_tokenizer(
    tokenize: Callable[[str], tuple[int, ...] | None], own: Callable[[Sequence[str]], Sequence[tuple[int, ...]]]
) -> bool:
    """Compare how server and tokenizer split some texts; False where the server does not say.

    Raises:
        ModelError: they differ.
    """
    for text, tokens in zip(SAMPLES, own(SAMPLES), strict=True):
        found = tokenize(text)
        if found is None:
            return False
        # An echo may begin with a special token that was not asked for.
        if tuple(tokens) not in (found, found[1:]):
            expected = f"the server's tokenizer, which makes {len(found)} tokens of {text!r}"
            remedy = "give the tokenizer of the model that the server runs (--tokenizer)"
            raise ModelError(expected, f"one that makes {len(tokens)}, or other ones", remedy)
    return True


def _written(engine: Engine, row: tuple[int, ...]) -> tuple[Written, int]:
    for count in COUNTS:
        try:
            written = engine.write([row], 3, count)[0]
        except Refused as error:
            if count == COUNTS[-1] or not refused_for_number(error):
                raise
            continue
        if not written.tokens or len(written.known) != len(written.tokens):
            raise ServerError("tokens with their log-probabilities", "none", "use another server")
        return written, min(count, *(len(each.log_probs) for each in written.known))
    raise AssertionError("unreachable")


def _compare(engine: Engine, row: tuple[int, ...], written: Written, top: int) -> None:
    read = engine.read([(*row, *written.tokens)], [len(written.tokens)], top)[0]
    for token, before, after in zip(written.tokens, written.known, read, strict=True):
        _same(token, before, after)


def _continue(engine: Engine, row: tuple[int, ...], written: Written, top: int) -> None:
    """An answer begun is continued as the server itself continued it."""
    for t, token in enumerate(written.tokens):
        again = engine.write([(*row, *written.tokens[:t])], 1, top)[0]
        if again.known:
            _same(token, written.known[t], again.known[0])


def _same(token: int, one: Listed, other: Listed) -> None:
    difference = abs(one.log_probs[token] - other.upper(token))
    if difference > MOST_DIFFERENCE:
        expected = "one log-probability of a token, however the server is asked for it"
        raise Changing(expected, f"two that differ by {difference:.2g}", "use another server")

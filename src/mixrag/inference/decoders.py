"""The decoders that come with mixrag, as objects with their options, and the names that settings know them by."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, ClassVar, cast

from mixrag.config.settings import Settings
from mixrag.errors import SettingError
from mixrag.inference.batch import greedy_in_batches
from mixrag.inference.beam_search import beam, fast, thorough
from mixrag.inference.beams_together import beams_in_batches
from mixrag.inference.mixture import Mixture, ScoredAnswer
from mixrag.inference.protocol import BatchDecoder, DecodedToken, Decoder, DecoderResult
from mixrag.inference.pruning import Pruning
from mixrag.inference.stepwise import greedy, sample, scored
from mixrag.utils.plugins import check_plugin


@dataclass(frozen=True, slots=True)
class Greedy:
    """The most probable next token of the mixture, until an answer ends."""

    prune: float = 1e-3
    """Total variation that may be spent on dropping components; 0: none is dropped."""
    samples: int = 0
    """Further answers drawn from p(y | x)."""
    seed: int = 0
    """Further answers are drawn with the seeds after this one."""
    streams: ClassVar[bool] = True
    certifies: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Raises ``SettingError`` for an option outside its range."""
        _check_stepwise(self.prune, self.samples)

    @property
    def batches(self) -> bool:
        """See ``Decoder.batches``: where no further answers are drawn."""
        return self.samples == 0

    def decode(self, mixture: Mixture, max_tokens: int) -> Iterator[DecodedToken | DecoderResult]:
        """See ``Decoder.decode``."""
        pruning, steps = Pruning(self.prune), list[DecodedToken]()
        for step in greedy(mixture, max_tokens, pruning):
            steps.append(step)
            yield step
        yield _with_samples(scored(mixture, steps, pruning), pruning, max_tokens, self.samples, self.seed)

    def decode_batch(self, mixtures: Sequence[Mixture], max_tokens: int) -> Iterator[DecoderResult]:
        """See ``BatchDecoder.decode_batch``."""
        for answer, pruned in greedy_in_batches(mixtures, max_tokens, self.prune):
            yield DecoderResult((answer,), pruned=pruned)


@dataclass(frozen=True, slots=True)
class Sample:
    """Answers drawn from p(y | x) itself, one token at a time; equal seeds give equal answers."""

    seed: int = 0
    prune: float = 1e-3
    """Total variation that may be spent on dropping components; 0: none is dropped."""
    samples: int = 0
    """Further answers drawn, with the seeds after its own."""
    streams: ClassVar[bool] = True
    certifies: ClassVar[bool] = False
    batches: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Raises ``SettingError`` for an option outside its range."""
        _check_stepwise(self.prune, self.samples)

    def decode(self, mixture: Mixture, max_tokens: int) -> Iterator[DecodedToken | DecoderResult]:
        """See ``Decoder.decode``."""
        pruning, steps = Pruning(self.prune), list[DecodedToken]()
        for step in sample(mixture, max_tokens, self.seed, pruning):
            steps.append(step)
            yield step
        yield _with_samples(scored(mixture, steps, pruning), pruning, max_tokens, self.samples, self.seed)


def _with_samples(
    answer: ScoredAnswer, pruning: Pruning, max_tokens: int, samples: int, seed: int
) -> DecoderResult:
    drawn = _drawn(answer.mixture, pruning.budget, max_tokens, samples, seed)
    return DecoderResult((answer, *drawn), pruned=pruning.spent)


def _drawn(mixture: Mixture, budget: float, max_tokens: int, samples: int, seed: int) -> Iterator[ScoredAnswer]:
    """As many answers as ``samples``, drawn with the seeds after ``seed``, each with a budget of its own."""
    for each in range(seed + 1, seed + 1 + samples):
        own = Pruning(budget)
        yield scored(mixture, sample(mixture, max_tokens, each, own), own)


@dataclass(frozen=True, slots=True)
class Beam:
    """Beam search over the mixture's own next-token distribution, in one pass, with a certificate."""

    width: int = 4
    samples: int = 0
    """Further answers drawn from p(y | x), with the seeds after ``seed``; without pruning."""
    seed: int = 0
    streams: ClassVar[bool] = False
    certifies: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Raises ``SettingError`` for an option outside its range."""
        _check_width(self.width)
        _check_stepwise(0.0, self.samples)

    @property
    def batches(self) -> bool:
        """See ``Decoder.batches``: where no further answers are drawn."""
        return self.samples == 0

    def decode(self, mixture: Mixture, max_tokens: int) -> Iterator[DecodedToken | DecoderResult]:
        """See ``Decoder.decode``."""
        found = beam(mixture, self.width, max_tokens)
        drawn = _drawn(mixture, 0.0, max_tokens, self.samples, self.seed)
        yield DecoderResult((*found.answers, *drawn), certified=found.certified)

    def decode_batch(self, mixtures: Sequence[Mixture], max_tokens: int) -> Iterator[DecoderResult]:
        """See ``BatchDecoder.decode_batch``."""
        for found in beams_in_batches(mixtures, self.width, max_tokens):
            yield DecoderResult(found.answers, certified=found.certified)


@dataclass(frozen=True, slots=True)
class Thorough:
    """Thorough decoding of Lewis et al. 2020: a beam search for each component, every candidate rescored."""

    width: int = 4
    streams: ClassVar[bool] = False
    certifies: ClassVar[bool] = False
    batches: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Raises ``SettingError`` for an option outside its range."""
        _check_width(self.width)

    def decode(self, mixture: Mixture, max_tokens: int) -> Iterator[DecodedToken | DecoderResult]:
        """See ``Decoder.decode``."""
        yield DecoderResult(thorough(mixture, self.width, max_tokens).answers)


@dataclass(frozen=True, slots=True)
class Fast:
    """Fast decoding of Lewis et al. 2020: as ``Thorough``, without the pass that completes the candidates."""

    width: int = 4
    streams: ClassVar[bool] = False
    certifies: ClassVar[bool] = False
    batches: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Raises ``SettingError`` for an option outside its range."""
        _check_width(self.width)

    def decode(self, mixture: Mixture, max_tokens: int) -> Iterator[DecodedToken | DecoderResult]:
        """See ``Decoder.decode``.

        Raises:
            SettingError: a switch other than 0.
        """
        yield DecoderResult(fast(mixture, self.width, max_tokens).answers)


def _check_stepwise(prune: float, samples: int) -> None:
    if not 0.0 <= prune < 1.0:
        raise SettingError("prune in [0, 1)", repr(prune), "choose a value in this range")
    if samples < 0:
        raise SettingError("samples >= 0", repr(samples), "choose a value in this range")


def _check_width(width: int) -> None:
    if width < 1:
        raise SettingError("a width >= 1", repr(width), "choose a value in this range")


BUILT_IN: Mapping[str, Callable[[Settings], Decoder]] = {
    "greedy": lambda settings: Greedy(settings.prune, settings.samples, settings.seed),
    "sample": lambda settings: Sample(settings.seed, settings.prune, settings.samples),
    "beam": lambda settings: Beam(settings.beams, settings.samples, settings.seed),
    "thorough": lambda settings: Thorough(settings.beams),
    "fast": lambda settings: Fast(settings.beams),
}
"""The decoder of each name in ``Settings.decoder``, with the options that the settings give it."""


def decoder_for(settings: Settings) -> Decoder:
    """The decoder that the settings ask for: by its name, or the object itself, which has its own options.

    Raises:
        PluginError: the object lacks what ``Decoder`` asks for.
    """
    chosen = settings.decoder
    if isinstance(chosen, str):
        return BUILT_IN[chosen](settings)
    decoder = check_plugin(chosen, Decoder, "decoder")
    return check_plugin(chosen, BatchDecoder, "decoder that batches") if decoder.batches else decoder


def decode_all(decoder: Decoder, mixtures: Sequence[Mixture], max_tokens: int) -> Iterator[DecoderResult]:
    """What a decoder that batches finds for each of several mixtures."""
    return cast(BatchDecoder, decoder).decode_batch(mixtures, max_tokens)


def decoder_name(decoder: str | Decoder) -> str:
    """The name of a decoder in reports, records and calibrations.

    That of the settings; of an object its class with its public attributes that are text, numbers or tuples of
    them, such as ``MinP(share=0.1, seed=0)``: what was computed with other parameters is not taken for its own.
    """
    if isinstance(decoder, str):
        return decoder
    own = vars(decoder) if hasattr(decoder, "__dict__") else {}
    names = [field.name for field in fields(decoder)] if is_dataclass(decoder) else [*own]
    given = {name: getattr(decoder, name) for name in names if not name.startswith("_")}
    shown = ", ".join(f"{name}={value!r}" for name, value in given.items() if _is_parameter(value))
    return f"{type(decoder).__name__}({shown})" if shown else type(decoder).__name__


def recorded(settings: Settings) -> dict[str, Any]:
    """The settings by name, as a file can hold them: the decoder by its name."""
    own = {field.name: getattr(settings, field.name) for field in fields(Settings)}
    return {**own, "where": dict(settings.where), "decoder": decoder_name(settings.decoder)}


def _is_parameter(value: Any) -> bool:
    return all(isinstance(each, str | int | float) for each in (value if isinstance(value, tuple) else (value,)))

"""The decoders that come with mixrag, as objects with their options, and the names that settings know them by."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, ClassVar, cast

from mixrag.config.sampling import sampling_settings
from mixrag.config.settings import Settings
from mixrag.config.values import shown
from mixrag.errors import SettingError
from mixrag.inference.batch import Written, greedy_in_batches
from mixrag.inference.beam_search import beam, fast, thorough
from mixrag.inference.beams_together import Searching, beams_in_batches
from mixrag.inference.continuous import Writing
from mixrag.inference.mixture import Mixture, ScoredAnswer
from mixrag.inference.protocol import BatchDecoder, DecodedToken, Decoder, DecoderResult
from mixrag.inference.pruning import Pruning, budget_for
from mixrag.inference.stepwise import Draw, greedy, sample, scored
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
    sampling: Mapping[str, float] = field(default_factory=dict, hash=False)
    """How further answers are drawn, as ``Settings.sampling``."""
    streams: ClassVar[bool] = True
    certifies: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Raises ``SettingError`` for an option outside its range."""
        _check_stepwise(self.prune, self.samples, self.sampling)

    @property
    def batches(self) -> bool:
        """See ``Decoder.batches``: where no further answers are drawn."""
        return self.samples == 0

    def decode(self, mixture: Mixture, max_tokens: int) -> Iterator[DecodedToken | DecoderResult]:
        """See ``Decoder.decode``."""
        pruning, steps = Pruning(budget_for(self.prune, mixture.generator)), list[DecodedToken]()
        for step in greedy(mixture, max_tokens, pruning):
            steps.append(step)
            yield step
        answer = scored(mixture, steps, pruning)
        others = _samples(mixture, max_tokens, self.samples, self.seed, pruning.budget, self.sampling)
        yield DecoderResult((answer, *others), pruned=pruning.spent)

    def begin(self, mixture: Mixture, max_tokens: int) -> Writing | None:
        """See ``begun``."""
        pruning = Pruning(budget_for(self.prune, mixture.generator))
        return Written(mixture, max_tokens, pruning) if self.batches else None

    def decode_batch(self, mixtures: Sequence[Mixture], max_tokens: int) -> Iterator[DecoderResult]:
        """See ``BatchDecoder.decode_batch``."""
        budget = budget_for(self.prune, mixtures[0].generator) if mixtures else 0.0
        for answer, pruned in greedy_in_batches(mixtures, max_tokens, budget):
            yield DecoderResult((answer,), pruned=pruned)


@dataclass(frozen=True, slots=True)
class Sample:
    """Answers drawn one token at a time, from p(y | x) itself unless there are ``sampling`` settings.

    Equal seeds give equal answers.
    """

    seed: int = 0
    prune: float = 1e-3
    """Total variation that may be spent on dropping components; 0: none is dropped."""
    samples: int = 0
    """Further answers drawn, with the seeds after its own."""
    sampling: Mapping[str, float] = field(default_factory=dict, hash=False)
    """As ``Settings.sampling``."""
    streams: ClassVar[bool] = True
    certifies: ClassVar[bool] = False
    batches: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Raises ``SettingError`` for an option outside its range."""
        _check_stepwise(self.prune, self.samples, self.sampling)

    def decode(self, mixture: Mixture, max_tokens: int) -> Iterator[DecodedToken | DecoderResult]:
        """See ``Decoder.decode``."""
        pruning, steps = Pruning(budget_for(self.prune, mixture.generator)), list[DecodedToken]()
        for step in sample(mixture, max_tokens, self.seed, pruning, self.sampling):
            steps.append(step)
            yield step
        log_drawn = math.fsum(step.log_drawn or 0.0 for step in steps)
        answer = scored(mixture, steps, pruning)
        others = _samples(mixture, max_tokens, self.samples, self.seed, pruning.budget, self.sampling)
        yield DecoderResult((answer, *others), pruned=pruning.spent, log_drawn=log_drawn)

    def begin(self, mixture: Mixture, max_tokens: int) -> Writing | None:
        """See ``begun``."""
        if self.samples:
            return None
        pruning = Pruning(budget_for(self.prune, mixture.generator))
        return Written(mixture, max_tokens, pruning, Draw(self.seed, self.sampling))


def _samples(
    mixture: Mixture, max_tokens: int, samples: int, seed: int, budget: float, sampling: Mapping[str, float]
) -> Iterator[ScoredAnswer]:
    """As many answers as ``samples``, drawn with the seeds after ``seed``, each with a budget of its own."""
    for each in range(seed + 1, seed + 1 + samples):
        own = Pruning(budget)
        yield scored(mixture, sample(mixture, max_tokens, each, own, sampling), own)


@dataclass(frozen=True, slots=True)
class Beam:
    """Beam search over the mixture's own next-token distribution, in one pass, with a certificate."""

    width: int = 4
    samples: int = 0
    """Further answers drawn from p(y | x), with the seeds after ``seed``; without pruning."""
    seed: int = 0
    sampling: Mapping[str, float] = field(default_factory=dict, hash=False)
    """How further answers are drawn, as ``Settings.sampling``."""
    streams: ClassVar[bool] = False
    certifies: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Raises ``SettingError`` for an option outside its range."""
        _check_width(self.width)
        _check_stepwise(0.0, self.samples, self.sampling)

    @property
    def batches(self) -> bool:
        """See ``Decoder.batches``: where no further answers are drawn."""
        return self.samples == 0

    def decode(self, mixture: Mixture, max_tokens: int) -> Iterator[DecodedToken | DecoderResult]:
        """See ``Decoder.decode``."""
        found = beam(mixture, self.width, max_tokens)
        drawn = _samples(mixture, max_tokens, self.samples, self.seed, 0.0, self.sampling)
        yield DecoderResult((*found.answers, *drawn), certified=found.certified)

    def begin(self, mixture: Mixture, max_tokens: int) -> Writing | None:
        """See ``begun``."""
        return Searching(mixture, self.width, max_tokens) if self.batches else None

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


def _check_stepwise(prune: float, samples: int, sampling: Mapping[str, float]) -> None:
    sampling_settings(sampling)
    if not 0.0 <= prune < 1.0:
        raise SettingError("prune in [0, 1)", repr(prune), "choose a value in this range")
    if samples < 0:
        raise SettingError("samples >= 0", repr(samples), "choose a value in this range")


def _check_width(width: int) -> None:
    if width < 1:
        raise SettingError("a width >= 1", repr(width), "choose a value in this range")


BUILT_IN: Mapping[str, Callable[[Settings], Decoder]] = {
    "greedy": lambda settings: Greedy(settings.prune, settings.samples, settings.seed, settings.sampling),
    "sample": lambda settings: Sample(settings.seed, settings.prune, settings.samples, settings.sampling),
    "beam": lambda settings: Beam(settings.beams, settings.samples, settings.seed, settings.sampling),
    "thorough": lambda settings: Thorough(settings.beams),
    "fast": lambda settings: Fast(settings.beams),
}
"""The decoder of each name in ``Settings.decoder``, with the options that the settings give it."""


def decoder_for(settings: Settings) -> Decoder:
    """The decoder that the settings ask for: by its name, or the object itself, which has its own options.

    Raises:
        PluginError: the object lacks what ``Decoder`` asks for.
        SettingError: sampling settings, and nothing is drawn.
    """
    chosen = settings.decoder
    if settings.sampling and chosen != "sample" and not (chosen in ("greedy", "beam") and settings.samples):
        given = ", ".join(f"{name}={value:g}" for name, value in settings.sampling.items())
        expected = f"decoder 'sample', or samples > 0 with 'greedy' or 'beam', for sampling settings ({given})"
        raise SettingError(expected, shown(decoder_name(chosen)), "choose it, or leave sampling out")
    if isinstance(chosen, str):
        return BUILT_IN[chosen](settings)
    decoder = check_plugin(chosen, Decoder, "decoder")
    return check_plugin(chosen, BatchDecoder, "decoder that batches") if decoder.batches else decoder


def decode_all(decoder: Decoder, mixtures: Sequence[Mixture], max_tokens: int) -> Iterator[DecoderResult]:
    """What a decoder that batches finds for each of several mixtures."""
    return cast(BatchDecoder, decoder).decode_batch(mixtures, max_tokens)


def begun(decoder: Decoder, mixture: Mixture, max_tokens: int) -> Writing | None:
    """The answer that a decoder would write, to be written in a ``RunningBatch``.

    A decoder of yours has a method ``begin(mixture, max_tokens)`` for this, or answers by itself.

    Returns:
        None where the decoder makes passes of its own, as for further answers that are drawn.
    """
    begin = getattr(decoder, "begin", None)
    found: Writing | None = None if begin is None else begin(mixture, max_tokens)
    return found


def decoder_name(decoder: str | Decoder) -> str:
    """The name of a decoder in reports, records and calibrations.

    That of the settings; of an object its class with its public attributes that are text, numbers, or tuples or
    mappings of them, such as ``MinP(share=0.1, seed=0)``: what was computed with other parameters is not taken for
    its own.
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
    mappings = {"where": dict(settings.where), "sampling": dict(settings.sampling)}
    return {**own, **mappings, "decoder": decoder_name(settings.decoder)}


def _is_parameter(value: Any) -> bool:
    if isinstance(value, Mapping):
        return bool(value) and all(isinstance(each, str | int | float) for pair in value.items() for each in pair)
    values = value if isinstance(value, tuple) else (value,)
    return all(isinstance(each, str | int | float) for each in values)

"""The models of a store: loaded when they are needed, shared with other stores, and what they are known by."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from threading import RLock
from typing import Any

from mixrag.answers.confidence import ConfidenceMap
from mixrag.answers.store_contents import StoreContents
from mixrag.config.engine_choice import engine_of
from mixrag.config.model_config import ModelConfig, models_digest
from mixrag.config.settings import Settings
from mixrag.corpus import Store
from mixrag.errors import MissingPackageError, ModelError, ModelLoadError, ServerError
from mixrag.generator import Generator, load_configured
from mixrag.generator.fingerprint import generator_fingerprint
from mixrag.generator.precompute import attach
from mixrag.retrieval.encoders import CompleteEncoder, configured_encoder

_LOADING = RLock()
"""Taken while a model is loaded: transformers cannot load two at a time, whichever pipelines they are for."""


class StoreModels(StoreContents):
    """A store with the models that embed and read its passages."""

    def __init__(
        self,
        store: Store,
        models: ModelConfig | None,
        settings: Settings | None,
        *,
        encoder: CompleteEncoder | None,
        generator: Generator | None,
        calibration: ConfidenceMap | Sequence[ConfidenceMap] | None,
        sharing: StoreModels | None,
    ) -> None:
        self.store = store
        self.models = models or ModelConfig()
        self.settings = settings or Settings()
        several = () if calibration is None else calibration
        self.calibrations = (several,) if isinstance(several, ConfidenceMap) else tuple(several)
        self._known: dict[Callable[[ModelConfig], str], tuple[ModelConfig, str, str]] = {}
        self._encoder = encoder
        self._generator = generator
        self._sharing = sharing if sharing is not None and sharing.models == self.models else None
        self._given: dict[str, Any] = {"encoder": encoder, "generator": generator}

    @property
    def calibration(self) -> ConfidenceMap | None:
        """The calibration of the models in use; where there is none, the first of those there are."""
        if len(self.calibrations) < 2:
            return next(iter(self.calibrations), None)
        own = ("", self.models_digest)
        return next((each for each in self.calibrations if each.models in own), self.calibrations[0])

    @calibration.setter
    def calibration(self, calibration: ConfidenceMap | None) -> None:
        self.calibrations = () if calibration is None else (calibration,)

    @property
    def models_digest(self) -> str:
        """A digest of the models and the prompt in use, to which a calibration belongs."""
        return self._digest(models_digest)

    @property
    def generator_fingerprint(self) -> str:
        """What the language model is known by to those who ask over several stores; it is loaded first."""
        _ = self.generator  # an engine of auto is known for certain then
        if (given := self._given_generator) is not None:
            return generator_fingerprint(replace(self.models, generator=given))
        return self._digest(generator_fingerprint)

    @property
    def _given_generator(self) -> Any:
        """The object that was given as language model, here or to the store that models are shared with."""
        given = self._given["generator"]
        return self._sharing._given_generator if given is None and self._sharing is not None else given

    def _digest(self, of: Callable[[ModelConfig], str]) -> str:
        """Computed again where the models or their engine change, not at every question: it reads files."""
        models, engine = self.models, engine_of(self.models)
        known = self._known.get(of)
        if known is None or known[0] is not models or known[1] != engine:
            known = models, engine, of(models)
            self._known[of] = known
        return known[2]

    def given(self, role: str) -> Any:
        """The model of a role (generator, tokenizer, encoder, question_encoder): object, name, path or None."""
        given = self._given.get(role)
        return getattr(self.models, role) if given is None else given

    @property
    def encoder(self) -> CompleteEncoder:
        """The encoder, loaded at first use."""
        if self._encoder is None:
            with _LOADING:
                return self._load_encoder()
        return self._encoder

    def _load_encoder(self) -> CompleteEncoder:
        if self._encoder is None and self._sharing is not None and self._encoded_as(self._sharing):
            self._encoder = self._sharing.encoder
        if self._encoder is None:  # no other thread has loaded it meanwhile
            stored = self.store.encoder
            with _of_loading():
                self._encoder = configured_encoder(self.models, stored.fingerprint if stored else None)
        return self._encoder

    def _encoded_as(self, other: StoreModels) -> bool:
        """Whether the vectors of both stores, where there are any, come from the same encoder."""
        own, theirs = self.store.encoder, other.store.encoder
        return own is None or (theirs is not None and own.fingerprint == theirs.fingerprint)

    @property
    def generator(self) -> Generator:
        """The language model, loaded at first use."""
        if self._generator is None:
            with _LOADING:
                return self._load_generator()
        return self._generator

    def _load_generator(self) -> Generator:
        if self._generator is None and self._sharing is not None:
            self._generator = self._sharing.generator
        if self._generator is None:  # no other thread has loaded it meanwhile
            with _of_loading():
                generator = load_configured(self.models, self.settings.language_model_weight)
            attach(generator, self.store.cache_directory)
            self._generator = generator
        return self._generator


@contextmanager
def _of_loading() -> Iterator[None]:
    """Say of a model's error that it came of loading it; a missing package and a server say more themselves."""
    try:
        yield
    except (MissingPackageError, ServerError):
        raise
    except ModelError as error:
        raise ModelLoadError(error.expected, error.found, error.remedy) from error

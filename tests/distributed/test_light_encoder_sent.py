"""Workers get the reference of a light encoder: passages of one store are embedded by one encoder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from mixrag import RAG
from mixrag.corpus import Store, StructureSplitter
from mixrag.corpus.distributed import workers
from mixrag.corpus.splitting import Splitting
from mixrag.corpus.workers import HERE, Workers
from mixrag.retrieval.encoders.light import LightEncoder
from mixrag.retrieval.encoders.plugin import completed_encoder
from mixrag.retrieval.encoders.portable import PortableObject
from words_encoder import WordsEncoder


def test_the_reference_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    reference = completed_encoder(WordsEncoder())
    nothing: dict[str, Any] = dict.fromkeys(("model", "tokenizer", "pooling"))
    numbers: dict[str, Any] = {"temperature": 1.0, "limit": 8, "normalises": True, "prompts": ("", "")}
    light = LightEncoder(
        "light", reference.fingerprint, **nothing, **numbers, half=False, load=lambda: cast(Any, reference)
    )
    sent = list[Any]()

    @contextmanager
    def on_cluster(
        address: str, encoders: int | None, encoder: Callable[[], Any], splitting: Callable[[Splitting], Splitting]
    ) -> Iterator[Workers]:
        sent.append(encoder())
        sent.append(splitting(Splitting(StructureSplitter(), light.passage_text, None)))
        yield HERE

    monkeypatch.setattr(workers, "on_cluster", on_cluster)
    with RAG(Store.open(tmp_path / "store", create=True), encoder=light) as rag, rag._workers("local", None):
        portable, _ = sent
    assert isinstance(portable, PortableObject) and portable.encoder is reference

"""Training starts from models that have a name: weights change in place, and the result names its origin."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import tiny_models
from mixrag.errors import ModelError
from mixrag.rag import RAG
from mixrag.training.run import check_named_models


@pytest.mark.parametrize("role", ["generator", "tokenizer", "encoder", "question_encoder"])
def test_a_model_object_is_refused_in_one_line(role: str, open_rag: Callable[..., RAG]) -> None:
    plain = open_rag()
    given: dict[str, Any] = {role: tiny_models.build("llama")[role == "tokenizer"]}
    with (
        RAG.open(plain.store.directory, models=plain.models, **given) as rag,
        pytest.raises(
            ModelError, match=rf"expected a path or name as {role} in training; found a \w+ object; save"
        ),
    ):
        check_named_models(rag)

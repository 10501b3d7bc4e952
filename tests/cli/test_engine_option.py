"""MIXRAG_ENGINE on the command line is what it is in Python: the engine of what an engine runs."""

from __future__ import annotations

from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from mixrag.cli.options import Options, takes
from mixrag.config.engine_choice import engine_of, named_engine
from mixrag.config.model_config import ModelConfig


def given(*arguments: str, engine: str | None) -> ModelConfig:
    found = list[Any]()

    @takes("ask")
    def run(options: Options) -> None:
        found.append(options.made(ModelConfig))

    app = typer.Typer()
    app.command()(run)
    done = CliRunner().invoke(app, arguments, env={"MIXRAG_ENGINE": engine}, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    (models,) = found
    assert isinstance(models, ModelConfig)
    return models


def test_it_does_not_name_the_engine_of_what_none_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    models = given("--generator", "extractive", engine="openvino")
    monkeypatch.setenv("MIXRAG_ENGINE", "openvino")
    assert models.engine == named_engine(models) == "auto" and engine_of(models) == "torch"


@pytest.mark.parametrize("engine", ["torch", "openvino", "llamacpp", "vllm"])
def test_it_names_that_of_others(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    models = given(engine=engine)
    monkeypatch.setenv("MIXRAG_ENGINE", engine)
    assert engine_of(models) == named_engine(models) == engine


def test_the_option_counts_and_without_either_it_is_auto(monkeypatch: pytest.MonkeyPatch) -> None:
    assert given("--engine", "torch", engine="openvino").engine == "torch"
    assert given(engine=None).engine == given(engine="").engine == "auto"

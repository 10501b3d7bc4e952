"""All declared settings, and which of them a command has as options."""

from __future__ import annotations

from mixrag.config.command_settings import (
    CalibrationSettings,
    ClozeSettings,
    EvaluationSettings,
    GuaranteeSettings,
    IndexingSettings,
    PrecomputeSettings,
    ServerSettings,
    StoreConfig,
    TrainingReportSettings,
)
from mixrag.config.model_config import ModelConfig
from mixrag.config.prompt_template import PromptTemplate
from mixrag.config.schema import Setting, declared
from mixrag.config.settings import Settings
from mixrag.config.span_training import SpanTrainingSettings
from mixrag.config.training_settings import TrainingSettings

SCHEMAS: tuple[type, ...] = (
    StoreConfig,
    ServerSettings,
    IndexingSettings,
    ClozeSettings,
    PrecomputeSettings,
    TrainingReportSettings,
    EvaluationSettings,
    GuaranteeSettings,
    CalibrationSettings,
    TrainingSettings,
    SpanTrainingSettings,
    ModelConfig,
    PromptTemplate,
    Settings,
)
"""In the order in which ``--help`` shows their settings."""


def options_of(command: str) -> dict[str, Setting]:
    """The settings that a command has as options, by name, in the order of ``--help``."""
    every = [each for schema in SCHEMAS for each in declared(schema).values()]
    shown = [each for each in every if command in each.declared.commands]
    return {each.name: each for each in sorted(shown, key=lambda each: not each.declared.shown_first)}

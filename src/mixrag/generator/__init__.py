"""Language models as conditional distributions: p(answer | question, passages)."""

from mixrag.config.prompt_template import PromptTemplate
from mixrag.generator.base import BaseGenerator
from mixrag.generator.causal import CausalGenerator
from mixrag.generator.extractive import ExtractiveGenerator
from mixrag.generator.loading import load_configured, load_generator
from mixrag.generator.mixed import MixedGenerator
from mixrag.generator.protocol import (
    Branches,
    FiniteAnswers,
    FiniteGenerator,
    Generator,
    Prompt,
    Shortened,
)
from mixrag.generator.seq2seq import Seq2SeqGenerator
from mixrag.generator.table import TableGenerator

__all__ = [
    "BaseGenerator",
    "Branches",
    "CausalGenerator",
    "ExtractiveGenerator",
    "FiniteAnswers",
    "FiniteGenerator",
    "Generator",
    "MixedGenerator",
    "Prompt",
    "PromptTemplate",
    "Seq2SeqGenerator",
    "Shortened",
    "TableGenerator",
    "load_configured",
    "load_generator",
]

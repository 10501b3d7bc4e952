"""Answers of models behind servers that give no exact probabilities: bounded ones, or texts alone."""

from __future__ import annotations

from mixrag.answers.bounded import IntervalAnswer, interval_answer
from mixrag.answers.written import NOT_CONTINUED, WrittenAnswer, written_answer
from mixrag.config.settings import Settings
from mixrag.errors import ModelError, SettingError
from mixrag.generator import Generator
from mixrag.generator.remote.generator import ListingGenerator
from mixrag.generator.remote.ollama import NotContinued
from mixrag.generator.remote.text_writer import TextWriter
from mixrag.inference.length import longest_answer
from mixrag.inference.mixture import Mixture
from mixrag.inference.token_mixing import bounded_answer
from mixrag.retrieval.retriever import Retrieval


def checked_inexact(generator: Generator, settings: Settings) -> TextWriter | ListingGenerator:
    """The generator itself.

    Raises:
        ModelError: it gives exact probabilities.
        SettingError: it lists next tokens, and the settings need whole distributions.
    """
    if not isinstance(generator, TextWriter | ListingGenerator):
        raise ModelError("a server that gives no exact probabilities", generator.name, "use ask, which gives them")
    if isinstance(generator, ListingGenerator):
        for name in ("empty_answer", "copy"):
            if getattr(settings, name):
                found = f"{name} with {generator.capabilities.describe()}"
                raise SettingError("settings that need no whole distributions", found, "switch it off")
    return generator


def bounded_or_written(
    generator: ListingGenerator, mixture: Mixture, retrieval: Retrieval, settings: Settings
) -> IntervalAnswer | WrittenAnswer:
    """One answer with an interval of its probability; the texts where an answer begun cannot be continued."""
    try:
        return interval_answer(bounded_answer(mixture, longest_answer(settings.max_tokens, mixture)))
    except NotContinued:
        return written_answer(generator.writer, mixture.question, retrieval, settings, NOT_CONTINUED)

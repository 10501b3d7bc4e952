"""Options that several commands share, each declared once.

A group is a dataclass whose fields are typer options; ``takes`` gives a command the options of its groups and
hands it the filled groups.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

import typer

from mixrag.cli.show import error_line
from mixrag.errors import SettingError

if TYPE_CHECKING:
    from mixrag.rag import RAG

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""
MODELS, MIXTURE, DECODING, RETRIEVAL = "ModelConfig", "The mixture", "Decoding", "Retrieval"
CONFIDENCE = "Confidence"


def number_or_all(text: str) -> int | str:
    """A whole number, or "all"."""
    if text == "all":
        return text
    try:
        return int(text)
    except ValueError:
        raise typer.BadParameter(f"expected a whole number or 'all'; found {text!r}") from None


def score_or_none(text: str) -> float | str:
    """A number, or "none"."""
    if text == "none":
        return text
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"expected a number or 'none'; found {text!r}") from None


def key_value(text: str) -> str:
    """KEY=VALUE, checked here and taken apart later."""
    if "=" not in text or text.startswith("="):
        raise typer.BadParameter(f"expected KEY=VALUE; found {text!r}")
    return text


Where = Annotated[
    list[str] | None,
    typer.Option(
        parser=key_value,
        metavar="KEY=VALUE",
        help="Only passages with this metadata; document= and title= always work. Repeatable.",
        rich_help_panel=RETRIEVAL,
    ),
]


def filters(where: list[str] | None) -> dict[str, str]:
    """The filter that ``--where KEY=VALUE`` makes, each key once.

    Raises:
        SettingError: one key twice.
    """
    found = dict(pair.split("=", 1) for pair in where or [])
    if len(found) < len(where or []):
        raise SettingError("each --where key once", " ".join(where or []), "ask once for each value")
    return found


@dataclass(frozen=True)
class StoreOptions:
    """Where the passages are, and how they are embedded and searched."""

    store: Annotated[Path, typer.Option("--store", "-s", help="Folder of the store.", envvar="MIXRAG_STORE")] = (
        Path("mixrag-store")
    )
    model: Annotated[
        Path | None,
        typer.Option(
            help="Folder that mixrag train wrote: its models and settings, but for those given here.",
            rich_help_panel=MODELS,
            envvar="MIXRAG_MODEL",
        ),
    ] = None
    encoder: Annotated[
        str | None,
        typer.Option(
            help="Encoder: sentence-transformers folder or hub name. Default: the packaged all-MiniLM-L6-v2.",
            rich_help_panel=MODELS,
            envvar="MIXRAG_ENCODER",
        ),
    ] = None
    question_encoder: Annotated[
        str | None,
        typer.Option(help="A second encoder for questions (DPR). Default: the same.", rich_help_panel=MODELS),
    ] = None
    encoder_dtype: Annotated[
        Literal["auto", "float32", "bfloat16"],
        typer.Option(
            help="Numbers in which passages are encoded; auto = those of the store, for a new one bfloat16 "
            "where the processor has it.",
            rich_help_panel=MODELS,
        ),
    ] = "auto"
    device: Annotated[
        str | None, typer.Option(help="torch device. Default: a GPU if there is one.", rich_help_panel=MODELS)
    ] = None

    def open(self, *, create: bool = False, asking: AskingOptions | None = None) -> RAG:
        """The facade over these options; ``asking`` adds the language model and the mixture's settings."""
        from mixrag import RAG, ModelConfig

        chosen = ModelConfig(
            encoder=self.encoder,
            question_encoder=self.question_encoder,
            encoder_dtype=self.encoder_dtype,
            device=self.device,
        )
        if asking is None:
            return RAG.open(self.store, create=create, model=self.model, models=chosen)
        models, settings = asking.models(chosen), asking.settings()
        return RAG.open(
            self.store,
            model=self.model,
            models=models,
            settings=settings,
            index=asking.index,
            confidence=asking.confidence,
        )


@dataclass(frozen=True)
class AskingOptions:
    """The language model and the settings of the mixture; None where a trained folder or mixrag decides."""

    generator: Annotated[
        str | None,
        typer.Option(
            "--generator",
            "-g",
            help="Language model: folder, GGUF file or hub name. Default: the packaged SmolLM2-135M-Instruct.",
            rich_help_panel=MODELS,
            envvar="MIXRAG_GENERATOR",
        ),
    ] = None
    adapter: Annotated[
        str | None,
        typer.Option(
            metavar="DIR|none",
            help="LoRA adapter for the language model (peft folder). Default: for the packaged one the trained "
            "reader that ships with mixrag; none = none.",
            rich_help_panel=MODELS,
        ),
    ] = None
    prompt: Annotated[
        Path | None,
        typer.Option(
            help="TOML file with header, passage and question of the prompt. Default: the one that the model was "
            "trained with, else a built-in one.",
            rich_help_panel=MODELS,
        ),
    ] = None
    dtype: Annotated[
        str,
        typer.Option(
            help="Numbers of the language model: float32, bfloat16, float16, int8; auto = bfloat16 where the "
            "processor multiplies it by itself, else float32.",
            rich_help_panel=MODELS,
        ),
    ] = "auto"
    prefix_cache: Annotated[
        int,
        typer.Option(
            metavar="MIB",
            help="Memory for passages that the language model has read, so that it need not read them again "
            "for the next question; 0 = none.",
            rich_help_panel=MODELS,
        ),
    ] = 1024
    k: Annotated[
        Any,
        typer.Option(
            "--k",
            "-k",
            parser=number_or_all,
            metavar="N|all",
            help="Passages to retrieve; all = the whole corpus, 0 = none (closed book). "
            "Default: --model's, else 5.",
            rich_help_panel=MIXTURE,
        ),
    ] = None
    group: Annotated[
        Any,
        typer.Option(
            parser=number_or_all,
            metavar="N|all",
            help="Passages in one prompt; all = one prompt with all of them (concatenation). Default: --model's, "
            "else 1.",
            rich_help_panel=MIXTURE,
        ),
    ] = None
    switch: Annotated[
        float | None,
        typer.Option(
            help="Probability that the passage changes between two tokens: 0 = RAG-Sequence, 1 = RAG-Token. "
            "Default: --model's, else 0.",
            rich_help_panel=MIXTURE,
        ),
    ] = None
    null: Annotated[
        Any,
        typer.Option(
            parser=score_or_none,
            metavar="SCORE|none",
            help="Adds a component without passage, with this score (scale: inner product / temperature). "
            "Default: --model's, else none.",
            rich_help_panel=MIXTURE,
        ),
    ] = None
    temperature: Annotated[
        float | None,
        typer.Option(
            help="Temperature of p(passage | question). Default: --model's, else the packaged "
            "reader's with the packaged models, else the encoder's own.",
            rich_help_panel=MIXTURE,
        ),
    ] = None
    normaliser: Annotated[
        Literal["top-k", "full"],
        typer.Option(
            help="The prior sums to one over the passages retrieved, or over all.", rich_help_panel=MIXTURE
        ),
    ] = "top-k"
    weights: Annotated[
        Literal["retriever", "uniform"],
        typer.Option(help="uniform: all passages retrieved get the same prior.", rich_help_panel=MIXTURE),
    ] = "retriever"
    max_outside: Annotated[
        float | None,
        typer.Option(
            help="Adaptive k: the fewest passages that leave this prior mass to all others, at most --k.",
            rich_help_panel=MIXTURE,
        ),
    ] = None
    lexical: Annotated[
        float | None,
        typer.Option(
            help="Weight of the BM25 part in the prior, from 0 (none) to 1. Default: --model's, else 0.5 with "
            "the packaged reader, else 0.",
            rich_help_panel=RETRIEVAL,
        ),
    ] = None
    where: Where = None
    index: Annotated[
        Literal["auto", "exact", "faiss"], typer.Option(help="How to search.", rich_help_panel=RETRIEVAL)
    ] = "auto"
    decoder: Annotated[
        Literal["greedy", "sample", "beam", "thorough", "fast"],
        typer.Option(help="How to choose the answer.", rich_help_panel=DECODING),
    ] = "greedy"
    beams: Annotated[int, typer.Option(help="Width of beam, thorough and fast.", rich_help_panel=DECODING)] = 4
    max_tokens: Annotated[int, typer.Option(help="Longest answer.", rich_help_panel=DECODING)] = 64
    seed: Annotated[int, typer.Option(help="Seed of sample, and of training.", rich_help_panel=DECODING)] = 0
    confidence: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|none",
            help="Calibration of the confidence (mixrag eval writes it). Default: --model's, or the packaged "
            "reader's.",
            rich_help_panel=CONFIDENCE,
        ),
    ] = None
    samples: Annotated[
        int,
        typer.Option(
            help="Answers drawn beside the one that is given: those that say the same add to its mass.",
            rich_help_panel=CONFIDENCE,
        ),
    ] = 0
    prune: Annotated[
        float | None,
        typer.Option(
            help="Total variation that may be spent on dropping passages while an answer is written (greedy and "
            "sample); 0 = none. Default: 0.001.",
            rich_help_panel=DECODING,
        ),
    ] = None
    abstain_below: Annotated[
        float | None,
        typer.Option(
            help="Confidence below which an answer is withheld; 0 = never. Default: the calibration's threshold.",
            rich_help_panel=CONFIDENCE,
        ),
    ] = None

    def settings(self) -> dict[str, Any]:
        """The settings that these options give, by name.

        Raises:
            SettingError: one key of the filter twice.
        """
        where = filters(self.where)
        same = ("k", "group", "switch", "null", "temperature", "normaliser", "weights", "max_outside", "lexical")
        more = ("decoder", "beams", "max_tokens", "seed", "samples", "prune", "abstain_below")
        chosen = {name: getattr(self, name) for name in (*same, *more)}
        given = {name: value for name, value in chosen.items() if value is not None}
        if self.null == "none":
            given["null"] = None
        return {**given, "where": where}

    def models(self, base: Any) -> Any:
        """``base`` with the language model of these options."""
        from dataclasses import replace

        from mixrag.generator import PromptTemplate

        template = PromptTemplate.from_file(self.prompt) if self.prompt else None
        return replace(
            base,
            generator=self.generator,
            adapter=self.adapter,
            prompt=template,
            dtype=self.dtype,
            prefix_cache=self.prefix_cache,
        )


def takes(*groups: type) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of dataclasses; the command receives one filled object of each, in order."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = list(inspect.signature(command, eval_str=True).parameters.values())[len(groups) :]
        shared = [parameter for group in groups for parameter in _parameters(group)]

        def wrapper(**values: Any) -> None:
            filled = [group(**{f.name: values.pop(f.name) for f in fields(group)}) for group in groups]
            try:
                command(*filled, **values)
            except KeyboardInterrupt:
                error_line("interrupted; what was stored stays, and the same command resumes")
                raise typer.Exit(INTERRUPTED) from None

        required = [p for p in own if p.default is inspect.Parameter.empty]
        optional = [p for p in own if p.default is not inspect.Parameter.empty]
        parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in (*required, *optional, *shared)]
        wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        wrapper.__doc__, wrapper.__name__ = command.__doc__, command.__name__
        return wrapper

    return decorate


def _parameters(group: type) -> list[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=f.default, annotation=hints[f.name])
        for f in fields(group)
    ]

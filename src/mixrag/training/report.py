"""Before and after: the scores of a run, of what it started from, and of its baselines, on held-out pairs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from mixrag.answers.pipeline import Pipeline
from mixrag.config.bundle import Bundle
from mixrag.config.model_config import ModelConfig
from mixrag.evaluation import Summary, markdown_table, score_pairs, summarise
from mixrag.pairs.pairs import Pair, digest
from mixrag.retrieval.index import ExactIndex
from mixrag.retrieval.retriever import StoreRetriever
from mixrag.training.examples import check_fits
from mixrag.training.output import Card, write_card
from mixrag.training.run_spec import RunSpec, shown_adapter, starting_adapter
from mixrag.training.trainable_prior import TrainablePrior

Told = Callable[[str, int, int], None]
"""Name of the system, questions done, questions in all."""
RECORDS = "answers.jsonl"


def check_scorable(rag: Pipeline, pairs: Sequence[Pair]) -> None:
    """Refuse held-out pairs that could not be scored.

    Raises:
        PairsError: question and answer do not fit into the model's context.
    """
    if not pairs:
        return
    generator = Pipeline(rag.store, models=rag.models).generator  # not kept: training loads its own
    for pair in pairs:
        longest = max(len(generator.answer_tokens(answer)) for answer in pair.answers)
        check_fits(pair, generator, max(rag.settings.max_tokens, longest))


def score_start(trainee: RunSpec, pairs: Sequence[Pair], told: Told) -> Summary:
    """Scores of the models that training starts from, loaded anew: training changes its own in place."""
    rag = trainee.rag
    fresh = Pipeline(rag.store, models=rag.models, index=rag.index_kind, settings=rag.settings)
    return _scored(fresh, trainee, "start", pairs, told)


def score_result(trainee: RunSpec, trained: Bundle, pairs: Sequence[Pair], told: Told) -> Summary:
    """Scores of the folder that training wrote, opened as a user would."""
    rag = trainee.rag
    models = rag.models
    opened = Pipeline.open(rag.store.directory, model=trainee.folder, models=_numbers(models), settings=None)
    with opened:
        fitted: dict[str, Any] = {"temperature": opened.settings.temperature, "null": opened.settings.null}
        settings = replace(rag.settings, **fitted)
        scored = Pipeline(
            rag.store,
            encoder=opened.encoder,
            generator=opened.generator,
            models=opened.models,
            index=rag.index_kind,
            settings=settings,
            retriever=_own_index(trainee, opened) if trainee.settings.trains_passages else None,
        )
        return _scored(scored, trainee, "trained", pairs, told)


def _numbers(models: ModelConfig) -> ModelConfig:
    """How to compute, without what to load."""
    return ModelConfig(dtype=models.dtype, device=models.device, encoder_dtype=models.encoder_dtype)


def _own_index(trainee: RunSpec, opened: Pipeline) -> StoreRetriever:
    """The store's passages under the trained encoder; the store itself is re-embedded by its owner."""
    prior = TrainablePrior(trainee.rag.store, opened.encoder, opened.settings, frozenset())  # type: ignore[arg-type]
    prior.refresh(0)
    return StoreRetriever(trainee.rag.store, opened.encoder, ExactIndex(prior.rows, prior.vectors.numpy()))


def _scored(rag: Pipeline, trainee: RunSpec, system: str, pairs: Sequence[Pair], told: Told) -> Summary:
    records = score_pairs(
        rag,
        pairs,
        {},
        out=trainee.folder / RECORDS,
        system=system,
        progress=lambda done, total: told(system, done, total),
    )
    return summarise(records)


def table(rows: Mapping[str, Summary]) -> list[str]:
    """The Markdown table with what its numbers are, as lines."""
    count = next(iter(rows.values())).n
    return [
        f"{count} held-out questions; means with bootstrap 95 % intervals. EM and F1 as SQuAD defines them;",
        "recall@5: share of questions with a relevant passage among the first five; NLL/answer: -log p(gold",
        "answer), in nats.",
        "",
        *markdown_table(rows).splitlines(),
    ]


def card(trainee: RunSpec, sources: Sequence[str], dev: int, rows: Mapping[str, Summary], command: str) -> None:
    """Write the model card of a run."""
    models = trainee.rag.models
    base = {
        "language model": models.generator or "SmolLM2-135M-Instruct (packaged)",
        "adapter": shown_adapter(starting_adapter(models)),
        "encoder": models.encoder or "all-MiniLM-L6-v2 (packaged)",
    }
    purpose = "for early stopping" if trainee.settings.keep == "best" else "while it trained"
    data = [
        f"{', '.join(sources)}: {len(trainee.pairs)} training pairs (sha256 {digest(trainee.pairs)[:16]})",
        f"{dev} held-out pairs, {len(trainee.dev)} of them looked at {purpose}",
    ]
    mixture: dict[str, Any] = asdict(trainee.rag.settings)
    results = table(rows) if rows else ["Not scored."]
    title = f"{trainee.folder.name}: {', '.join(trainee.settings.parts)} trained on question-answer pairs"
    shown = {role: str(name) for role, name in base.items()}
    write_card(trainee.folder, Card(title, shown, data, trainee.settings, mixture, results, command))

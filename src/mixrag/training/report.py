"""Before and after: the scores of a run, of what it started from, and of its baselines, on held-out pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from mixrag.answers.confidence import FILE, write_calibration
from mixrag.answers.pipeline import Pipeline
from mixrag.errors import PairsError
from mixrag.evaluation import Summary, markdown_table, score_pairs, summarise
from mixrag.evaluation.records import RECORDS
from mixrag.evaluation.refit import read_answers, refit
from mixrag.inference.decoders import recorded
from mixrag.inference.length import reserved
from mixrag.pairs.pairs import Pair, digest
from mixrag.retrieval.encoders import reference_of
from mixrag.retrieval.index import ExactIndex
from mixrag.retrieval.retriever import StoreRetriever
from mixrag.training.examples import check_fits
from mixrag.training.output import Card, write_card
from mixrag.training.run_spec import RunSpec, shown_adapter, starting_adapter
from mixrag.training.span_models import reader_start
from mixrag.training.trainable_prior import TrainablePrior
from mixrag.utils.progress import Progress


def check_scorable(rag: Pipeline, pairs: Sequence[Pair]) -> None:
    """Refuse held-out pairs that could not be scored.

    Raises:
        PairsError: question and answer do not fit into the model's context.
    """
    if not pairs:
        return
    generator = Pipeline(rag.store, models=rag.models).generator  # training loads its own
    for pair in pairs:
        longest = max(len(generator.answer_tokens(answer)) for answer in pair.answers)
        check_fits(pair, generator, max(reserved(rag.settings.max_tokens, generator), longest))


def score_start(spec: RunSpec, pairs: Sequence[Pair], progress: Progress) -> Summary:
    """Scores of the models that training starts from, loaded again: training changes its own in place."""
    rag = spec.rag
    fresh = Pipeline(rag.store, models=rag.models, index=rag.index_kind, settings=rag.settings)
    return _scored(fresh, spec, "start", pairs, progress)


def score_result(spec: RunSpec, pairs: Sequence[Pair], progress: Progress) -> Summary:
    """Scores of the folder that training wrote, opened as a user would."""
    rag = spec.rag
    models = rag.models
    # How the models are loaded, without which.
    named = ("generator", "adapter", "encoder", "question_encoder", "prompt", "titles")
    nothing: dict[str, Any] = dict.fromkeys(named)
    with Pipeline.open(rag.store.location, model=spec.folder, models=replace(models, **nothing)) as opened:
        fitted: dict[str, Any] = {
            name: getattr(opened.settings, name) for name in ("temperature", "null", "empty_answer")
        }
        settings = replace(rag.settings, **fitted)
        retriever = None
        if spec.settings.trains_passages:
            # The store's passages under the trained encoder; the store itself is re-embedded by its owner.
            encoder: Any = reference_of(opened.encoder)
            prior = TrainablePrior(rag.store, encoder, opened.settings, frozenset())
            prior.refresh(0)
            retriever = StoreRetriever(rag.store, opened.encoder, ExactIndex(prior.rows, prior.vectors.numpy()))
        scored = Pipeline(
            rag.store,
            encoder=opened.encoder,
            generator=opened.generator,
            models=opened.models,
            index=rag.index_kind,
            settings=settings,
            retriever=retriever,
        )
        return _scored(scored, spec, "trained", pairs, progress)


def write_confidence(spec: RunSpec) -> str:
    """Fit a confidence on the answers that ``score_result`` stored, beside the weights; what was done, in words.

    Some of these pairs may have chosen when training stopped: their answers are slightly better than new ones.
    """
    name = f"{spec.folder.name}, held-out pairs"
    try:
        found = refit([replace(read_answers(str(spec.folder / RECORDS), "trained"), name=name)])
    except PairsError as error:
        (spec.folder / FILE).unlink(missing_ok=True)  # of an earlier run
        return f"no confidence: {error}"
    write_calibration(found.calibration, spec.folder / FILE)
    return f"{FILE}: {found.calibration.method}, fitted on {found.calibration.fitted_on}"


def _scored(rag: Pipeline, spec: RunSpec, system: str, pairs: Sequence[Pair], progress: Progress) -> Summary:
    records = score_pairs(
        rag,
        pairs,
        {},
        out=spec.folder / RECORDS,
        system=system,
        progress=progress,
    )
    return summarise(records)


def table(rows: Mapping[str, Summary]) -> list[str]:
    """The Markdown table and what its columns mean, as lines."""
    count = next(iter(rows.values())).n
    return [
        f"{count} held-out questions; means with bootstrap 95 % intervals. EM and F1 as SQuAD defines them;",
        "recall@5: share of questions with a relevant passage among the first five; NLL/answer: -log p(gold",
        "answer), in nats.",
        "",
        *markdown_table(rows).splitlines(),
    ]


def card(spec: RunSpec, sources: Sequence[str], dev: int, rows: Mapping[str, Summary], command: str) -> None:
    """Write the model card of a run."""
    models = spec.rag.models
    kind = "language model" if reader_start(models) is None else "extractive reader"
    base = {
        kind: models.generator or "SmolLM2-135M-Instruct (packaged)",
        "adapter": shown_adapter(starting_adapter(models)),
        "encoder": models.encoder or "all-MiniLM-L6-v2 (packaged)",
    }
    purpose = "for early stopping" if spec.settings.keep == "best" else "while it trained"
    data = [
        f"{', '.join(sources)}: {len(spec.pairs)} training pairs (sha256 {digest(spec.pairs)[:16]})",
        f"{dev} held-out pairs, {len(spec.dev)} of them scored {purpose}",
    ]
    mixture = recorded(spec.rag.settings)
    results = table(rows) if rows else ["Not scored."]
    title = f"{spec.folder.name}: {', '.join(spec.settings.parts)} trained on question-answer pairs"
    shown = {role: str(name) for role, name in base.items()}
    write_card(spec.folder, Card(title, shown, data, spec.settings, mixture, results, command))

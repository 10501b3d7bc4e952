"""A training run from end to end: models opened, trained, and written to a folder that ``--model`` opens."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import torch

from mixrag.answers.pipeline import Pipeline
from mixrag.config.bundle import MODELS, NO_ADAPTER, Bundle, write_bundle
from mixrag.config.engine_choice import TORCH
from mixrag.config.settings import trained_settings
from mixrag.config.training_settings import SCALARS
from mixrag.corpus import check_encoder
from mixrag.errors import ModelError, SettingError
from mixrag.generator import CausalGenerator, ExtractiveGenerator, load_configured, load_generator
from mixrag.generator.adapter import CONFIG, WEIGHTS
from mixrag.generator.engines import runs_torch
from mixrag.generator.huggingface import ModelGenerator
from mixrag.generator.mixed import language_model_of
from mixrag.retrieval.encoders import SentenceEncoder, reference_of
from mixrag.training.calibrate import FittedScalars, calibrate
from mixrag.training.checkpoint import has_checkpoint
from mixrag.training.composite_run import CompositeRun
from mixrag.training.examples import Example, examples_from, passage_examples
from mixrag.training.finished import Finished, clear, finish, finished
from mixrag.training.generators import TrainableGenerator
from mixrag.training.loop import Loop, LoopState
from mixrag.training.optimiser import parts
from mixrag.training.output import save_adapter, save_encoders, save_generator, save_part
from mixrag.training.run_spec import RunSpec, claim, fingerprint, refuse_other, starting_adapter, starting_prompt
from mixrag.training.span_answers import answered_by_spans
from mixrag.training.span_models import ReaderStart, check_reader, reader_start, save_reader, trainable_reader
from mixrag.training.step import TrainingStep
from mixrag.training.trainable_prior import TrainablePrior
from mixrag.training.trainable_spans import LearningGenerator, Trainable, TrainableSpans
from mixrag.utils.progress import Progress, guarded

_logger = logging.getLogger("mixrag.training")
NO_SECOND_LOOK = (
    "question_likelihood takes no part in training, which is under the prior as retrieved; it stays set"
)


@dataclass(frozen=True)
class RunResult:
    """What a run did."""

    bundle: Bundle
    """The folder that it wrote."""
    state: LoopState | None
    """None for a calibration."""
    calibration: FittedScalars | None
    notices: tuple[str, ...] = field(default=())
    main: bool = True
    """False in all but the first of several processes; the first one writes and scores."""


def train(spec: RunSpec, progress: Progress | None = None, stage: str = "training") -> RunResult:
    """Train, and write the folder; the same call continues where a killed one stopped.

    ``stage`` is what the progress of its steps is called.

    Raises:
        SettingError: parts that the models or the mixture do not have.
        PairsError: too few pairs, or none that fits.
        CheckpointError: the folder belongs to another run.
        TrainingError: a loss that is not finite, or a full disk.
    """
    report = guarded(progress)
    start = reader_start(spec.rag.models)
    _check(spec, start)
    run_id = fingerprint(spec, None if start is None else start.digest)
    accelerator = _accelerator(spec.rag.models.device)
    main = bool(accelerator.is_main_process)
    refuse_other(spec.folder, run_id)
    done = finished(spec.folder, run_id)
    accelerator.wait_for_everyone()
    if done is not None:
        _logger.info(f"{spec.folder} is finished: nothing is trained")
        if main:
            clear(spec.folder)
        return RunResult(done.bundle, done.state, done.calibration, done.notices, main)
    torch.manual_seed(spec.settings.seed)
    _logger.info("loading the models")
    trained = _trainable_generator(spec, start) if "generator" in spec.settings.parts else None
    prior = _trainable_prior(spec)
    notices: list[str] = []
    state: LoopState | None = None
    left_out = [NO_SECOND_LOOK] if spec.rag.settings.question_likelihood > 0.0 else []
    left_out += _of_two(spec, start)
    for notice in left_out:
        _logger.info(notice)
    if spec.settings.objective == "composite":
        assert trained is not None
        state, calibration = CompositeRun(
            spec,
            trained,
            prior,
            run_id,
            accelerator,
            report,
            stage,
            lambda: claim(spec.folder, run_id, accelerator),
        ).learn()
    else:
        state, calibration, notices = _learn(spec, trained, prior, run_id, accelerator, report, stage)
    notices += left_out
    written = None
    if main:
        written = write(spec, trained, prior, start)
        finish(spec.folder, run_id, Finished(written, state, calibration, tuple(notices)))
    accelerator.wait_for_everyone()
    bundle = written or describe(spec, {}, prior)
    return RunResult(bundle, state, calibration, tuple(notices), main)


def _learn(
    spec: RunSpec,
    trained: Trainable | None,
    prior: TrainablePrior | None,
    run_id: Mapping[str, str],
    accelerator: Any,
    report: Progress,
    stage: str,
) -> tuple[LoopState | None, FittedScalars | None, list[str]]:
    """By an objective of the mixture: all parts at once, or a calibration; with notices about the pairs."""
    generator = trained.generator if trained else _frozen_generator(spec.rag)
    examples, dev, notices = _examples(spec, generator)
    if isinstance(generator, ExtractiveGenerator):
        assert prior is not None
        examples, dev, more = answered_by_spans(examples, dev, generator, prior, spec.settings, report)
        notices += more
    if prior is not None:
        prior.place_null(examples)
    step = TrainingStep(prior, generator, trained, spec.settings, spec.rag.settings)
    for notice in notices:
        _logger.info(notice)
    if set(spec.settings.parts) <= SCALARS:
        claim(spec.folder, run_id, accelerator)
        return None, calibrate(step, examples), notices
    loop = _loop(spec, step, examples, dev, spec.folder, run_id, accelerator, report, stage)
    _logger.info(f"{len(examples)} pairs, {loop.total} steps of {spec.settings.batch}")
    claim(spec.folder, run_id, accelerator)
    if spec.passages_first:
        _learn_passages(spec, step, run_id, accelerator, report, len(examples) + len(dev))
    return loop.run(), None, notices


def write(
    spec: RunSpec, trained: Trainable | None, prior: TrainablePrior | None, start: ReaderStart | None = None
) -> Bundle:
    """Save what was trained, then the config that opens it."""
    folder, saved = spec.folder, dict[str, str]()
    if isinstance(trained, TrainableSpans):
        assert start is not None
        saved["generator"] = save_part(folder, "generator", save_reader(trained, start, spec.rag.models))
    elif trained is not None and trained.adapted is not None:
        saved["adapter"] = save_part(folder, "adapter", save_adapter(trained))
    elif trained is not None:
        saved["generator"] = save_part(folder, "generator", save_generator(trained))
    else:
        saved |= _copied_adapter(spec)
    if prior is not None:
        saved |= save_encoders(folder, prior)
    described = describe(spec, saved, prior)
    write_bundle(described)
    return described


def describe(spec: RunSpec, saved: Mapping[str, str], prior: TrainablePrior | None) -> Bundle:
    """The config of the folder: what is in it, and what is still taken from elsewhere."""
    models = spec.rag.models
    settings = spec.rag.settings if prior is None else prior.retrieval_settings()
    if spec.settings.objective == "composite" and spec.settings.empty_weight:
        settings = replace(settings, empty_answer=True)
    given = {name: getattr(models, name) for name in MODELS}
    names = {name: None if value is None else str(value) for name, value in given.items()}
    return Bundle(
        folder=spec.folder,
        generator=saved.get("generator", names["generator"]),
        adapter=saved.get("adapter", "none" if "generator" in saved else names["adapter"]),
        encoder=saved.get("encoder", names["encoder"]),
        question_encoder=saved.get("question_encoder", names["question_encoder"]),
        span_reader=names["span_reader"],
        settings=trained_settings(settings),
        prompt=starting_prompt(models).fields(),
        titles=models.titles if prior is None else prior.encoder.titles,
    )


def check_named_models(rag: Pipeline) -> None:
    """Refuse models given as objects: training changes weights in place, and its folder names where it began.

    Raises:
        ModelError: there is one.
    """
    for role in ("generator", "encoder", "question_encoder", "tokenizer"):
        model = rag.given(role)
        if model is not None and not isinstance(model, (str, Path)):
            remedy = "save it (save_pretrained) and give the folder"
            raise ModelError(f"a path or name as {role} in training", f"a {type(model).__name__} object", remedy)


def _of_two(spec: RunSpec, start: ReaderStart | None) -> list[str]:
    """What is said where a folder may have both a language model and an extractive reader."""
    other = spec.rag.models.span_reader
    if start is not None and "generator" in spec.settings.parts:
        return [
            "the extractive reader is trained, alone; --generator language-model trains a language model beside it"
        ]
    if start is None and other is not None and str(other) != NO_ADAPTER:
        return ["the language model is trained, alone; --generator extractive trains the reader beside it"]
    return []


def _check(spec: RunSpec, start: ReaderStart | None) -> None:
    check_named_models(spec.rag)
    if start is not None:
        check_reader(spec.settings, spec.rag.settings)
    settings, mixture = spec.settings, spec.rag.settings
    if mixture.weights == "uniform" or mixture.max_outside is not None:
        expected = "the retriever's own weights and a fixed k in training"
        raise SettingError(expected, "weights or max_outside that are set", "leave them out")
    if mixture.k == 0 and settings.trains_retriever:
        raise SettingError(
            "--parts generator where no passage is retrieved (k = 0)", str(settings.parts), "set it"
        )
    if settings.objective == "composite" and (mixture.k == 0 or mixture.group != 1):
        found = f"k {mixture.k}, group {mixture.group}"
        raise SettingError("-k 1 or more and --group 1 for the composite objective", found, "set them")
    alone = mixture.group == "all" or (mixture.k != "all" and mixture.group >= mixture.k)
    certain = alone and mixture.null is None and mixture.normaliser == "top-k"
    if certain and settings.trains_retriever:
        found = "one component, whose prior is 1 whatever the retriever says"
        raise SettingError("several components to train a retriever", found, "use --parts generator, or --group 1")


def _accelerator(device: str | None) -> Any:
    from accelerate import Accelerator, InitProcessGroupKwargs  # type: ignore[import-untyped]

    # The other processes wait while the first one scores.
    patient = InitProcessGroupKwargs(timeout=timedelta(days=1))
    return Accelerator(cpu=device == "cpu" or not torch.cuda.is_available(), kwargs_handlers=[patient])


def _frozen_generator(rag: Pipeline) -> LearningGenerator:
    generator = language_model_of(rag.generator)
    if not runs_torch(generator):
        generator = _with_torch(rag)
    if not isinstance(generator, ModelGenerator | ExtractiveGenerator):
        found = type(generator).__name__
        raise ModelError("a causal, seq2seq or extractive model", found, "train with a model")
    if isinstance(generator, CausalGenerator):
        # The last bits of cached states depend on the batch they were read in: a resumed run would differ.
        return replace(generator, prefix_cache_bytes=None)
    return generator


def _with_torch(rag: Pipeline) -> ModelGenerator:
    """The language model once more, run by torch: what is learnt does not depend on how questions are answered."""
    return cast(ModelGenerator, load_configured(replace(rag.models, engine=TORCH, span_reader=None)))


def _trainable_generator(spec: RunSpec, reader: ReaderStart | None) -> Trainable:
    """The model in float32: bfloat16 is a matter of its products (autocast), not of what is learnt."""
    models, lora = spec.rag.models, spec.settings.method == "lora"
    if reader is not None:
        return trainable_reader(models, starting_prompt(models), spec.settings, reader)
    generator = load_generator(
        models.generator,
        tokenizer=models.tokenizer,
        template=starting_prompt(models),
        dtype="float32",
        device=models.device,
        revision=models.revision,
        token=models.token,
        adapter="none" if lora else models.adapter,
        prefix_cache=0,
    )
    if not isinstance(generator, ModelGenerator):
        raise ModelError("a causal or seq2seq model", type(generator).__name__, "train with a model")
    start = starting_adapter(models) if lora else None
    return TrainableGenerator(generator, spec.settings, start)


def _trainable_prior(spec: RunSpec) -> TrainablePrior | None:
    rag = spec.rag
    if rag.settings.k == 0 or not _retrieves(spec):
        return None
    encoder = reference_of(rag.encoder)
    if not isinstance(encoder, SentenceEncoder):
        raise ModelError("a sentence-transformers encoder", type(encoder).__name__, "train with one")
    check_encoder(rag.store, encoder.name, encoder.fingerprint)
    retriever_parts = frozenset(spec.settings.parts) - {"generator"}
    return TrainablePrior(rag.store, encoder, rag.settings, retriever_parts)


def _retrieves(spec: RunSpec) -> bool:
    """False where every pair has a passage of its own and the retriever is not trained: no store is needed."""
    retriever = spec.settings.trains_retriever
    return retriever or any(pair.passage is None for pair in (*spec.pairs, *spec.dev))


def _examples(spec: RunSpec, generator: LearningGenerator) -> tuple[list[Example], list[Example], list[str]]:
    limit = spec.settings.max_answer_tokens
    examples, notices = examples_from(spec.pairs, generator, limit)
    if not spec.dev:
        return examples, [], notices
    # Dev answers are scored, never learnt: those too long for training count all the same.
    dev_limit = max(limit, generator.context_size // 2)
    dev, more = examples_from(spec.dev, generator, dev_limit, len(examples), reserve=limit)
    return examples, dev, notices + more


def _loop(
    spec: RunSpec,
    step: TrainingStep,
    examples: Sequence[Example],
    dev: Sequence[Example],
    folder: Path,
    run_id: Mapping[str, str],
    accelerator: Any,
    progress: Progress,
    stage: str,
) -> Loop:
    settings = spec.settings
    prior, trained = step.prior, step.trained
    weights = parts(
        trained.weights() if trained else {},
        prior.weights() if prior else {},
        prior.scalars() if prior else {},
        settings,
    )
    return Loop(step, weights, examples, dev, settings, folder, run_id, accelerator, progress, stage)


def _learn_passages(
    spec: RunSpec,
    step: TrainingStep,
    run_id: Mapping[str, str],
    accelerator: Any,
    progress: Progress,
    first: int,
) -> None:
    """One visit of every passage as plain text, in a loop of its own below the folder."""
    if has_checkpoint(spec.folder / "checkpoints"):
        return  # the pairs are already under way, from weights that know the passages
    rows, _ = spec.rag.store.vectors()
    assert isinstance(step.generator, ModelGenerator)
    texts = passage_examples(spec.rag.store.passages(rows), step.generator, first)
    batch = min(spec.settings.batch, len(texts))
    settings = replace(spec.settings, epochs=1.0, steps=None, batch=batch)
    once = replace(spec, settings=settings)
    _loop(
        once, step, texts, [], spec.folder / "passages", run_id, accelerator, progress, "learning passages"
    ).run()


def _copied_adapter(spec: RunSpec) -> dict[str, str]:
    """An adapter that was used but not trained goes along, so that the folder is complete."""
    adapter = spec.rag.models.adapter
    if adapter is None or str(adapter) == "none":
        return {}
    source = Path(adapter).expanduser()

    def copy(folder: Path) -> None:
        folder.mkdir()
        for name in (CONFIG, WEIGHTS):
            shutil.copyfile(source / name, folder / name)

    return {"adapter": save_part(spec.folder, "adapter", copy)}

"""A training run from end to end: models opened, trained, and written to a folder that ``--model`` opens."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import torch

from mixrag.answers.pipeline import Pipeline
from mixrag.config.bundle import MODELS, Bundle, write_bundle
from mixrag.config.settings import Settings, trained_settings
from mixrag.config.training_settings import SCALARS
from mixrag.corpus import check_encoder
from mixrag.errors import ModelError, SettingError
from mixrag.generator import CausalGenerator, load_generator
from mixrag.generator.adapter import CONFIG, WEIGHTS
from mixrag.generator.huggingface import ModelGenerator
from mixrag.retrieval.encoders import SentenceEncoder
from mixrag.training.calibrate import FittedScalars, calibrate
from mixrag.training.checkpoint import has_checkpoint
from mixrag.training.examples import Example, examples_from, passage_examples
from mixrag.training.generators import TrainableGenerator
from mixrag.training.loop import Listener, Loop, LoopState
from mixrag.training.optimiser import parts
from mixrag.training.output import save_adapter, save_encoders, save_generator, save_part
from mixrag.training.run_spec import RunSpec, claim, fingerprint, refuse_other, starting_adapter, starting_prompt
from mixrag.training.step import TrainingStep
from mixrag.training.trainable_prior import TrainablePrior


@dataclass(frozen=True)
class Result:
    """What a run did."""

    trained: Bundle
    progress: LoopState | None
    """None for a calibration."""
    calibration: FittedScalars | None
    notices: tuple[str, ...] = field(default=())
    main: bool = True
    """False in all but the first of several processes; the first one writes and scores."""


def train(trainee: RunSpec, listener: Listener) -> Result:
    """Train, and write the folder; the same call goes on where a killed one stopped.

    Raises:
        SettingError: parts that the models or the mixture do not have.
        PairsError: too few pairs, or none that fits.
        CheckpointError: the folder belongs to another run.
        TrainingError: a loss that is not finite, or a full disk.
    """
    _check(trainee)
    print_of_run = fingerprint(trainee)
    accelerator = _accelerator(trainee.rag.models.device)
    refuse_other(trainee.folder, print_of_run)
    accelerator.wait_for_everyone()
    torch.manual_seed(trainee.settings.seed)
    trained = _trainable_generator(trainee) if "generator" in trainee.settings.parts else None
    generator = trained.generator if trained else _frozen_generator(trainee.rag)
    prior = _trainable_prior(trainee)
    examples, dev, notices = _examples(trainee, generator)
    if prior is not None:
        prior.place_null(examples)
    step = TrainingStep(prior, generator, trained, trainee.settings, trainee.rag.settings)
    for notice in notices:
        listener.noticed(notice)
    progress = calibration = None
    if set(trainee.settings.parts) <= SCALARS:
        claim(trainee.folder, print_of_run, accelerator)
        calibration = calibrate(step, examples)
    else:
        loop = _loop(trainee, step, examples, dev, trainee.folder, print_of_run, accelerator, listener)
        claim(trainee.folder, print_of_run, accelerator)
        if trainee.passages_first:
            _learn_passages(trainee, step, print_of_run, accelerator, listener, len(examples) + len(dev))
        progress = loop.run()
    written = None
    if accelerator.is_main_process:
        written = write(trainee, trained, prior)
    accelerator.wait_for_everyone()
    described = written or describe(trainee, {}, prior)
    return Result(described, progress, calibration, tuple(notices), bool(accelerator.is_main_process))


def write(trainee: RunSpec, trained: TrainableGenerator | None, prior: TrainablePrior | None) -> Bundle:
    """Save what was trained, then the config that opens it."""
    folder, saved = trainee.folder, dict[str, str]()
    if trained is not None and trained.adapted is not None:
        saved["adapter"] = save_part(folder, "adapter", save_adapter(trained))
    elif trained is not None:
        saved["generator"] = save_part(folder, "generator", save_generator(trained))
    else:
        saved |= _copied_adapter(trainee)
    if prior is not None:
        saved |= save_encoders(folder, prior)
    described = describe(trainee, saved, prior)
    write_bundle(described)
    return described


def describe(trainee: RunSpec, saved: Mapping[str, str], prior: TrainablePrior | None) -> Bundle:
    """The config of the folder: what is in it, and what is still taken from elsewhere."""
    models = trainee.rag.models
    settings = trainee.rag.settings if prior is None else prior.retrieval_settings()
    given = {name: getattr(models, name) for name in MODELS}
    names = {name: None if value is None else str(value) for name, value in given.items()}
    return Bundle(
        folder=trainee.folder,
        generator=saved.get("generator", names["generator"]),
        adapter=saved.get("adapter", "none" if "generator" in saved else names["adapter"]),
        encoder=saved.get("encoder", names["encoder"]),
        question_encoder=saved.get("question_encoder", names["question_encoder"]),
        settings=trained_settings(settings),
        prompt=asdict(starting_prompt(models)),
        titles=models.titles if prior is None else prior.encoder.titles,
    )


def _check(trainee: RunSpec) -> None:
    settings, mixture = trainee.settings, trainee.rag.settings
    if mixture.weights == "uniform" or mixture.max_outside is not None:
        expected = "the retriever's own weights and a fixed k in training"
        raise SettingError(expected, "weights or max_outside that are set", "leave them out")
    if mixture.k == 0 and settings.trains_retriever:
        raise SettingError(
            "--parts generator where no passage is retrieved (k = 0)", str(settings.parts), "set it"
        )
    if _is_one_component(mixture) and settings.trains_retriever:
        found = "one component, whose prior is 1 whatever the retriever says"
        raise SettingError("several components to train a retriever", found, "use --parts generator, or --group 1")


def _is_one_component(mixture: Settings) -> bool:
    """True where the one component's prior is 1 whatever the retriever says."""
    alone = mixture.group == "all" or (mixture.k != "all" and mixture.group >= mixture.k)
    return alone and mixture.null is None and mixture.normaliser == "top-k"


def _accelerator(device: str | None) -> Any:
    from accelerate import Accelerator, InitProcessGroupKwargs  # type: ignore[import-untyped]

    # The other processes wait while the first one scores.
    patient = InitProcessGroupKwargs(timeout=timedelta(days=1))
    return Accelerator(cpu=device == "cpu" or not torch.cuda.is_available(), kwargs_handlers=[patient])


def _frozen_generator(rag: Pipeline) -> ModelGenerator:
    if not isinstance(rag.generator, ModelGenerator):
        raise ModelError("a causal or seq2seq model", type(rag.generator).__name__, "train with a model")
    if isinstance(rag.generator, CausalGenerator):
        # The last bits behind passages read before depend on what was read with them: a resumed run would differ.
        return replace(rag.generator, passage_budget=None)
    return rag.generator


def _trainable_generator(trainee: RunSpec) -> TrainableGenerator:
    """The model in float32: bfloat16 is a matter of its products (autocast), not of what is learnt."""
    models, lora = trainee.rag.models, trainee.settings.method == "lora"
    generator = load_generator(
        models.generator,
        template=starting_prompt(models),
        dtype="float32",
        device=models.device,
        adapter="none" if lora else models.adapter,
        prefix_cache=0,
    )
    start = starting_adapter(models) if lora else None
    return TrainableGenerator(cast(ModelGenerator, generator), trainee.settings, start)


def _trainable_prior(trainee: RunSpec) -> TrainablePrior | None:
    rag = trainee.rag
    if rag.settings.k == 0:
        return None
    if not isinstance(rag.encoder, SentenceEncoder):
        raise ModelError("a sentence-transformers encoder", type(rag.encoder).__name__, "train with one")
    check_encoder(rag.store, rag.encoder.name, rag.encoder.fingerprint)
    retriever_parts = frozenset(trainee.settings.parts) - {"generator"}
    return TrainablePrior(rag.store, rag.encoder, rag.settings, retriever_parts)


def _examples(trainee: RunSpec, generator: ModelGenerator) -> tuple[list[Example], list[Example], list[str]]:
    limit = trainee.settings.max_answer_tokens
    examples, notices = examples_from(trainee.pairs, generator, limit)
    if not trainee.dev:
        return examples, [], notices
    # Dev answers are scored, never learnt: those too long for training count all the same.
    dev_limit = max(limit, generator.context_size // 2)
    dev, more = examples_from(trainee.dev, generator, dev_limit, len(examples), reserve=limit)
    return examples, dev, notices + more


def _loop(
    trainee: RunSpec,
    step: TrainingStep,
    examples: Sequence[Example],
    dev: Sequence[Example],
    folder: Path,
    print_of_run: Mapping[str, str],
    accelerator: Any,
    listener: Listener,
) -> Loop:
    settings = trainee.settings
    prior, trained = step.prior, step.trained
    weights = parts(
        trained.weights() if trained else {},
        prior.weights() if prior else {},
        prior.scalars() if prior else {},
        settings,
    )
    return Loop(step, weights, examples, dev, settings, folder, print_of_run, accelerator, listener)


def _learn_passages(
    trainee: RunSpec,
    step: TrainingStep,
    print_of_run: Mapping[str, str],
    accelerator: Any,
    listener: Listener,
    first: int,
) -> None:
    """One visit of every passage as plain text, in a loop of its own below the folder."""
    if has_checkpoint(trainee.folder / "checkpoints"):
        return  # the pairs are already under way, from weights that know the passages
    rows, _ = trainee.rag.store.vectors()
    texts = passage_examples(trainee.rag.store.passages(rows), step.generator, first)
    batch = min(trainee.settings.batch, len(texts))
    settings = replace(trainee.settings, epochs=1.0, steps=None, batch=batch)
    once = replace(trainee, settings=settings)
    _loop(once, step, texts, [], trainee.folder / "passages", print_of_run, accelerator, listener).run()


def _copied_adapter(trainee: RunSpec) -> dict[str, str]:
    """An adapter that was used but not trained goes along, so that the folder stands by itself."""
    adapter = trainee.rag.models.adapter
    if adapter is None or str(adapter) == "none":
        return {}
    source = Path(adapter).expanduser()

    def copy(folder: Path) -> None:
        for name in (CONFIG, WEIGHTS):
            shutil.copyfile(source / name, folder / name)

    return {"adapter": save_part(trainee.folder, "adapter", copy)}

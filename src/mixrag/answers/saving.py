"""A pipeline as a folder that opens elsewhere: models, settings, prompt and confidence, and nothing of the store.

Models on this machine and models given as objects become sub-folders; names of a hub stay names. The files of
the folder name no path of this machine, so that it can be published.
"""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path, PureWindowsPath
from typing import Any

from mixrag.answers.confidence import EIGHT_BITS, FILE, write_calibration
from mixrag.answers.guarantee_file import FILE as GUARANTEE_FILE
from mixrag.answers.guarantee_file import write_guarantee
from mixrag.answers.pipeline import Pipeline
from mixrag.config.bundle import CONFIG, NO_ADAPTER, Bundle, read_bundle, write_bundle
from mixrag.config.default_models import EXTRACTIVE, span_model_folder
from mixrag.config.engine_choice import LLAMACPP, OPENVINO, TORCH, engine_of
from mixrag.config.model_config import completed, models_digest
from mixrag.config.schema import settings_of
from mixrag.config.settings import Settings, trained_settings
from mixrag.errors import MixragError, ModelError, OutputError
from mixrag.generator.adapter import CONFIG as ADAPTER_CONFIG
from mixrag.generator.adapter import WEIGHTS as ADAPTER_WEIGHTS
from mixrag.generator.extractive import ExtractiveGenerator
from mixrag.generator.huggingface import ModelGenerator
from mixrag.generator.loading import default_prompt
from mixrag.generator.mixed import MixedGenerator, language_model_of
from mixrag.generator.names import gguf_parts
from mixrag.generator.prompt_tokenizer import PromptTokenizer
from mixrag.generator.span_loading import save_answer_tokenizer, save_extractive
from mixrag.retrieval.encoders.sentence import SentenceEncoder
from mixrag.utils.arguments import path_given
from mixrag.utils.atomic import replace_atomically
from mixrag.utils.hashing import MODEL_FILES, NOT_MODEL_FILES
from mixrag.utils.quiet import quiet_libraries
from mixrag.utils.text import markdown_cell

CARD = "README.md"
FOLDERS = {
    "generator": "generator",
    "adapter": "adapter",
    "encoder": "encoder",
    "question_encoder": "question-encoder",
    "span_reader": "span_reader",
}
"""Sub-folder of each model."""
COPIED = (*MODEL_FILES, "*.jinja")
"""Files of a model's folder that go along: weights, configuration, vocabulary, chat template."""
NO_SETTINGS = frozenset({"tokenizer.json", "vocab.json", "added_tokens.json"})
"""JSON files of words, in which no path is looked for."""
_logger = logging.getLogger("mixrag.answers")


def save_pipeline(rag: Pipeline, folder: str | Path, title: str | None = None) -> Path:
    """Write a bundle: ``mixrag.json``, models, ``confidence.json`` and a model card, ``title`` above it.

    Returns:
        The folder, which ``Pipeline.open(store, model=folder)`` takes.

    Raises:
        OutputError: the folder is in use for something else, or cannot be written.
        ModelError: a model that cannot be saved.
    """
    target = path_given(folder, "folder").expanduser()
    try:
        own = {CONFIG, FILE, EIGHT_BITS, GUARANTEE_FILE, CARD, *FOLDERS.values()}
        others = [path.name for path in target.iterdir() if path.name not in own] if target.exists() else []
        if others:
            raise OutputError(
                "a new folder, or one of a saved bundle", f"{min(others)} in {folder}", "name another"
            )
        with quiet_libraries():
            replace_atomically(target, lambda path: _fill(rag, path, title or target.name))
    except MixragError:
        raise
    except Exception as error:  # of the disk, or of the library that saves a model
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise OutputError(
            "a bundle to be written", f"{folder}: {reason}", "free the disk, or name another"
        ) from error
    return target


def publish(
    rag: Pipeline, repo_id: str, token: str | bool | None, private: bool | None, revision: str | None
) -> str:
    """Upload the bundle to a repository of the Hugging Face hub, which is made if there is none.

    Returns:
        The address of the commit.

    Raises:
        ModelError: a model that cannot be saved.
        OutputError: the hub does not take it.
    """
    from huggingface_hub import HfApi

    with tempfile.TemporaryDirectory(prefix="mixrag-") as scratch:
        folder = save_pipeline(rag, Path(scratch) / "bundle", title=repo_id)
        if foreign := next(_machine_paths(folder), None):
            raise OutputError("a bundle without paths of this machine", foreign, "name the model by its hub name")
        try:
            api = HfApi(token=token)
            api.create_repo(repo_id, private=private, exist_ok=True)
            if revision is not None:
                api.create_branch(repo_id, branch=revision, exist_ok=True)
            with quiet_libraries():
                commit = api.upload_folder(
                    repo_id=repo_id,
                    folder_path=str(folder),
                    revision=revision,
                    commit_message="Upload a mixrag bundle",
                )
        except Exception as error:  # of the network, of the hub, of an invalid name
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            remedy = "check the name and the network, and log in (hf auth login) or give a token"
            raise OutputError(f"the repository {repo_id} to upload to", reason, remedy) from error
    return str(commit.commit_url)


def bundle_folder(name: str | Path, token: str | bool | None, revision: str | None) -> Path:
    """The folder of a bundle: a path on this machine, or a repository of the hub, which is downloaded.

    Raises:
        ModelError: neither.
    """
    path = path_given(name, "folder").expanduser()
    if (
        path.is_dir()
        or isinstance(name, Path)
        or str(name).count("/") != 1
        or str(name).startswith((".", "~", "/"))
    ):
        return path
    from huggingface_hub import snapshot_download

    try:
        with quiet_libraries():
            return Path(snapshot_download(str(name), token=token, revision=revision))
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        remedy = "check the path or the name, and the network"
        raise ModelError(f"a folder, or a repository of the hub, at {name!r}", reason, remedy) from error


def _fill(rag: Pipeline, folder: Path, title: str) -> None:
    folder.mkdir(parents=True)
    models = rag.models
    generator, adapter = _save_generator(rag, folder), _save_adapter(rag, folder)
    given = rag.given("generator")
    prompt = models.prompt
    if prompt is None and isinstance(given, (str, Path, type(None))):
        prompt = default_prompt(given, models.adapter)
    elif prompt is None and (tokens := _prompts_of(language_model_of(rag.generator))) is not None:
        prompt = tokens.template
    elif prompt is None and isinstance(rag.generator, ExtractiveGenerator):
        prompt = rag.generator.answers.tokens.template
    bundle = Bundle(
        folder=folder,
        generator=generator,
        adapter=adapter,
        encoder=_save_encoder(rag, folder, "encoder"),
        question_encoder=_save_encoder(rag, folder, "question_encoder"),
        settings=trained_settings(rag.settings),
        prompt=None if prompt is None else prompt.with_arguments(models.template_args).fields(),
        span_reader=_save_span_reader(rag, folder),
        titles=models.titles,
    )
    write_bundle(bundle)
    # The same models, whose files may have other names here, by each engine that a calibration can be for.
    nothing: dict[str, Any] = dict.fromkeys((*FOLDERS, "tokenizer"))
    used: dict[str, Any] = {"engine": engine_of(models)}
    torch = replace(models, engine=TORCH)
    by_engine = [replace(models, **used), torch, replace(torch, dtype="int8"), replace(models, engine=OPENVINO)]
    moved = {
        models_digest(each): models_digest(completed(replace(each, **nothing), read_bundle(folder)))
        for each in by_engine
    }
    held = [each for each in rag.calibrations if each.models in ("", *moved)]
    for calibration, name in zip(held, (FILE, EIGHT_BITS), strict=False):
        write_calibration(replace(calibration, models=moved.get(calibration.models, "")), folder / name)
    guarantee = rag.guarantee
    if held and guarantee is not None and guarantee.models in moved:
        write_guarantee(replace(guarantee, models=moved[guarantee.models]), folder / GUARANTEE_FILE)
    (folder / CARD).write_text(_card(rag, bundle, title), encoding="utf-8")
    other = ["revision"] if models.revision is not None else []
    left_out = [name for name in settings_of(Settings) if name not in bundle.settings]
    other += [name for name in left_out if getattr(rag.settings, name) != getattr(Settings(), name)]
    if other:
        _logger.warning(f"a bundle does not hold the settings {', '.join(other)}: give them where it is opened")


def _save_generator(rag: Pipeline, folder: Path) -> str | None:
    given, name = rag.given("generator"), FOLDERS["generator"]
    if isinstance(given, MixedGenerator):
        raise _unsaved("generator", given)
    own_tokenizer = rag.models.tokenizer is not None
    if given is None or _is_hub_name(given):
        if own_tokenizer:
            remedy = "save model and tokenizer into one folder, and name that"
            raise ModelError("the tokenizer that comes with the language model", "another one", remedy)
        return None if given is None else str(given)
    path = Path(given).expanduser() if isinstance(given, (str, Path)) else None
    if path is not None:
        _copy_model(path, folder / name)
    generator = language_model_of(rag.generator) if path is None or own_tokenizer else None
    if isinstance(generator, ExtractiveGenerator):
        save = save_extractive if path is None else save_answer_tokenizer
        save(generator, folder / name)
    elif generator is not None:
        tokens = _prompts_of(generator)
        if tokens is None:
            raise _unsaved("generator", generator)
        if path is None:
            if not isinstance(generator, ModelGenerator):
                raise _unsaved("generator", generator)
            generator.model.save_pretrained(str(folder / name))
        tokens.tokenizer.save_pretrained(str(folder / name))
    _without_paths(folder / name)
    return name


def _prompts_of(generator: Any) -> PromptTokenizer | None:
    """What makes prompts for a language model with a tokenizer of transformers; None: another generator."""
    known = isinstance(generator, ModelGenerator) or getattr(generator, "engine", None) == LLAMACPP
    return generator.tokens if known else None


def _save_adapter(rag: Pipeline, folder: Path) -> str | None:
    adapter = rag.models.adapter
    if not isinstance(rag.given("generator"), (str, Path, type(None))):
        return NO_ADAPTER  # it is in the weights already
    if adapter is None or str(adapter) == NO_ADAPTER:
        return None if adapter is None else NO_ADAPTER
    source, name = Path(adapter).expanduser(), FOLDERS["adapter"]
    (folder / name).mkdir()
    for file in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
        shutil.copyfile(source / file, folder / name / file)
    _without_paths(folder / name)
    return name


def _save_span_reader(rag: Pipeline, folder: Path) -> str | None:
    reader = rag.models.span_reader
    if reader is None or str(reader) == NO_ADAPTER:
        return None
    source, name = span_model_folder(reader), FOLDERS["span_reader"]
    if source == EXTRACTIVE or _is_hub_name(source):
        return str(reader)
    _copy_model(Path(source).expanduser(), folder / name)
    return name


def _save_encoder(rag: Pipeline, folder: Path, role: str) -> str | None:
    given = rag.given(role)
    if given is None or _is_hub_name(given):
        return None if given is None else str(given)
    name = FOLDERS[role]
    if isinstance(given, (str, Path)):
        _copy_model(Path(given).expanduser(), folder / name)
        return name
    encoder = rag.encoder
    if not isinstance(encoder, SentenceEncoder):
        raise _unsaved(role, encoder)
    model: Any = encoder.passage_model if role == "encoder" else encoder.question_model
    model.save_pretrained(str(folder / name), create_model_card=False, safe_serialization=True)
    _without_paths(folder / name)
    return name


def _is_hub_name(given: Any) -> bool:
    return isinstance(given, str) and not Path(given).expanduser().exists()


def _unsaved(role: str, found: Any) -> ModelError:
    expected = f"a {role.replace('_', ' ')} that can be saved: a name, a path, or a model of a library"
    return ModelError(expected, type(found).__name__, "give its name or its folder")


def _copy_model(source: Path, target: Path) -> None:
    """The files of a model, those of its sub-folders included; hidden ones are left out. A GGUF file stays one."""
    if source.is_file():
        target.mkdir()
        for part in gguf_parts(source):
            shutil.copyfile(part, target / part.name)
        return
    if not source.is_dir():
        raise ModelError("the folder of a model", f"no such folder: {source}", "check the path")
    files = {path for pattern in COPIED for path in source.rglob(pattern) if path.name not in NOT_MODEL_FILES}
    for path in sorted(files):
        own = path.relative_to(source)
        if not any(part.startswith(".") for part in own.parts) and path.is_file():
            (target / own).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target / own)
    _without_paths(target)


def _without_paths(folder: Path) -> None:
    """Leave the last part of paths that a library noted in its configuration, such as where the base model lay."""
    for path in _configurations(folder):
        document = json.loads(path.read_text(encoding="utf-8"))
        changed = _mapped(document, lambda text: PureWindowsPath(text).name if _is_machine_path(text) else text)
        if changed != document:
            path.write_text(json.dumps(changed, indent=2, ensure_ascii=False), encoding="utf-8")


def _machine_paths(folder: Path) -> Iterator[str]:
    """Paths of this machine that a bundle names, with the file that does."""
    for path in _configurations(folder):
        texts = _texts(json.loads(path.read_text(encoding="utf-8")))
        yield from (f"{text} in {path.relative_to(folder)}" for text in texts if _is_machine_path(text))


def _configurations(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*.json")) if path.name not in NO_SETTINGS)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)


def _mapped(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, dict):
        return {key: _mapped(item, change) for key, item in value.items()}
    if isinstance(value, list):
        return [_mapped(item, change) for item in value]
    return change(value) if isinstance(value, str) else value


def _is_machine_path(text: str) -> bool:
    if "\n" in text or len(text) > 4096:
        return False
    path = PureWindowsPath(text)  # which takes both kinds of slashes
    return len(path.parts) > 2 and (bool(path.root) or text.startswith("~"))


def _card(rag: Pipeline, bundle: Bundle, title: str) -> str:
    """README.md: what the bundle holds, and how it is opened."""
    shown = {
        "language model": bundle.generator or "the packaged one",
        "adapter": bundle.adapter or "the default of the language model",
        "encoder": bundle.encoder or "the packaged one",
        "question encoder": bundle.question_encoder or "the encoder",
        "extractive reader": bundle.span_reader or "none",
    }
    calibration = rag.calibration
    lines = [
        "---",
        "library_name: mixrag",
        "tags:",
        "- mixrag",
        "- retrieval-augmented-generation",
        "---",
        "",
        f"# {title}",
        "",
        "A bundle of mixrag: models, settings and prompt of retrieval-augmented generation as a mixture model. It",
        "holds no documents: open it over a store of your own, indexed with the same encoder.",
        "",
        "```python",
        "from mixrag import RAG",
        "",
        f'rag = RAG.load("{title}", "store")',
        "```",
        "",
        "## Models",
        "",
        *(f"- {role}: {name}" for role, name in shown.items()),
        "",
        "## Settings",
        "",
        "| setting | value |",
        "| --- | --- |",
        *(f"| {name} | {markdown_cell(str(value))} |" for name, value in bundle.settings.items()),
        "",
        "## Confidence",
        "",
        f"Calibrated on {markdown_cell(calibration.fitted_on)}." if calibration else "Not calibrated.",
        "",
    ]
    return "\n".join(lines)

"""What a language model is known by on other machines: equal fingerprints, equal likelihoods, up to rounding.

It holds for models whose files are here, which are read whole. By name alone are known a model from the hub
(without a ``revision``, its owner may have changed it between two downloads), a model object, and a model behind a
server: whether it is the same is then up to those who name it.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mixrag.config.bundle import NO_ADAPTER
from mixrag.config.default_models import default_generator, packaged_reader
from mixrag.config.model_config import ModelConfig, changing_numbers, known_by
from mixrag.config.server_address import address_of, is_remote
from mixrag.errors import SettingError
from mixrag.generator.file_digests import remembered_digests
from mixrag.generator.loading import default_prompt
from mixrag.generator.names import gguf_parts, model_source
from mixrag.utils.hashing import MODEL_FILES, NOT_MODEL_FILES

_FILES = (*MODEL_FILES, "*.bin", "*.jinja")
"""Also weights of older formats, and templates of chats."""


def generator_fingerprint(models: ModelConfig) -> str:
    """16 hexadecimal digits of all that p(y | x, z) depends on: model, adapter, prompt, and int8 with its engine.

    Files count by their whole content, wherever they are. float32, bfloat16 and float16 of one model are one: how
    far those round is known (``generator.rounding``). A model behind a server is known by its address.

    Raises:
        SettingError: a server at an address that means another one on each machine.
        ModelError: a file that cannot be read.
    """
    given, adapter = models.generator, models.adapter
    _check_address(given)
    if adapter is None and given is None:
        adapter = packaged_reader()
    elif str(adapter) == NO_ADAPTER:
        adapter = None
    prompt = (models.prompt or default_prompt(given, models.adapter)).with_arguments(models.template_args)
    model = default_generator() if given is None else given
    named = [known_by(model, content_digest), known_by(adapter, content_digest)]
    others = changing_numbers(replace(models, template_args={}), content_digest)  # the prompt has those arguments
    content = json.dumps([*named, prompt.fields(), *others], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def content_digest(name: str | Path | None) -> str:
    """As ``model_digest``, of whole files; one GGUF file is the same model by itself and as a folder.

    All parts of a GGUF model count, and where a tokenizer lies beside it, that too.

    Raises:
        ModelError: a file that cannot be read, or a folder of several GGUF models.
    """
    path = None if name is None else Path(name).expanduser()
    if path is None or not path.exists():
        return str(name)
    source, beside = model_source(path)
    assert isinstance(source, Path)
    if source.is_dir():
        files = {each.relative_to(source).as_posix(): each for each in _files_below(source)}
    else:
        files = {f"{place}.gguf": each for place, each in enumerate(gguf_parts(source))}
        if beside is not None:
            others = [each for each in _files_below(beside) if each.suffix != ".gguf"]
            files |= {each.relative_to(beside).as_posix(): each for each in others}
    digests = remembered_digests([*files.values()])
    return hashlib.sha256(json.dumps(sorted(zip(files, digests, strict=True))).encode()).hexdigest()[:16]


def _files_below(folder: Path) -> list[Path]:
    found = {each.relative_to(folder) for kind in _FILES for each in folder.rglob(kind) if each.is_file()}
    return [folder / each for each in sorted(found) if each.name not in NOT_MODEL_FILES]


def _check_address(given: Any) -> None:
    """Refuse the address of a server that each machine would take for one of its own."""
    if not is_remote(given):
        return
    host = urlsplit(address_of(given).url).hostname or ""
    try:
        address = ipaddress.ip_address(host)
        own = address.is_loopback or address.is_unspecified
    except ValueError:
        own = host == "localhost" or host.endswith(".localhost")
    if own:
        expected = "a language model server whose address is the same for all owners"
        remedy = "name it by an address that the others know it by, or take a model of files"
        raise SettingError(expected, f"{host}, which is another machine for each of them", remedy)

"""From settings to a running process: open the stores, listen, stop when asked."""

from __future__ import annotations

import os
import re
import signal
import socket
import tomllib
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.parse import urlsplit

import uvicorn

from mixrag.config.command_settings import ServerSettings
from mixrag.corpus.store.location import FOLDER, parse_location, without_password
from mixrag.errors import SettingError
from mixrag.rag import RAG
from mixrag.retrieval.shards.naming import short_name
from mixrag.retrieval.shards.store import as_sharded
from mixrag.server.app import App, make_app
from mixrag.server.questions import Limits, Questions
from mixrag.server.security.policy import Security
from mixrag.server.security.protocol import HEADER_BYTES, guarded
from mixrag.server.service import Service, checked_changes
from mixrag.server.stores import Served, Stores
from mixrag.server.writers import WriterLimits, Writers

Presets = Mapping[str, Mapping[str, Any]]


def opened(settings: ServerSettings, open_store: Callable[[str | None, RAG | None], RAG]) -> Service:
    """The stores that the settings name.

    Args:
        settings: of the server.
        open_store: opens a store by its location, None being the first of all, with the models of another one.

    Raises:
        SettingError: a name twice, or presets that cannot be read.
        MixragError: as ``RAG.open``.
    """
    presets = read_presets(settings.presets)
    first = open_store(None, None)
    # Model ids are STORE:PRESET, and parts of paths.
    served = {re.sub(r"[:/]", "-", _last_part(first)) or "store": first}
    try:
        _check_presets(presets, first, settings.presets)
        for name, folder in _named(settings.also):
            if name in served:
                raise SettingError("a name of its own for each store", f"{name} twice", "give --also NAME=DIR")
            served[name] = open_store(folder, first)
    except BaseException:
        for rag in served.values():
            rag.close()
        raise
    stores = Stores([Served(name, rag, presets) for name, rag in served.items()])
    limits = Limits(settings.threads, settings.batch_rows, settings.waiting, settings.answer_seconds)
    writers = Writers(WriterLimits(file_bytes=int(settings.file_mb * 2**20)))
    return Service(stores, Questions(limits), writers, share=settings.share)


def read_presets(path: Path | None) -> Presets:
    """Named changes to settings, from a TOML file with a table for each.

    Raises:
        SettingError: it cannot be read, or a setting that does not exist.
    """
    if path is None:
        return {}
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingError("a TOML file of presets", f"{path}: {error}", "see docs/how-to/serve.md") from error
    for name, changes in found.items():
        if not isinstance(changes, dict):
            raise SettingError("a table for each preset", f"{name} in {path}", f"write it below [{name}]")
        checked_changes(changes)
    return found


def _check_presets(presets: Presets, rag: RAG, path: Path | None) -> None:
    """Refuse a value now that would be refused at every question."""
    for name, changes in presets.items():
        try:
            replace(rag.settings, **changes)
        except SettingError as error:
            raise SettingError(
                error.expected, f"{error.found} in preset {name} of {path}", error.remedy
            ) from error


def run(service: Service, settings: ServerSettings, security: Security, say: Callable[[str], None]) -> None:
    """Serve until the process is asked to stop; the questions under way are answered first.

    Raises:
        SettingError: the address cannot be listened at.
    """
    listener = _listening(settings)
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    for line in first_lines(service.stores, f"http://{shown}:{port}"):
        say(line)
    config = configured(make_app(service, security), security, settings.proxy)
    with suppress(KeyboardInterrupt):  # which uvicorn raises again once all has ended
        GracefulServer(config, service.questions).run(sockets=[listener])


def first_lines(stores: Stores, address: str) -> list[str]:
    """What is said once the server listens: where, and which stores are empty."""
    empty = [
        f"{each.name} has no documents yet, in {without_password(each.rag.store.location)}: add some on the page"
        for each in stores
        if each.rag.store.counts().documents == 0
    ]
    return [f"{', '.join(stores.ids())}: open {address} in a browser; Ctrl-C stops", *empty]


class GracefulServer(uvicorn.Server):
    """To stop, it lets what has begun end and refuses what waits with status 503; then the stores close.

    A second Ctrl-C ends the process at once, whatever runs. Stores and uploads stand that, as they stand a kill.
    """

    def __init__(self, config: uvicorn.Config, questions: Questions) -> None:
        super().__init__(config)
        self._questions = questions

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """See ``uvicorn.Server``, which would wait for connections and threads all the same."""
        if self.should_exit and sig == signal.SIGINT:
            os._exit(128 + sig)
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """See ``uvicorn.Server``."""
        self._questions.end()
        await super().shutdown(sockets)


def configured(app: App, security: Security, proxies: Iterable[str] = ()) -> uvicorn.Config:
    """uvicorn with the limits of ``security``; it writes no log of requests, ours does."""
    trusted = list(proxies)
    return uvicorn.Config(
        app,
        http=guarded(security),
        ws="none",
        h11_max_incomplete_event_size=HEADER_BYTES,
        log_config=None,
        log_level="error",
        access_log=False,
        server_header=False,
        # Else uvicorn believes what processes of this machine say about who they are.
        proxy_headers=bool(trusted),
        forwarded_allow_ips=trusted,
    )


def _listening(settings: ServerSettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=128)
    except (OSError, OverflowError) as error:
        where = f"{settings.host}:{settings.port}"
        raise SettingError(f"to listen at {where}", str(error), "give another --port or --host") from error


def _last_part(rag: RAG) -> str:
    """The folder's own name, or the last part of another location; of shards, that of their manifest."""
    if as_sharded(rag.store) is not None:
        return short_name(rag.store.location)
    location = parse_location(rag.store.location)
    return (
        Path(location.text).resolve() if location.scheme == FOLDER else Path(urlsplit(location.name).path)
    ).name


def _named(also: Iterable[str]) -> Iterable[tuple[str, str]]:
    for each in also:
        name, separator, folder = each.partition("=")
        if not separator or not name or not folder or ":" in name or "/" in name:
            raise SettingError(
                "NAME=DIR for a further store", repr(without_password(each)), "for instance --also acts=acts-store"
            )
        yield name, folder

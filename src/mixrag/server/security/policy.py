"""What is allowed, as the settings say."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mixrag.config.command_settings import ServerSettings
from mixrag.errors import SettingError
from mixrag.server.security import hosts
from mixrag.server.security.keys import KeyFile

OPEN = frozenset({"/", "/health", "/docs", "/docs/style.css", "/openapi.json", "/favicon.ico"})
OPEN_BELOW = ("/page/",)
"""What is read without a key: the page and its files, whether the server lives, and the description of its
endpoints. They are the same on every server and say nothing of its stores."""
UPLOADS = ("/v1/documents",)
"""Paths at which files are sent, which may be larger than other requests."""
MIB = 2**20


@dataclass(frozen=True)
class Security:
    """Who may ask, from where, and how much. The default is that of a server on loopback."""

    keys: KeyFile | None = None
    """Whose requests are answered; None: everybody's."""
    hosts: frozenset[str] = frozenset()
    """Names of this server besides those of loopback."""
    addresses: bool = False
    """Any IP address is a name of this server: it listens at all of them."""
    origins: tuple[str, ...] = ()
    """Other sites whose pages may read answers."""
    request_bytes: int = 4 * MIB
    upload_bytes: int = 100 * MIB
    read_seconds: float = 20.0
    """Longest wait for a request to arrive; a second more for each ``RATE`` bytes."""
    connections: int = 256

    def knows(self, host: str) -> bool:
        """Whether a host (without port) is a name of this server."""
        own = hosts.is_local(host) or host in self.hosts
        return own or (self.addresses and hosts.is_address(host))


RATE = 16 * 1024
"""Bytes a second at which a request must arrive at least, beyond ``read_seconds``."""


def is_open(path: str, method: str) -> bool:
    """Whether a request needs no key."""
    return method in ("GET", "HEAD") and (path in OPEN or path.startswith(OPEN_BELOW))


def policy(settings: ServerSettings) -> Security:
    """The security that settings ask for.

    Raises:
        SettingError: an address that others reach without keys, no keys, or what is no host or origin.
    """
    keys = KeyFile(settings.keys) if settings.keys is not None else None
    if keys is None and not hosts.is_loopback(settings.host):
        expected = "--keys FILE with an address that other machines reach"
        remedy = "run: mixrag keys add NAME --file FILE, and serve with --keys FILE"
        raise SettingError(expected, f"--host {settings.host} without keys", remedy)
    if keys is not None and not keys.stored():
        remedy = f"run: mixrag keys add NAME --file {keys.path}"
        raise SettingError("a file with a key", f"none in {keys.path}", remedy)
    wildcard = hosts.is_wildcard(settings.host)
    listened = [] if wildcard else [f"[{settings.host}]" if ":" in settings.host else settings.host]
    return Security(
        keys=keys,
        hosts=frozenset(_names([*listened, *settings.allowed_host])),
        addresses=wildcard,
        origins=tuple(_origins(settings.cors)),
        request_bytes=int(settings.request_mb * MIB),
        upload_bytes=int(settings.upload_mb * MIB),
        read_seconds=settings.read_seconds,
        connections=settings.connections,
    )


def _names(given: Iterable[str]) -> Iterable[str]:
    for each in given:
        name = hosts.host_name(each)
        if name != each.lower():
            remedy = "for instance --allowed-host rag.example.org"
            raise SettingError("a host name without scheme or port", repr(each), remedy)
        yield name


def _origins(given: Iterable[str]) -> Iterable[str]:
    for each in given:
        if not hosts.is_origin(each):
            expected = (
                "an origin, as browsers send it: http:// or https://, host, and port unless it is the usual one"
            )
            raise SettingError(expected, repr(each), "for instance --cors https://chat.example.org")
        yield each.lower()

"""Names of this server: which ``Host`` and ``Origin`` headers are its own."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Mapping

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(?::[0-9]{1,5})?")
_ORIGIN = re.compile(r"(https?)://([^/\s?#@]{1,260})")
DEFAULT_PORTS = {"http": ":80", "https": ":443"}
LOCAL = frozenset({"localhost", "127.0.0.1", "[::1]"})
"""Names of this machine that no other can take."""


def host_name(host: str) -> str | None:
    """The name in a ``Host`` header, without its port, in small letters; None: it is none."""
    found = _HOST.fullmatch(host)
    return found[1].lower() if found else None


def is_address(name: str) -> bool:
    """Whether a host is an IP address, not a name.

    A page can only reach an address under that very address: its name was not looked up, so no one else can have
    said what it means. DNS rebinding needs a name.
    """
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


def is_local(name: str) -> bool:
    """Whether a host is this machine's own name: browsers never ask a name server for ``localhost``."""
    return name in LOCAL or name.endswith(".localhost")


def is_own_origin(origin: str, host: str) -> bool:
    """Whether an ``Origin`` is the server that a ``Host`` header names.

    The scheme is not compared: where a proxy ends TLS, the server does not know which it was.
    """
    found = _ORIGIN.fullmatch(origin.lower())
    if found is None:
        return False
    port = DEFAULT_PORTS[found[1]]
    return found[2].removesuffix(port) == host.lower().removesuffix(port)


def is_origin(text: str) -> bool:
    """Whether a text is an origin, such as ``https://example.org:8443``."""
    found = _ORIGIN.fullmatch(text.lower())
    return found is not None and host_name(found[2]) is not None and not text.endswith(DEFAULT_PORTS[found[1]])


def is_loopback(host: str) -> bool:
    """Whether an address to listen at is reached from this machine only."""
    try:
        found = socket.getaddrinfo(host or None, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return False
    addresses = [str(each[4][0]).partition("%")[0] for each in found]
    return bool(host and addresses) and all(ipaddress.ip_address(each).is_loopback for each in addresses)


def is_wildcard(host: str) -> bool:
    """Whether an address to listen at means all addresses of this machine."""
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return not host


def one(headers: Mapping[bytes, list[bytes]], name: bytes) -> str | None:
    """A header's value where it is sent once."""
    found = headers.get(name, [])
    return found[0].decode("latin-1").strip() if len(found) == 1 else None

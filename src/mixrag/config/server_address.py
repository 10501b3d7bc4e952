"""Names of remote language models: an address, or the kind of a server with a model, an address, or both.

http://HOST:PORT/v1             a server that speaks OpenAI's protocol
MODEL@http://HOST:PORT/v1       one that serves several models
vllm:MODEL   vllm:URL   vllm:MODEL@URL      and so for sglang, llamacpp, ollama, openai
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from mixrag.errors import SettingError
from mixrag.utils.text import printable_name

DEFAULT_URLS = {
    "vllm": "http://127.0.0.1:8000/v1",
    "sglang": "http://127.0.0.1:30000/v1",
    "llamacpp": "http://127.0.0.1:8080/v1",
    "ollama": "http://127.0.0.1:11434/v1",
    "openai": "https://api.openai.com/v1",
}
"""The kinds of servers, and where each of them is where no address is given."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a remote language model is."""

    url: str
    """Of its interface, without a slash at the end."""
    kind: str = ""
    """Of the server, one of ``DEFAULT_URLS``; empty: it is to be found out."""
    model: str = ""
    """Its name on the server; empty: the only one there."""

    @property
    def root(self) -> str:
        """The address without ``/v1``."""
        return self.url.removesuffix("/v1")

    @property
    def host(self) -> str:
        """Host and port."""
        return urlsplit(self.url).netloc


def is_remote(name: object) -> bool:
    """Whether a name of a language model means a remote one."""
    if not isinstance(name, str):
        return False
    start = name.partition(":")
    return (start[0] in DEFAULT_URLS and bool(start[1])) or "http://" in name or "https://" in name


def address_of(name: str) -> Address:
    """The address that a name means.

    Raises:
        SettingError: it is none.

    Example:
        >>> address_of("ollama:llama3.2:3b")
        Address(url='http://127.0.0.1:11434/v1', kind='ollama', model='llama3.2:3b')
        >>> address_of("my-model@http://gpu:8000/v1").url
        'http://gpu:8000/v1'
    """
    kind, sign, rest = name.partition(":")
    if not sign or kind not in DEFAULT_URLS:
        kind, rest = "", name
    place = min((at for scheme in ("http://", "https://") if (at := rest.find(scheme)) >= 0), default=len(rest))
    model, url = rest[:place], rest[place:].rstrip("/") or DEFAULT_URLS.get(kind, "")
    if rest[place:] and model and not model.endswith("@"):
        raise _refusal(name)
    model = model.removesuffix("@") if rest[place:] else model
    try:
        parts = urlsplit(url)
        wrong = (
            not parts.hostname or parts.username is not None or parts.query or parts.fragment or parts.port == 0
        )
    except ValueError:
        wrong = True
    if wrong or not url.isprintable() or " " in url or not model.isprintable():
        raise _refusal(name)
    return Address(url if parts.path else f"{url}/v1", kind, model)


def _refusal(name: str) -> SettingError:
    expected = f"MODEL@http://HOST:PORT/v1, or {', '.join(DEFAULT_URLS)} with :MODEL, :URL or :MODEL@URL"
    shown = re.sub(r"//[^/]*@", "//…@", printable_name(name))[:100]
    return SettingError(expected, repr(shown), "write the address without user name, password and query")

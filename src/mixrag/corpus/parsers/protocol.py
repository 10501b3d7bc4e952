"""Parser: what turns the bytes of a file into documents must offer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from mixrag.corpus.parsers.result import ParseResult
from mixrag.corpus.passage import Document


class Parser(Protocol):
    r"""Reads the files of some suffixes.

    A parser of your own, here for e-mail, is passed as ``RAG.open(..., parsers=[EmailParser()])``:

    >>> import email, email.policy
    >>> class EmailParser:
    ...     name = "email:1"
    ...     suffixes = (".eml",)
    ...
    ...     def parse(self, data, name):
    ...         message = email.message_from_bytes(data, policy=email.policy.default)
    ...         text = message.get_body(("plain",)).get_content()
    ...         return [Document(text, title=message["subject"], metadata={"from": message["from"]})]
    >>> EmailParser().parse(b"Subject: Fees\nFrom: a@b.c\n\nNine crowns.", "mail.eml")[0].title
    'Fees'
    """

    @property
    def name(self) -> str:
        """Kind and version, e.g. "email:1". A file that has not changed is parsed again only when this has."""
        ...

    @property
    def suffixes(self) -> tuple[str, ...]:
        """Suffixes of the files that it reads, each with its dot: (".eml",)."""
        ...

    def parse(self, data: bytes, name: str) -> ParseResult | Iterable[Document]:
        """The documents of one file.

        Several documents need ids that differ inside the file; those without one are numbered. Whatever is raised
        here costs this file alone: it is skipped, and the report says why.

        Args:
            data: the file's content.
            name: its absolute path, for messages and for information in its name.
        """
        ...

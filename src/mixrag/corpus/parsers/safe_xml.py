"""The one way in which XML of a file is parsed: nothing is fetched, and no entity of the file is expanded."""

from __future__ import annotations

from typing import Any


def xml_parser(etree: Any, *, recover: bool = False) -> Any:
    """A parser of lxml that drops comments and processing instructions; ``recover``: it goes on after an error."""
    return etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        recover=recover,
        huge_tree=True,
        remove_comments=True,
        remove_pis=True,
    )

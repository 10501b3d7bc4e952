"""Titles that say what a document is: what programs write in their place gives way to the name of the file."""

from __future__ import annotations

import re

from mixrag.corpus.parsers.cleaning import clean_line

_PREFIX = re.compile(
    r"^(?:microsoft (?:office )?(?:word|excel|powerpoint)|(?:open|libre)office[\w ]*?) - \s*", re.I
)
_JUNK = re.compile(
    r"""
    \W*                                                        # nothing but punctuation
    | [(<\[]? (?:untitled|anonymous|unknown|unnamed|no[ ]title|none|null|n/?a|title|default|blank|new[ ]page
        |sans[ ]titre|ohne[ ]titel|unbenannt|sin[ ]t[ií]tulo|senza[ ]titolo|sem[ ]t[ií]tulo|без[ ]имени|无标题|無題
        |(?:untitled|unbenannt|new)?[ -_]?(?:document|dokument|documento|presentation|powerpoint[ ]presentation
            |spreadsheet|workbook|book|sheet|slide|page|doc|file|layout|test|scan|image|img)
        ) [)>\]]? [ _#-]* \d{0,6} (?:\s*\(\d+\))?
    | \d{10}-?\d{2}-?\d{6}                                     # accession number of a filing
    | [0-9a-f]{16,} | [0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}  # hash, UUID
    | \S+ \.(?:docx?|docm|dotx?|odt|rtf|pdf|pptx?|xlsx?|xlsm|ods|odp|txt|te?x|dvi|e?ps|html?|xml|md|qxd|qxp|indd
        |pmd|fm|wpd|p65|tiff?|jpe?g|png|epub|csv|json|pub)         # file name without spaces
    | (?:file|https?)://\S* | [a-z]:\\.*  # path
    """,
    re.IGNORECASE | re.VERBOSE,
)
_SUFFIX = re.compile(r"\.(?:docx?|docm|odt|rtf|pdf|pptx?|xlsx?|ods|odp|indd|qxd|html?)$", re.IGNORECASE)


def useful_title(title: str) -> str:
    """The title on one line, or "" where it says nothing about the document.

    Left out are placeholders ("untitled", "Document1"), accession numbers, hashes, paths and file names; the
    program's name is taken from the start.

    >>> useful_title("Harbour dues  2023"), useful_title("(anonymous)"), useful_title("0000320193-22-000108")
    ('Harbour dues 2023', '', '')
    """
    title = _PREFIX.sub("", clean_line(title))
    return "" if _JUNK.fullmatch(title) or _SUFFIX.search(title) else title

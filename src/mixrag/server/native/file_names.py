"""Names of uploaded files, made fit for any disk: no path, nothing hidden, nothing that a system reserves."""

from __future__ import annotations

import re
import unicodedata
from pathlib import PurePosixPath

LONGEST = 150
"""Bytes in UTF-8."""
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
_FORBIDDEN = re.compile(r'[<>:"|?*#%\x00-\x1f\x7f-\x9f\ufffd]')
"""What Windows does not take, and the sign that begins the record of a file."""
_INVISIBLE = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")


def safe_name(given: str) -> str:
    r"""A file name from what a client calls its file; the folders in it become part of the name.

    >>> safe_name("../../etc/passwd"), safe_name("C:\\fakepath\\fees 2024.pdf"), safe_name(".bashrc")
    ('etc__passwd', 'fees 2024.pdf', 'bashrc')
    """
    parts = re.split(r"[/\\]", unicodedata.normalize("NFC", given))
    cleaned = [part for part in map(_cleaned, parts) if part]
    if re.match(r"[A-Za-z]:", parts[0]):
        cleaned = cleaned[-1:]  # a path of Windows that says nothing of the file
    name = "__".join(cleaned) or "document"
    name = f"_{name}" if _RESERVED.fullmatch(name) else name
    return _shortened(name)


def _cleaned(part: str) -> str:
    kinds = ((each, unicodedata.category(each)) for each in part)
    visible = "".join(" " if kind == "Zs" else each for each, kind in kinds if kind not in _INVISIBLE)
    return _FORBIDDEN.sub("_", unicodedata.normalize("NFC", visible)).strip(" .")


def _shortened(name: str) -> str:
    """At most ``LONGEST`` bytes, the suffix included."""
    if len(name.encode()) <= LONGEST:
        return name
    suffix = PurePosixPath(name).suffix
    suffix = suffix if len(suffix.encode()) <= 20 else ""
    stem = name.removesuffix(suffix).encode()[: LONGEST - len(suffix.encode())].decode(errors="ignore")
    return f"{stem.rstrip(' .')}{suffix}"

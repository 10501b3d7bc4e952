"""Names of uploaded files."""

from __future__ import annotations

from pathlib import PurePath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixrag.server.native.file_names import LONGEST, safe_name


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("report.pdf", "report.pdf"),
        ("Müller & Söhne 2024.pdf", "Müller & Söhne 2024.pdf"),
        ("Mu\u0308ller.pdf", "Müller.pdf"),
        ("日本語.txt", "日本語.txt"),
        ("folder/sub/report.pdf", "folder__sub__report.pdf"),
        ("C:\\fakepath\\report.pdf", "report.pdf"),
        ("../../etc/passwd", "etc__passwd"),
        ("..", "document"),
        ("", "document"),
        (".hidden.txt", "hidden.txt"),
        ("a#1.txt", "a_1.txt"),
        ("a\0b\nc.txt", "abc.txt"),
        ("exe\u202etxt.pdf", "exetxt.pdf"),
        ("NUL.txt", "_NUL.txt"),
        ("com1", "_com1"),
        ("a<b>|c?.txt", "a_b__c_.txt"),
        ("trailing. . .", "trailing"),
        ("x" * 300 + ".pdf", "x" * (LONGEST - 4) + ".pdf"),
        ("ä" * 300 + ".pdf", "ä" * ((LONGEST - 4) // 2) + ".pdf"),
    ],
)
def test_names(given: str, name: str) -> None:
    assert safe_name(given) == name


@given(st.text(max_size=400))
def test_every_name_is_one_file_name(given: str) -> None:
    name = safe_name(given)
    assert name and PurePath(name).name == name and name[0] != "." and "#" not in name
    assert len(name.encode()) <= LONGEST and name.isprintable()
    assert safe_name(name) == name

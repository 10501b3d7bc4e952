"""The other items of an enumeration, and nothing where there is none."""

from __future__ import annotations

import pytest

from mixrag.answers.enumerations import enumeration

LIST = (
    "The permit needs:\n- a passport photo;\n- proof of address (a bill); and\n- the fee of nine crowns.\n"
    "Ask at the desk."
)
NUMBERED = "Steps\n1. Open the valve\n2. Close the drain: slowly\n3. Wait\nDone."
TABLE = "Boat | Crew: 4 | Port: Skarrow\nYawl | Crew: 2 | Port: Dunmarret\nSkiff | Crew: 1 | Port: Tarravoe"


@pytest.mark.parametrize(
    ("text", "span", "expected"),
    [
        (
            "Entry is free for members, guests and staff of the bank.",
            "guests",
            ["members", "guests", "staff of the bank"],
        ),
        (
            "Entry is free for members, guests and staff of the bank.",
            "members",
            ["members", "guests", "staff of the bank"],
        ),
        ("Entry is free for members, guests and staff.", "staff", ["members", "guests", "staff"]),
        ("Entry is free for members, guests, and staff.", "guests, and staff", ["guests", "staff"]),
        (
            "The board consists of the mayor, the clerk and two members.",
            "clerk",
            ["the mayor", "the clerk", "two members"],
        ),
        ("Cod, eel and herring are protected.", "eel", ["Cod", "eel", "herring"]),
        ("In 1931, cod, eel and herring were protected.", "eel", ["cod", "eel", "herring"]),
        ("The three gases are argon, neon or xenon in the lamp.", "argon", ["argon", "neon", "xenon"]),
        ("Vane and Ashby signed it.", "Vane and Ashby", ["Vane", "Ashby"]),
        (LIST, "passport photo", ["a passport photo", "proof of address (a bill)", "the fee of nine crowns"]),
        (LIST, "proof of address", ["a passport photo", "proof of address", "the fee of nine crowns"]),
        (NUMBERED, "Wait", ["Open the valve", "Close the drain: slowly", "Wait"]),
        (TABLE, "Dunmarret", ["Skarrow", "Dunmarret", "Tarravoe"]),
        (TABLE, "Yawl", ["Boat", "Yawl", "Skiff"]),
    ],
)
def test_items(text: str, span: str, expected: list[str]) -> None:
    start = text.index(span)
    assert [text[a:b] for a, b in enumeration(text, start, start + len(span))] == expected


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("The fee is nine crowns.", "nine crowns"),
        ("Vane and Ashby signed it.", "Vane"),
        ("The fee, which is due in May, is nine crowns.", "May"),
        ("The clerk reads the long and boring letter, the mayor signs it, and all go home.", "long"),
        (LIST, "address"),
        (LIST, "Ask at the desk"),
        (TABLE, "Dun"),
        ("A fee of 1,000 crowns, or more.", "1,000"),
        ("", ""),
        ("x", "x"),
    ],
)
def test_nothing_where_it_is_not_clear(text: str, span: str) -> None:
    start = text.index(span)
    assert enumeration(text, start, start + len(span)) == ()


def test_items_of_a_long_text_take_linear_time() -> None:
    text = "a, " * 20_000 + "b and c."
    assert len(enumeration(text, 0, 1)) == 20_002

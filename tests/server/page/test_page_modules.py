"""Functions of the page's modules, called in the browser: events in pieces, values of settings, characters."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Page, Route


def call(functions: Page, module: str, script: str, argument: Any = None) -> Any:
    """What a function of ``m`` (a module of the page) and ``a`` (the argument) returns."""
    return functions.evaluate(
        f"async (a) => {{ const m = await import('/page/{module}.js'); return ({script}); }}", argument
    )


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_events_are_read_from_pieces_of_any_size(functions: Page, size: int, end: str) -> None:
    lines = [
        ": ping",
        "",
        "event: token",
        'data: {"text": "é\\n"}',
        "",
        "event: answer",
        "data: {",
        'data: "a": 1}',
        "",
    ]
    text = "".join(f"{line}{end}" for line in [*lines, "data: [DONE]", "", "event: cut", "data: 1"])
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    script = "((parser) => a.flatMap((piece) => parser.add(piece)))(new m.EventParser())"
    assert call(functions, "api", script, pieces) == [
        {"event": "token", "data": {"text": "é\n"}},
        {"event": "answer", "data": {"a": 1}},
    ]


def test_a_late_reply_does_not_take_the_place_of_the_model_chosen_last(tab: Page) -> None:
    held: list[Route] = []

    def reply(route: Route) -> None:
        """The first model's settings come after those of the second."""
        held.append(route)
        if len(held) == 2:
            for each in reversed(held):
                name = each.request.url.rpartition("=")[2]
                each.fulfill(json={"settings": [], "presets": {name: {}}})

    tab.route("**/v1/settings*", reply)
    script = """(async () => {
        const form = new m.SettingsForm(() => {});
        await Promise.all([form.load("first"), form.load("second")]);
        return Object.keys(form.presets);
    })()"""
    assert tab.evaluate(
        f"async () => {{ const m = await import('/page/settings.js'); return await {script}; }}"
    ) == ["second"]


WHOLE = {"type": "whole", "choices": ["all"], "least": 0, "most": None}
SHARE = {"type": "number", "choices": [], "least": 0, "most": 1}


@pytest.mark.parametrize(
    ("setting", "text", "value"),
    [
        (WHOLE, " 12 ", {"value": 12}),
        (WHOLE, "all", {"value": "all"}),
        (WHOLE, "", {"value": None}),
        (WHOLE, "1.5", {"wrong": "Give a whole number from 0, or all."}),
        (WHOLE, "-1", {"wrong": "Give a whole number from 0, or all."}),
        (SHARE, "0.25", {"value": 0.25}),
        (SHARE, "2", {"wrong": "Give a number from 0 to 1."}),
        (SHARE, "Infinity", {"wrong": "Give a number from 0 to 1."}),
        ({"type": "truth", "choices": []}, "false", {"value": False}),
        (
            {"type": "mapping", "choices": []},
            "year>=2020; file=*.pdf",
            {"value": {"year": ">=2020", "file": "*.pdf"}},
        ),
        (
            {"type": "mapping", "choices": []},
            "year",
            {"wrong": "Give KEY=VALUE, several separated by semicolons."},
        ),
    ],
)
def test_what_is_typed_into_a_setting_is_checked(
    functions: Page, setting: dict[str, Any], text: str, value: Any
) -> None:
    assert call(functions, "settings", "m.valueOf(a.setting, a.text)", {"setting": setting, "text": text}) == value


@pytest.mark.parametrize(
    ("share", "said"),
    [(0, "0 %"), (1e-9, "< 1 %"), (0.126, "13 %"), (0.996, "> 99 %"), (1, "100 %"), (None, "unknown")],
)
def test_only_what_is_none_or_all_is_said_to_be(functions: Page, share: float | None, said: str) -> None:
    assert call(functions, "words", "m.percent(a)", share) == said


def test_offsets_count_characters_as_the_server_does(functions: Page) -> None:
    text = "a𝕏b🙂c"
    assert call(functions, "dom", "((c) => [c.length, c.slice(1, 3), c.slice(4)])(new m.Characters(a))", text) == [
        5,
        text[1:3],
        text[4:],
    ]


def test_text_that_is_shown_is_that_of_the_library(functions: Page) -> None:
    from mixrag.utils.text import printable

    text = (
        "".join(map(chr, (*range(0x20), 0x7F, 0x85, 0xA0, 0x202E, 0x2028, 0x2066, 0xFDD0, 0xFFFE, 0x1F600)))
        + "\r\nx\ry"
    )
    assert call(functions, "dom", "m.clean(a)", text) == printable(text)


def test_colours_go_first_to_the_passages_that_write(functions: Page) -> None:
    script = "m.colours(Array(9).fill({}), new Set([8]))"
    assert call(functions, "passages", script) == ["c1", "c2", "c3", "c4", "c5", "c6", "c0", "c0", "c7"]

"""The tables of settings in the documentation are those of the declarations."""

from __future__ import annotations

from doc_pages import DOCS

from mixrag.config.all_settings import SCHEMAS
from mixrag.config.tables import filled

SETTINGS = DOCS / "reference/settings.md"


def test_tables_are_current() -> None:
    text = SETTINGS.read_text(encoding="utf-8")
    assert filled(text) == text, "run: python -m mixrag.config.tables docs/reference/*.md"


def test_every_declared_setting_has_a_table() -> None:
    text = SETTINGS.read_text(encoding="utf-8")
    assert [schema.__name__ for schema in SCHEMAS if f"<!-- settings: {schema.__name__} -->" not in text] == []

"""The tables of settings in the documentation, written from the declarations.

``python -m mixrag.config.tables docs/reference/*.md`` fills the space between these two lines of each file:

    <!-- settings: TrainingSettings -->
    <!-- end of settings -->
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from mixrag.config.all_settings import SCHEMAS
from mixrag.config.schema import Setting, declared
from mixrag.config.values import described

MARKED = re.compile(r"(<!-- settings: (\w+) -->\n).*?(<!-- end of settings -->)", re.DOTALL)


def table(schema: type) -> str:
    """One row for each setting that a schema declares, in Markdown."""
    rows = ["| setting | values | default | meaning |", "| --- | --- | --- | --- |"]
    rows += [_row(each) for each in declared(schema).values()]
    return "\n".join(rows) + "\n"


def filled(text: str) -> str:
    """A page with its tables written again.

    Raises:
        KeyError: a marked table of a schema that does not exist.
    """
    schemas = {schema.__name__: schema for schema in SCHEMAS}
    return MARKED.sub(lambda found: f"{found[1]}\n{table(schemas[found[2]])}\n{found[3]}", text)


def _row(setting: Setting) -> str:
    declared = setting.declared
    names = [
        setting.name,
        *([declared.short] if declared.short else []),
        *([declared.also] if declared.also else []),
    ]
    values = described(setting.kind, declared.none) or "-"
    default = declared.absent or (_code(setting.default_words) if setting.default_words else "off")
    cells = [", ".join(map(_code, names)), values, default, f"{declared.help} {declared.more}".strip()]
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _code(text: str) -> str:
    return f"`{text!r}`" if "\n" in text else f"`{text}`"


def main(paths: list[str]) -> None:
    """Rewrite the tables of these files."""
    for path in map(Path, paths):
        path.write_text(filled(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])

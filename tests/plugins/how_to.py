"""The Python blocks of a how-to page, as one program."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[2] / "docs" / "how-to"


def run_page(name: str) -> dict[str, Any]:
    """Run the blocks of a page in order, in the current directory; the names that they define.

    Those marked ``no-run`` are counted in tests/docs/test_examples.py.
    """
    blocks = re.findall(
        r"^(?<!-->\n)```python\n(.*?)^```", (FOLDER / name).read_text(encoding="utf-8"), re.M | re.S
    )
    assert len(blocks) >= 2
    found: dict[str, Any] = {"__name__": "how_to"}
    for block in blocks:
        exec(compile(block, name, "exec"), found)
    return found

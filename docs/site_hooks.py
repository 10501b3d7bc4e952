"""What the site changes in a page before it is rendered."""

from __future__ import annotations

import re
from typing import Any

_NO_RUN = re.compile(r"^(\s*```python) no-run.*$", re.MULTILINE)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Drop the marker of examples that do not run as tests; the renderer does not know it."""
    return _NO_RUN.sub(r"\1", markdown)

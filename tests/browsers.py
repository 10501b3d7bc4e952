"""The browser that tests of pages need: skipped without one, but for where it is required."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
REQUIRED = "MIXRAG_REQUIRE_BROWSER"
"""Set to 1 where a missing browser is an error, as continuous integration does."""
MISSING = "no browser; install one: sudo apt-get install chromium"


def browser_path(which: Callable[[str], str | None] = shutil.which) -> str | None:
    """The browser's path; None where there is none.

    Raises:
        RuntimeError: there is none, and it is required.
    """
    found = next(filter(None, map(which, NAMES)), None)
    if found is None and os.environ.get(REQUIRED, "") not in ("", "0"):
        raise RuntimeError(f"{MISSING} ({REQUIRED} is set)")
    return found


BROWSER = browser_path()
needs_browser = pytest.mark.skipif(BROWSER is None, reason=MISSING)

"""The user's folder for what can be made again: converted models, index files of stores that are elsewhere."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """MIXRAG_CACHE, else XDG_CACHE_HOME/mixrag, else ~/.cache/mixrag; it may not be there yet."""
    own = os.environ.get("MIXRAG_CACHE")
    if own:
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mixrag"

"""Files that appear complete or not at all."""

from __future__ import annotations

import os
from pathlib import Path


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that appears complete or not at all.

    Raises:
        OSError: it cannot be written; one that was there before is unchanged.
    """
    scratch = path.with_name(f".{path.name}-writing")
    try:
        with scratch.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)

"""How much memory and disk there is, and how much a model needs."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

_MEMINFO = Path("/proc/meminfo")
_LARGEST_HEADER = 2**27


def available_memory() -> int | None:
    """Bytes that programs can have now, caches of files included; None where the system does not say."""
    try:
        lines = _MEMINFO.read_text(encoding="ascii").splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError, IndexError, StopIteration):
        return None


def available_disk(folder: Path) -> tuple[int, Path]:
    """Bytes that can be written where a folder is or is to be, and the folder above it that is there.

    Raises:
        OSError: the system does not say.
    """
    place = next(each for each in (folder, *folder.parents) if each.exists())
    return shutil.disk_usage(place).free, place


def weights_in(file: Path) -> int:
    """Numbers in a safetensors file, by its header; 0 where it has none that can be read."""
    try:
        with file.open("rb") as stream:
            size = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(min(size, _LARGEST_HEADER)))
        return sum(math.prod(each["shape"]) for name, each in header.items() if name != "__metadata__")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return 0

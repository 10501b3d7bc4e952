"""The probability floor imports torch, itself and plain mathematics; nothing else."""

from __future__ import annotations

import ast
from pathlib import Path

import mixrag
import mixrag.probability

ALLOWED = {"__future__", "dataclasses", "math", "torch", "mixrag"}


def test_the_probability_floor_imports_torch_only() -> None:
    files = list(Path(mixrag.probability.__file__).parent.glob("*.py"))
    assert len(files) >= 5
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                assert name.split(".")[0] in ALLOWED, f"{file.name} imports {name}"
                assert not name.startswith("mixrag") or name.startswith("mixrag.probability")


def test_few_entries_stand_directly_in_the_package() -> None:
    entries = [entry.name for entry in Path(mixrag.__path__[0]).iterdir() if entry.name != "__pycache__"]
    assert len(entries) <= 20, sorted(entries)

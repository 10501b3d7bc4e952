"""``guarantee.json``: how a guarantee is written, and what is asked of a file before its figures are believed.

The file may come from strangers. That its figures are true nobody can tell who does not have the pairs; that they
agree with each other is computed again: the counts must pass the stated test.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from mixrag.answers.guarantee import KIND, CertifiedGroup, Guarantee
from mixrag.config.schema import unknown
from mixrag.config.settings import CALIBRATED
from mixrag.errors import ModelError, SettingError
from mixrag.probability import log_binomial_tail
from mixrag.utils.atomic import write_atomically

FILE = "guarantee.json"
"""Its name, beside the confidence."""
FORMAT = 2
ALSO = ("kind", "max_tokens")
"""Settings that decide what is covered, besides those that the confidence depends on."""
MOST_PAIRS = 1_000_000
"""In one file: what is computed again takes a time that grows with them."""
_SLACK = 1e-6
"""In nats, between two computations of one binomial tail."""


def write_guarantee(guarantee: Guarantee, path: Path) -> None:
    """Write it as JSON; the file appears complete or not at all.

    Raises:
        ModelError: it cannot be written.
    """
    text = json.dumps({"format": FORMAT, **asdict(guarantee)}, indent=1, allow_nan=False)
    try:
        write_atomically(path, f"{text}\n".encode())
    except OSError as error:
        found = error.strerror or str(error)
        raise ModelError(f"room to write {path}", found, "free it, or choose another") from error


def read_guarantee(path: Path) -> Guarantee:
    """Read what ``write_guarantee`` wrote. The file is data, and may come from strangers.

    Raises:
        ModelError: it cannot be read, is not a guarantee of this format, or has figures that do not agree.
    """
    remedy = "delete it, or write it again: mixrag guarantee"
    try:
        found = _guarantee(json.loads(path.read_text(encoding="utf-8")))
        check_figures(found)
        return found
    except OSError as error:
        raise ModelError(f"a guarantee at {path}", error.strerror or str(error), remedy) from error
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError, SettingError) as error:
        reason = str(error) or type(error).__name__
        raise ModelError(f"a guarantee, format {FORMAT}, in {path}", reason, remedy) from error


def check_figures(found: Guarantee) -> None:
    """Compute again whether the counts pass the stated test, and whether the bound is theirs.

    Raises:
        ValueError: they do not, or it is not.
    """
    if sum(each.n for each in found.groups) > MOST_PAIRS:
        raise ValueError(f"more than {MOST_PAIRS} pairs")
    if all(each.threshold is None for each in found.groups):
        raise ValueError("no threshold that is certified")
    for each in found.groups:
        _check_counts(each)
        if each.threshold is None:
            continue
        level, counts = math.log(found.level), f"{each.wrong} wrong of {each.answered}"
        if float(log_binomial_tail(each.answered, each.wrong, found.risk)) > level + _SLACK:
            raise ValueError(f"{counts}, which do not pass the test at risk {found.risk:g}, delta {found.delta:g}")
        if abs(float(log_binomial_tail(each.answered, each.wrong, each.upper)) - level) > _SLACK:
            raise ValueError(f"{counts}, of which {each.upper:g} is not the upper bound")


def _check_counts(each: CertifiedGroup) -> None:
    if not (each.wrong <= each.answered <= each.n and each.wrong <= each.wrong_of_all <= each.n):
        raise ValueError("more answers than pairs")
    if each.answered - each.wrong > each.n - each.wrong_of_all:
        raise ValueError("more right answers at the threshold than in all")
    if each.threshold is None and (each.answered, each.wrong, each.upper) != (0, 0, 1.0):
        raise ValueError("counts without a threshold")


def _guarantee(document: Any) -> Guarantee:
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ValueError("another format")
    content = {each.name: document[each.name] for each in fields(Guarantee)}
    content["groups"] = tuple(CertifiedGroup(**each) for each in content["groups"])
    content["sources"] = tuple(map(tuple, content["sources"]))
    found = Guarantee(**content)
    _check_conditions(found)
    values = [each.value for each in found.groups]
    if len(set(values)) < len(values) or not values or (not found.by and values != [""]):
        raise ValueError("kinds that are not told apart")
    return found


def _check_conditions(found: Guarantee) -> None:
    """Refuse a guarantee that would hold for anything."""
    if found.kind != KIND:
        raise ValueError(f"answers of kind {found.kind}, which no guarantee covers")
    for name in found.settings:
        if name not in (*CALIBRATED, *ALSO):
            raise unknown(name, (*CALIBRATED, *ALSO))
    if missing := next((name for name in ALSO if name not in found.settings), None):
        raise ValueError(f"no {missing} among the settings")
    if not (_is_hexadecimal(found.models) and _is_hexadecimal(found.calibration)):
        raise ValueError("no digest of models and confidence")
    if not found.sources or not all(_is_hexadecimal(sha256, 64) for _, sha256 in found.sources):
        raise ValueError("pairs without a digest")
    if found.documents and not _is_hexadecimal(found.documents, 64):
        raise ValueError("no digest of the documents")


def _is_hexadecimal(text: str, digits: int = 16) -> bool:
    return re.fullmatch(f"[0-9a-f]{{{digits}}}", text) is not None

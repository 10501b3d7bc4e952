"""Text of pictures by tesseract, where it and the extra are installed: words with their places."""

from __future__ import annotations

import re
import shutil
import time
from dataclasses import dataclass, field
from importlib.util import find_spec
from statistics import median
from typing import Any

from mixrag.corpus.parsers.pdf.glyphs import CELL_GAP, Fragment, Word
from mixrag.errors import SettingError
from mixrag.utils.extras import require

DPI = 200
_SPARSE = "--psm 11"
"""Words wherever they stand: with its own layout tesseract leaves out columns of tables; ours follows."""
_MOST_PIXELS = 30_000_000
_LEAST_CONFIDENCE = 30.0
_LANGUAGES = re.compile(r"[A-Za-z_]{2,20}(?:\+[A-Za-z_]{2,20}){0,9}")


@dataclass(frozen=True, slots=True)
class Ocr:
    """Whether pages that are pictures are read, and for how long.

    Raises:
        SettingError: the languages are none.
    """

    languages: str = ""
    """Names of tesseract, joined by +, such as "eng+deu"; empty: pictures are not read."""
    seconds: float = 45.0
    """Time for all pages of a file; the pages that are left stay unread."""

    def __post_init__(self) -> None:
        if self.languages and not _LANGUAGES.fullmatch(self.languages):
            found = f"{self.languages!r}"[:60]
            raise SettingError(
                "languages of tesseract, such as eng or eng+deu", found, "see: tesseract --list-langs"
            )


@dataclass(slots=True)
class PictureReader:
    """Reads pictures of pages until its time is up."""

    ocr: Ocr
    problem: str = ""
    """Why nothing is read; empty where something may be."""
    _ends: float = field(default=0.0)

    def __post_init__(self) -> None:
        self._ends = time.monotonic() + self.ocr.seconds
        if find_spec("pytesseract") is None or shutil.which("tesseract") is None:
            self.problem = "OCR: pip install mixrag[ocr], and install tesseract"
        elif not self.ocr.languages:
            self.problem = "OCR: --ocr auto"

    def read(self, page: Any) -> list[Fragment] | None:
        """Fragments of a page of pypdfium2, y downwards from its top; None where it cannot be read any more."""
        left = self._ends - time.monotonic()
        if self.problem or left <= 0:
            self.problem = self.problem or f"OCR ended after {self.ocr.seconds:.0f} s; raise --parse-seconds"
            return None
        width, height = page.get_size()
        scale = min(DPI / 72, (_MOST_PIXELS / max(width * height, 1)) ** 0.5)
        tesseract = require("pytesseract", "ocr", "OCR")
        picture = page.render(scale=scale, grayscale=True).to_pil()
        try:
            found = tesseract.image_to_data(
                picture,
                lang=self.ocr.languages,
                config=_SPARSE,
                output_type=tesseract.Output.DICT,
                timeout=max(1.0, left),
            )
        except tesseract.TesseractError as error:
            self.problem = f"OCR failed: {_first_line(str(error.message))}"
            return None
        except RuntimeError:  # its time limit
            self.problem = f"OCR ended after {self.ocr.seconds:.0f} s; raise --parse-seconds"
            return None
        return _fragments(found, scale)


def _first_line(message: str) -> str:
    lines = [line for line in message.splitlines() if line.strip()]
    return next((line for line in lines if "language" in line.lower()), lines[0] if lines else "no reason")[:150]


def _fragments(found: dict[str, list[Any]], scale: float) -> list[Fragment]:
    lines: dict[tuple[int, int, int], list[int]] = {}
    for i, text in enumerate(found["text"]):
        if text.strip() and float(found["conf"][i]) >= _LEAST_CONFIDENCE:
            lines.setdefault((found["block_num"][i], found["par_num"][i], found["line_num"][i]), []).append(i)
    result: list[Fragment] = []
    usual = median(found["height"][i] for line in lines.values() for i in line) / scale if lines else 0.0
    for line in lines.values():
        bottom = median(found["top"][i] + found["height"][i] for i in line) / scale
        size = max(4.0, median(found["height"][i] for i in line) / scale)
        if 0.7 * usual < size < 1.4 * usual:  # the height of a line depends on its letters
            size = max(4.0, usual)
        for i in line:
            x0 = found["left"][i] / scale
            word: Word = (x0, x0 + found["width"][i] / scale, found["text"][i].strip())
            last = result[-1] if result and i != line[0] else None
            if last is not None and x0 - last.x1 < 1.5 * CELL_GAP * size:
                last.words.append(word)
                last.x1 = word[1]
            else:
                result.append(Fragment(x0, word[1], bottom, size, False, [word]))
    return result

"""The tables of a sheet: parts between blank rows, each with its title, its headers and its notes."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field

from mixrag.corpus.parsers.builder import DocumentBuilder
from mixrag.corpus.parsers.office.grid import Cell, add_table, has_values
from mixrag.corpus.parsers.office.tally import Tally
from mixrag.corpus.parsers.table import count_header_rows

Area = tuple[int, int, int, int]
"""First row, first column, last row, last column of a merged area."""
_LONGEST_HEADER = 60
_LONGEST_CAPTION = 200
_MOST_HEADERS = 6
_MOST_COVERED = 1_000_000
_PLAIN_NAME = re.compile(r"(?:sheet|tabelle|feuil|hoja|foglio|blad|ark|planilha|arkusz|лист)\s?\d*", re.IGNORECASE)


@dataclass
class Sheet:
    """The cells of a sheet as they are shown."""

    name: str
    rows: dict[int, dict[int, str]] = field(default_factory=dict)
    """Text by row (from 1) and column (from 0), without blank cells."""
    merged: list[Area] = field(default_factory=list)
    bold: set[tuple[int, int]] = field(default_factory=set)
    numbers: dict[int, int] = field(default_factory=dict)
    """How many cells of a row are numbers or dates."""
    hidden_columns: set[int] = field(default_factory=set)
    hidden_rows: set[int] = field(default_factory=set)
    last_row: int = 0


@dataclass
class _Band:
    """Rows without a blank row between them."""

    places: list[int]
    columns: list[int]
    """Columns with text in one of the rows."""


def add_sheet(builder: DocumentBuilder, sheet: Sheet, tally: Tally) -> None:
    """Write the tables of a sheet into the builder."""
    _hide(sheet, tally)
    builder.at(f"sheet {sheet.name}")
    if sheet.rows and not _PLAIN_NAME.fullmatch(sheet.name.strip()):
        builder.heading(sheet.name, 1)
    spans = _Spans(sheet)
    above: tuple[_Band, list[list[str]]] | None = None
    for band in _bands(sheet):
        headers = _Writer(builder, sheet, spans, band).write(above)
        above = (band, headers) if headers else (above if len(band.columns) == 1 else None)


def _hide(sheet: Sheet, tally: Tally) -> None:
    gone = set()
    for texts in sheet.rows.values() if sheet.hidden_columns else ():
        for column in sheet.hidden_columns & texts.keys():
            gone.add(column)
            del texts[column]
    tally.add("hidden columns", len(gone), "hidden columns of sheets were left out")
    sheet.rows = {place: texts for place, texts in sheet.rows.items() if texts}


def _bands(sheet: Sheet) -> Iterator[_Band]:
    places: list[int] = []
    for place in sorted(sheet.rows):
        if places and _is_parted(sheet, places[-1], place):
            yield _band(sheet, places)
            places = []
        places.append(place)
    if places:
        yield _band(sheet, places)


def _is_parted(sheet: Sheet, above: int, below: int) -> bool:
    """Whether a blank row, and not only hidden rows, lies between two rows."""
    return below - above - 1 > len(sheet.hidden_rows) or any(
        place not in sheet.hidden_rows for place in range(above + 1, below)
    )


def _band(sheet: Sheet, places: list[int]) -> _Band:
    return _Band(places, sorted({column for place in places for column in sheet.rows[place]}))


class _Spans:
    """Merged areas by the cell that they start with."""

    def __init__(self, sheet: Sheet) -> None:
        self._sizes: dict[tuple[int, int], tuple[int, int]] = {}
        self._covered: dict[int, list[tuple[int, int]]] = {}
        places = sorted(sheet.rows)
        left_over = _MOST_COVERED
        for first, left, last, right in sheet.merged:
            self._sizes[first, left] = (right, last)
            inside = places[bisect_right(places, first) : bisect_right(places, last)][:left_over]
            left_over -= len(inside)
            for place in inside:
                self._covered.setdefault(place, []).append((left, right))

    def covers(self, place: int, column: int) -> bool:
        """Whether an area that began in a row above covers the cell."""
        return any(left <= column <= right for left, right in self._covered.get(place, ()))

    def size(self, place: int, column: int, band: _Band) -> tuple[int, int]:
        """(columns, rows) of the cell among those of the band."""
        right, last = self._sizes.get((place, column), (column, place))
        columns = sum(column <= each <= right for each in band.columns) if right > column else 1
        rows = sum(place <= each <= last for each in band.places) if last > place else 1
        return max(1, columns), max(1, rows)


class _Writer:
    def __init__(self, builder: DocumentBuilder, sheet: Sheet, spans: _Spans, band: _Band) -> None:
        self.builder, self.sheet, self.spans, self.band = builder, sheet, spans, band

    def write(self, above: tuple[_Band, list[list[str]]] | None) -> list[list[str]]:
        """Write the band; its header rows are returned, in all columns of the sheet."""
        rows, columns, band = self.sheet.rows, self.band.columns, self.band
        if len(columns) == 1:
            self.builder.paragraph("\n".join(rows[place][columns[0]] for place in band.places))
            return []
        titles = self._alone(band.places)
        notes = self._alone(band.places[len(titles) :][::-1])[::-1] if len(titles) < len(band.places) else []
        table = band.places[len(titles) : len(band.places) - len(notes)]
        caption = " ".join(self._only(place) for place in titles)
        if len(caption) > _LONGEST_CAPTION:
            self.builder.paragraph("\n".join(self._only(place) for place in titles))
            caption = ""
        if not table:
            self.builder.paragraph("\n".join(self._only(place) for place in band.places))
            return []
        headers = self._table(table, caption, above)
        self.builder.paragraph("\n".join(self._only(place) for place in notes))
        return headers

    def _alone(self, places: list[int]) -> list[int]:
        """The first rows with a single cell at the left, which is no number."""
        count = 0
        while count < len(places) and self._is_alone(places[count]):
            count += 1
        return places[:count]

    def _is_alone(self, place: int) -> bool:
        columns = list(self.sheet.rows[place])
        return len(columns) == 1 and columns[0] == self.band.columns[0] and not self._numbers(place)

    def _numbers(self, place: int) -> int:
        return self.sheet.numbers.get(place, 0)

    def _only(self, place: int) -> str:
        return " ".join(self.sheet.rows[place].values())

    def _table(
        self, places: list[int], caption: str, above: tuple[_Band, list[list[str]]] | None
    ) -> list[list[str]]:
        columns = self.band.columns
        top = places[:_MOST_HEADERS]
        spread = any(
            self.spans.size(place, c, self.band) != (1, 1) for place in top for c in self.sheet.rows[place]
        )
        if spread:
            # Areas over several cells: few such tables are long.
            count = self._count(places)
            add_table(self.builder, [self._cells(place) for place in places], header_rows=count, caption=caption)
            filled = [self._filled(place) for place in places[: count or 1]]
            return filled
        count = self._count(places)
        lines = [[self.sheet.rows[place].get(column, "") for column in columns] for place in places]
        found = count_header_rows(lines) if count is None else count
        if not found and above is not None and self._continues(above[0], lines):
            inherited = [[row[column] if column < len(row) else "" for column in columns] for row in above[1]]
            self.builder.table(inherited + lines, header_rows=len(inherited), caption=caption)
            return above[1]
        self.builder.table(lines, header_rows=count, caption=caption)
        return [self._filled(place) for place in places[:found]]

    def _continues(self, above: _Band, lines: list[list[str]]) -> bool:
        """Whether the band goes on under the headers of the one above."""
        inside = above.columns[0] <= self.band.columns[0] and self.band.columns[-1] <= above.columns[-1]
        return inside and any(map(has_values, lines))

    def _filled(self, place: int) -> list[str]:
        texts = self.sheet.rows[place]
        width = max(texts) + 1
        out = [texts.get(column, "") for column in range(width)]
        for column in texts:
            for covered in range(column + 1, column + self.spans.size(place, column, self.band)[0]):
                out += [""] * (covered + 1 - len(out))
                out[covered] = texts[column]
        return out

    def _cells(self, place: int) -> list[Cell]:
        """Cells of a row for ``add_table``, without those that a merged area covers."""
        texts, cells, skip = self.sheet.rows[place], [], 0
        for at, column in enumerate(self.band.columns):
            if at < skip or self.spans.covers(place, column):
                continue
            wide, deep = self.spans.size(place, column, self.band)
            cells.append(Cell(texts.get(column, ""), wide, deep, (place, column) in self.sheet.bold))
            skip = at + wide
        return cells

    def _count(self, places: list[int]) -> int | None:
        """How many rows are headers by their form; None: not to be seen from it."""
        rows, first = self.sheet.rows, self.sheet.rows[places[0]]
        if len(places) < 2:
            return 0
        if any(self.spans.size(places[0], column, self.band) != (1, 1) for column in first):
            return None
        bold = [place for place in places[:_MOST_HEADERS] if self._bold(place)]
        if bold and bold[0] == places[0] and len(bold) < len(places):
            count = next(n for n in range(len(bold) + 1) if n == len(bold) or bold[n] != places[n])
            return count if count < len(places) else 0
        full = len(first) == len(self.band.columns) >= 3 and not self._numbers(places[0])
        texts = list(first.values())
        short = max(map(len, texts)) <= _LONGEST_HEADER and len(set(texts)) == len(texts)
        return 1 if full and short and len(rows) > 1 else None

    def _bold(self, place: int) -> bool:
        texts = self.sheet.rows[place]
        years = all(
            re.fullmatch(r"\D*(?:19|20)\d\d\D*", texts[column]) or not texts[column][:1].isdigit()
            for column in texts
        )
        return len(texts) > 1 and years and all((place, column) in self.sheet.bold for column in texts)

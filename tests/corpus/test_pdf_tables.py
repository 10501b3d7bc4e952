"""Tables of PDF files: each number with its row's label and its column's header."""

from __future__ import annotations

from pdf_writer import Pages, blocks, document

EDGES = [340.0, 420.0, 500.0]


def table_of(pages: Pages) -> list[str]:
    return [line for _, found in blocks(pages, kind="table") for line in found.split("\n")]


def test_years_above_numbers_that_end_at_one_edge() -> None:
    pages = Pages()
    rows = [["", "2023", "2022", "2021"], ["Tolls", "1,204", "998", "1,010"], ["Rents", "(12)", "7", "-"]]
    pages.rows(100, rows, EDGES)
    assert table_of(pages) == [
        "Tolls | 2023: 1,204 | 2022: 998 | 2021: 1,010",
        "Rents | 2023: (12) | 2022: 7 | 2021: -",
    ]


def test_a_row_without_a_label_or_a_value_keeps_its_columns() -> None:
    pages = Pages()
    rows = [
        ["", "2023", "2022", "2021"],
        ["Tolls", "10", "20", "30"],
        ["Rents", "1", "", "3"],
        ["", "11", "", "33"],
    ]
    pages.rows(100, rows, EDGES)
    assert table_of(pages)[1:] == ["Rents | 2023: 1 | 2021: 3", "2023: 11 | 2021: 33"]


def test_a_header_over_several_columns_belongs_to_each() -> None:
    pages = Pages()
    pages.put(285, 100, "Year ended 31 December")
    pages.rows(114, [["", "2023", "2022", "Change"], ["Tolls", "1,204", "998", "21%"]], [330, 400, 500])
    pages.rows(140, [["Rents", "1,000", "900", "11%"]], [330, 400, 500])
    assert table_of(pages)[0] == (
        "Tolls | Year ended 31 December 2023: 1,204 | Year ended 31 December 2022: 998 | Change: 21%"
    )


def test_signs_that_stand_apart_go_to_their_number() -> None:
    pages = Pages()
    pages.rows(100, [["", "2023", "2022"]], [340, 450])
    for y, label, one, two in ((114, "Profit", "1,204", "998"), (128, "Loss", "(33", "(1")):
        pages.put(72, y, label)
        pages.put(290, y, "$")
        pages.put(400, y, "$")
        pages.right(340, y, one)
        pages.right(450, y, two)
        if one.startswith("("):
            pages.put(340.5, y, ")")
            pages.put(450.5, y, ")")
    assert table_of(pages) == ["Profit | 2023: $1,204 | 2022: $998", "Loss | 2023: $(33) | 2022: $(1)"]


def test_leaders_are_no_text() -> None:
    pages = Pages()
    for y, label, number in ((100, "Dues of the small harbour", "17"), (114, "Dues of the large one", "230")):
        end = pages.put(72, y, label)
        pages.put(end + 2, y, "." * int((440 - end) / 2.6))
        pages.right(470, y, number)
    assert table_of(pages) == ["Dues of the small harbour | 17", "Dues of the large one | 230"]


def test_a_label_of_two_lines_is_one() -> None:
    pages = Pages()
    y = pages.rows(100, [["", "2023", "2022"], ["Tolls", "10", "20"], ["Rents", "30", "40"]], EDGES, leading=16)
    pages.put(72, y, "Income from the letting of nets and")
    pages.put(80, y + 11, "boats to visitors")
    pages.right(340, y + 11, "50")
    pages.right(420, y + 11, "60")
    assert table_of(pages)[-1] == "Income from the letting of nets and boats to visitors | 2023: 50 | 2022: 60"


def test_units_beside_the_headers_are_the_caption() -> None:
    pages = Pages()
    pages.rows(100, [["(in thousands)", "2023", "2022"], ["Tolls", "10", "20"], ["Rents", "30", "40"]], EDGES)
    ((block, _),) = blocks(pages, kind="table")
    assert block.caption == "(in thousands)"


def test_a_table_that_goes_on_overleaf_keeps_its_headers() -> None:
    pages = Pages()
    pages.rows(700, [["", "2023", "2022"], ["Tolls", "10", "20"], ["Rents", "30", "40"]], EDGES)
    pages.new_page()
    pages.rows(80, [["Fines", "50", "60"], ["Gifts", "70", "80"]], EDGES)
    (first, _), (second, rows) = blocks(pages, kind="table")
    assert (first.page, second.page) == (1, 2)
    assert rows == "Fines | 2023: 50 | 2022: 60\nGifts | 2023: 70 | 2022: 80"


def test_a_second_table_has_its_own_headers() -> None:
    pages = Pages()
    pages.rows(100, [["", "2023", "2022"], ["Tolls", "10", "20"], ["Rents", "30", "40"]], EDGES)
    pages.rows(150, [["", "May", "June"], ["Fines", "5", "6"], ["Gifts", "7", "8"]], EDGES)
    assert table_of(pages)[-1] == "Gifts | May: 7 | June: 8"


def test_numbers_in_prose_are_no_table() -> None:
    pages = Pages()
    lines = [
        "In 2023 the harbour took 1,204 crowns in tolls, and in 2022 it took 998, which was less than in",
        "2021, when 1,010 crowns were paid. The keeper of the harbour says that the year 2024 will bring",
        "some 1,300 crowns, of which 12 are fines.",
    ]
    pages.lines(72, 100, lines)
    assert document(pages).text == " ".join(lines)


def test_lines_whose_numbers_share_a_column_stay_as_they_are() -> None:
    pages = Pages()
    pages.rows(100, [["", "2023"]], [400])
    for number in range(4):
        y = 113 + 13 * number
        pages.put(72, y, "Odd")
        for x in (330 + 9 * number, 352 + 9 * number, 374 + 9 * number):
            pages.put(x, y, "12")
    ((block, lines),) = blocks(pages, kind="table")
    assert lines.split("\n") == ["2023", *["Odd 12 12 12"] * 4] and block.caption == "2023"


def test_ruled_cells_hold_their_text() -> None:
    pages = Pages()
    rows = [
        ("Risk", "What may happen", "Who looks after it"),
        (
            "Fire",
            "The oil store may burn down if lamps are carried into it after the sun has set",
            "The harbour master",
        ),
        ("Flood", "Each storm from the west puts the quay under water for a day or for two of them", "The keeper"),
    ]
    pages.set_y(100)
    with pages.table(col_widths=(60, 200, 100), width=400) as table:
        for row in rows:
            cells = table.row()
            for cell in row:
                cells.cell(cell)
    assert table_of(pages) == [" | ".join(row) for row in rows]

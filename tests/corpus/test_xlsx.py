import pytest

from corpus.office_files import archive, counts, rows, shown, xlsx
from mixrag.corpus import UnreadableError
from mixrag.corpus.parsers.office import xlsx as module
from mixrag.corpus.parsers.office.number_format import formatted, general
from mixrag.corpus.parsers.office.xlsx import read_xlsx

BOLD = "<fonts><font/><font><b/></font></fonts>"
FORMATS = (
    '<numFmts><numFmt numFmtId="170" formatCode="#,##0.0&quot; t&quot;"/></numFmts>'
    f"{BOLD}<cellXfs>"
    '<xf numFmtId="0" fontId="0"/><xf numFmtId="10" fontId="0"/><xf numFmtId="14" fontId="0"/>'
    '<xf numFmtId="170" fontId="0"/><xf numFmtId="0" fontId="1"/></cellXfs>'
)


def read(*sheets, **more):
    return read_xlsx(xlsx(*sheets, **more), "a.xlsx")


def texts(inner, **more):
    return [text for _, text in shown(read(("Sheet1", inner), **more))]


@pytest.mark.parametrize(
    ("value", "code", "text"),
    [
        (0.125, "0.0%", "12.5%"),
        (0.5, "0%", "50%"),
        (1234567.891, "#,##0", "1,234,568"),
        (1234.5, "#,##0.00", "1,234.50"),
        (-5.0, "#,##0;(#,##0)", "(5)"),
        (-5.0, "#,##0", "-5"),
        (0.0, '0;-0;"none"', "none"),
        (12.0, "[$€-407] #,##0.00", "€ 12.00"),
        (12.0, '"EUR" 0.0_)', "EUR 12.0"),
        (1234567.0, '0.0,,"M"', "1.2M"),
        (12345.678, "0.00E+00", "1.23E+04"),
        (0.00012, "0.0E-0", "1.2E-4"),
        (123456789.0, "000-00-0000", "123-45-6789"),
        (7.0, "000", "007"),
        (2.5, "0.##", "2.5"),
        (2.0, "0.##", "2"),
        (1.005, "0.00", "1.01"),
        (3.0, "[>2]0.0;0.00", "3.0"),
        (1.0, "[>2]0.0;0.00", "1.00"),
        (45291.0, "d mmm yyyy", "31 Dec 2023"),
        (45291.0, "mm/dd/yyyy", "2023-12-31"),
        (45291.0, "mmmm yy", "December 23"),
        (45291.75, "yyyy-mm-dd hh:mm", "2023-12-31 18:00"),
        (0.5208333333, "h:mm AM/PM", "12:30 PM"),
        (1.5, "[h]:mm", "36:00"),
        (45291.0, "[$-409]dddd", "Sunday"),
        (1.0, "yyyy-mm-dd", "1900-01-01"),
        (12.0, "General", "12"),
        (12.0, 'General" pcs"', "12 pcs"),
        (12.0, "@", "12"),
        (12.0, "", "12"),
    ],
)
def test_numbers_as_they_are_shown(value, code, text):
    assert formatted(value, code) == text


def test_dates_from_1904():
    assert formatted(0.0, "yyyy-mm-dd", date1904=True) == "1904-01-01"


@pytest.mark.parametrize("value", [1e308, -1e308, 1e-300, 2.0**53, 9e99])
@pytest.mark.parametrize(
    "code", ["General", "0.00", "#,##0", "0%", "0.0E+0", "yyyy", "[h]:mm", "# ?/?", ";;;", "@@", "["]
)
def test_any_number_under_any_format_gives_a_line(value, code):
    assert "\n" not in formatted(value, code)


def test_numbers_without_a_format():
    assert [general(each) for each in (0.1 + 0.2, 1 / 3, -2.0, 1e20, 0.0)] == [
        "0.3",
        "0.3333333333",
        "-2",
        "1E+20",
        "0",
    ]


def test_cells_with_formats_in_a_table():
    inner = rows(["", "2023", "2022"], ["Share", (0.125, 1), (0.2, 1)], ["Weight", (1500, 3), (45291, 2)])
    assert texts(inner, styles=FORMATS) == [
        "Share | 2023: 12.50% | 2022: 20.00%\nWeight | 2023: 1,500.0 t | 2022: 2023-12-31"
    ]


def test_kinds_of_cells():
    cells = (
        '<c r="A1" t="s"><v>0</v></c><c r="B1" t="b"><v>1</v></c><c r="C1" t="e"><v>#REF!</v></c>'
        '<c r="D1" t="str"><f>A1</f><v>formula text</v></c><c r="E1" t="s"><v>9</v></c><c r="F1"><f>1+1</f></c>'
    )
    result = read(("Sheet1", f'<sheetData><row r="1">{cells}</row></sheetData>'), shared=["shared"])
    assert shown(result) == [("table", "shared | TRUE | #REF! | formula text")]
    assert counts(result) == {"formulas without a value": 1}


def test_rich_text_with_raised_characters_and_without_readings():
    raised = "<r><rPr><vertAlign val='superscript'/></rPr><t>6</t></r>"
    si = f"<si><r><t>10</t></r>{raised}<rPh><t>READING</t></rPh></si>"
    inner = '<sheetData><row r="1"><c r="A1" t="s"><v>0</v></c></row></sheetData>'
    assert texts(inner, shared=[si]) == ["10^6"]
    assert texts(inner, shared=["a_x000A_b"]) == ["a\nb"]


def test_sheets_have_places_and_names():
    result = read(("Fees", rows(["a", "b"])), ("Sheet2", rows(["c", "d"])))
    blocks = result.documents[0].blocks
    assert [(block.kind, block.place) for block in blocks] == [
        ("heading", "sheet Fees"),
        ("table", "sheet Fees"),
        ("table", "sheet Sheet2"),
    ]


def test_blank_rows_part_tables_titles_and_notes():
    inner = rows(
        ["Fees of the harbour"], ["Item", "2023", "2022"], ["Ferry", 12, 11], ["Pilot", None, 40],
        ["Source: office"], None, ["Name", "Task", "Room"], ["Ann", "cook", "north"], None, ["A remark."],
    )  # fmt: skip
    assert texts(inner) == [
        "Fees of the harbour\nItem: Ferry | 2023: 12 | 2022: 11\nItem: Pilot | 2022: 40",
        "Source: office",
        "Name: Ann | Task: cook | Room: north",
        "A remark.",
    ]


def test_a_part_without_headers_goes_on_under_those_above():
    inner = rows(["Item", "2023"], ["Ferry", 12], None, ["Pilot", 40])
    assert texts(inner) == ["Item: Ferry | 2023: 12", "Item: Pilot | 2023: 40"]


def test_a_table_that_starts_away_from_the_corner():
    assert texts(rows(None, [None, None, "Item", "2023"], [None, None, "Ferry", 12])) == ["Item: Ferry | 2023: 12"]


def test_bold_headers():
    inner = '<sheetData><row r="1">{}</row><row r="2">{}</row></sheetData>'
    head = '<c r="A1" s="4" t="inlineStr"><is><t>Name</t></is></c>'
    head += '<c r="B1" s="4" t="inlineStr"><is><t>Task</t></is></c>'
    line = '<c r="A2" t="inlineStr"><is><t>Ann</t></is></c><c r="B2" t="inlineStr"><is><t>cook</t></is></c>'
    assert texts(inner.format(head, line), styles=FORMATS) == ["Name: Ann | Task: cook"]
    assert texts(inner.format(head.replace('s="4"', ""), line), styles=FORMATS) == ["Name | Task\nAnn | cook"]


def test_merged_headers():
    inner = rows(["", "2023", None, "2022"], ["Item", "H1", "H2", "H1"], ["Ferry", 1, 2, 3])
    merged = '<mergeCells><mergeCell ref="B1:C1"/></mergeCells>'
    assert texts(inner + merged) == ["Item: Ferry | 2023 H1: 1 | 2023 H2: 2 | 2022 H1: 3"]


def test_a_merged_title_stands_once():
    inner = rows(["TITLE"], ["Item", "2023", "2022"], ["Ferry", 1, 2])
    result = read(("Sheet1", inner + '<mergeCells><mergeCell ref="A1:C1"/></mergeCells>'))
    assert shown(result) == [("table", "TITLE\nItem: Ferry | 2023: 1 | 2022: 2")]
    assert result.documents[0].blocks[0].caption == "TITLE"


def test_a_cell_over_several_rows_stands_in_each():
    inner = rows(["Land", "Port", "Fee"], ["Isle", "Eyre", 1], [None, "Skarrow", 2])
    assert texts(inner + '<mergeCells><mergeCell ref="A2:A3"/></mergeCells>') == [
        "Land: Isle | Port: Eyre | Fee: 1\nLand: Isle | Port: Skarrow | Fee: 2"
    ]


def test_hidden_sheets_rows_and_columns_are_counted():
    inner = rows(["a", "b", "c"], ["SECRET", "x", "y"], ["d", "e", "f"]).replace('r="2"', 'r="2" hidden="1"')
    columns = '<cols><col min="2" max="2" hidden="1"/></cols>'
    result = read(
        ("Sheet1", columns + inner), ("Salaries", rows(["HIDDEN"]), "hidden"), ("V", rows(["V"]), "veryHidden")
    )
    assert shown(result) == [("table", "a | c\nd | f")]
    assert counts(result) == {"hidden sheets": 2, "hidden rows": 1, "hidden columns": 1}


def test_rows_behind_a_filter_are_read():
    inner = rows(["a", "b"], ["FILTERED", "x"]).replace('r="2"', 'r="2" hidden="1"') + '<autoFilter ref="A1:B2"/>'
    assert "FILTERED" in texts(inner)[0]


def test_cells_beyond_the_limit_are_counted(monkeypatch):
    monkeypatch.setattr(module, "MAX_CELLS", 3)
    assert counts(read(("Sheet1", rows(["a", "b"], ["c", "d"], ["e", "f"]))))["cells too many for one file"] == 2


def test_odd_references():
    cells = '<row><c><v>1</v></c><c><v>2</v></c></row><row><c r="XFD2"><v>3</v></c></row>'
    cells += '<row r="x"><c r="?"><v>4</v></c></row>'
    assert texts(f"<sheetData>{cells}</sheetData><mergeCells><mergeCell ref='?'/></mergeCells>")


def test_many_merged_areas_over_whole_columns():
    merged = "".join(f'<mergeCell ref="A{n}:Z1048576"/>' for n in range(1, 2000))
    assert texts(rows(["a", "b"], ["c", "d"]) + f"<mergeCells>{merged}</mergeCells>")


@pytest.mark.parametrize("inner", ["<sheetData>", "<sheetData><row", "\x01"])
def test_broken_sheets_say_why(inner):
    with pytest.raises(UnreadableError, match=r"damaged.*sheet1\.xml"):
        read(("Sheet1", inner))


def test_a_broken_sheet_costs_only_its_end():
    lines = rows(["a", "b"], ["c", "d"]).replace("</sheetData>", "<row")
    result = read(("Sheet1", lines), ("Sheet2", rows(["e", "f"])))
    assert [text for _, text in shown(result)] == ["a | b\nc | d", "e | f"]
    assert counts(result) == {"damaged parts of files": 1}


def test_an_empty_workbook():
    with pytest.raises(UnreadableError, match="no extractable text"):
        read(("Sheet1", "<sheetData/>"))


def test_entities_in_a_sheet_are_not_expanded():
    data = xlsx(("Sheet1", ""))
    bomb = (
        '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>'
        '<worksheet><sheetData><row><c t="str"><v>&b;</v></c></row></sheetData></worksheet>'
    )
    import io
    import zipfile

    with zipfile.ZipFile(io.BytesIO(data)) as file:
        parts = {name: file.read(name) for name in file.namelist()}
    parts["xl/worksheets/sheet1.xml"] = bomb
    with pytest.raises(UnreadableError):
        read_xlsx(archive(parts), "a.xlsx")

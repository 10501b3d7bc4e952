import pytest

from corpus.office_files import archive, counts, odf, shown
from mixrag.corpus import UnreadableError
from mixrag.corpus.parsers.office import ods
from mixrag.corpus.parsers.office.dispatch import read_office

STYLE = '<style:style style:name="{}" style:family="text"><style:text-properties {}/></style:style>'
SUPER = STYLE.format("Sup", 'style:text-position="super 58%"')
HIDDEN = STYLE.format("Hid", 'text:display="none"')
BOLD = STYLE.format("Bold", 'fo:font-weight="bold"')


def read(kind, body, **more):
    return read_office(odf(kind, body, **more), "a.odt")


def texts(body, **more):
    return [text for _, text in shown(read("text", body, **more))]


def p(inner):
    return f"<text:p>{inner}</text:p>"


WIDE = (
    f"<table:table-cell table:number-columns-spanned='2'>{p('2023')}</table:table-cell><table:covered-table-cell/>"
)


def table(*rows, head=0):
    cells = [
        "<table:table-row>"
        + "".join(
            each if each.startswith("<table:") else f"<table:table-cell>{p(each)}</table:table-cell>"
            for each in row
        )
        + "</table:table-row>"
        for row in rows
    ]
    top = f"<table:table-header-rows>{''.join(cells[:head])}</table:table-header-rows>" if head else ""
    return f"<table:table table:name='Fees'>{top}{''.join(cells[head:])}</table:table>"


# text


def test_headings_paragraphs_and_title():
    body = (
        '<text:h text:outline-level="2">Part</text:h>'
        + p("Words.")
        + '<text:h text:outline-level="1">Top</text:h>'
    )
    result = read("text", body)
    assert [(block.kind, block.level) for block in result.documents[0].blocks] == [
        ("heading", 2),
        ("text", 0),
        ("heading", 1),
    ]
    assert result.documents[0].title == "Top"
    assert read("text", body, title="Harbour dues").documents[0].title == "Harbour dues"


def test_spaces_tabs_breaks_and_scripts():
    inner = 'A<text:tab/>B<text:line-break/>C<text:s text:c="3"/>D\n   E 10'
    inner += '<text:span text:style-name="Sup">6</text:span>'
    assert texts(p(inner), automatic=SUPER) == ["A\tB\nC   D E 10^6"]


def test_tracked_deletions_hidden_text_and_comments_stay_out():
    gone = f"<text:changed-region><text:deletion>{p('GONE')}</text:deletion></text:changed-region>"
    gone = f"<text:tracked-changes>{gone}</text:tracked-changes>"
    inner = 'Seen<text:span text:style-name="Hid">HIDDEN</text:span>'
    inner += f"<office:annotation>{p('COMMENT')}</office:annotation>."
    section = (
        f'<text:section text:display="none">{p("SECRET")}</text:section><text:section>{p("More.")}</text:section>'
    )
    result = read("text", gone + p(inner) + section, automatic=HIDDEN)
    assert [text for _, text in shown(result)] == ["Seen.", "More."]
    assert counts(result) == {"tracked deletions": 1, "hidden text": 2, "comments": 1}


def test_notes_join_no_number():
    note = f"<text:note-citation>1</text:note-citation><text:note-body>{p('FOOT')}</text:note-body>"
    note = f"<text:note>{note}</text:note>"
    assert texts(p(f"It costs 5{note} crowns.")) == ["It costs 5[1] crowns.", "[1] FOOT"]


def test_lists():
    numbers = (
        '<text:list-style style:name="N"><text:list-level-style-number text:level="1" style:num-format="1"'
        ' style:num-suffix="."/><text:list-level-style-number text:level="2" style:num-format="a"'
        ' style:num-suffix=")"/>'
        "</text:list-style>"
    )
    inner = f"<text:list><text:list-item>{p('deep')}</text:list-item></text:list>"
    items = f"<text:list-item>{p('one')}{inner}</text:list-item><text:list-item>{p('two')}</text:list-item>"
    assert shown(read("text", f"<text:list>{items}</text:list>")) == [("list", "- one\n  - deep\n- two")]
    named = f"<text:list text:style-name='N'>{items}</text:list>"
    assert texts(named + p("x") + named, automatic=numbers) == [
        "1. one\n  a) deep\n2. two",
        "x",
        "1. one\n  a) deep\n2. two",
    ]


def test_tables_with_header_rows_and_merged_cells():
    assert texts(table(["Name", "Task"], ["Ann", "cook"], head=1)) == ["Name: Ann | Task: cook"]
    assert texts(table(["", WIDE], ["", "H1", "H2"], ["Ferry", "1", "2"])) == ["Ferry | 2023 H1: 1 | 2023 H2: 2"]


def test_tables_in_cells_and_tables_of_one_column():
    inner = f"<table:table-cell>{p('y')}{table(['', '2023'], ['Eyre', '12'])}</table:table-cell>"
    assert shown(read("text", table(["a", "b"], ["x", inner]))) == [
        ("table", "a | b\nx | y"),
        ("table", "Eyre | 2023: 12"),
    ]
    assert shown(read("text", table(["first"], ["second"]))) == [("text", "first"), ("text", "second")]


def test_text_boxes_and_images():
    box = f"<draw:frame><draw:text-box>{p('BOXED')}</draw:text-box></draw:frame>"
    image = "<draw:frame><draw:image/><svg:desc>A boat</svg:desc></draw:frame>"
    result = read("text", p(f"Before.{box}") + p(image))
    assert [text for _, text in shown(result)] == ["Before.", "BOXED", "[image: A boat]"]
    assert counts(result) == {"images": 1}


def test_page_headers_are_counted():
    result = read("text", p("Body."), styles=f"<style:header>{p('Ref 77')}</style:header><style:footer/>")
    assert counts(result) == {"page headers and footers": 1}


def test_deep_spans_are_read():
    inner = "DEEP"
    for _ in range(500):
        inner = f"<text:span>{inner}</text:span>"
    assert texts(p(inner)) == ["DEEP"]


# spreadsheets


def sheet(name, rows, style=""):
    return f"<table:table table:name='{name}' table:style-name='{style}'>{rows}</table:table>"


def kind(text):
    return "float" if text.isdigit() else "string"


def row(*cells, attributes=""):
    inner = "".join(
        each
        if each.startswith("<")
        else f"<table:table-cell office:value-type='{kind(each)}'>{p(each)}</table:table-cell>"
        for each in cells
    )
    return f"<table:table-row {attributes}>{inner}</table:table-row>"


def test_sheets_with_places_and_repeated_cells():
    empty = "<table:table-cell table:number-columns-repeated='1024'/>"
    empty = f"<table:table-row table:number-rows-repeated='1048000'>{empty}</table:table-row>"
    same = f"<table:table-cell table:number-columns-repeated='2'>{p('7')}</table:table-cell>"
    body = sheet("Fees", row("Item", "2023", "2022") + row("Ferry", same) + empty) + sheet(
        "Tabelle2", row("a", "b")
    )
    result = read("spreadsheet", body)
    assert shown(result) == [("heading", "Fees"), ("table", "Item: Ferry | 2023: 7 | 2022: 7"), ("table", "a | b")]
    assert [block.place for block in result.documents[0].blocks] == ["sheet Fees", "sheet Fees", "sheet Tabelle2"]


def test_blank_rows_part_tables_and_merged_cells_are_spread():
    blank = "<table:table-row table:number-rows-repeated='2'><table:table-cell/></table:table-row>"
    rows = row("", WIDE) + row("Item", "H1", "H2") + row("Ferry", "1", "2") + blank + row("A remark.")
    assert [text for _, text in shown(read("spreadsheet", sheet("Sheet1", rows)))] == [
        "Item: Ferry | 2023 H1: 1 | 2023 H2: 2",
        "A remark.",
    ]


def test_hidden_sheets_and_rows_are_counted():
    off = '<style:style style:name="off"><style:table-properties table:display="false"/></style:style>'
    rows = row("a", "b") + row("SECRET", "x", attributes="table:visibility='collapse'") + row("c", "d")
    result = read("spreadsheet", sheet("Sheet1", rows) + sheet("Pay", row("HIDDEN"), "off"), automatic=off)
    assert shown(result) == [("table", "a | b\nc | d")]
    assert counts(result) == {"hidden rows": 1, "hidden sheets": 1}


def test_a_cell_that_says_to_stand_a_million_times(monkeypatch):
    monkeypatch.setattr(ods, "MAX_CHARACTERS", 10_000)
    result = read(
        "spreadsheet", sheet("Sheet1", row("a" * 100, attributes="table:number-rows-repeated='1000000'"))
    )
    assert len(result.documents[0].text) < 12_000 and "cells too many for one file" in counts(result)


# presentations


def page(*shapes, style=""):
    return f"<draw:page draw:style-name='{style}'>{''.join(shapes)}</draw:page>"


def frame(inner, role=""):
    return f"<draw:frame presentation:class='{role}'><draw:text-box>{inner}</draw:text-box></draw:frame>"


def test_slides_with_titles_lists_and_notes():
    items = f"<text:list><text:list-item>{p('point')}</text:list-item></text:list>"
    notes = f"<presentation:notes>{frame(p('Say hello.'), 'notes')}</presentation:notes>"
    group = f"<draw:g><draw:custom-shape>{p('grouped')}</draw:custom-shape></draw:g>"
    body = page(frame(items, "outline"), frame(p("First"), "title"), frame(p("7"), "page-number"), group, notes)
    hidden = '<style:drawing-page-properties presentation:visibility="hidden"/>'
    hidden = f'<style:style style:name="h">{hidden}</style:style>'
    result = read(
        "presentation", body + page(frame(p("SECRET")), style="h") + page(frame(p("Last"))), automatic=hidden
    )
    assert shown(result) == [
        ("heading", "First"),
        ("list", "- point"),
        ("text", "grouped"),
        ("text", "Notes: Say hello."),
        ("text", "Last"),
    ]
    assert [block.page for block in result.documents[0].blocks] == [1, 1, 1, 1, 3]
    assert counts(result) == {"page headers and footers": 1, "hidden slides": 1}


def test_files_that_cannot_be_read_say_why():
    locked = {"mimetype": "application/vnd.oasis.opendocument.text", "content.xml": "x"}
    locked["META-INF/manifest.xml"] = "<m><encryption-data/></m>"
    for data, why in (
        (archive(locked), "password"),
        (odf("text", ""), "no extractable text"),
        (b"PK\x03\x04", "valid"),
    ):
        with pytest.raises(UnreadableError, match=why):
            read_office(data, "a.odt")

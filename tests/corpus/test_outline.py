"""Page, place and context of a passage, from the blocks of its document."""

from __future__ import annotations

import pytest

from mixrag.corpus import Document
from mixrag.corpus.parsers.builder import DocumentBuilder
from mixrag.corpus.splitters.outline import Outline, Surroundings


@pytest.fixture
def document() -> Document:
    builder = DocumentBuilder()
    builder.at("page 1", 1)
    builder.heading("Harbour", 1)
    builder.heading("Fees", 2)
    builder.paragraph("Nine crowns.")
    builder.at("page 2", 2)
    builder.heading("Ferries", 3)
    builder.table([["Line", "12"], ["Tug", "7"]], header_rows=0, caption="Table 4: in crowns")
    builder.heading("Times", 2)
    builder.paragraph("At six.")
    return builder.document("Harbour")


def at(document: Document, text: str, context: str = "full") -> Surroundings:
    return Outline(document, context).at(document.text.index(text))  # type: ignore[arg-type]


def test_the_headings_above_and_the_caption_of_the_table(document: Document) -> None:
    assert at(document, "Nine") == Surroundings(1, "page 1", "Fees")
    assert at(document, "crowns.") == Surroundings(1, "page 1", "Fees")
    assert at(document, "Tug") == Surroundings(2, "page 2", "Fees › Ferries\nTable 4: in crowns")
    assert at(document, "six") == Surroundings(2, "page 2", "Times")


def test_what_the_passage_begins_with_is_not_repeated_before_it(document: Document) -> None:
    assert at(document, "Table 4").context == "Fees › Ferries"
    assert at(document, "Ferries").context == "Fees"
    assert at(document, "Times").context == ""
    assert at(document, "Harbour") == Surroundings(1, "page 1", "")


@pytest.mark.parametrize("context", ["title", "none"])
def test_page_and_place_are_there_without_context(document: Document, context: str) -> None:
    assert at(document, "Tug", context) == Surroundings(2, "page 2", "")


def test_a_sheet_is_named_where_no_heading_does_it() -> None:
    builder = DocumentBuilder()
    builder.at("sheet Fees")
    builder.paragraph("nine")
    builder.at("sheet Times")
    builder.heading("Times", 1)
    builder.paragraph("six")
    document = builder.document()
    assert at(document, "nine") == Surroundings(None, "sheet Fees", "sheet Fees")
    assert at(document, "six") == Surroundings(None, "sheet Times", "Times")


def test_long_headings_and_captions_are_cut_and_the_nearest_headings_stay() -> None:
    builder = DocumentBuilder()
    for level in range(1, 6):
        builder.heading(f"{level} " + "heading " * 20, level)
    builder.table([["a"], ["b"]], header_rows=0, caption="caption " * 90)
    document = builder.document()
    path, caption = Outline(document, "full").at(len(document.text) - 1).context.split("\n")
    headings = path.split(" › ")
    assert [each[0] for each in headings] == ["4", "5"] and all(
        each.endswith("…") for each in (*headings, caption)
    )
    assert max(map(len, headings)) <= 100 and 390 < len(caption) <= 400


def test_a_document_without_blocks_has_neither_page_nor_context() -> None:
    assert Outline(Document("text"), "full").at(0) == Surroundings()


def introduced(*before: str, rows: tuple[str, str] = ("Line | 12", "Tug | 7")) -> list[str]:
    """Context of the first and the second row of a table after these paragraphs."""
    builder = DocumentBuilder()
    for paragraph in before:
        builder.paragraph(paragraph)
    builder.table([row.split(" | ") for row in rows], header_rows=0)
    document = builder.document()
    return [at(document, row).context for row in rows]


def test_the_sentence_before_a_table_introduces_it() -> None:
    assert introduced("Ships pay. In crowns, the fees are:") == ["In crowns, the fees are:"] * 2
    assert introduced("Ships pay. The fees follow from the size.") == ["", ""]


def test_the_nearest_sentence_that_announces_a_table_introduces_it() -> None:
    announced = "The following table shows the fees of 2024."
    assert introduced("Ships pay.", f"{announced} They rose.", "Tugs are free.") == [announced] * 2
    assert introduced(announced, *["Tugs are free."] * 8) == ["", ""]


def test_a_long_sentence_does_not_introduce_a_table_nor_one_of_another_section() -> None:
    assert introduced(f"The following table shows {'very ' * 50}many fees:") == ["", ""]
    builder = DocumentBuilder()
    builder.paragraph("The following table shows the fees.")
    builder.heading("Times", 1)
    builder.table([["six", "7"]], header_rows=0)
    assert at(builder.document(), "six").context == "Times"

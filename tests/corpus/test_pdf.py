"""PDF files: pages, columns, running heads, hyphens, raised digits, scans, forms, titles."""

from __future__ import annotations

import io

import pytest
from fpdf import FPDF
from PIL import Image

from corpus.test_parsers import pdf as raw_pdf
from mixrag.corpus.parsers.pdf import pages as reading
from mixrag.corpus.parsers.pdf.glyphs import Fragment, PageText
from mixrag.corpus.parsers.pdf.hyphens import Joiner
from mixrag.corpus.parsers.pdf.ocr import Ocr
from mixrag.corpus.parsers.result import UnreadableError
from mixrag.errors import SettingError
from pdf_writer import Pages, blocks, document, notices, read, text

LEFT_TEXT = """The ferry to the mainland
leaves at noon from the
old quay and comes back
before the sun sets. It
takes mail on Fridays."""
RIGHT_TEXT = """A pilot meets each ship at
the outer buoy and guides
it between the two rocks
to the inner basin, for a
fee of twelve crowns."""
LEFT, RIGHT = LEFT_TEXT.split("\n"), RIGHT_TEXT.split("\n")


def picture(width: int = 60, height: int = 40) -> io.BytesIO:
    file = io.BytesIO()
    Image.new("L", (width, height), 128).save(file, "PNG")
    file.seek(0)
    return file


def test_each_block_knows_its_page() -> None:
    pages = Pages()
    for number in range(1, 6):
        if number > 1:
            pages.new_page()
        pages.put(72, 100, f"The bell of part {number} of the island hangs in tower {number}.")
        pages.put(72, 400, "It rings at noon.")
    found = blocks(pages)
    assert [(block.page, block.place) for block, _ in found[::2]] == [(n, f"page {n}") for n in range(1, 6)]
    assert "tower 4" in found[6][1]


@pytest.mark.parametrize("offset", [0, 5])
def test_two_columns_are_read_one_after_the_other(offset: float) -> None:
    pages = Pages()
    pages.put(
        72, 80, "News of the harbour and of all that sails from there in this long year, told in two columns"
    )
    for number in range(5):  # row by row, as some programs write
        pages.put(72, 120 + 12 * number, LEFT[number])
        pages.put(320, 120 + offset + 12 * number, RIGHT[number])
    found = text(pages)
    assert " ".join(LEFT) in found and " ".join(RIGHT) in found
    assert found.index("mail on Fridays") < found.index("A pilot meets")


def test_three_columns() -> None:
    pages = Pages(9)
    third = [line.replace("A pilot", "The cook").replace("crowns", "pounds") for line in RIGHT]
    for x, lines in ((50, LEFT), (230, RIGHT), (410, third)):
        pages.lines(x, 100, lines)
    found = text(pages)
    assert found.index("Fridays") < found.index("pilot") < found.index("twelve crowns") < found.index("cook")


def test_a_table_is_no_two_columns() -> None:
    pages = Pages()
    pages.rows(
        100, [[f"Boat of the size number {n} with a sail", f"{n}00", f"{n}50"] for n in range(1, 9)], [400, 480]
    )
    assert "Boat of the size number 3 with a sail | 300 | 350" in text(pages)


def test_running_heads_are_left_out_and_counted() -> None:
    pages = Pages()
    for number in range(1, 6):
        if number > 1:
            pages.new_page()
        pages.put(72 if number % 2 else 400, 40, "Skerry Observer, volume 9")
        pages.put(300, 760, f"Page {number} of 5")
        pages.lines(72, 100, [f"Story {'abcde'[number - 1]} of the day is short."])
    found = read(pages)
    assert "Observer" not in found.documents[0].text and "Page" not in found.documents[0].text
    (notice,) = found.notices
    assert (notice.kind, notice.count) == ("page headers and footers", 10)


def test_lines_that_only_look_alike_stay() -> None:
    pages = Pages()
    for number, fee in enumerate([12, 70, 31, 5], start=1):
        if number > 1:
            pages.new_page()
        pages.put(72, 40, f"Licence number {fee} costs {fee * 7} crowns.")
        pages.put(72, 300, "Text of the page.")
    assert "Licence number 31 costs 217 crowns." in text(pages)


def test_a_sentence_that_runs_over_the_page_end_is_one() -> None:
    pages = Pages()
    pages.lines(72, 700, ["The keeper of the light trims the lamp each night and then he", "walks down to the"])
    pages.new_page()
    pages.lines(72, 80, ["boat house. There he sleeps."])
    (first, one), (second, two) = blocks(pages)
    assert one.endswith("walks down to the boat house.") and first.page == 1
    assert two == "There he sleeps." and second.page == 2


def test_hyphens_at_line_ends() -> None:
    pages = Pages()
    lines = (
        "The commis-|sioner signs fish-|ing licences with long-|term and non-|refundable fees, as Anglo-|Saxon law"
    )
    pages.lines(72, 100, lines.split("|"))
    assert text(pages) == (
        "The commissioner signs fishing licences with long-term and non-refundable fees, as Anglo-Saxon law"
    )


def test_what_the_document_writes_decides_about_hyphens() -> None:
    assert Joiner(["a net-work here"]).join(["net-", "work"]) == "net-work"
    assert Joiner(["the overload"]).join(["over-", "load"]) == "overload"
    assert Joiner([]).join(["COVID-", "19 and BUSI-", "NESS"]) == "COVID-19 and BUSINESS"


def test_raised_digits_do_not_join_a_number() -> None:
    pages = Pages()
    x = pages.put(72, 100, "Its mass is 2 x 10")
    x = pages.put(x, 96, "30", size=6)
    x = pages.put(x, 100, " kg on the 1")
    x = pages.put(x, 96, "st", size=6)
    x = pages.put(x, 100, " day, with CO")
    x = pages.put(x, 102, "2", size=6)
    assert text(pages) == "Its mass is 2 x 10^30 kg on the 1st day, with CO2"


def test_a_turned_page_and_turned_lines() -> None:
    pages = Pages()
    with pages.rotation(90, 300, 400):
        pages.lines(100, 300, [f"Line {word} of the turned page" for word in ("one", "two", "three")])
    pages.put(72, 750, "Margin")
    found = text(pages)
    assert "Line one of the turned page Line two of the turned page" in found and "Margin" in found


def test_headings_have_levels_and_the_largest_is_the_title() -> None:
    pages = Pages()
    pages.put(72, 80, "Harbour rules", size=20)
    pages.put(72, 120, "Fees", size=14)
    pages.lines(72, 150, ["Each boat pays nine crowns a year, and this text is the body of it.", "It goes on."])
    pages.put(72, 200, "Fines", bold=True)
    pages.lines(72, 220, ["Who does not pay is fined."])
    found = [(block.level, title) for block, title in blocks(pages, kind="heading")]
    assert found == [(1, "Harbour rules"), (2, "Fees"), (3, "Fines")]
    assert document(pages).title == "Harbour rules"


@pytest.mark.parametrize(
    ("given", "title"), [("untitled", ""), ("Microsoft Word - x.docx", ""), ("Fees of 2023", "Fees of 2023")]
)
def test_a_title_that_says_nothing_is_none(given: str, title: str) -> None:
    pages = Pages()
    pages.set_title(given)
    pages.put(72, 100, "A boat pays nine crowns.")
    assert document(pages).title == title


def test_lists() -> None:
    pages = Pages()
    pages.lines(72, 100, ["- nets of all sizes and of all", "  colours", "- hooks", "- lines"])
    ((_, found),) = blocks(pages, kind="list")
    assert found == "- nets of all sizes and of all colours\n- hooks\n- lines"


def test_scanned_pages_are_named() -> None:
    pages = Pages()
    pages.put(72, 300, "Only this page has text.")
    for number in range(1, 4):
        pages.new_page()
        pages.image(picture(), 60, 60, 400, 600)
        pages.put(72, 780, f"Scanned by Lamp {number}", size=6)
    found = read(pages)
    notice = next(n for n in found.notices if n.kind == "pages without text")
    assert notice.count == 3 and notice.detail.startswith("3 of 4 pages have no text; OCR: ")
    assert {n.kind: n.count for n in found.notices}["images"] == 3
    assert found.documents[0].text.startswith("Only this page")


def test_a_page_with_a_picture_and_text_is_no_scan() -> None:
    pages = Pages()
    pages.image(picture(), 60, 60, 200, 200)
    pages.put(72, 400, "The quay as it was in summer.")
    assert notices(pages) == {"images": 1}


def test_pictures_are_read_by_the_reader_of_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    pages = Pages()
    pages.image(picture(), 60, 60, 400, 600)

    def words(pdf: object, number: int, reader: object) -> PageText:
        fragment = Fragment(60, 200, 100, 10, False, [(60, 200, f"Read from picture {number}")])
        return PageText([fragment], [], 0, 0.0, 792.0)

    monkeypatch.setattr("mixrag.corpus.parsers.pdf.document.read_picture", words)
    found = read(pages, Ocr("eng"))
    assert found.documents[0].text == "Read from picture 0"
    assert "pages read by OCR" in {notice.kind for notice in found.notices}


def test_languages_of_pictures_are_checked() -> None:
    with pytest.raises(SettingError, match="tesseract"):
        Ocr("eng; rm")


def test_what_is_outside_the_page_and_comments_are_counted() -> None:
    pages = Pages()
    pages.put(72, 100, "Inside the page.")
    pages.put(900, 100, "BEYOND")
    pages.text_annotation(100, 100, "a comment")
    assert text(pages) == "Inside the page."
    assert notices(pages) == {"comments": 1, "characters outside the page": 6}


def test_passwords() -> None:
    pages = Pages()
    pages.put(72, 100, "Open to all.")
    pages.set_encryption(owner_password="o")
    assert text(pages) == "Open to all."
    pages = Pages()
    pages.put(72, 100, "Open to some.")
    pages.set_encryption(owner_password="o", user_password="u")
    with pytest.raises(UnreadableError, match="one with a password"):
        read(pages)


def test_values_of_form_fields() -> None:
    field = (
        b"<< /Type /Annot /Subtype /Widget /FT /Tx /T (boat) /V (Seal IV) /Rect [200 712 300 732] /F 4 >>",
        b"<< /Fields [6 0 R] >>",
    )
    data = raw_pdf(b"Name of the boat:", field)
    data = data.replace(b"/Contents 4 0 R", b"/Annots [6 0 R] /Contents 4 0 R")
    data = data.replace(b"/Pages 2 0 R >>", b"/Pages 2 0 R /AcroForm 7 0 R >>")
    assert "Seal IV" in text(data)


def test_an_outline_that_contains_itself_is_not_read() -> None:
    loop = b"<< /Title (a) /Parent 6 0 R /First 6 0 R /Last 6 0 R /Next 6 0 R >>"
    data = raw_pdf(b"The text.", [loop]).replace(b"/Pages 2 0 R >>", b"/Pages 2 0 R /Outlines 6 0 R >>")
    assert text(data) == "The text."


def test_ligatures_are_letters() -> None:
    glyphs = Pages()
    glyphs.put(72, 100, "The office of the chief is staffed.")
    assert text(glyphs) == "The office of the chief is staffed."


def test_the_number_of_objects_that_are_looked_at_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_OBJECTS", 2)
    pages = Pages()
    for x in range(5):
        pages.image(picture(), 60 * x, 60, 20, 20)
    pages.put(72, 400, "Five pictures.")
    assert notices(pages)["images"] <= 2


def test_a_file_without_text() -> None:
    empty = FPDF()
    empty.add_page()
    with pytest.raises(UnreadableError, match="a PDF with text"):
        read(bytes(empty.output()))

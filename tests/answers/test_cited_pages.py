"""A citation into a PDF of several pages names the page that holds its words, and links to it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import lxml.html
import pypdfium2
import pytest

from explained import explained
from mixrag import RAG
from mixrag.answers.answer import answer_passage
from mixrag.answers.explanation_html import explanation_page
from words_encoder import WordsEncoder

PAGES = (
    ("The harbour of Skarrow was built of grey stone.", "It has two piers and one lighthouse."),
    ("A licence to fish cod costs nine crowns a year.", "It is issued by the warden in March."),
    ("Hens lay fewer eggs during winter.", "They are fed barley from the mill."),
)


def pdf_of(pages: tuple[tuple[str, ...], ...]) -> bytes:
    """A PDF with a line of text for each line of each page."""
    kids = " ".join(f"{4 + 2 * i} 0 R" for i in range(len(pages)))
    objects = [
        "<</Type/Catalog/Pages 2 0 R>>",
        f"<</Type/Pages/Count {len(pages)}/Kids[{kids}]>>",
        "<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    ]
    for i, lines in enumerate(pages):
        shown = " ".join(f"({line}) Tj 0 -18 Td" for line in lines)
        content = f"BT /F 12 Tf 72 700 Td {shown} ET"
        resources = "/Resources<</Font<</F 3 0 R>>>>/MediaBox[0 0 595 842]"
        objects.append(f"<</Type/Page/Parent 2 0 R{resources}/Contents {5 + 2 * i} 0 R>>")
        objects.append(f"<</Length {len(content)}>>stream\n{content}\nendstream")
    body, offsets = "%PDF-1.4\n", []
    for number, each in enumerate(objects, 1):
        offsets.append(len(body))
        body += f"{number} 0 obj{each}endobj\n"
    table = "".join(f"{offset:010d} 00000 n \n" for offset in offsets)
    size = len(objects) + 1
    end = f"xref\n0 {size}\n0000000000 65535 f \n{table}trailer<</Size {size}/Root 1 0 R>>"
    end += f"\nstartxref\n{len(body)}\n%%EOF"
    return (body + end).encode()


@pytest.fixture(scope="module")
def rag(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RAG]:
    folder = tmp_path_factory.mktemp("pages")
    (folder / "harbour rules.pdf").write_bytes(pdf_of(PAGES))
    with RAG.open(folder / "store", create=True, encoder=WordsEncoder()) as rag:
        rag.index(folder / "harbour rules.pdf")
        yield rag


@pytest.mark.parametrize("number", [1, 2, 3])
def test_the_page_that_is_cited_holds_the_text(rag: RAG, number: int) -> None:
    found = rag.passages(PAGES[number - 1][0], k=1).passages[0]
    assert (found.page, found.place) == (number, f"page {number}")
    with pypdfium2.PdfDocument(found.document) as document:
        shown = document[found.page - 1].get_textpage().get_text_bounded()
    assert all(line in found.text and line in shown for line in PAGES[number - 1])


def test_the_explanation_links_to_the_page(rag: RAG) -> None:
    found = rag.passages(PAGES[1][0], k=1).passages[0]
    why = explained()
    cited = answer_passage(found, prior=1.0, posterior=1.0, inner_product=1.0)
    answer = replace(why.answer, passages=(cited, why.answer.passages[1]))
    page = lxml.html.document_fromstring(explanation_page(replace(why, answer=answer)))
    links = [link for link in page.xpath("//a/@href") if link.startswith("file:")]
    assert links == [f"{Path(found.document).as_uri()}#page=2"] and "harbour%20rules.pdf" in links[0]

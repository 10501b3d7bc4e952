import pytest

from mixrag.corpus.parsers.titles import useful_title


@pytest.mark.parametrize(
    "title",
    [
        *("", "  ", "—", "untitled", "Untitled-3", "Untitled Document", "(anonymous)", "Document1", "Dokument 12"),
        *("Microsoft Word - report_final.docx", "Microsoft Word - Document2", "PowerPoint Presentation", "Sheet1"),
        *(
            "0000320193-22-000108",
            "0001193125-21-286345",
            "report.html",
            "annual report 2021.pdf",
            "无标题",
            "None",
        ),
        *(
            r"C:\Users\me\fees.doc",
            "/tmp/out/page.html",
            "https://example.org/a",
            "d41d8cd98f00b204e9800998ecf8427e",
        ),
        *("untitled (2)", "[Untitled]", "unknown", "Book1", "PowerPoint-Präsentation.pptx"),
    ],
)
def test_a_title_without_meaning_is_dropped(title):
    assert useful_title(title) == ""


@pytest.mark.parametrize(
    "title",
    [
        *(
            "Harbour dues 2023",
            "Documentation",
            "Titles and deeds",
            "Node.js",
            "Book of hours",
            "Unknown soldiers",
        ),
        *(
            "1984",
            "Test of the pumps",
            "Form 10-K",
            "A and/or B",
            "2021/2022",
            "Q&A",
            "東京",
            "C++",
            "Default rates",
            "From ASP to ASP.NET",
        ),
    ],
)
def test_a_title_with_meaning_stays(title):
    assert useful_title(title) == title


def test_the_name_of_the_program_is_cut_off():
    assert useful_title("Microsoft Word - Harbour\n dues") == "Harbour dues"

import pytest

from corpus.office_files import counts, shown
from mixrag.corpus import UnreadableError
from mixrag.corpus.parsers.office.rtf import MAX_OPEN, read_rtf


def read(body, head=rb"\ansi\ansicpg1252"):
    body = body if isinstance(body, bytes) else body.encode("ascii")
    return read_rtf(rb"{\rtf1" + head + b" " + body + b"}", "a.rtf")


def texts(body, **more):
    return [text for _, text in shown(read(body, **more))]


def test_paragraphs_signs_and_escapes():
    assert texts(r"A\tab B\line C\_D\~E\-F \{x\}\par Next\emdash end") == ["A\tB\nC-D EF {x}", "Next—end"]


@pytest.mark.parametrize(
    ("body", "head", "text"),
    [
        (rb"caf\'e9", rb"\ansi\ansicpg1252", "café"),
        (rb"\u1092? \u-3913?x", rb"\ansi", "ф \uf0b7x"),
        (rb"\uc2\u21475\'bf\'da!", rb"\ansi\ansicpg936", "口!"),
        (rb"\uc0\u21475 x", rb"\ansi", "口x"),
        (rb"\u-10179?\u-8704?", rb"\ansi", "\U0001f600"),
        (rb"{\fonttbl{\f1\fcharset204 Arial;}}\f1\'ef\'f0\'e8", rb"\ansi\ansicpg1252", "при"),
        (rb"{\fonttbl{\f1\fcharset128 M;}}\f1\'93\'fa\'96\'7b", rb"\ansi", "日本"),
        ("grün".encode("cp1252"), rb"\ansi\ansicpg1252", "grün"),
    ],
)
def test_characters(body, head, text):
    assert texts(body, head=head) == [text]


def test_raised_and_lowered_characters():
    assert texts(r"10{\super 6} m{\super 2} CO{\sub 2} 1{\super st} 10\up6 -3\up0  x") == [
        "10^6 m^2 CO2 1st 10^-3 x"
    ]


def test_hidden_deleted_headers_and_comments_stay_out():
    body = r"{\header HEAD}Seen{\v HIDDEN}{\deleted GONE}{\*\annotation COMMENT}.{\*\unknown JUNK}{\pict 89ab}\par"
    result = read(body)
    assert shown(result) == [("text", "Seen.")]
    assert counts(result) == {
        "page headers and footers": 1, "hidden text": 1, "tracked deletions": 1, "comments": 1, "images": 1
    }  # fmt: skip


def test_notes_follow_their_paragraph_and_join_no_number():
    assert texts(r"Costs 5{\footnote In 2023.} crowns.\par Next.\par") == [
        "Costs 5[1] crowns.",
        "[1] In 2023.",
        "Next.",
    ]


def test_headings_and_titles():
    styles = r"{\stylesheet{\s3 heading 2;}{\s0 Normal;}}"
    result = read(styles + r"\pard\outlinelevel0 Top\par\pard\s3 Part\par\pard Words.\par")
    assert [(block.kind, block.level) for block in result.documents[0].blocks] == [
        ("heading", 1),
        ("heading", 2),
        ("text", 0),
    ]
    assert result.documents[0].title == "Top"
    assert read(r"{\info{\title Harbour dues}{\author X}}Words.").documents[0].title == "Harbour dues"


def test_lists():
    mark = r"\pard{\listtext %s\tab}%s\par"
    assert shown(read(mark % (r"1.", "one") + mark % (r"\bullet", "two"))) == [("list", "1. one\n- two")]


def test_fields_give_their_result():
    assert texts(r'See {\field{\*\fldinst HYPERLINK "x"}{\fldrslt here}}.') == ["See here."]


def row(*cells, define=""):
    inner = "".join(f"{cell}\\cell " for cell in cells)
    define = define or "".join(rf"\cellx{n}000" for n in range(1, len(cells) + 1))
    return rf"\trowd{define}\pard\intbl {inner}\row "


def test_tables():
    body = row("", "2023", "2022") + row("Ferry", "12", "11") + row("Pilot", "", "40") + r"\pard After.\par"
    assert shown(read(body)) == [("table", "Ferry | 2023: 12 | 2022: 11\nPilot | 2022: 40"), ("text", "After.")]


def test_merged_cells():
    head = row("Port", "2023", "", define=r"\clvmgf\cellx1000\clmgf\cellx2000\clmrg\cellx3000")
    second = row("", "H1", "H2", define=r"\clvmrg\cellx1000\cellx2000\cellx3000")
    assert texts(head + second + row("Eyre", "1", "2")) == ["Port: Eyre | 2023 H1: 1 | 2023 H2: 2"]


def test_a_text_box_is_read_and_its_picture_is_not():
    assert texts(r"Before.\par{\shp{\*\shpinst{\sp{\sn a}{\sv b}}{\shptxt BOXED\par}}{\shprslt{\pict 00}}}") == [
        "Before.",
        "BOXED",
    ]


def test_binary_data_is_skipped():
    assert texts(rb"a{\pict\bin5 }}}}}}b\par") == ["ab"]


@pytest.mark.parametrize(
    "body",
    [b"text}}}}", b"{{{{text", b"text\\", b"text\\u", b"text\\'4", b"text\\bin999999999 x", b"{" * 3 * MAX_OPEN],
)
def test_broken_files_are_read_as_far_as_they_go(body):
    assert texts(b"start " + body)[0].startswith("start")


def test_a_file_without_text():
    with pytest.raises(UnreadableError, match="no extractable text"):
        read(r"\pard\par")

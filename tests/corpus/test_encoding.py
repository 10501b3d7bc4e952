"""The encoding of a file: what it says, else UTF-8, else a guess that is reported."""

import pytest

from mixrag.corpus.parsers.encoding import decode_text, html_encoding, xml_encoding
from mixrag.corpus.parsers.html.page import read_html
from mixrag.corpus.parsers.result import UnreadableError


def html(data):
    return read_html(data, "a.html").documents[0].text


@pytest.mark.parametrize("codec", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_counts_first(codec):
    assert decode_text("Ä 日本\n".encode(codec), "windows-1252") == ("Ä 日本\n", ())
    assert html("<meta charset=koi8-r><p>Fähre".encode(codec)) == "Fähre"


@pytest.mark.parametrize(
    ("label", "codec", "shown"),
    [
        ("iso-8859-1", "cp1252", "“€” – ferry"),
        ("latin1", "cp1252", "Fähre’s"),
        ("ASCII", "cp1252", "Fähre…"),
        ("gb2312", "gbk", "镕基的许可证"),
        ("gbk", "gb18030", "费用㐀元"),
        ("Shift_JIS", "cp932", "①髙橋"),
        ("x-sjis", "cp932", "料金"),
        ("ks_c_5601-1987", "cp949", "똠방각하"),
        ("windows-1251", "cp1251", "Паром"),
        ("big5", "big5hkscs", "費用"),
        ("utf-16", "utf-8", "Fähre"),
        ("UTF-16BE", "utf-8", "Fähre"),
    ],
)
def test_a_page_declares_its_charset_as_browsers_understand_it(label, codec, shown):
    body = f"</head><body><p>{shown}</p>".encode(codec)
    for head in (
        f'<meta charset="{label}">',
        f"<META CHARSET={label} >",
        f'<meta http-equiv="Content-Type" content="text/html; charset={label}">',
        f'<?xml version="1.0" encoding="{label}"?><html>',
    ):
        assert html(head.encode() + body) == shown


@pytest.mark.parametrize(
    "label", ["punycode", "rot13", "idna", "base64", "unicode_escape", "utf-7", "nonsense", ""]
)
def test_labels_that_are_no_charsets_are_ignored(label):
    assert html(f"<meta charset='{label}'><p>Fähre-tda".encode()) == "Fähre-tda"


def test_what_is_no_declaration_does_not_count():
    for head in (
        "<!-- <meta charset=koi8-r> -->",
        "<!-- never closed? --><!-- <meta charset=koi8-r> -->",
        "<meta name=description content='charset=koi8-r'>",
        "<p>charset=koi8-r</p>",
    ):
        assert html_encoding(head.encode()) == ""
    assert html_encoding(b"<!-- <meta charset=koi8-r> --><meta charset=gbk>") == "gbk"
    assert xml_encoding(b"text <?xml version='1.0' encoding='gbk'?>") == ""


def test_a_wrong_declaration_gives_way_to_utf8():
    assert decode_text("Fähre 日本–".encode(), "euc-kr")[0] == "Fähre 日本–"


FERRY = {
    "cp1252": "The “ferry” costs €9 – paid yearly. It’s due in May.",
    "latin-1": "Die Fähre fährt täglich um zehn. Für Schüler gilt der halbe Preis; größere Gruppen nicht.",
    "cp1251": "Паром отходит каждый день в десять часов. Билет для школьников стоит половину.",
    "koi8-r": "Паром отходит каждый день в десять часов. Билет для школьников стоит половину.",
    "cp932": "フェリーは毎日十時に出発します。学生は半額で、犬は無料です。大きな団体は事前に電話してください。",
    "gbk": "渡轮每天十点出发。学生半价，狗免费。大型团体请提前打电话预约，办公室下午五点关门。",
    "big5": "渡輪每天十點出發。學生半價，狗免費。大型團體請提前打電話預約，辦公室下午五點關門。",
    "euc-kr": "연락선은 매일 열 시에 출발합니다. 학생은 반값이고 개는 무료입니다. 단체는 미리 전화하십시오.",
    "cp1253": "Το πλοίο αναχωρεί κάθε μέρα στις δέκα. Οι μαθητές πληρώνουν τα μισά.",
    "cp1250": "Prom odpływa codziennie o dziesiątej. Uczniowie płacą połowę, wśród nich też małe dzieci.",
}


@pytest.mark.parametrize("codec", FERRY)
def test_other_encodings_are_guessed_and_reported(codec):
    text, (notice,) = decode_text(FERRY[codec].encode(codec))
    assert text == FERRY[codec] and notice.kind == "guessed encodings" and notice.detail.startswith("read as ")


def test_short_western_text_is_windows_1252():
    text, (notice,) = decode_text("Zoë’s café – 5 £".encode("cp1252"))
    assert text == "Zoë’s café – 5 £" and notice.detail == "read as windows-1252"


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_wide_text_without_a_mark(codec):
    text = "name,town\nOrla,Bergen\nTavi,Åbo\n" * 3 + "x" * 3
    assert decode_text(text.encode(codec))[0] == text


def test_damaged_utf8_loses_a_character_and_says_so():
    text, notices = decode_text("Fähre über Åland – täglich".encode() + b"\xff end")
    assert text == "Fähre über Åland – täglich\ufffd end" and notices[-1].kind == "undecodable bytes"


@pytest.mark.parametrize("data", [b"abc\n\0def", bytes(range(256)) * 4, b"\x01\x02\x03\xff" * 100])
def test_binary_data_are_refused(data):
    with pytest.raises(UnreadableError, match="binary data"):
        decode_text(data)

import base64
import io
import zipfile
import zlib

import pytest

from corpus.office_files import archive, counts, docx, odf, paragraph, pptx, rows, shape, shown, xlsx
from mixrag.corpus import UnreadableError, read
from mixrag.corpus.parsers.office import package
from mixrag.corpus.parsers.office.dispatch import read_office
from mixrag.corpus.parsers.office.legacy import MAGIC

# A workbook of old Excel: sheet "Old fees"; Item, 2023; Ferry, 12.5; Date, 2023-12-31.
OLD = (
    "c-rk)O=uHA6#izDG(WV-CQXG_D521*wFPZ2UfNZOEgn*<7k>~mH7iJKDr+wFpw*g_2!bcYOQ9aTM7{Wf9uzMggo+*nK}huINl@_6"
    "W_|NA!L+u}fEFtAE%VKrH*aR%?##T|-M916;_Sn=5|&{Q9+cf68ftWcQm|SuLG`XH#cCd)<Z5gv1OqgY4L&?;dgGUKDCfHb0}s3}"
    "iGk0Qj^i9gCbM>89kG{vNDJx10I|Rw(uC2<Ud5PCF*h^cXUpfzyIFIcd4Oz-;uz+wk?vh;6(2D=xGoIY?_+NBku^Kfg4c2tU%DYG"
    "wm$4}&ZH+cSVg<H5p$pk9k#Q!Bg+xoMF==b=uM@1lgT3DG}&|b;U<9Z)m{A}q4n#l7a;x5rF#D=`T$Mha{W!i3rxd3$(tlkaoO}%"
    "g7JZgOyaa{pI<;Hq)MgzIr}VSeLMR4eZY|II8#(irgL^k#&?bf=8|~O#QUU?ID-hwQQj>k4YF|W+q=}*sC9xh(|iV0PKr+H7+hSI"
    "EvRvrYdp--wwrl7^A+xOGs|tvaazihca63vVQ7YJu5xV`jnmI~Z*8fOx00Oydhkhm{)@GZ<ic?2LcH+7nneelTp4OFuNm}+9&!7Y"
    "#8a!93l&v9F}MB^VFHG!e0SAx7{Q|4Q-mmUr6iw@Q1)U4d%^ay$BRaY{fXjQbH(0R!QNndkFuA~Acn##1A|5kk7OmqyWa>wLqkJD"
    "LqkJDLt}La^)~KN9|%76&hJ<Mbrva=^>32@7KboNSB^d^_aRHUgQ>dK&nEapwJ)*8Hr4-y5{GGY2jduHKgR1`zx2%}YVT*w4b8u|"
    "h3Xx@T#ujsc>G@%uF~o"
)
OTHER = "files of another format than their name says"

SUFFIXES = (
    *(".docx", ".docm", ".doc", ".xlsx", ".xlsm", ".xls", ".pptx", ".ppt"),
    *(".odt", ".ods", ".odp", ".rtf", ".epub", ".eml", ".mbox", ".msg"),
)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (docx(paragraph("Words.")), "Words."),
        (xlsx(("Sheet1", rows(["Words."]))), "Words."),
        (pptx(shape("Words.")), "Words."),
        (odf("text", "<text:p>Words.</text:p>"), "Words."),
        (rb"{\rtf1 Words.}", "Words."),
        (b"<html><body><p>Words.</p></body></html>", "Words."),
        (b"Words.", "Words."),
    ],
)
@pytest.mark.parametrize("suffix", [".docx", ".doc", ".xls", ".rtf", ".odt"])
def test_the_content_says_what_a_file_is(data, text, suffix):
    assert [text for _, text in shown(read_office(data, f"a{suffix}"))] == [text]


def test_text_and_pages_under_another_name_are_said():
    assert counts(read_office(b"Words.", "a.xlsx")) == {OTHER: 1}
    assert counts(read_office(b"<!DOCTYPE html><table><tr><td>a<td>b</table>", "a.xls")) == {OTHER: 1}


@pytest.mark.parametrize(
    "suffix",
    [
        ".docx",
        ".docm",
        ".doc",
        ".xlsx",
        ".xlsm",
        ".xls",
        ".pptx",
        ".ppt",
        ".odt",
        ".ods",
        ".odp",
        ".rtf",
        ".epub",
        ".eml",
        ".mbox",
        ".msg",
    ],
)
def test_the_registry_reads_all_suffixes(folder, suffix):
    (folder / f"a{suffix}").write_bytes(b"From a\nSubject: x\n\nWords.")
    assert "Words." in read(folder / f"a{suffix}", max_bytes=2**20).documents[0].text


def test_a_workbook_of_old_excel():
    result = read_office(zlib.decompress(base64.b85decode(OLD)), "a.xls")
    assert shown(result) == [
        ("heading", "Old fees"),
        ("table", "Item: Ferry | 2023: 12.5\nItem: Date | 2023: 2023-12-31"),
    ]
    assert {block.place for block in result.documents[0].blocks} == {"sheet Old fees"}


def reason(data, name="a.docx"):
    with pytest.raises(UnreadableError) as caught:
        read_office(data, name)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_encrypted_files_ask_for_no_password():
    assert "password" in reason(MAGIC + b"\0" * 600 + "EncryptedPackage\0".encode("utf-16-le"))
    data = bytearray(docx(paragraph("Words.")))
    places = [place for place in range(len(data)) if data[place : place + 4] == b"PK\x01\x02"]
    for place in places:
        data[place + 8] |= 1
    assert "password" in reason(bytes(data))


def test_binary_data_is_no_office_file():
    assert "valid .docx" in reason(b"\0\1\2\3" * 100)
    assert "valid .docx" in reason(b"PK\x03\x04 nonsense")
    assert reason(MAGIC + b"\0" * 600, "a.epub")


def test_archives_of_too_many_or_too_large_parts(monkeypatch):
    monkeypatch.setattr(package, "MAX_PARTS", 2)
    assert "at most 2 parts" in reason(docx(paragraph("Words.")))
    monkeypatch.setattr(package, "MAX_PARTS", 100)
    monkeypatch.setattr(package, "MAX_UNPACKED", 2**20)
    assert "unpacks to 2 MB" in reason(archive({"word/x": "a" * 2**21}))


def test_a_part_larger_than_its_header_says_is_not_unpacked():
    data = bytearray(archive({"word/document.xml": "a" * 2**20, "_rels/.rels": ""}))
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        size = file.getinfo("word/document.xml").file_size
    small = bytes(data).replace(size.to_bytes(4, "little"), (100).to_bytes(4, "little"))
    assert "valid .docx" in reason(small)

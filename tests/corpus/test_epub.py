import pytest

from corpus.office_files import archive, counts, shown
from mixrag.corpus import UnreadableError
from mixrag.corpus.parsers.office.epub import read_epub

HEAD = '<?xml version="1.0" encoding="utf-8"?><html xmlns="http://www.w3.org/1999/xhtml"><head><title/></head>'


def page(body):
    return f"{HEAD}<body>{body}</body></html>"


def book(chapters, extra="", metadata="", parts=None, spine=None):
    """An EPUB file: ``chapters`` by file name, in folder ``OEBPS``."""
    xhtml = 'media-type="application/xhtml+xml"'
    items = "".join(f'<item id="{name}" href="{name}" {xhtml}/>' for name in chapters)
    references = "".join(f'<itemref idref="{name}"/>' for name in spine or chapters)
    opf = (
        '<package xmlns="http://www.idpf.org/2007/opf" xmlns:dc="http://purl.org/dc/elements/1.1/">'
        f"<metadata><dc:title>The Isle</dc:title>{metadata}</metadata>"
        f"<manifest>{items}{extra}</manifest><spine>{references}</spine></package>"
    )
    container = '<container><rootfiles><rootfile full-path="OEBPS/book.opf"/></rootfiles></container>'
    files = {"mimetype": "application/epub+zip", "META-INF/container.xml": container, "OEBPS/book.opf": opf}
    files |= {f"OEBPS/{name}": text for name, text in chapters.items()}
    return archive(files | (parts or {}))


def read(*given, **more):
    return read_epub(book(*given, **more), "a.epub")


def texts(*given, **more):
    return [text for _, text in shown(read(*given, **more))]


def test_chapters_in_the_order_of_the_book():
    chapters = {"a.xhtml": page("<h1>Second</h1><p>Two.</p>"), "b.xhtml": page("<h1>First</h1><p>One.</p>")}
    result = read(chapters, spine=["b.xhtml", "a.xhtml"], metadata="<dc:creator>Ann</dc:creator>")
    assert [text for _, text in shown(result)] == ["First", "One.", "Second", "Two."]
    assert result.documents[0].title == "The Isle" and result.documents[0].metadata == {"author": "Ann"}


def test_elements_that_close_themselves_do_not_swallow_the_page():
    assert texts({"a.xhtml": page('<p><a id="x"/>One<br/>line.</p><script src="y"/><p>Two.</p>')})[-1] == "Two."


NCX = (
    '<ncx xmlns="http://www.daisy.org/z3986/2005/ncx/"><navMap><navPoint>'
    '<navLabel><text>The Storm</text></navLabel><content src="a.xhtml#x"/></navPoint></navMap></ncx>'
)
NAV = (
    '<html xmlns="http://www.w3.org/1999/xhtml" xmlns:e="http://www.idpf.org/2007/ops"><nav e:type="toc"><ol><li>'
    '<a href="a.xhtml">The Storm</a></li></ol></nav></html>'
)


@pytest.mark.parametrize(
    ("item", "text"),
    [
        ('<item id="n" href="toc.x" media-type="application/x-dtbncx+xml"/>', NCX),
        ('<item id="n" href="toc.x" properties="nav" media-type="application/xhtml+xml"/>', NAV),
    ],
)
def test_the_table_of_contents_names_chapters(item, text):
    result = read({"a.xhtml": page("<p>Wind.</p>")}, extra=item, parts={"OEBPS/toc.x": text})
    assert shown(result) == [("heading", "The Storm"), ("text", "Wind.")]
    assert {block.place for block in result.documents[0].blocks} == {"The Storm"}
    headed = read({"a.xhtml": page("<h2>Own</h2><p>Wind.</p>")}, extra=item, parts={"OEBPS/toc.x": text})
    assert [text for _, text in shown(headed)] == ["Own", "Wind."]


def test_what_is_left_out_is_counted():
    image = '<item id="i" href="i.png" media-type="image/png"/>'
    locked = (
        '<encryption><EncryptedData><EncryptionMethod Algorithm="aes"/><CipherData>'
        '<CipherReference URI="OEBPS/b.xhtml"/></CipherData></EncryptedData></encryption>'
    )
    chapters = {"a.xhtml": page("<p>Seen.</p>"), "b.xhtml": "\x01\x02"}
    result = read(chapters, extra=image, spine=[*chapters, "gone"], parts={"META-INF/encryption.xml": locked})
    assert [text for _, text in shown(result)] == ["Seen."]
    assert counts(result) == {"images": 1, "encrypted chapters": 1, "missing chapters": 1}


def test_files_that_cannot_be_read_say_why():
    with pytest.raises(UnreadableError, match="list of chapters"):
        read_epub(archive({"mimetype": "application/epub+zip"}), "a.epub")
    with pytest.raises(UnreadableError, match="no extractable text"):
        read({"a.xhtml": page("")})

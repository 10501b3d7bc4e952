from itertools import pairwise

import pytest

from mixrag.corpus.parsers.result import UnreadableError
from mixrag.corpus.parsers.xml_file import read_xml


def parsed(source):
    return read_xml(source if isinstance(source, bytes) else source.encode(), "a.xml")


def blocks(source):
    (document,) = parsed(source).documents
    return [(block.kind, document.text[block.start : block.end]) for block in document.blocks]


def test_records_are_lines_with_their_attributes():
    source = (
        '<?xml version="1.0"?><fleet xmlns="urn:x"><ship id="7"><name>Raft</name>'
        '<fee currency="kr">12</fee></ship>'
        '<ship id="8"><name>Cutter</name><crew/></ship><quay name="north" depth="4"/></fleet>'
    )
    assert blocks(source) == [
        ("list", "ship | id: 7\nname: Raft\nfee (currency: kr): 12"),
        ("list", "ship | id: 8\nname: Cutter"),
        ("list", "quay | name: north | depth: 4"),
    ]


def test_prose_has_headings_and_paragraphs():
    source = (
        "<book><title>Dues</title><chapter><title>Ships</title><para>A raft costs <emphasis>nine</emphasis>"
        " crowns.</para><para>10<sup>6</sup> sheep</para>loose<code>x</code></chapter></book>"
    )
    (document,) = parsed(source).documents
    assert document.title == "Dues"
    assert blocks(source) == [
        ("heading", "Dues"),
        ("heading", "Ships"),
        ("text", "A raft costs nine crowns."),
        ("text", "10^6 sheep"),
        ("text", "loose"),
        ("list", "code: x"),
    ]


def test_text_next_to_elements_stays_in_order_and_apart():
    assert blocks("<r>a<b>c<d>e</d>f</b>g<h>1</h><i>2</i></r>") == [("list", "r: acefg1 2")]


def test_markup_in_text_is_read():
    source = "<rss><item><description>&lt;p>Nine&lt;/p>&lt;p>crowns&lt;/p></description></item></rss>"
    assert blocks(source) == [("text", "Nine"), ("text", "crowns")]


def test_xhtml_is_a_page():
    source = (
        '<?xml version="1.0" encoding="iso-8859-1"?><html xmlns="http://www.w3.org/1999/xhtml"><head><title>Dues'
        "</title></head><body><p>Gebühr</p></body></html>"
    )
    (document,) = parsed(source.encode("latin-1")).documents
    assert (document.title, document.text) == ("Dues", "Gebühr")


@pytest.mark.parametrize("codec", ["utf-16", "latin-1", "utf-8"])
def test_encodings(codec):
    source = f'<?xml version="1.0" encoding="{codec}"?><fee>Fähre</fee>'
    assert blocks(source.encode(codec)) == [("list", "fee: Fähre")]


def test_short_entities_are_replaced_and_others_named():
    doctype = '<!DOCTYPE r [<!ENTITY co "Orla Ltd"><!ENTITY x SYSTEM "file:///etc/passwd">]>'
    result = parsed(f"{doctype}<r><a>&co; &eacute;</a><b>&x;</b></r>")
    assert result.documents[0].text == "a: Orla Ltd é\nb: &x;"
    assert [(n.kind, n.count) for n in result.notices] == [("entities not expanded", 1)]


@pytest.mark.parametrize("place", ["<r>&j;</r>", '<r a="&j;">x</r>'])
def test_entities_never_grow(place):
    names = "abcdefghij"
    doctype = f'<!ENTITY a "{"lol" * 30}">' + "".join(
        f'<!ENTITY {name} "{f"&{before};" * 10}">' for before, name in pairwise(names)
    )
    assert len(parsed(f"<!DOCTYPE r [{doctype}]>{place}").documents[0].text) < 100


def test_deep_and_broken_files_say_what_was_lost():
    deep = parsed("<a>" * 1500 + "<p>end</p>" + "</a>" * 1500)
    assert deep.documents[0].text == "end" and not deep.notices
    broken = parsed("<r><p>one</p><p>two</r>")
    assert "one" in broken.documents[0].text and "two" in broken.documents[0].text
    assert broken.notices[0].kind == "XML errors" and "line 1" in broken.notices[0].detail


def test_what_is_no_xml_is_text():
    result = parsed("no markup at all")
    assert (
        result.documents[0].text == "no markup at all"
        and result.notices[0].kind == "files of another format than their name says"
    )
    for empty in ("<r/>", "<?xml version='1.0'?>", "<!DOCTYPE r []>", " "):
        with pytest.raises(UnreadableError, match="no extractable text"):
            parsed(empty)

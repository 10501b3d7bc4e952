import pytest

from mixrag.corpus.parsers.markdown import read_markdown


def parsed(source):
    (document,) = read_markdown(source.encode(), "a.md").documents
    return document


def blocks(source):
    document = parsed(source)
    return [(block.kind, document.text[block.start : block.end]) for block in document.blocks]


def test_structure():
    source = (
        "Fees\n====\n\nPaid *once*\nper __year__ at the [quay](http://x).\n\n## Ships ##\n\n"
        "* raft\n  1. old\n  2. new\n* cutter\n\n```py\n# no\nx = 1\n```\n\n    indented\n\n> said\n\n---\n"
    )
    assert blocks(source) == [
        ("heading", "Fees"),
        ("text", "Paid once per year at the quay."),
        ("heading", "Ships"),
        ("list", "- raft\n  1. old\n  2. new\n- cutter"),
        ("code", "# no\nx = 1"),
        ("code", "indented"),
        ("text", "said"),
    ]


def test_pipe_tables_have_headers():
    assert blocks("| Ship | Fee |\n|:--|--:|\n| Raft | 1 \\| 2 |\n| Cutter | 3\n") == [
        ("table", "Ship: Raft | Fee: 1 | 2\nShip: Cutter | Fee: 3")
    ]


def test_html_inside():
    source = (
        "10<sup>6</sup> sheep\n\n<details><summary>Pilot</summary>\n\n40 **crowns**\n\n</details>\n<!-- no -->\n"
    )
    assert blocks(source) == [("text", "10^6 sheep"), ("text", "Pilot"), ("text", "40 crowns")]


def test_front_matter_is_metadata_and_text():
    source = "---\ntitle: Dues\nyear: 2023\ntags: [sheep, wool]\nnested: {a: 1}\nempty:\n---\n# Heading\n\nNine.\n"
    document = parsed(source)
    assert document.title == "Dues" and document.metadata == {"year": 2023, "tags": "sheep, wool"}
    assert document.text == "year: 2023\ntags: sheep, wool\n\nHeading\n\nNine."


@pytest.mark.parametrize("front", ["---\n[a: b\n---\n", "---\njust text\n---\n", "---\na: &x [*x]\n---\n"])
def test_what_is_no_front_matter_is_text(front):
    assert "Nine" in parsed(f"{front}\nNine").text


def test_a_rule_at_the_top_is_no_front_matter():
    assert parsed("---\n\nNine\n").text == "Nine"


@pytest.mark.parametrize("mark", ["> ", "- ", "  - ", "[", "*a ", "_a", "` ", "![", "<div>", "&lt;", "|"])
def test_nothing_is_lost_however_deep(mark):
    result = read_markdown(f"{mark * 3000}end\n\nafter".encode(), "a.md")
    assert "end" in result.documents[0].text and "after" in result.documents[0].text


def test_too_deep_structure_is_said():
    (notice,) = read_markdown(b"> " * 3000 + b"end", "a.md").notices
    assert notice.kind == "files read without their markup" and "too deep" in notice.detail


def test_without_its_extra_the_source_is_the_text(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "selectolax", None)
    monkeypatch.setitem(__import__("sys").modules, "selectolax.lexbor", None)
    result = read_markdown(b"# Fees\n\n*Nine*", "a.md")
    assert result.documents[0].text == "# Fees\n\n*Nine*" and 'mixrag[files]"' in result.notices[0].detail

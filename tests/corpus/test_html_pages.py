"""HTML pages: all that a browser shows, with its structure, and nothing that it hides."""

import pytest

from mixrag.corpus.parsers.html.page import read_html
from mixrag.corpus.parsers.result import UnreadableError


def page(html):
    (document,) = read_html(html if isinstance(html, bytes) else html.encode(), "page.html").documents
    return document


def text(html):
    return page(html).text


def kinds(html):
    document = page(html)
    return [(block.kind, document.text[block.start : block.end]) for block in document.blocks]


# what is shown


def test_text_in_controls_is_text():
    assert text("<h3><button>Where is the quay?</button></h3><div>In the north.</div>") == (
        "Where is the quay?\n\nIn the north."
    )
    assert text("<details><summary>Pilot</summary>40 crowns</details>") == "Pilot\n\n40 crowns"
    assert text("<p>Zone <select><option>West, 3<option>East, 4</select>") == "Zone\n\n- West, 3\n- East, 4"
    assert text("<label>Name</label><input value=Orla><textarea>Notes</textarea>") == "Name Orla Notes"
    assert text('<input type=hidden value="7d8"><p>x') == "x"


def test_noscript_is_text():
    assert text("<div><noscript><p>Nine crowns.</p></noscript></div>") == "Nine crowns."


@pytest.mark.parametrize(
    "hidden",
    [
        "<p hidden>SECRET</p>",
        '<p style="color:red; display : none">SECRET</p>',
        '<p style="visibility:hidden">SECRET</p>',
        "<template>SECRET</template>",
        "<script>SECRET</script><style>SECRET</style><iframe>SECRET</iframe>",
        "<svg><text>SECRET</text></svg>",
        "<!-- SECRET -->",
        "<head><meta name=description content=SECRET></head>",
        '<span class="katex-html" aria-hidden=true>SECRET</span>',
    ],
)
def test_what_a_browser_does_not_show_is_left_out(hidden):
    assert text(f"<p>before</p>{hidden}<p>after</p>") == "before\n\nafter"


def test_hidden_elements_and_navigation_are_counted():
    html = b"<nav>Home <nav>deep</nav></nav><p hidden>x<p hidden></p><p>shown<p style='display:none'>y"
    notices = read_html(html, "a").notices
    assert {(n.kind, n.count) for n in notices} == {("hidden elements", 2), ("navigation blocks", 1)}


@pytest.mark.parametrize("wrapped", ["<div {}>", "<p {}>"])
def test_what_only_looks_hidden_is_shown(wrapped):
    for attribute in ("hidden=until-found", "style='display:block'", "aria-hidden=true", "class=hidden-print"):
        assert text(wrapped.format(attribute) + "fee") == "fee"


@pytest.mark.parametrize("depth", [300, 4000])
def test_text_at_any_depth(depth):
    html = "<div><span>" * depth + "<b>deep</b>" + "</span></div>" * depth + "<p>after"
    assert text(f"<p>first{html}") == "first\n\ndeep\n\nafter"


# numbers and marks


@pytest.mark.parametrize(
    ("html", "shown"),
    [
        ("10<sup>6</sup> sheep", "10^6 sheep"),
        ("10<sup>-3</sup>", "10^-3"),
        ("10<sup>n + 1</sup>", "10^(n + 1)"),
        ("9 km<sup>2</sup>", "9 km^2"),
        ("5<sup><a href='#f1'>1</a></sup> crowns", "5[1] crowns"),
        ("5<sup class=reference>[1]</sup> crowns", "5[1] crowns"),
        ("5<sup>*</sup>", "5*"),
        ("the 1<sup>st</sup> of May", "the 1st of May"),
        ("H<sub>2</sub>O", "H2O"),
        ("101<sub>2</sub>", "101_2"),
        ("x<sub>i</sub>", "x_i"),
        ("<del>15</del>12", "~~15~~ 12"),
        ("漢<ruby>字<rp>(</rp><rt>じ</rt><rp>)</rp></ruby>", "漢字(じ)"),
        ("<q>Nine</q>", "“Nine”"),
        ("wo<wbr>rd&shy;s", "words"),
        ("<math><msup><mi>x</mi><mn>2</mn></msup></math>", "x^2"),
        ("<math><mfrac><mn>1</mn><mn>3</mn></mfrac></math>", "1/3"),
        (r"<math><mi>x</mi><annotation>\bar x</annotation></math>", r"\bar x"),
    ],
)
def test_raised_text_never_joins_a_number(html, shown):
    assert text(f"<p>{html}</p>") == shown


# structure


def test_blocks_have_kinds():
    html = (
        "<h1>Fees <small>2023</small></h1>loose <i>text</i><p>One<br>two</p><blockquote>Said.</blockquote>"
        "<ul><li>a<ul><li>b</ul>c<li><p>d</p><p>e</p></ul><ol start=3><li>x<li value=7>y<li>z</ol>"
        "<dl><dt>Hen<dt>Cock<dd>a bird<dd>a fowl<dt>Eel</dl><pre>  a\n    b</pre>"
    )
    assert kinds(html) == [
        ("heading", "Fees 2023"),
        ("text", "loose text"),
        ("text", "One\ntwo"),
        ("text", "Said."),
        ("list", "- a\n  - b\n  c\n- d e"),
        ("list", "3. x\n7. y\n8. z"),
        ("list", "Hen; Cock: a bird\nHen; Cock: a fowl\nEel"),
        ("code", "  a\n    b"),
    ]
    assert [block.level for block in page(html).blocks][:2] == [1, 0]


def test_blocks_inside_lists_stay_in_order():
    html = "<ul><li>first<pre>code</pre>then<table><tr><th>k<th>v<tr><td>a<td>1</table><li>second</ul>end"
    assert kinds(html) == [
        ("list", "- first"),
        ("code", "code"),
        ("list", "  then"),
        ("table", "k: a | v: 1"),
        ("list", "- second"),
        ("text", "end"),
    ]


def test_a_heading_that_is_never_closed_ends():
    (first, *_), others = (found := kinds(f"<h2>Fees<p>{'word ' * 60}<p>Nine crowns.<p>More."))[0], found[1:]
    assert first == "heading" and ("text", "Nine crowns.") in others


def test_a_short_bold_paragraph_is_a_heading():
    html = "<p><b>Risk <i>factors</i></b></p><p><b>Note:</b> rain</p><p><b>Ends as a sentence.</b></p>"
    assert [kind for kind, _ in kinds(html)] == ["heading", "text", "text"]
    assert kinds("<div style='font-weight:700'>Item 7</div><p>x")[0] == ("heading", "Item 7")


def test_spans_that_are_blocks():
    assert text("<span style='display:block'>one</span><span>two</span>") == "one\n\ntwo"


def test_images_say_what_they_show():
    assert (
        text("<p>See <img alt='A chart of sheep'><img alt=image1.png><img alt=''></p>") == "See A chart of sheep"
    )


# tables


def test_headers_of_a_table():
    html = (
        "<table><caption>Dues</caption><thead><tr><th rowspan=2>Ship<th colspan=2>Season<tr><th>Summer<th>Winter"
        "</thead><tr><td>Cutter<td>12<td>9<tr><td colspan=3>Free of charge<tr><td>Raft<td><td>1</table>"
    )
    assert kinds(html) == [
        (
            "table",
            "Dues\nShip: Cutter | Season Summer: 12 | Season Winter: 9\nFree of charge\n"
            "Ship: Raft | Season Winter: 1",
        )
    ]


def test_a_cell_over_several_rows_is_in_each():
    html = "<table><tr><th>Zone<th>Ship<th>Fee<tr><td rowspan=2>West<td>Raft<td>1<tr><td>Cutter<td>2</table>"
    assert text(html) == "Zone: West | Ship: Raft | Fee: 1\nZone: West | Ship: Cutter | Fee: 2"


def test_signs_in_cells_of_their_own_join_their_numbers():
    html = (
        "<table><tr><td><td colspan=3>2023<td colspan=3>2022<tr><td>Wool<td>$<td>(12<td>)<td>$<td>9<td>"
        "<tr><td>Milk<td><td>8<td>%<td><td>7<td>%</table>"
    )
    assert text(html) == "Wool | 2023: $(12) | 2022: $9\nMilk | 2023: 8% | 2022: 7%"


def test_words_in_a_cell_stay_apart():
    html = "<table><tr><th>Who<th>What<tr><td><p>Orla</p><p>Berg</p><td>a<br>b<ul><li>c<li>d</ul></table>"
    assert text(html) == "Who: Orla Berg | What: a b c; d"


def test_tables_that_place_things_are_read_as_their_cells():
    inner = "<table><tr><th>Ship<th>Fee<tr><td>Raft<td>1</table>"
    html = f"<table><tr><td><h2>News</h2><p>One.</p><td>{inner}</table>"
    assert kinds(html) == [("heading", "News"), ("text", "One."), ("table", "Ship: Raft | Fee: 1")]
    assert kinds("<table><tr><td>only</table>") == [("text", "only")]
    assert kinds("<table role=presentation><tr><td>a<td>1</table>") == [("text", "a"), ("text", "1")]


def test_a_table_of_bullets_is_a_list():
    html = "<table><tr><td>•<td>one<tr><td>•<td>two</table><table><tr><td>(1)<td>A note.</table>"
    assert kinds(html) == [("list", "- one\n- two"), ("list", "(1) A note.")]


def test_text_lost_between_cells_is_kept():
    assert text("<table>stray<tr><td>a<td>1<tr><p>also<td>b<td>2</table>") == "stray\n\nalso\n\na | 1\nb | 2"


# titles


@pytest.mark.parametrize(
    ("html", "title"),
    [
        ("<title>Dues &amp; fees</title><h1>x</h1>", "Dues & fees"),
        ("<title>Untitled Document</title><h1>Dues</h1>", "Dues"),
        ("<title>0000123456-22-000001</title><p>x", ""),
        ("<h4>low</h4><h3>Third</h3><h1>First", "Third"),
        ("<p>x", ""),
    ],
)
def test_title(html, title):
    assert page(html).title == title


# what is made to exhaust the reader


@pytest.mark.parametrize(
    ("html", "why"),
    [
        ("<p " + " ".join(f'a{i}="{i}"' for i in range(40_000)) + ">x", "attributes in a tag"),
        ("<div>" * 40_000 + "x", "elements in each other"),
        ("<select>" + "<option>x" * 30_000, "options"),
    ],
)
def test_pages_of_quadratic_cost_are_refused(html, why):
    with pytest.raises(UnreadableError, match=why):
        page(html)


def test_long_scripts_and_drawings_are_no_depth():
    script = "<script>" + "if(a<b){c<d}" * 20_000 + "</script>"
    drawing = "<svg>" + "<g>" * 20_000 + "</svg>"
    assert text(f"{script}{drawing}<p>x" + "<p>y" * 6_000).startswith("x")


@pytest.mark.parametrize(
    "html",
    [
        "<table><tr><th colspan=1000 rowspan=65534>x" * 2_000,
        "<table><tr><td>x" * 1_500,
        "<ul><li>x" * 2_000,
        "<sup>x" * 2_000,
        "<table><tr><th>a<th>" + "h " * 200_000 + "<tr><td>a<td>1" * 1_000,
        "<table>" + "<tr><td>a<td>1" * 1_000 + "<tr><td>" + "long " * 100_000 + "<td>2",
    ],
)
def test_the_text_stays_in_proportion_to_the_page(html):
    assert len(text(html)) < 4 * len(html) + 100_000

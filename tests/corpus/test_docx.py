import io
import re
import zipfile

import pytest

from corpus.office_files import NAMES, archive, cell, counts, docx, links, paragraph, run, shown, table
from mixrag.corpus import UnreadableError
from mixrag.corpus.parsers.office import package
from mixrag.corpus.parsers.office.docx import read_docx

RAISED = '<w:vertAlign w:val="superscript"/>'
LOWERED = '<w:vertAlign w:val="subscript"/>'


def read(body, **more):
    return read_docx(docx(body, **more), "a.docx")


def texts(body, **more):
    return [text for _, text in shown(read(body, **more))]


# runs


def test_signs_inside_a_run():
    signs = "<w:r><w:t>A</w:t><w:tab/><w:t>B</w:t><w:br/><w:t>C</w:t><w:noBreakHyphen/><w:t>D</w:t>"
    assert texts(paragraph(signs + "<w:softHyphen/><w:t>E</w:t><w:cr/><w:t>F</w:t></w:r>")) == ["A\tB\nC-DE\nF"]


def test_tracked_changes_are_accepted_and_deletions_counted():
    body = paragraph(
        run("Fee ")
        + "<w:del><w:r><w:delText>OLD</w:delText></w:r></w:del>"
        + f"<w:ins>{run('NEW')}</w:ins>"
        + f"<w:moveFrom>{run('AWAY')}</w:moveFrom><w:moveTo>{run(' HERE')}</w:moveTo>"
    )
    result = read(body)
    assert shown(result) == [("text", "Fee NEW HERE")] and counts(result) == {"tracked deletions": 1}


def test_a_deleted_paragraph_end_joins_two_paragraphs():
    body = paragraph("One ", properties="<w:rPr><w:del/></w:rPr>") + paragraph("sentence.")
    assert texts(body) == ["One sentence."]


def test_deleted_rows_are_left_out():
    gone = "<w:tr><w:trPr><w:del/></w:trPr>" + cell("GONE") + cell("1") + "</w:tr>"
    body = table(["Port", "Fee"], ["Eyre", "3"], ["Skarrow", "5"]).replace("</w:tbl>", gone + "</w:tbl>")
    assert "GONE" not in texts(body)[0]


@pytest.mark.parametrize("form", ["<w:vanish/>", '<w:vanish w:val="1"/>', '<w:rStyle w:val="Ghost"/>'])
def test_hidden_text(form):
    styles = '<w:style w:type="character" w:styleId="Ghost"><w:rPr><w:vanish/></w:rPr></w:style>'
    result = read(paragraph(run("HIDDEN", form) + run("seen")), styles=styles)
    assert shown(result) == [("text", "seen")] and counts(result) == {"hidden text": 1}


def test_text_that_is_said_not_to_be_hidden_is_read():
    assert texts(paragraph(run("seen", '<w:vanish w:val="0"/>'))) == ["seen"]


@pytest.mark.parametrize(
    ("before", "script", "text", "expected"),
    [
        ("10", RAISED, "6", "10^6"),
        ("m", RAISED, "2", "m^2"),
        ("10", RAISED, "-3", "10^-3"),
        ("1", RAISED, "st", "1st"),
        ("x", RAISED, "n+1", "x^(n+1)"),
        ("CO", LOWERED, "2", "CO2"),
        ("10", LOWERED, "2", "10_2"),
    ],
)
def test_raised_and_lowered_characters(before, script, text, expected):
    assert texts(paragraph(run(before) + run(text, script))) == [expected]
    halves = run(text[:1], script) + run(text[1:], script)
    assert texts(paragraph(run(before) + halves)) == [expected]


@pytest.mark.parametrize(
    ("inner", "expected"),
    [
        ("<m:sSup><m:e>x</m:e><m:sup>2</m:sup></m:sSup>=9", "x^2=9"),
        ("<m:sSub><m:e>a</m:e><m:sub>10</m:sub></m:sSub>", "a_10"),
        ("<m:f><m:num>a+b</m:num><m:den>2</m:den></m:f>", "(a+b)/2"),
        ("<m:rad><m:deg/><m:e>x</m:e></m:rad>", "sqrt(x)"),
        ("<m:d><m:dPr><m:begChr m:val='['/><m:endChr m:val=']'/></m:dPr><m:e>1</m:e></m:d>", "[1]"),
        (
            "<m:nary><m:naryPr><m:chr m:val='∑'/></m:naryPr>"
            "<m:sub>i=1</m:sub><m:sup>n</m:sup><m:e>i</m:e></m:nary>",
            "∑_(i=1)^n i",
        ),
    ],
)
def test_equations_in_a_line(inner, expected):
    inner = re.sub(r"(?<=>)([^<]+)", r"<m:r><m:t>\1</m:t></m:r>", f"<x>{inner}</x>")[3:-4]
    assert texts(paragraph(run("Eq ") + f"<m:oMath>{inner}</m:oMath>")) == [f"Eq {expected}"]


def test_fields_give_their_result_also_nested_and_over_paragraphs():
    def mark(kind):
        return f'<w:r><w:fldChar w:fldCharType="{kind}"/></w:r>'

    code = "<w:r><w:instrText>IF </w:instrText></w:r>"
    inner = mark("begin") + code + run("INNERCODE") + mark("separate") + run("inner") + mark("end")
    body = paragraph(mark("begin") + code + inner + mark("separate") + run("result"))
    body += paragraph(run("more") + mark("end") + run(" after"))
    assert texts(body) == ["result", "more after"]
    assert texts(paragraph('<w:fldSimple w:instr="DATE">' + run("today") + "</w:fldSimple>")) == ["today"]


def test_links_content_controls_and_tags():
    inner = f"<w:hyperlink>{run('link ')}</w:hyperlink><w:smartTag>{run('tag ')}</w:smartTag>"
    control = f"<w:sdt><w:sdtPr/><w:sdtContent>{run('inline')}</w:sdtContent></w:sdt>"
    block = f"<w:sdt><w:sdtContent>{paragraph('block')}</w:sdtContent></w:sdt>"
    assert texts(paragraph(inner + control) + block) == ["link tag inline", "block"]


def test_symbols():
    body = '<w:r><w:sym w:font="Symbol" w:char="F061"/><w:sym w:font="Wingdings" w:char="F0FC"/><w:t>x</w:t></w:r>'
    result = read(paragraph(body))
    assert shown(result) == [("text", "α x")] and counts(result) == {"symbols of a picture font": 1}


# notes, boxes, drawings


def note(kind, id_, text):
    return f'<w:{kind} w:id="{id_}">{paragraph(text)}</w:{kind}>'


def test_foot_and_endnotes_follow_their_paragraph_and_join_no_number():
    reference = '<w:r><w:footnoteReference w:id="7"/></w:r>'
    body = paragraph(run("It costs 5") + reference + run(" crowns") + '<w:r><w:endnoteReference w:id="2"/></w:r>')
    found = texts(
        body + paragraph("Next."), footnotes=note("footnote", 7, "In 2023."), endnotes=note("endnote", 2, "E.")
    )
    assert found == ["It costs 5[1] crowns[i]", "[1] In 2023.", "[i] E.", "Next."]


def test_a_note_in_a_table_follows_the_table():
    reference = '<w:r><w:footnoteReference w:id="1"/></w:r>'
    body = table(["Port", "Fee"], ["Eyre", paragraph(run("12") + reference)], ["Skarrow", "5"])
    assert texts(body, footnotes=note("footnote", 1, "In crowns."))[1:] == ["[1] In crowns."]


def test_a_text_box_is_read_once():
    box = f"<w:txbxContent>{paragraph('BOXED')}</w:txbxContent>"
    choice = f"<mc:Choice Requires='wps'><w:drawing><wps:txbx>{box}</wps:txbx></w:drawing></mc:Choice>"
    fallback = f"<mc:Fallback><w:pict><v:textbox>{box}</v:textbox></w:pict></mc:Fallback>"
    body = f"<w:r><mc:AlternateContent>{choice}{fallback}</mc:AlternateContent></w:r>"
    assert texts(paragraph(run("Before ") + body + run("after."))) == ["Before after.", "BOXED"]
    assert texts(paragraph(f"<w:r><mc:AlternateContent>{fallback}</mc:AlternateContent></w:r>")) == ["BOXED"]


def test_images_are_counted_and_described():
    body = "<w:r><w:drawing><wp:docPr descr='A red boat'/><pic:blipFill><a:blip/></pic:blipFill></w:drawing></w:r>"
    result = read(paragraph(run("See") + body + run("here.")))
    assert shown(result) == [("text", "See [image: A red boat] here.")] and counts(result) == {"images": 1}


def test_a_chart_becomes_a_table():
    points = "<c:pt idx='0'><c:v>{}</c:v></c:pt>"
    values = f"<c:cat>{points.format('Eyre')}</c:cat><c:val>{points.format(12)}</c:val>"
    series = f"<c:ser><c:tx><c:v>Fee</c:v></c:tx>{values}</c:ser>"
    chart = f"<c:chartSpace {NAMES}><c:chart>{series}</c:chart></c:chartSpace>"
    body = paragraph("<w:r><w:drawing><c:chart r:id='c1'/></w:drawing></w:r>")
    assert shown(read(body, linked=[("c1", "chart", "c.xml", chart)])) == [("table", "Eyre | Fee: 12")]


def test_headers_footers_and_comments_are_counted():
    parts = [("h1", "header", "h1.xml", f"<w:hdr {NAMES}>{paragraph('Ref 77')}</w:hdr>")]
    parts += [("f1", "footer", "f1.xml", f"<w:ftr {NAMES}>{paragraph('Page')}</w:ftr>")]
    parts += [("f2", "footer", "f2.xml", f"<w:ftr {NAMES}></w:ftr>")]
    result = read(paragraph("Body."), linked=parts, comments="<w:comment/><w:comment/>")
    assert counts(result) == {"comments": 2, "page headers and footers": 2}
    assert "Ref 77" in next(notice.detail for notice in result.notices if "headers" in notice.kind)


# structure


STYLES = (
    '<w:style w:type="paragraph" w:styleId="berschrift1"><w:name w:val="heading 1"/></w:style>'
    '<w:style w:type="paragraph" w:styleId="Own"><w:basedOn w:val="berschrift1"/></w:style>'
    '<w:style w:type="paragraph" w:styleId="Clause"><w:pPr><w:outlineLvl w:val="2"/></w:pPr></w:style>'
    '<w:style w:type="paragraph" w:styleId="Titel"><w:name w:val="Title"/></w:style>'
)


def levels(result):
    return [(block.kind, block.level) for block in result.documents[0].blocks]


def test_headings_by_style_by_base_and_by_outline():
    body = paragraph("A", "berschrift1") + paragraph("B", "Own") + paragraph("C", "Clause")
    body += paragraph("D", properties='<w:outlineLvl w:val="1"/>') + paragraph("text", "Nowhere")
    body += paragraph("Not", "berschrift1", properties='<w:outlineLvl w:val="9"/>')
    heads = [("heading", 1), ("heading", 1), ("heading", 3), ("heading", 2)]
    assert levels(read(body, styles=STYLES)) == [*heads, ("text", 0), ("text", 0)]


def test_title_of_the_file_else_of_the_text():
    body = paragraph("Words") + paragraph("The title", "Titel")
    assert read(body, styles=STYLES, title="Harbour dues").documents[0].title == "Harbour dues"
    assert read(body, styles=STYLES, title="Microsoft Word - Document1").documents[0].title == "The title"
    assert read(paragraph("Words"), styles=STYLES).documents[0].title == ""


NUMBERING = (
    '<w:abstractNum w:abstractNumId="1">'
    '<w:lvl w:ilvl="0"><w:start w:val="1"/><w:numFmt w:val="decimal"/><w:lvlText w:val="%1."/></w:lvl>'
    '<w:lvl w:ilvl="1"><w:start w:val="1"/><w:numFmt w:val="lowerLetter"/><w:lvlText w:val="%1.%2)"/></w:lvl>'
    "</w:abstractNum>"
    '<w:abstractNum w:abstractNumId="2"><w:lvl w:ilvl="0"><w:numFmt w:val="bullet"/></w:lvl></w:abstractNum>'
    '<w:num w:numId="1"><w:abstractNumId w:val="1"/></w:num>'
    '<w:num w:numId="2"><w:abstractNumId w:val="2"/></w:num>'
    '<w:num w:numId="3"><w:abstractNumId w:val="1"/>'
    '<w:lvlOverride w:ilvl="0"><w:startOverride w:val="7"/></w:lvlOverride></w:num>'
)


def item(text, list_id, level=0, style=""):
    place = f'<w:numPr><w:ilvl w:val="{level}"/><w:numId w:val="{list_id}"/></w:numPr>'
    return paragraph(text, style, properties=place)


def test_lists_with_their_marks():
    body = item("one", 1) + item("deep", 1, 1) + item("deeper", 1, 1) + item("two", 1) + item("again", 1, 1)
    body += paragraph("Between.") + item("three", 1) + item("point", 2) + item("seven", 3) + item("plain", 0)
    assert shown(read(body, numbering=NUMBERING)) == [
        ("list", "1. one\n  1.a) deep\n  1.b) deeper\n2. two\n  2.a) again"),
        ("text", "Between."),
        ("list", "3. three\n- point\n7. seven"),
        ("text", "plain"),
    ]


def test_a_numbered_heading_has_its_number():
    assert shown(read(item("Scope", 1, 0, "berschrift1"), numbering=NUMBERING, styles=STYLES)) == [
        ("heading", "1. Scope")
    ]


# tables


def test_a_table_names_its_columns():
    body = table(["Port", "2023", "2022"], ["Eyre", "12", ""], ["Skarrow", "5", "4"])
    assert texts(body) == ["Port: Eyre | 2023: 12\nPort: Skarrow | 2023: 5 | 2022: 4"]


def test_a_row_that_is_said_to_be_a_header():
    body = table(["Name", "Task"], ["Ann", "cook"]).replace("<w:tr>", "<w:tr><w:trPr><w:tblHeader/></w:trPr>", 1)
    assert texts(body) == ["Name: Ann | Task: cook"]


def test_a_bold_row_is_a_header():
    head = [cell(paragraph(run(text, "<w:b/>"))) for text in ("Name", "Task")]
    assert texts(table(head, ["Ann", "cook"])) == ["Name: Ann | Task: cook"]
    assert texts(table(["Name", "Task"], ["Ann", "cook"])) == ["Name | Task\nAnn | cook"]


def test_merged_headers_name_each_of_their_columns():
    down, over = '<w:vMerge w:val="restart"/>', '<w:gridSpan w:val="2"/>'
    head = [cell("Port", down), cell("2023", over)], [cell("", "<w:vMerge/>"), "H1", "H2"]
    assert texts(table(*head, ["Eyre", "12", "13"])) == ["Port: Eyre | 2023 H1: 12 | 2023 H2: 13"]


def test_a_cell_over_several_rows_stands_in_each():
    rows = ["Land", "Port", "Fee"], [cell("Isle", '<w:vMerge w:val="restart"/>'), "Eyre", "1"]
    assert texts(table(*rows, [cell("", "<w:vMerge/>"), "Skarrow", "2"])) == [
        "Land: Isle | Port: Eyre | Fee: 1\nLand: Isle | Port: Skarrow | Fee: 2"
    ]


def test_a_merged_first_row_is_the_caption_once():
    result = read(table([cell("HEAD", '<w:gridSpan w:val="3"/>')], ["x", "y", "z"], ["a", "b", "c"]))
    assert shown(result) == [("table", "HEAD\nx | y | z\na | b | c")]
    assert result.documents[0].blocks[0].caption == "HEAD"


def test_a_merged_cell_inside_stands_once():
    body = table(["Port", "2023", "2022"], [cell("ISLES", '<w:gridSpan w:val="3"/>')], ["Eyre", "1", "2"])
    assert texts(body)[0].count("ISLES") == 1


def test_a_caption_paragraph_belongs_to_the_table_below():
    styles = '<w:style w:type="paragraph" w:styleId="C"><w:name w:val="caption"/></w:style>'
    body = paragraph("Table 1: Fees", "C") + table(["", "2023"], ["Eyre", "12"])
    assert shown(read(body, styles=styles)) == [("table", "Table 1: Fees\nEyre | 2023: 12")]
    assert shown(read(paragraph("Figure 1", "C") + paragraph("x"), styles=styles)) == [
        ("text", "Figure 1"),
        ("text", "x"),
    ]


def test_a_table_in_a_cell_follows_as_a_table_of_its_own():
    inner = table(["", "2023"], ["Eyre", "12"])
    body = table(["Port", "Note"], ["x", f"{paragraph('y')}{inner}{paragraph('')}"])
    assert shown(read(body)) == [("table", "Port | Note\nx | y"), ("table", "Eyre | 2023: 12")]


def test_a_table_that_only_arranges_the_page_is_read_as_text():
    body = table([paragraph("Part", "Heading1") + paragraph("Left."), paragraph("Right.")])
    assert shown(read(body)) == [("heading", "Part"), ("text", "Left."), ("text", "Right.")]


# hostile and odd files


def test_tables_in_tables_are_read_to_any_depth():
    body = paragraph("DEEP")
    for _ in range(60):
        body = table([body, "x"], ["y", "z"])
    result = read(body)
    assert "DEEP" in result.documents[0].text


def test_deep_insertions_are_read():
    body = run("DEEP")
    for _ in range(400):
        body = f"<w:ins>{body}</w:ins>"
    assert texts(paragraph(body)) == ["DEEP"]


def test_strict_open_xml():
    data = docx(paragraph("Strict."))
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        parts = {name: file.read(name).decode() for name in file.namelist()}
    usual = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
    strict = "http://purl.oclc.org/ooxml/wordprocessingml/main"
    parts["word/document.xml"] = parts["word/document.xml"].replace(usual, strict)
    assert shown(read_docx(archive(parts), "a.docx")) == [("text", "Strict.")]


def reason(data):
    with pytest.raises(UnreadableError) as caught:
        read_docx(data, "a.docx")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_files_that_cannot_be_read_say_why():
    whole = docx(paragraph("Text."))
    assert "valid .docx" in reason(whole[: len(whole) // 2])
    assert "no extractable text" in reason(docx(""))
    assert "word/document.xml" in reason(docx("").replace(b"word/document.xml", b"word/documint.xml"))


def test_entities_are_refused(tmp_path):
    bomb = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]><x>&b;</x>'
    parts = {"_rels/.rels": links(("r1", "officeDocument", "word/document.xml")), "word/document.xml": bomb}
    assert "entit" in reason(archive(parts))


def test_an_archive_that_would_unpack_to_too_much(monkeypatch):
    monkeypatch.setattr(package, "MAX_UNPACKED", 10_000)
    assert "unpacks" in reason(docx(paragraph("a" * 20_000)))

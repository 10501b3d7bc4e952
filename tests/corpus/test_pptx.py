import pytest

from corpus.office_files import NAMES, counts, pptx, shape, shown
from mixrag.corpus import UnreadableError
from mixrag.corpus.parsers.office.pptx import read_pptx


def read(*slides, **more):
    return read_pptx(pptx(*slides, **more), "a.pptx")


def texts(*slides, **more):
    return [text for _, text in shown(read(*slides, **more))]


def frame(inner):
    return f"<p:graphicFrame><a:graphic><a:graphicData>{inner}</a:graphicData></a:graphic></p:graphicFrame>"


def table(*rows, properties=""):
    cells = [
        "".join(
            each
            if each.startswith("<a:tc")
            else f"<a:tc><a:txBody><a:p><a:r><a:t>{each}</a:t></a:r></a:p></a:txBody></a:tc>"
            for each in row
        )
        for row in rows
    ]
    return frame(f"<a:tbl><a:tblPr {properties}/>" + "".join(f"<a:tr>{row}</a:tr>" for row in cells) + "</a:tbl>")


def test_slides_have_pages_titles_and_places():
    result = read(shape("Body one.") + shape("First", role="title"), shape("Second", role="ctrTitle"))
    document = result.documents[0]
    assert shown(result) == [("heading", "First"), ("text", "Body one."), ("heading", "Second")]
    assert [(block.page, block.place) for block in document.blocks] == [
        (1, "slide 1"),
        (1, "slide 1"),
        (2, "slide 2"),
    ]
    assert document.title == "First"
    assert read(shape("x"), title="Harbour plan").documents[0].title == "Harbour plan"
    assert read(shape("x"), title="PowerPoint Presentation").documents[0].title == ""


def test_lists_with_levels_and_numbers():
    deep = "<a:p><a:pPr lvl='1'/><a:r><a:t>deep</a:t></a:r></a:p>"
    assert shown(read(shape("one", deep, "two", role="body"))) == [("list", "- one\n  - deep\n- two")]
    numbered = "<a:p><a:pPr><a:buAutoNum type='{}'/></a:pPr><a:r><a:t>x</a:t></a:r></a:p>"
    assert shown(read(shape(*[numbered.format("arabicPeriod")] * 2))) == [("list", "1. x\n2. x")]
    assert shown(read(shape(*[numbered.format("alphaLcParenR")] * 2))) == [("list", "a) x\nb) x")]


def test_runs_breaks_and_raised_characters():
    raised = "<a:r><a:rPr baseline='30000'/><a:t>6</a:t></a:r>"
    line = f"<a:r><a:t>10</a:t></a:r>{raised}<a:br/><a:r><a:t>end</a:t></a:r>"
    assert texts(shape(f"<a:p>{line}</a:p>")) == ["10^6\nend"]


def test_tables_and_merged_cells():
    assert texts(table(["", "2023", "2022"], ["Ferry", "12", "11"], ["Pilot", "", "40"])) == [
        "Ferry | 2023: 12 | 2022: 11\nPilot | 2022: 40"
    ]
    wide = "<a:tc gridSpan='2'><a:txBody><a:p><a:r><a:t>2023</a:t></a:r></a:p></a:txBody></a:tc><a:tc hMerge='1'/>"
    assert texts(table(["", wide], ["", "H1", "H2"], ["Ferry", "1", "2"])) == ["Ferry | 2023 H1: 1 | 2023 H2: 2"]
    assert texts(table(["Name", "Task"], ["Ann", "cook"], properties="firstRow='1'")) == ["Name: Ann | Task: cook"]


def test_groups_and_alternatives():
    group = f"<p:grpSp><p:nvGrpSpPr/>{shape('one')}<p:grpSp>{shape('two')}</p:grpSp></p:grpSp>"
    either = f"<mc:Choice>{shape('new')}</mc:Choice><mc:Fallback>{shape('old')}</mc:Fallback>"
    either = f"<mc:AlternateContent>{either}</mc:AlternateContent>"
    assert texts(group + either) == ["one", "two", "new"]


def test_groups_of_any_depth():
    inner = shape("DEEP")
    for _ in range(300):
        inner = f"<p:grpSp>{inner}</p:grpSp>"
    assert texts(inner) == ["DEEP"]


def test_notes_follow_their_slide():
    shapes = shape("Say hello.", role="body") + shape("1", role="sldNum")
    notes = f"<p:notes {NAMES}><p:cSld><p:spTree>{shapes}</p:spTree></p:cSld></p:notes>"
    assert texts(shape("Slide."), shape("Next."), linked={"notesSlide": notes}) == [
        "Slide.",
        "Notes: Say hello.",
        "Next.",
    ]


def test_charts_give_their_series():
    def points(*values):
        return "".join(f"<c:pt idx='{place}'><c:v>{value}</c:v></c:pt>" for place, value in enumerate(values))

    values = f"<c:cat>{points('Eyre', 'Skarrow')}</c:cat><c:val>{points(12, 5)}</c:val>"
    title = "<c:title><a:p><a:r><a:t>Fees</a:t></a:r></a:p></c:title>"
    series = f"<c:ser><c:tx><c:v>Fee</c:v></c:tx>{values}</c:ser>"
    chart = f"<c:chartSpace {NAMES}><c:chart>{title}{series}</c:chart></c:chartSpace>"
    assert texts(frame("<c:chart r:id='p1'/>"), linked={"chart": chart}) == [
        "Fees\nEyre | Fee: 12\nSkarrow | Fee: 5"
    ]


def test_what_is_left_out_is_counted():
    hidden = shape("HIDDEN", name="hidden='1'")
    picture = "<p:pic><p:nvPicPr><p:cNvPr id='2' descr='A boat'/></p:nvPicPr></p:pic>"
    margins = shape("FOOTER", role="ftr") + shape("7", role="sldNum")
    comments = f"<p:cmLst {NAMES}><p:cm/><p:cm/></p:cmLst>"
    result = read(
        shape("Seen.") + hidden + picture + margins, ("show='0'", shape("SECRET")), linked={"comments": comments}
    )
    assert [text for _, text in shown(result)] == ["Seen.", "[image: A boat]"]
    assert counts(result) == {
        "hidden slides": 1, "hidden shapes": 1, "images": 1, "page headers and footers": 2, "comments": 2
    }  # fmt: skip


def test_a_hidden_slide_counts_in_the_numbers_of_slides():
    result = read(("show='0'", shape("SECRET")), shape("Seen."))
    assert result.documents[0].blocks[0].place == "slide 2"


def test_a_broken_slide_says_why():
    with pytest.raises(UnreadableError, match=r"damaged.*slide1\.xml"):
        read("<p:sp>")
    assert counts(read("<p:sp>", shape("Seen."))) == {"damaged parts of files": 1}

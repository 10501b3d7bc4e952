"""Office files for tests, written by hand: a zip archive of a few XML parts."""

import io
import zipfile

OFFICE = "http://schemas.openxmlformats.org"
RELATIONS = f"{OFFICE}/officeDocument/2006/relationships"
NAMES = " ".join(
    f'xmlns:{prefix}="{uri}"'
    for prefix, uri in {
        "w": f"{OFFICE}/wordprocessingml/2006/main",
        "m": f"{OFFICE}/officeDocument/2006/math",
        "r": RELATIONS,
        "mc": f"{OFFICE}/markup-compatibility/2006",
        "wp": f"{OFFICE}/drawingml/2006/wordprocessingDrawing",
        "wps": "http://schemas.microsoft.com/office/word/2010/wordprocessingShape",
        "a": f"{OFFICE}/drawingml/2006/main",
        "pic": f"{OFFICE}/drawingml/2006/picture",
        "p": f"{OFFICE}/presentationml/2006/main",
        "c": f"{OFFICE}/drawingml/2006/chart",
        "v": "urn:schemas-microsoft-com:vml",
    }.items()
)
TITLE = "<x xmlns:dc='http://purl.org/dc/elements/1.1/'><dc:title>{}</dc:title></x>"


def archive(parts):
    """Bytes of a zip file with these parts."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        for name, text in parts.items():
            file.writestr(name, text)
    return out.getvalue()


def links(*each):
    """A part of links, each (id, kind, target)."""
    inner = "".join(f'<Relationship Id="{i}" Type="{RELATIONS}/{k}" Target="{t}"/>' for i, k, t in each)
    return f'<Relationships xmlns="{OFFICE}/package/2006/relationships">{inner}</Relationships>'


def docx(body, title="", linked=(), **parts):
    """A DOCX file; ``parts`` are named after their kind (styles, numbering, footnotes, comments), as inner XML."""
    files = {
        "_rels/.rels": links(("r1", "officeDocument", "word/document.xml")),
        "word/document.xml": f"<w:document {NAMES}><w:body>{body}</w:body></w:document>",
    }
    known = [(f"k{kind}", kind, f"{kind}.xml") for kind in parts]
    files["word/_rels/document.xml.rels"] = links(*known, *((i, k, t) for i, k, t, _ in linked))
    for kind, inner in parts.items():
        files[f"word/{kind}.xml"] = f"<w:{kind} {NAMES}>{inner}</w:{kind}>"
    for _, _, target, text in linked:
        files[f"word/{target}"] = text
    if title:
        files["docProps/core.xml"] = TITLE.format(title)
    return archive(files)


def run(text, properties=""):
    return f"<w:r><w:rPr>{properties}</w:rPr><w:t xml:space='preserve'>{text}</w:t></w:r>"


def paragraph(inner, style="", properties=""):
    inner = inner if inner.startswith("<") else run(inner)
    style = f'<w:pStyle w:val="{style}"/>' if style else ""
    return f"<w:p><w:pPr>{style}{properties}</w:pPr>{inner}</w:p>"


def cell(inner, properties=""):
    inner = inner if inner.startswith("<") else paragraph(inner)
    return f"<w:tc><w:tcPr>{properties}</w:tcPr>{inner}</w:tc>"


def table(*rows, properties=""):
    """Each row a list of cells, or of their texts."""
    lines = []
    for row in rows:
        cells = "".join(each if each.startswith("<w:tc>") else cell(each) for each in row)
        lines.append(f"<w:tr>{cells}</w:tr>")
    return f"<w:tbl>{properties}{''.join(lines)}</w:tbl>"


def xlsx(*sheets, styles="", shared=(), **workbook):
    """An XLSX file; each sheet is (name, inner XML of the worksheet) or (name, XML, state)."""
    main = f"{OFFICE}/spreadsheetml/2006/main"
    listed = "".join(
        f'<sheet name="{name}" sheetId="{n}" r:id="s{n}" state="{state[0] if state else "visible"}"/>'
        for n, (name, _, *state) in enumerate(sheets, 1)
    )
    known = [(f"s{n}", "worksheet", f"worksheets/sheet{n}.xml") for n in range(1, len(sheets) + 1)]
    strings = "".join(text if text.startswith("<si>") else f"<si><t>{text}</t></si>" for text in shared)
    settings = "".join(f' {name}="{value}"' for name, value in workbook.items())
    files = {
        "_rels/.rels": links(("r1", "officeDocument", "xl/workbook.xml")),
        "xl/workbook.xml": f'<workbook xmlns="{main}" xmlns:r="{RELATIONS}"><workbookPr{settings}/>'
        f"<sheets>{listed}</sheets></workbook>",
        "xl/_rels/workbook.xml.rels": links(
            *known, ("st", "styles", "styles.xml"), ("sh", "sharedStrings", "sharedStrings.xml")
        ),
        "xl/styles.xml": f'<styleSheet xmlns="{main}">{styles}</styleSheet>',
        "xl/sharedStrings.xml": f'<sst xmlns="{main}">{strings}</sst>',
    }
    for n, (_, inner, *_) in enumerate(sheets, 1):
        files[f"xl/worksheets/sheet{n}.xml"] = f'<worksheet xmlns="{main}">{inner}</worksheet>'
    return archive(files)


def rows(*lines, first=1):
    """``sheetData``: text as inline strings, numbers as they are, ``(number, style)``, None for nothing."""
    out = []
    for place, line in enumerate(lines, first):
        cells = []
        for column, value in enumerate(line or ()):
            reference = f"{chr(65 + column)}{place}"
            if isinstance(value, str):
                cells.append(f'<c r="{reference}" t="inlineStr"><is><t>{value}</t></is></c>')
            elif isinstance(value, tuple):
                cells.append(f'<c r="{reference}" s="{value[1]}"><v>{value[0]}</v></c>')
            elif value is not None:
                cells.append(f'<c r="{reference}"><v>{value}</v></c>')
        if line:
            out.append(f'<row r="{place}">{"".join(cells)}</row>')
    return f"<sheetData>{''.join(out)}</sheetData>"


def pptx(*slides, title="", linked=None):
    """A PPTX file; each slide is the XML of its shapes, or (attributes, XML); ``linked``: of slide 1."""
    known = [(f"s{n}", "slide", f"slides/slide{n}.xml") for n in range(1, len(slides) + 1)]
    ids = "".join(f'<p:sldId id="{255 + n}" r:id="s{n}"/>' for n in range(1, len(slides) + 1))
    files = {
        "_rels/.rels": links(("r1", "officeDocument", "ppt/presentation.xml")),
        "ppt/presentation.xml": f"<p:presentation {NAMES}><p:sldIdLst>{ids}</p:sldIdLst></p:presentation>",
        "ppt/_rels/presentation.xml.rels": links(*known),
    }
    for n, slide in enumerate(slides, 1):
        attributes, shapes = slide if isinstance(slide, tuple) else ("", slide)
        files[f"ppt/slides/slide{n}.xml"] = (
            f"<p:sld {NAMES} {attributes}><p:cSld><p:spTree>{shapes}</p:spTree></p:cSld></p:sld>"
        )
    for n, (kind, text) in enumerate((linked or {}).items(), 1):
        files.setdefault("ppt/slides/_rels/slide1.xml.rels", "")
        files[f"ppt/slides/part{n}.xml"] = text
    if linked:
        each = [(f"p{n}", kind, f"part{n}.xml") for n, kind in enumerate(linked, 1)]
        files["ppt/slides/_rels/slide1.xml.rels"] = links(*each)
    if title:
        files["docProps/core.xml"] = TITLE.format(title)
    return archive(files)


def shape(*lines, role=None, name="", inner=""):
    """A shape with a paragraph a line; a placeholder if ``role`` is given."""
    place = "" if role is None else f"<p:ph type='{role}'/>"
    texts = "".join(
        line if line.startswith("<a:p>") else f"<a:p><a:r><a:t>{line}</a:t></a:r></a:p>" for line in lines
    )
    return (
        f"<p:sp><p:nvSpPr><p:cNvPr id='1' name='x' {name}/><p:nvPr>{place}</p:nvPr></p:nvSpPr>"
        f"<p:txBody>{texts}</p:txBody>{inner}</p:sp>"
    )


def shown(result):
    """Kind and text of each block of the only document."""
    (document,) = result.documents
    return [(block.kind, document.text[block.start : block.end]) for block in document.blocks]


def counts(result):
    """How many were left out, by kind."""
    return {notice.kind: notice.count for notice in result.notices}


ODF = " ".join(
    f'xmlns:{name}="urn:oasis:names:tc:opendocument:xmlns:{uri}:1.0"'
    for name, uri in {
        "office": "office",
        "text": "text",
        "table": "table",
        "draw": "drawing",
        "style": "style",
        "fo": "xsl-fo-compatible",
        "svg": "svg-compatible",
        "presentation": "presentation",
    }.items()
)


def odf(kind, body, automatic="", styles="", title=""):
    """An OpenDocument file: ``kind`` is text, spreadsheet or presentation."""
    content = (
        f"<office:document-content {ODF}><office:automatic-styles>{automatic}</office:automatic-styles>"
        f"<office:body><office:{kind}>{body}</office:{kind}></office:body></office:document-content>"
    )
    return archive(
        {
            "mimetype": f"application/vnd.oasis.opendocument.{kind}",
            "content.xml": content,
            "styles.xml": f"<office:document-styles {ODF}>{styles}</office:document-styles>",
            "meta.xml": TITLE.format(title),
        }
    )

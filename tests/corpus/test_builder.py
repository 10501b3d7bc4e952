from mixrag.corpus.parsers.builder import DocumentBuilder


def test_whatever_is_written_can_be_stored():
    builder = DocumentBuilder()
    for text in ("a\ud800b\0c", "\ud83d", "x\r\ny\rz\u2028w"):
        builder.heading(text, 1)
        builder.paragraph(text)
        builder.items([text])
        builder.code(text)
        builder.table([[text, text]], caption=text)
    document = builder.document("t\udc00")
    document.text.encode()
    assert document.title == "t\ufffd" and not {"\0", "\r"} & set(document.text)


def test_blocks_say_where_they_are():
    builder = DocumentBuilder()
    builder.paragraph(" \n ")
    builder.at("page 2", page=2)
    builder.heading("  Fees\n2023 ", 3)
    builder.table([["Ship", "Fee"], ["Raft", "9"]], header_rows=1, caption="Dues")
    document = builder.document()
    assert [document.text[block.start : block.end] for block in document.blocks] == [
        "Fees 2023",
        "Dues\nShip: Raft | Fee: 9",
    ]
    assert [(b.kind, b.level, b.page, b.place, b.caption) for b in document.blocks] == [
        ("heading", 3, 2, "page 2", ""),
        ("table", 0, 2, "page 2", "Dues"),
    ]


def test_code_keeps_its_indentation_and_loses_its_tabs():
    builder = DocumentBuilder()
    builder.code("\n\n\tif x:  \n\t\ty\n\n")
    assert builder.document().text == "    if x:\n        y"

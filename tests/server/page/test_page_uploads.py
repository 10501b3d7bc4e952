"""Files that are dropped or chosen: what fits is sent, in several requests if need be, and the rest is listed."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import FilePayload, Page, expect

from mixrag import RAG
from mixrag.server.native.file_names import safe_name
from mixrag.server.service import Service
from mixrag.server.stores import Served, Stores
from mixrag.server.writers import WriterLimits, Writers
from page_tools import violations

MODULE = "await import('/page/uploads.js')"


@pytest.fixture
def service(rag: RAG) -> Service:
    """A store that takes three files of a request, each of at most 200 bytes."""
    return Service(Stores([Served("demo", rag)]), writers=Writers(WriterLimits(file_bytes=200, files=3)))


def text_file(name: str, text: str = "") -> FilePayload:
    text = text or f"What {name} says."
    return {"name": name, "mimeType": "text/plain", "buffer": text.encode()}


def add(tab: Page, *files: FilePayload) -> Any:
    """Choose files; what is said of them once they are there."""
    tab.get_by_role("button", name="Documents").click()
    tab.locator("#files").set_input_files(list(files))
    said = tab.locator("#uploads .upload")
    expect(said.locator("progress")).to_have_count(0)
    return said


def names(tab: Page) -> list[str]:
    return tab.locator("#document-list .name").all_inner_texts()


def test_a_file_that_is_too_large_leaves_the_others_in(tab: Page) -> None:
    said = add(tab, text_file("small.txt"), text_file("large.txt", "x" * 201))
    expect(said).to_contain_text("Added small.txt (1 passage). Left out:")
    expect(said.locator(".left-out")).to_have_text("large.txt: larger than 0 MB, the most that this server takes")
    expect(tab.locator("#document-list")).to_contain_text("small.txt")
    assert "large.txt" not in names(tab)
    assert violations(tab) == ""


def test_of_two_files_of_one_name_the_first_is_sent(tab: Page) -> None:
    said = add(tab, text_file("same.txt", "The first."), text_file("same.txt", "The second."), text_file("b.txt"))
    expect(said).to_contain_text("Added same.txt, b.txt")
    expect(said.locator(".left-out")).to_contain_text("same.txt: another file of the same name")


def test_more_files_than_one_request_takes_go_in_several(tab: Page) -> None:
    sent = []
    tab.on("request", lambda each: sent.append(each.url) if each.method == "POST" else None)
    said = add(tab, *(text_file(f"file {n}.txt") for n in range(7)))
    expect(said).to_have_text("Added 7 files (7 passages).")
    assert len(sent) == 3
    expect(tab.locator("#document-list .name")).to_have_count(10)


def test_a_request_that_is_refused_is_sent_file_by_file(tab: Page) -> None:
    tab.evaluate("""() => {
        const original = FormData.prototype.append;
        FormData.prototype.append = function (name, file, as) {
            original.call(this, name, file, as.startsWith("b") ? "a.txt" : as);
        };
    }""")  # the server then finds a name twice, which the page had not seen
    said = add(tab, text_file("a.txt", "The first."), text_file("b.txt", "The second."), text_file("c.txt"))
    expect(said).to_contain_text("(3 passages)")
    expect(said.locator(".left-out")).to_have_count(0)


def test_many_files_of_one_reason_are_one_line(tab: Page) -> None:
    said = add(tab, *(text_file(f"{n}.txt", "x" * 300) for n in range(8)))
    expect(said).to_contain_text("Nothing was added. Left out:")
    expect(said.locator(".left-out li")).to_have_text(
        "0.txt, 1.txt, 2.txt, 3.txt, 4.txt and 3 more: larger than 0 MB, the most that this server takes"
    )


def test_a_server_that_is_gone_is_said_to_be(tab: Page) -> None:
    tab.route("**/v1/documents?store=demo&stream=true", lambda route: route.abort())
    said = add(tab, text_file("a.txt"))
    expect(said).to_contain_text("The server cannot be reached.")


@pytest.mark.parametrize(
    "name",
    [
        "a.txt",
        "folder/a.txt",
        "../../etc/passwd",
        ".bashrc",
        "a\u202egnp.txt",
        "a b?.txt",
        "e\u0301.txt",
        "..",
        "x\u00a0y.md",
    ],
)
def test_names_are_as_the_server_has_them(functions: Page, name: str) -> None:
    assert functions.evaluate(f"async (a) => ({MODULE}).storedName(a)", name) == safe_name(name)


@pytest.mark.parametrize(
    ("sizes", "limit", "batches"), [([1] * 101, 1000, [100, 1]), ([60, 30, 50, 10], 85, [1, 2, 1]), ([], 1, [])]
)
def test_a_request_has_no_more_files_and_bytes_than_it_may(
    functions: Page, sizes: list[int], limit: int, batches: list[int]
) -> None:
    script = f"""async ([sizes, limit]) => {{
        const {{ planned }} = {MODULE};
        const files = sizes.map((size, n) => ({{ name: `${{n}}.txt`, size: size * 1e6 }}));
        const plan = planned(files, {{ files: 100, file_bytes: 1e9, bytes: limit }});
        return [plan.batches.map((each) => each.length), plan.left];
    }}"""
    counts, left = functions.evaluate(script, [sizes, limit * 1_000_000 + 100_000])
    assert left == []
    assert counts == batches or (len(sizes) > 100 and sum(counts) == 101)


def test_a_folder_that_is_dropped_is_read(functions: Page) -> None:
    script = f"""async () => {{
        const {{ filesOf, nameOf }} = {MODULE};
        const file = (name) => ({{ name, isDirectory: false, file: (take) => take(new File(["x"], name)) }});
        const folder = (name, ...parts) => ({{
            name,
            isDirectory: true,
            createReader: () => ({{ readEntries: (take) => take(parts.splice(0, 1)) }}),
        }});
        const docs = folder("docs", file("a.md"), folder("deep", file("b.md")), file(".hidden"));
        const entries = [docs, file("c.md")];
        const items = entries.map((entry) => ({{ webkitGetAsEntry: () => entry }}));
        return (await filesOf({{ items, files: [] }})).map(nameOf);
    }}"""
    assert functions.evaluate(script) == ["docs/a.md", "docs/deep/b.md", "c.md"]

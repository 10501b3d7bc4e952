"""The prompt's text and its TOML file."""

from __future__ import annotations

from pathlib import Path

import pytest

from mixrag.corpus.passage import Passage
from mixrag.errors import SettingError
from mixrag.generator import PromptTemplate


def passage(text: str, title: str = "Notes") -> Passage:
    return Passage("p", text, "/notes.txt", title, 0, len(text))


def written(tmp_path: Path, content: str | bytes) -> Path:
    path = tmp_path / "prompt.toml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def refusal(path: Path) -> SettingError:
    with pytest.raises(SettingError) as caught:
        PromptTemplate.from_file(path)
    assert "\n" not in str(caught.value)
    return caught.value


def test_a_file_changes_what_it_names_and_keeps_the_rest(tmp_path: Path) -> None:
    template = PromptTemplate.from_file(written(tmp_path, 'header = "Read.\\n"\nchat = false\n'))
    assert template == PromptTemplate(header="Read.\n", chat=False)


def test_an_empty_file_is_the_default(tmp_path: Path) -> None:
    assert PromptTemplate.from_file(written(tmp_path, "")) == PromptTemplate()


def test_every_field_can_be_set(tmp_path: Path) -> None:
    content = (
        'header = "H"\npassage = "[{text}]"\nquestion = "{question}?"\nheader_without_passage = "N"\nchat = true\n'
    )
    expected = PromptTemplate("H", "[{text}]", "{question}?", "N", True)
    assert PromptTemplate.from_file(written(tmp_path, content)) == expected


@pytest.mark.parametrize(
    "content",
    [
        'heading = "x"',
        "header = 3",
        "header = true",
        'chat = "yes"',
        "chat = 1",
        'header = ["a"]',
        '[header]\ntext = "a"',
        'header = "ok"\nfooter = "a\\nb"',
    ],
)
def test_unknown_and_ill_typed_keys_are_refused(tmp_path: Path, content: str) -> None:
    error = refusal(written(tmp_path, content))
    key = content.rsplit("\n", 1)[-1].split(" ")[0] if content[0] != "[" else "header"
    if key in ("header", "chat"):
        words = {"header": "text", "chat": "true or false"}[key]
        assert f"{key} in {tmp_path}" in error.expected and error.expected.endswith(f"to be {words}")
    else:
        assert error.expected.endswith(
            "among header, passage, question, header_without_passage, chat, template_args"
        )
        assert error.found == repr(key)


DEEP = f"header = {'[' * 5000}{']' * 5000}"


@pytest.mark.parametrize(
    "content",
    ["header = ", "= 3", "header = 'a", b"header = '\xff'", "header\n\n= \n", DEEP, "a" + ".a" * 2**14 + " = 1"],
)
def test_broken_files_are_refused(tmp_path: Path, content: str | bytes) -> None:
    path = written(tmp_path, content)
    assert str(path) in refusal(path).expected


def test_missing_files_and_folders_are_refused(tmp_path: Path) -> None:
    refusal(tmp_path / "none.toml")
    refusal(tmp_path)


@pytest.mark.parametrize(
    ("content", "field"), [('passage = "{title}"', "{text}"), ('question = "Q: "', "{question}")]
)
def test_a_template_without_its_field_is_refused(tmp_path: Path, content: str, field: str) -> None:
    assert field in refusal(written(tmp_path, content)).expected


def test_the_constructor_checks_as_the_file_does() -> None:
    with pytest.raises(SettingError, match=r"\{text\}"):
        PromptTemplate(passage="{title}")


def test_a_passage_is_split_where_it_may_be_shortened() -> None:
    template = PromptTemplate(passage="<{title}> {text} (from {title})\n")
    assert template.passage_text("Notes", "body") == ("<Notes> body", " (from Notes)\n")


def test_the_last_text_field_is_where_a_passage_ends() -> None:
    template = PromptTemplate(passage="{text} | {text}.")
    assert template.passage_text("Notes", "body") == ("body | body", ".")


@pytest.mark.parametrize(
    "literal", ["{title}", "{question}", "{text}", "{", "}", "{}", "{0}", "\\1", r"\g<0>", "%s"]
)
def test_fields_spelled_in_the_data_stay_letters(literal: str) -> None:
    template = PromptTemplate(passage="{title}\n{text}\n\n", question="Question: {question}\nAnswer:")
    data = f"before {literal} after"
    assert template.passage_text(literal, data) == (f"{literal}\n{data}", "\n\n")
    assert template.question_text(data) == f"Question: {data}\nAnswer:"


def test_other_braces_in_a_template_are_letters() -> None:
    template = PromptTemplate(passage="{json: {text}, q: {question}}", question="{title} {question}")
    assert template.passage_text("Notes", "body") == ("{json: body", ", q: {question}}")
    assert template.question_text("Why?") == "{title} Why?"

"""Every setting is declared once, and refuses what it cannot be in one line: in Python, in files, as an option."""

from __future__ import annotations

import contextlib
import io
import json
import pickle
import re
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, get_type_hints
from unittest import mock

import pytest
import torch

from mixrag import RAG, ModelConfig, PromptTemplate, Settings
from mixrag.answers.confidence import ConfidenceMap, read_calibration, write_calibration
from mixrag.cli import main
from mixrag.config import tables
from mixrag.config.all_settings import SCHEMAS, options_of
from mixrag.config.bundle import CONFIG, BundleDocument, read_bundle
from mixrag.config.model_config import defaults, models_digest
from mixrag.config.schema import ALL, Setting, declared, settings_of
from mixrag.config.settings import CALIBRATED, TRAINED, trained_settings
from mixrag.config.training_settings import TrainingSettings
from mixrag.errors import MixragError, ModelError, SettingError

DOCS = Path(__file__).parents[2] / "docs"
SOURCES = Path(__file__).parents[2] / "src" / "mixrag"
DECLARED = [each for schema in SCHEMAS for each in declared(schema).values()]
WRONG = b"bytes"
"""Of no type that a setting has."""
ARGUMENTS = {
    "ask": ["q"],
    "score": ["q", "a"],
    "passages": ["q"],
    "diagnose": ["q", "--expected", "a"],
    "index": ["files"],
    "remove": ["files"],
    "train": ["pairs.jsonl", "--out", "out"],
    "eval": ["pairs.jsonl"],
    "guarantee": ["pairs.jsonl"],
    "calibrate": ["answers.jsonl"],
    "clozes": ["--out", "out.jsonl"],
    "info": [],
    "serve": [],
    "mcp": [],
    "chat": [],
    "decide": ["q", "yes", "no"],
    "precompute": [],
}


def named(settings: list[Setting]) -> Any:
    return pytest.mark.parametrize(
        "one", settings, ids=[f"{each.schema.__name__}.{each.name}" for each in settings]
    )


def one_line(error: type[MixragError], name: str, call: Callable[..., object], *values: Any, **given: Any) -> str:
    """The message, which says what was expected of the setting, what was found and what to do."""
    with pytest.raises(error) as caught:
        call(*values, **given)
    message = str(caught.value)
    assert "\n" not in message and re.fullmatch(r"expected .+; found .+; .+", message)
    assert name in caught.value.expected and name in caught.value.remedy
    return message


# --- One declaration ------------------------------------------------------------------------------


def test_each_name_has_one_declaration() -> None:
    counts = Counter(each.name for each in DECLARED)
    assert [name for name, count in counts.items() if count > 1] == []
    owners = {each.name: each.schema for each in DECLARED}
    for schema in SCHEMAS:
        for name, each in settings_of(schema).items():
            if each.declared.same_as is not None:
                assert owners[name] is each.declared.same_as, "refers to the one that declares it"
            else:
                assert owners[name] is schema


def test_each_declaration_has_type_default_and_help() -> None:
    for each in DECLARED:
        assert each.declared.help.endswith(".") and "\n" not in each.declared.help, each.name
        if each.name != "prompt":
            each.checked(each.default)  # the default is one of its values


def test_no_command_declares_an_option_that_a_setting_is() -> None:
    """The sources of the commands name no option of their own that the schema has."""
    own = [
        option
        for path in (SOURCES / "cli").glob("*.py")
        for option in re.findall(r'"(--[\w-]+)"', path.read_text())
    ]
    assert "--json" in own and {each.option for each in DECLARED} & set(own) == set()


@pytest.mark.parametrize("command", ALL)
def test_the_options_of_a_command_are_its_settings(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    shown = re.findall(r"^  (?:-\w, )?(--[\w-]+)", run(command, "--help"), re.MULTILINE)
    own = {"--why", "--html", "--quiet", "--json", "--help", "--out", "--expected", "--document"}
    assert len(set(shown)) == len(shown) and set(shown) - own == {
        each.option for each in options_of(command).values() if not each.declared.rare
    }


def test_files_hold_names_that_are_declared() -> None:
    settings = {each.name for each in DECLARED if each.schema is Settings}
    # A confidence is of what a language model writes: it has no other kind of answer.
    assert set(TRAINED) - {"kind"} < set(CALIBRATED) < settings
    models = {each.name for each in DECLARED if each.schema is ModelConfig}
    assert {*settings_of(BundleDocument)} - models == {"format", "settings"}
    assert set(trained_settings(Settings(temperature=1.0, null=0.0))) == set(TRAINED)


def test_the_documentation_has_each_setting_in_one_table() -> None:
    pages = [path.read_text(encoding="utf-8") for path in DOCS.rglob("*.md")]
    marked = Counter(name for page in pages for _, name, _ in tables.MARKED.findall(page))
    assert marked == Counter({schema.__name__: 1 for schema in SCHEMAS})
    assert [page for page in pages if tables.filled(page) != page] == [], "run: python -m mixrag.config.tables"


def test_a_table_follows_the_declarations() -> None:
    page = "before\n<!-- settings: Settings -->\nOLD ROWS\n<!-- end of settings -->\nafter\n"
    found = tables.filled(page)
    assert "OLD ROWS" not in found and found.startswith("before\n") and found.endswith("-->\nafter\n")
    for name, each in declared(Settings).items():
        assert found.count(f"| `{name}`") == 1 and each.declared.help in found.replace("\\|", "|")
    assert tables.filled(found) == found


# --- Values of another type -----------------------------------------------------------------------


@named(DECLARED)
def test_a_value_of_another_type_is_refused_by_the_constructor(one: Setting) -> None:
    message = one_line(SettingError, one.name, one.schema, **{one.name: WRONG})
    assert (repr(WRONG) in message) != one.declared.secret


@named(
    [each for each in DECLARED if isinstance(each.default, (int, float)) and not isinstance(each.default, bool)]
)
def test_text_truth_values_and_what_is_no_number_are_not_numbers(one: Setting) -> None:
    for wrong in (str(one.default), True, float("nan"), float("inf"), 10**400, None):
        one_line(SettingError, one.name, one.schema, **{one.name: wrong})


ANY_TEXT = re.compile(r"\b(text|path)\b|true or false")
"""In the words for a value: any text is one, or the option takes none."""


@named([each for each in DECLARED if each.declared.commands and not ANY_TEXT.search(each.words())])
def test_a_value_of_another_type_is_refused_as_an_option(one: Setting, tmp_path: Path) -> None:
    wrong = str(tmp_path / "missing.toml") if one.name == "prompt" else "§"
    command = one.declared.commands[0]
    error = refused(command, *ARGUMENTS[command], one.option, wrong)
    assert (one.option in error) and (wrong in error) and "; found " in error


@named([settings_of(Settings)[name] for name in TRAINED])
@pytest.mark.parametrize("wrong", ["text", True, None, [], {}, 10**400])
def test_a_value_of_another_type_is_refused_in_a_bundle(one: Setting, wrong: Any, tmp_path: Path) -> None:
    wrong = 1 if one.kind is bool and wrong is True else wrong
    (tmp_path / CONFIG).write_text(json.dumps({"format": 1, "settings": {one.name: wrong}}))
    assert str(tmp_path / CONFIG) in one_line(SettingError, one.name, read_bundle, tmp_path)


@named([*settings_of(BundleDocument).values()][1:])
def test_a_key_of_another_type_is_refused_in_a_bundle(one: Setting, tmp_path: Path) -> None:
    (tmp_path / CONFIG).write_text(json.dumps({"format": 1, one.name: 3.5}))
    one_line(SettingError, one.name, read_bundle, tmp_path)


@named([*settings_of(PromptTemplate).values()])
def test_a_value_of_another_type_is_refused_in_a_prompt(one: Setting, tmp_path: Path) -> None:
    (tmp_path / CONFIG).write_text(json.dumps({"format": 1, "prompt": {one.name: 3.5}}))
    one_line(SettingError, one.name, read_bundle, tmp_path)
    (tmp_path / "prompt.toml").write_text(f"{one.name} = 3.5")
    one_line(SettingError, one.name, PromptTemplate.from_file, tmp_path / "prompt.toml")


@named([settings_of(Settings)[name] for name in CALIBRATED])
def test_a_value_of_another_type_is_refused_in_a_calibration(one: Setting, tmp_path: Path) -> None:
    write_calibration(ConfidenceMap(settings={one.name: "§"}), tmp_path / "confidence.json")
    with pytest.raises(ModelError) as caught:
        read_calibration(tmp_path / "confidence.json")
    assert one.name in caught.value.found and "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["temprature", "kk"])
def test_a_mistyped_key_is_refused_with_the_nearest_name(key: str, tmp_path: Path) -> None:
    nearest = {"temprature": "temperature", "kk": "k"}[key]
    (tmp_path / CONFIG).write_text(json.dumps({"format": 1, "settings": {key: 1}}))
    with pytest.raises(SettingError, match=rf"found 'settings.{key}'; did you mean settings.{nearest}\?"):
        read_bundle(tmp_path)
    with pytest.raises(SettingError, match=rf"found '{key}'; did you mean {nearest}\?"):
        Settings(**{key: 1})


# --- The API --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"swich": 1}, "did you mean switch?"),
        ({"switch": "1"}, "switch to be a number in [0, 1]; found '1'"),
        ({"where": "x"}, "where to be a mapping of keys to conditions; found 'x'"),
        ({"where": {"year": [[2020]]}}, "where 'year' to be a list of at least one value, none of them a list"),
        ({"where": {"year": ">=often"}}, "where 'year' to be >= with a number or an ISO date after it"),
        ({"k": True}, "k to be a whole number"),
        ({"seed": 10**30}, "seed to be a whole number in [0, 2^63)"),
    ],
)
def test_changes_of_one_question_are_checked(changes: dict[str, Any], part: str, tmp_path: Path) -> None:
    with RAG.open(tmp_path / "store", create=True) as rag:
        for call in (rag.ask, rag.stream, rag.passages, rag.condition):
            with pytest.raises(SettingError) as caught:
                call("who?", **changes)
            assert part in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["store", "model", "index", "confidence"])
def test_what_opens_a_store_is_checked(name: str, tmp_path: Path) -> None:
    given: dict[str, Any] = {"store": tmp_path / "store", "create": True, name: 3}
    one_line(SettingError, name, RAG.open, given.pop("store"), **given)
    with pytest.raises(SettingError, match="index to be 'auto', 'exact' or 'faiss'"):
        RAG.open(tmp_path / "store", create=True, index="fast")  # type: ignore[arg-type]
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("settings", ["k=3", 3, [("k", 3)], {3: "k"}, {"kk": 3}])
def test_settings_of_a_store_are_a_mapping_of_names(settings: Any) -> None:
    with pytest.raises(SettingError) as caught:
        defaults(ModelConfig(), None, settings)
    assert "\n" not in str(caught.value)


def test_objects_can_be_copied_changed_and_pickled() -> None:
    for each in (Settings(k="all", where={"a": "b"}), ModelConfig(device="cpu"), TrainingSettings(steps=3)):
        assert pickle.loads(pickle.dumps(each)) == each == replace(each) and type(each)(**asdict(each)) == each  # noqa: S301
        with pytest.raises(AttributeError):
            setattr(each, next(iter(settings_of(type(each)))), 1)
        assert (
            set(type(each).__dataclass_fields__) == set(settings_of(type(each))) == set(get_type_hints(type(each)))
        )


def test_a_default_mapping_is_made_for_every_object() -> None:
    assert Settings().where is not Settings().where


def test_models_may_be_objects_and_dtypes_those_of_torch() -> None:
    model = object()
    assert ModelConfig(generator=model, encoder=Path("e"), tokenizer=model).generator is model
    assert (
        ModelConfig(dtype=torch.bfloat16)
        == ModelConfig(torch_dtype=torch.bfloat16)
        == ModelConfig(dtype="bfloat16")
    )
    assert ModelConfig(device=torch.device("cpu")).device == "cpu"
    one_line(SettingError, "dtype", ModelConfig, dtype=torch.int32)
    with pytest.raises(SettingError, match="dtype once; found also torch_dtype"):
        ModelConfig(dtype="auto", torch_dtype="auto")


def test_a_token_is_shown_nowhere() -> None:
    assert "secret" not in repr(ModelConfig(token="secret"))
    assert "secret" not in one_line(SettingError, "token", ModelConfig, token=["secret"])


def test_the_digest_of_models_is_what_it_was_and_knows_objects() -> None:
    assert models_digest(ModelConfig()) == "4ceff663b4ac1530"
    assert models_digest(ModelConfig(revision="v2")) != models_digest(ModelConfig())
    assert models_digest(ModelConfig(generator=object())) == models_digest(ModelConfig(generator=object()))


# --- The command line -----------------------------------------------------------------------------


def run(*arguments: object, code: int = 0) -> str:
    """Standard output of a command; an error is the last line of it."""
    output = io.StringIO()
    with (
        mock.patch.object(sys, "argv", ["mixrag", *map(str, arguments)]),
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(output),
        pytest.raises(SystemExit) as ended,
    ):
        main()
    assert (ended.value.code or 0) == code, output.getvalue()
    return output.getvalue()


def refused(*arguments: object) -> str:
    (line,) = run(*arguments, code=1).strip().split("\n")
    assert line.startswith("mixrag: expected ")
    return line


def test_the_help_of_ask_fits_on_a_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = run("ask", "--help").rstrip().split("\n")
    assert len(lines) <= 60 and max(map(len, lines)) <= 80
    front = lines[: next(number for number, line in enumerate(lines) if "More options" in line)]
    assert 6 <= len([line for line in front if re.match(r"  (-\w, )?--", line) and "--help" not in line]) <= 9


def test_a_repeated_filter_is_read(tmp_path: Path) -> None:
    setting = options_of("ask")["where"]
    assert setting.parsed(("title=a=b", "year=2020")) == {"title": "a=b", "year": "2020"}
    assert setting.parsed(("a=1", "a=2")) == {"a": '["1", "2"]'}
    assert setting.parsed(("a>=1", "a < 3")) == {"a": ">=1 <3"}
    for wrong in (("title",), ("=a",), ("a",)):
        with pytest.raises(SettingError, match="--where to be KEY=VALUE or KEY>=VALUE; found"):
            setting.parsed(wrong)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("k", "all", "all"),
        ("k", "7", 7),
        ("switch", "1", 1.0),
        ("null", "none", None),
        ("null", "-2.5", -2.5),
        ("calibration", "best", None),
        ("distractors", "5, 20", (5, 20)),
        ("parts", "", ()),
        ("off_corpus", ("a,b.jsonl",), (Path("a,b.jsonl"),)),
        ("store", "place", "place"),
        ("generator", "3", "3"),
    ],
)
def test_text_of_the_command_line_is_read(name: str, text: Any, value: Any) -> None:
    (setting,) = (each for each in DECLARED if each.name == name)
    found = setting.parsed(text)
    assert found == value and type(found) is type(value)

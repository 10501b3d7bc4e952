"""The commands as a person or a script meets them: exit codes, one line of error, JSON contracts."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from mixrag import ModelConfig
from mixrag.cli import main, show
from mixrag.cli.options import shown_command
from mixrag.config.bundle import Bundle, read_bundle, write_bundle
from tiny_adapter import save_adapter
from tiny_encoder import save_encoder

TEXTS = {
    "cod.txt": "A licence to fish cod costs nine crowns a year.",
    "eel.md": "# Eel\n\nA licence to fish eel costs four crowns a season.",
    "hen.html": "<title>Hens</title><p>Hens lay fewer eggs during winter.</p>",
}
QUESTION = "What does a licence for cod cost?"


LIGHT = """
import sys
from mixrag.cli import main
sys.argv = ["mixrag", *sys.argv[1:]]
try:
    main()
finally:
    heavy = {"torch", "transformers", "sentence_transformers", "faiss"} & set(sys.modules)
    sys.stderr.write(f"heavy: {sorted(heavy)}")
"""


class Shell:
    """Runs mixrag with tiny models in a folder of its own."""

    def __init__(self, folder: Path, encoder: Path, generator: Path) -> None:
        self.folder, self.store = folder, folder / "store"
        self.files = folder / "files"
        self.files.mkdir()
        for name, text in TEXTS.items():
            (self.files / name).write_text(text)
        self.models = {"index": ["--encoder", str(encoder)]}
        asking = ["--encoder", str(encoder), "--generator", str(generator), "--max-tokens", "6"]
        self.models |= dict.fromkeys(("ask", "score", "passages", "decide", "chat"), asking)

    def __call__(self, command: str, *arguments: object, code: int = 0) -> str:
        """Standard output; the exit code is checked, and standard error kept in ``errors``."""
        output, errors = io.StringIO(), io.StringIO()
        options = [*self.models.get(command, []), "--store", str(self.store)]
        with (
            mock.patch.object(sys, "argv", ["mixrag", command, *options, *map(str, arguments)]),
            contextlib.redirect_stdout(output),
            contextlib.redirect_stderr(errors),
            pytest.raises(SystemExit) as ended,
        ):
            main()
        self.errors = errors.getvalue()
        assert (ended.value.code or 0) == code, self.errors
        return output.getvalue()

    def json(self, command: str, *arguments: object, code: int = 0) -> dict[str, Any]:
        """The JSON document on standard output; anything beside it would not parse."""
        return json.loads(self(command, *arguments, "--json", code=code))

    def refused(self, command: str, *arguments: object) -> str:
        """The one line of an error."""
        assert self(command, *arguments, code=1) == ""
        (line,) = self.errors.strip().split("\n")
        assert line.startswith("mixrag: expected ")
        return line


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_encoder(tmp_path_factory.mktemp("cli-encoder"))


@pytest.fixture
def shell(tmp_path: Path, encoder: Path, tiny_folder: Callable[[str], Path]) -> Shell:
    return Shell(tmp_path, encoder, tiny_folder("llama-chat"))


@pytest.fixture(scope="session")
def indexed(tmp_path_factory: pytest.TempPathFactory, encoder: Path, tiny_folder: Callable[[str], Path]) -> Shell:
    """A store that tests only read."""
    shell = Shell(tmp_path_factory.mktemp("cli"), encoder, tiny_folder("llama-chat"))
    shell("index", shell.files)
    return shell


def test_the_life_of_a_store(shell: Shell) -> None:
    first = shell.json("index", shell.files)
    assert {name: first[name] for name in ("documents", "passages", "embedded", "removed", "skipped")} == {
        "documents": 3,
        "passages": 3,
        "embedded": 3,
        "removed": 0,
        "skipped": [],
    }
    again = shell.json("index", shell.files)
    assert (again["embedded"], again["removed"], again["unchanged"]) == (0, 0, 3)
    (shell.files / "hen.html").unlink()
    gone = shell.json("index", shell.files)
    assert (gone["passages"], gone["removed"], gone["embedded"]) == (2, 1, 0)
    (shell.files / "cod.txt").write_text("A licence to fish cod costs ten crowns a year.")
    changed = shell.json("index", shell.files)
    assert (changed["passages"], changed["removed"], changed["embedded"]) == (2, 1, 1)
    removed = shell.json("remove", shell.files / "eel.md")
    assert (removed["passages"], removed["documents"]) == (1, 1)
    info = shell.json("info")
    assert info["passages"] == 1 and [Path(d["document"]).name for d in info["contents"]] == ["cod.txt"]


def test_index_writes_the_index_files_of_a_large_store(shell: Shell, monkeypatch) -> None:
    """So that no question waits for them; interrupted, the same command goes on where it was."""
    monkeypatch.setattr("mixrag.retrieval.index.choice.FLAT_LIMIT", 2)
    monkeypatch.setattr("mixrag.retrieval.lexical.opening.FILE_LIMIT", 2)
    with monkeypatch.context() as patched:
        patched.setattr("mixrag.retrieval.index.persistence.build_ivf", mock.Mock(side_effect=KeyboardInterrupt))
        report = json.loads(shell("index", shell.files, "--json", code=130))
    assert (report["passages"], report["embedded"]) == (3, 3) and "same command resumes" in shell.errors
    again = shell.json("index", shell.files)
    assert (again["unchanged"], again["embedded"]) == (3, 0) and "updat" not in shell.errors
    assert (shell.store / "index" / "index.json").exists() and (shell.store / "words" / "words.json").exists()
    (shell.files / "hen.html").write_text("Hens lay more eggs during summer.")
    shell("index", shell.files)
    assert "updating the index files of 3 passages" in shell.errors and "updated the index files" in shell.errors
    shell("index", shell.files)
    assert "updat" not in shell.errors, "nothing is due"
    with monkeypatch.context() as patched:
        for name in ("index.persistence._updated", "lexical.files._rebuilt"):
            patched.setattr(f"mixrag.retrieval.{name}", None)
        assert "visits" in shell.json("info")["index"]
        assert len(shell.json("passages", QUESTION, "-k", "2", "--lexical", "0.5")["passages"]) == 2


def test_the_contract_of_ask(indexed: Shell) -> None:
    found = indexed.json("ask", QUESTION, "-k", "2", "--null", "1")
    assert {"question", "answer", "log_prob", "normaliser", "switch", "passages", "tokens"} <= set(found)
    assert found["question"] == QUESTION and found["normaliser"] == "top-k" and found["switch"] == 0.0
    assert len(found["passages"]) == 2
    for passage in found["passages"]:
        assert {"id", "document", "start", "end", "text", "prior", "posterior"} <= set(passage)
        assert Path(passage["document"]).is_absolute()
    assert "".join(token["text"] for token in found["tokens"]) == found["answer"]
    for token in found["tokens"]:
        assert set(token) >= {"text", "log_prob", "responsibility"}
        assert sum(token["responsibility"]) + token["null"] == pytest.approx(1.0)
    assert sum(token["log_prob"] for token in found["tokens"]) == pytest.approx(found["log_prob"])
    assert sum(p["prior"] for p in found["passages"]) + found["null"]["prior"] == pytest.approx(1.0)


def test_what_is_scored_as_an_extract_is_sentences(indexed: Shell) -> None:
    asked = indexed.json("ask", QUESTION, "--kind", "extract")
    scored = indexed.json("score", QUESTION, asked["answer"], "--kind", "extract")
    assert scored["kind"] == "extract" and scored["sentences"] == asked["sentences"]
    assert scored["log_prob"] == asked["log_prob"] and asked["p_empty"] is None
    assert "--kind span" in indexed.refused("score", QUESTION, "nine crowns", "--kind", "extract")


def test_the_contract_of_score_and_of_passages(indexed: Shell) -> None:
    asked = ("score", QUESTION, "nine crowns", "--dtype", "float32")
    scored = indexed.json(*asked, "-k", "all")
    assert {"log_prob", "normaliser", "passages"} <= set(scored) and len(scored["passages"]) == 3
    assert scored["log_bounds"] == pytest.approx([scored["log_prob"]] * 2)
    part = indexed.json(*asked, "-k", "1")
    assert part["log_bounds"][0] <= scored["log_prob"] <= part["log_bounds"][1]
    found = indexed.json("passages", QUESTION, "-k", "2", "--normaliser", "full")
    assert sum(p["prior"] for p in found["passages"]) + found["outside"] == pytest.approx(1.0)


def test_what_is_left_out_by_an_approximate_search_is_bounded(shell: Shell, monkeypatch) -> None:
    shell("index", shell.files)
    exact = shell.json("passages", QUESTION, "-k", "1")
    assert exact["outside"] > 0 and exact["outside_bounds"] is None
    monkeypatch.setattr("mixrag.retrieval.index.choice.FLAT_LIMIT", 2)
    found = shell.json("passages", QUESTION, "-k", "1")
    low, high = found["outside_bounds"]
    assert found["outside"] is None and low - 1e-6 <= exact["outside"] <= high + 1e-6
    assert shell.json("ask", QUESTION, "-k", "1")["outside_bounds"] == [low, high]
    assert f"between {low:.4f} and {high:.4f}" in shell("passages", QUESTION, "-k", "1")
    assert "visits" in shell.json("info")["index"]


def test_the_passage_may_change_at_the_ends_of_sentences(indexed: Shell) -> None:
    found = indexed.json("ask", QUESTION, "-k", "2", "--switch", "0.5", "--switch-at", "sentence")
    assert found["switch_at"] == "sentence" and found["switch"] == 0.5
    for sentence in found["written_sentences"]:
        assert sum(sentence["posterior"]) + sentence["null"] == pytest.approx(1.0)
    assert indexed.json("ask", QUESTION, "-k", "2")["switch_at"] == "token"


def test_why_is_part_of_the_document(indexed: Shell) -> None:
    found = indexed.json("ask", QUESTION, "-k", "2", "--why")
    assert len(found["why"]["components"]) == 2
    for component in found["why"]["components"]:
        assert QUESTION in component["prompt"] and component["alone_log_prob"] <= 0


def test_numbers_that_json_lacks_are_null(indexed: Shell) -> None:
    """With one component there is no answer without it: log 0."""
    found = indexed.json("ask", QUESTION, "-k", "1", "--why")
    assert found["why"]["components"][0]["log_without"] is None


def test_infinity_never_reaches_json(capsys: pytest.CaptureFixture[str]) -> None:
    show.print_json({"log": [float("-inf"), 1.0], "deep": {"nan": float("nan")}})
    assert json.loads(capsys.readouterr().out) == {"log": [None, 1.0], "deep": {"nan": None}}


def test_what_a_person_reads(indexed: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    text = indexed("ask", QUESTION, "-k", "2", "--switch", "0.5", "--why")
    for part in ("p(answer) = ", "prior", "posterior", "cod.txt [0:47]", "Written by:", "log evidence ratio"):
        assert part in text
    assert text.count("cod.txt [0:47]\n") == 1, "--why names the places as well"
    assert "\x1b" not in text, "colour is for terminals"
    assert "over all passages, retrieved or not, p(answer) is between" in text
    assert "exact: no passage was left out" in indexed("ask", QUESTION, "-k", "all", "--why")
    assert "p(answer) = " in indexed("score", QUESTION, "nine")
    assert "1. p = " in indexed("passages", QUESTION)
    info = indexed("info")
    assert "exact search over 3 passages" in info and "structure:200" in info


def test_warnings_of_the_library_reach_a_person(indexed: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    def warning(*given: object, **options: object) -> None:
        logging.getLogger("mixrag.generator").warning("the driver\nis old")

    monkeypatch.setattr("mixrag.answers.store_models.attach", warning)
    for command in (["ask", QUESTION], ["score", QUESTION, "nine"]):
        indexed(*command)
        assert "mixrag: the driver is old" in indexed.errors.splitlines()
        indexed.json(*command)


def light(*arguments: object) -> subprocess.CompletedProcess[str]:
    """A command that must not import a model library, which takes seconds."""
    line = [sys.executable, "-c", LIGHT, *map(str, arguments)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60)
    assert done.stderr.endswith("heavy: []"), done.stderr
    return done


def test_help_needs_no_model_library() -> None:
    done = light("--help")
    assert done.returncode == 0, done.stderr
    for command in ("index", "ask", "score", "passages", "info", "remove", "diagnose"):
        assert command in done.stdout
    assert "why" not in re.findall(r"^│ (\w+) ", done.stdout, re.MULTILINE), "the former name is not shown"


@pytest.mark.parametrize(
    "command", [["ask", "x"], ["score", "x", "y"], ["passages", "x"], ["info"], ["precompute"]]
)
def test_a_missing_store_and_a_wrong_value_need_no_model_library(command: list[str], tmp_path: Path) -> None:
    done = light(*command, "--store", tmp_path / "nowhere")
    assert done.returncode == 1 and f"mixrag index PATH --store {tmp_path / 'nowhere'}" in done.stderr
    (tmp_path / "folder").mkdir()
    assert "expected a store in" in light(*command, "--store", tmp_path / "folder").stderr
    assert not list((tmp_path / "folder").iterdir())
    if command[0] != "info":
        assert "--switch to be a number in [0, 1]; found 'x'" in light(*command, "--switch", "x").stderr


def test_a_store_of_an_unknown_kind_is_named_without_its_password() -> None:
    done = light("info", "--store", "mysql://ann:hunter2@db/acts")
    assert done.returncode == 1 and "found mysql://ann:***@db/acts" in done.stderr
    assert "hunter2" not in done.stderr + done.stdout and len(done.stderr.splitlines()) <= 2
    assert "postgresql://ann:***@db" in shown_command(["x", "train", "--store", "postgresql://ann:hunter2@db"])


@pytest.mark.parametrize(
    "command", ["index", "ask", "score", "passages", "info", "remove", "train", "eval", "diagnose"]
)
def test_every_command_explains_itself(command: str) -> None:
    line = [sys.executable, "-m", "mixrag", command, "--help"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, env={**os.environ, "COLUMNS": "120"})
    assert done.returncode == 0 and "--store" in done.stdout and "--json" in done.stdout


def test_bad_files_among_good_ones_are_listed_and_tell_in_the_exit_code(shell: Shell) -> None:
    (shell.files / "junk.txt").write_bytes(bytes(range(256)) * 20)
    (shell.files / "empty.md").write_text("")
    (shell.files / "broken.pdf").write_bytes(b"%PDF-1.4 nothing of the kind")
    (shell.files / "latin.txt").write_bytes("Gebühr".encode("latin-1"))
    (shell.files / "rows.jsonl").write_text('{"id": "a", "text": "good record"}\n{"id": "b"}\nnot json\n')
    (shell.files / "loop").symlink_to(shell.files)
    report = shell.json("index", shell.files, code=3)
    assert report["documents"] == 5  # latin.txt is read by a guess
    assert [notice["kind"] for notice in report["notices"]] == ["guessed encodings"]
    reasons = {Path(skip["path"]).name: skip["reason"] for skip in report["skipped"]}
    assert set(reasons) == {"junk.txt", "empty.md", "broken.pdf", "rows.jsonl:2", "rows.jsonl:3"}
    assert all("\n" not in reason and "expected" in reason for reason in reasons.values())
    text = shell("index", shell.files, code=3)
    assert "5 skipped" in text, "records are told again, though nothing changed"


def test_a_good_path_beside_a_missing_one_is_indexed(shell: Shell) -> None:
    report = shell.json("index", shell.files, shell.folder / "nowhere", code=3)
    assert report["documents"] == 3 and "nowhere" in report["skipped"][0]["path"]


def test_a_file_above_the_limit_is_skipped(shell: Shell) -> None:
    (shell.files / "large.txt").write_text("word " * 400_000)
    report = shell.json("index", shell.files, "--max-mb", "1", code=3)
    assert "at most 1 MB" in report["skipped"][0]["reason"] and report["documents"] == 3


def test_the_report_says_what_was_left_out(shell: Shell) -> None:
    for name in ("a.zzz", "b.zzz", "README", ".hidden.txt"):
        (shell.files / name).write_text("text")
    (shell.files / "page.txt").write_text("<!doctype html><p>A page under another name.")
    report = shell.json("index", shell.files)
    assert report["left_out"] == {".zzz": 2, "hidden files": 1, "without suffix": 1}
    (notice,) = report["notices"]
    assert (notice["kind"], notice["count"]) == ("files of another format than their name says", 1)
    assert notice["examples"] == [{"path": str(shell.files / "page.txt"), "detail": "read as HTML"}]
    text = shell("index", shell.files)
    assert "left out, of other kinds: 2 .zzz, 1 hidden file, 1 without suffix\n" in text
    assert "  1 files of another format than their name says in 1 file\n" in text
    assert f"    {shell.files / 'page.txt'}: read as HTML\n" in text, "said again, though nothing changed"


def test_a_name_forges_no_line_of_output(shell: Shell) -> None:
    forged = "x\n9 documents, 9 passages in the store\x1b[31m"
    (shell.files / f"{forged}.txt").write_bytes(b"\0")
    (shell.files / f"{forged}.zzz\n.zzz").write_text("text")
    (shell.files / f"{forged}.md").write_text("The ferry leaves at nine.")
    (shell.files / "rows.jsonl").write_text('{"id": "r\\nforged", "text": "The pilot comes."}\n{"id": "s"}\n')
    report = shell("index", shell.files, code=3)
    shown = report + shell("info") + shell("passages", QUESTION, "-k", "all")
    assert not any(line.startswith(("9 documents", "forged", ".zzz")) for line in shown.splitlines())
    assert "\x1b" not in shown and "x\\n9 documents" in shown and "r\\nforged" in shown


def test_a_parser_that_crashes_costs_its_file_alone(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    from mixrag.corpus.parsers import isolation, worker_process

    boot = (
        "import json, os, sys; sys.path[:] = json.loads(sys.argv.pop());"
        " from mixrag.corpus.parsers import registry, worker; good = registry.ParserRegistry.parse;"
        " registry.ParserRegistry.parse = lambda self, path, data, *rest: os.kill(os.getpid(), 11)"
        " if b'crash' in data else good(self, path, data, *rest); worker.main()"
    )
    monkeypatch.setattr(worker_process, "_BOOT", boot)
    isolation.close_idle_workers()
    (shell.files / "bad.txt").write_text("crash")
    report = shell.json("index", shell.files, code=3)
    isolation.close_idle_workers()
    assert report["documents"] == 3
    assert "parser crashed (signal 11, SIGSEGV)" in report["skipped"][0]["reason"]


def test_nothing_to_index(shell: Shell) -> None:
    (shell.folder / "hollow").mkdir()
    assert "none in" in shell.refused("index", shell.folder / "hollow")
    assert "nowhere" in shell.refused("index", shell.folder / "nowhere")
    assert "files or folders to index" in shell.refused("index")
    assert "words:N" in shell.refused("index", shell.files, "--splitter", "pages:3") or "pages" in shell.errors


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["ask", ""], "a question"),
        (["ask", QUESTION, "--switch", "1.5"], "switch to be a number in [0, 1]"),
        (["ask", QUESTION, "--temperature", "0"], "temperature to be a number in [1e-06, 10^9]"),
        (["ask", QUESTION, "-k", "-3"], "k to be a whole number"),
        (["ask", QUESTION, "--where", "document=none"], "loosen the filter"),
        (["ask", "cod " * 400], "shorten the question"),
        (["ask", QUESTION, "--generator", "/no/such/model"], "no such path"),
        (["ask", QUESTION, "--encoder", "/no/such/encoder"], "no such path"),
        (["ask", QUESTION, "--prompt", "/no/such/prompt.toml"], "a TOML file"),
        (["ask", QUESTION, "--dtype", "float8"], "dtype to be 'auto'"),
        (["ask", QUESTION, "--decoder", "fast", "--switch", "1"], "switch 0 for fast decoding"),
        (["remove", "/never/indexed"], "nothing stored of"),
        (["index", "/tmp", "--max-mb", "inf"], "--max-mb to be a number"),
        (["ask", QUESTION, "--where", "title"], "--where to be KEY=VALUE or KEY>=VALUE; found 'title'"),
        (["ask", QUESTION, "--where", "year>=soon"], ">= with a number or an ISO date after it; found '>=soon'"),
        (["ask", QUESTION, "--seed", "99999999999999999999999"], "seed to be a whole number"),
        (["ask", QUESTION, "--generator", "~nosuchuser/x"], "a model at"),
        (["ask", QUESTION, "--generator", "x" * 300], "a model at"),
        (["ask", QUESTION, "--device", "nonsense"], "choose one of them"),
        (["ask", "cod\udcff"], "a question in UTF-8"),
        (["ask", QUESTION, "--index", "faiss", "--normaliser", "full"], "choose index 'exact'"),
    ],
    ids=str,
)
def test_errors_are_one_line_with_expected_found_and_remedy(
    indexed: Shell, arguments: list[str], part: str
) -> None:
    assert part in indexed.refused(*arguments)


def test_what_nobody_foresaw_is_one_line_too(indexed: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    from mixrag import RAG

    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("by\nzero")

    monkeypatch.setattr(RAG, "info", fail)
    assert indexed("info", code=1) == ""
    assert indexed.errors.count("\n") == 1 and "unexpected ZeroDivisionError: by zero" in indexed.errors
    monkeypatch.setenv("MIXRAG_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        indexed("info")


def test_stores_that_cannot_be_used(shell: Shell) -> None:
    assert "mixrag index" in shell.refused("ask", QUESTION)
    shell("index", shell.files)
    database = next(shell.store.glob("*.sqlite"))
    shell("remove", shell.files)
    assert "index documents first" in shell.refused("ask", QUESTION)
    with sqlite3.connect(database) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    assert "upgrade mixrag" in shell.refused("info")
    for path in shell.store.iterdir():
        path.unlink()
    database.write_bytes(b"this is no database" * 500)
    shell.refused("ask", QUESTION)


def test_another_encoder_is_refused_with_the_command_that_mends_it(shell: Shell, tmp_path: Path) -> None:
    shell("index", shell.files)
    shell.models["ask"][1] = shell.models["index"][1] = str(save_encoder(tmp_path / "other", seed=9))
    assert f"mixrag index --re-embed --store {shell.store}" in shell.refused("ask", QUESTION)
    assert "--re-embed" in shell.refused("index", shell.files)
    assert shell.json("index", "--re-embed")["embedded"] == 3
    assert shell.json("ask", QUESTION)["passages"]


def test_closed_book_and_concatenation_are_settings(indexed: Shell) -> None:
    assert "of the whole corpus" not in indexed("ask", QUESTION, "-k", "0", "--normaliser", "full")
    closed = indexed.json("ask", QUESTION, "-k", "0")
    assert closed["passages"] == [] and closed["null"]["prior"] == 1.0
    together = indexed.json("ask", QUESTION, "-k", "3", "--group", "all")
    assert [p["posterior"] for p in together["passages"]] == pytest.approx([1.0] * 3)


def test_a_prompt_from_a_file_is_what_the_model_reads(indexed: Shell, tmp_path: Path) -> None:
    (tmp_path / "prompt.toml").write_text('header = "READ THIS: "\nquestion = "ASK {question}"\nchat = false\n')
    found = indexed.json("ask", QUESTION, "-k", "1", "--why", "--prompt", tmp_path / "prompt.toml")
    prompt = found["why"]["components"][0]["prompt"]
    assert "READ THIS: " in prompt and f"ASK {QUESTION}" in prompt and "<|im_start|>" not in prompt


def test_text_from_documents_cannot_steer_the_terminal(shell: Shell) -> None:
    (shell.files / "evil.txt").write_text("cod \x1b[31mred\x1b]0;title\x07 [bold]licence[/bold] \u202egnorw")
    shell("index", shell.files)
    text = shell("passages", "cod licence", "-k", "4")
    assert "\x1b" not in text and "\u202e" not in text and "\x07" not in text
    assert "[bold]licence[/bold]" in text


def test_nothing_leaves_the_machine(
    tmp_path: Path, encoder: Path, tiny_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from mixrag import RAG, ModelConfig

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    (tmp_path / "a.txt").write_text("cod licence")
    models = ModelConfig(encoder=encoder, generator=tiny_folder("gpt2"))
    with RAG.open(tmp_path / "store", create=True, models=models) as rag:
        rag.index([tmp_path / "a.txt"])
        assert rag.ask("cod?", max_tokens=2).best_guess is not None


def test_an_interrupted_index_resumes(shell: Shell) -> None:
    """Ctrl-C ends in one line and exit code 130; nothing that was stored is lost."""
    for number in range(400):
        (shell.files / f"{number}.txt").write_text(f"passage number {number} about cod " * 20)
    line = [sys.executable, "-m", "mixrag", "index", str(shell.files), *shell.models["index"]]
    process = subprocess.Popen(
        [*line, "--store", str(shell.store)], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not list(shell.store.glob("*.sqlite")) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    if process.returncode != 0:  # it may have been faster
        assert process.returncode == 130 and "interrupted" in errors and "Traceback" not in errors
    report = shell.json("index", shell.files)
    assert report["documents"] == 403
    fresh = shutil.copytree(shell.files, shell.folder / "again")
    shell.store = shell.folder / "fresh"
    assert shell.json("index", fresh)["passages"] == report["passages"]


@pytest.fixture
def model(shell: Shell, encoder: Path, tiny_folder: Callable[[str], Path]) -> Path:
    """A trained folder: the tiny models, an adapter, a question encoder trained alone, and settings."""
    folder = shell.folder / "trained"
    save_adapter("llama-chat", folder / "adapter")
    save_encoder(folder / "question-encoder", seed=3)
    trained = Bundle(
        folder,
        generator=str(tiny_folder("llama-chat")),
        adapter="adapter",
        encoder=str(encoder),
        question_encoder="question-encoder/model",
        settings={"k": 2, "switch": 0.5, "temperature": 0.5, "null": 1.0},
        prompt={"header": "READ THIS:\n"},
        titles=False,
    )
    write_bundle(trained)
    return folder


def test_a_trained_folder_is_asked(shell: Shell, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shell("index", shell.files)
    asking = shell.models["ask"]
    by_hand = [*asking, "--adapter", str(model / "adapter"), "-k", "2", "--switch", "0.5", "--null", "1"]
    shell.models["ask"] = ["--max-tokens", "6"]
    found = shell.json("ask", QUESTION, "--model", model, "--why")
    assert len(found["passages"]) == 2 and found["switch"] == 0.5 and found["null"]["prior"] > 0
    assert "READ THIS:" in found["why"]["components"][0]["prompt"]
    monkeypatch.setenv("MIXRAG_MODEL", str(model))
    assert shell.json("ask", QUESTION)["log_prob"] == pytest.approx(found["log_prob"])
    changed = shell.json("ask", QUESTION, "-k", "3", "--switch", "0", "--null", "none")
    assert len(changed["passages"]) == 3 and changed["switch"] == 0.0 and changed["null"] is None
    monkeypatch.delenv("MIXRAG_MODEL")
    # The question encoder and its temperature are all that the command line cannot say in one option each.
    (model / "prompt.toml").write_text('header = "READ THIS:\\n"')
    shell.models["ask"] = by_hand
    query = ["--temperature", "0.5", "--prompt", model / "prompt.toml"]
    with mock.patch("mixrag.answers.store_models.configured_encoder", side_effect=_with_questions_of(model)):
        same = shell.json("ask", QUESTION, *query)
    assert same["log_prob"] == pytest.approx(found["log_prob"], abs=1e-4)
    assert shell.json("ask", QUESTION, *query)["log_prob"] != pytest.approx(found["log_prob"], abs=1e-4)


def _with_questions_of(model: Path) -> Callable[..., Any]:
    from mixrag.retrieval.encoders import load_encoder

    def load(models: ModelConfig, stored: str | None) -> Any:
        options = {"device": models.device, "dtype": models.encoder_dtype, "stored": stored}
        return load_encoder(models.encoder, question=model / "question-encoder/model", titles=False, **options)

    return load


def test_every_command_takes_a_trained_folder(shell: Shell, model: Path) -> None:
    short = ["--max-tokens", "6"]
    shell.models = {"ask": short, "score": short, "passages": short}
    assert shell.json("index", shell.files, "--model", model)["embedded"] == 3
    for command, arguments in (("score", [QUESTION, "nine"]), ("passages", [QUESTION]), ("ask", [QUESTION])):
        assert len(shell.json(command, *arguments, "--model", model)["passages"]) == 2
    assert shell.json("passages", QUESTION, "--model", model)["temperature"] == 0.5
    assert shell.json("info", "--model", model)["model"] == str(model)
    assert str(model) in shell("info", "--model", model) and shell.json("info")["model"] is None


def test_a_trained_passage_encoder_asks_for_its_own_vectors(shell: Shell, model: Path) -> None:
    shell("index", shell.files)
    shell.models = {"ask": ["--max-tokens", "6"]}
    save_encoder(model / "encoder", seed=5)
    write_bundle(replace(read_bundle(model), encoder="encoder/model"))
    command = f"mixrag index --re-embed --model {model} --store {shell.store}"
    assert command in shell.refused("ask", QUESTION, "--model", model)
    assert command in shell.refused("index", shell.files, "--model", model)
    assert shell.json("index", "--re-embed", "--model", model)["embedded"] == 3
    assert len(shell.json("ask", QUESTION, "--model", model)["passages"]) == 2


def test_trained_folders_and_adapters_that_cannot_be_used(shell: Shell, model: Path) -> None:
    shell("index", shell.files)
    assert "no such folder" in shell.refused("ask", QUESTION, "--model", "/no/such/folder")
    assert "no such folder" in shell.refused("info", "--model", "/no/such/folder")
    assert "mixrag.json" in shell.refused("ask", QUESTION, "--model", shell.files)
    assert "no such folder" in shell.refused("ask", QUESTION, "--adapter", "/no/such/folder")
    assert "adapter_config.json" in shell.refused("ask", QUESTION, "--adapter", model)
    assert "switch to be a number in [0, 1]" in shell.refused("ask", QUESTION, "--model", model, "--switch", "3")
    assert "--null to be a number in [-10^9, 10^9] or none" in shell.refused("ask", QUESTION, "--null", "nothing")


def test_the_format_of_the_encoder_is_an_option(shell: Shell) -> None:
    shell("index", shell.files, "--encoder-dtype", "bfloat16")
    assert "bfloat16" in shell.json("info")["encoder"]["name"]
    assert shell.json("index", shell.files)["embedded"] == 0, "auto is the format of the store"
    refused = shell.refused("passages", QUESTION, "--encoder-dtype", "float32")
    assert "leave --encoder-dtype out, or run: mixrag index --re-embed --encoder-dtype float32 --store" in refused
    assert shell.json("index", "--re-embed", "--encoder-dtype", "float32")["embedded"] == 3
    assert "bfloat16" not in shell.json("info")["encoder"]["name"]
    assert "--encoder-dtype to be 'auto'" in shell.refused("index", shell.files, "--encoder-dtype", "int3")

"""mixrag train as a person or a script meets it: a folder, a table, one JSON document, one line of error."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cli.test_commands import Shell
from tiny_encoder import save_encoder
from training.conftest import PAIRS, TEXTS

QUESTION = PAIRS[0].question
QUICK = [
    "--steps",
    "2",
    "--batch",
    "2",
    "--rank",
    "2",
    "-k",
    "2",
    "--temperature",
    "0.5",
    "--learning-rate",
    "5e-3",
]


class Lessons(Shell):
    """A shell with a store, pairs to learn from and pairs held out."""

    def __init__(self, folder: Path, encoder: Path, generator: Path) -> None:
        super().__init__(folder, encoder, generator)
        for path in self.files.iterdir():
            path.unlink()
        for name, text in TEXTS.items():
            (self.files / name).write_text(text)
        self.models["train"] = self.models["ask"]
        self.pairs, self.dev, self.out = folder / "pairs.jsonl", folder / "dev.jsonl", folder / "out"
        lines = [json.dumps({"question": p.question, "answers": p.answers, "doc": p.document}) for p in PAIRS]
        self.pairs.write_text("\n".join(lines))
        self.dev.write_text("\n".join(lines[:2]))
        self("index", self.files)

    def refused(self, command: str, *arguments: object) -> str:
        """The one line of an error, after what was said of the steps before it."""
        assert self(command, *arguments, code=1) == ""
        *said, line = self.errors.strip().split("\n")
        assert line.startswith("mixrag: expected ") and not [each for each in said if "expected" in each]
        return line

    @property
    def command(self) -> list[object]:
        """Arguments of a run of two steps."""
        return [self.pairs, "--dev", self.dev, "--out", self.out, *QUICK]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_encoder(tmp_path_factory.mktemp("train-encoder"), seed=3)


@pytest.fixture
def shell(tmp_path: Path, encoder: Path, tiny_folder: Callable[[str], Path]) -> Lessons:
    return Lessons(tmp_path, encoder, tiny_folder("llama"))


@pytest.fixture(scope="module")
def taught(
    tmp_path_factory: pytest.TempPathFactory, encoder: Path, tiny_folder: Callable[[str], Path]
) -> tuple[Lessons, dict[str, Any]]:
    """A shell after a run with baselines, and the JSON document of it; tests only read."""
    shell = Lessons(tmp_path_factory.mktemp("taught"), encoder, tiny_folder("llama"))
    return shell, shell.json("train", *shell.command, "--baselines", "closed-book, concatenation")


def numbers(value: Any) -> list[float]:
    """All numbers of a JSON document."""
    if isinstance(value, dict):
        return [number for each in value.values() for number in numbers(each)]
    if isinstance(value, list):
        return [number for each in value for number in numbers(each)]
    return [value] if isinstance(value, (int, float)) and not isinstance(value, bool) else []


SYSTEMS = ["before training", "closed book, fine-tuned", "concatenation, trained alike", "trained"]


def test_the_json_document(taught: tuple[Lessons, dict[str, Any]]) -> None:
    shell, found = taught
    assert found["folder"] == str(shell.out) and found["steps"] == 2 and list(found["systems"]) == SYSTEMS
    assert found["settings"]["k"] == 2 and found["settings"]["temperature"] != 0.5
    for summary in found["systems"].values():
        assert summary["n"] == 2 and all(summary["nll"][name] is not None for name in ("mean", "low", "high"))
    assert all(math.isfinite(number) for number in numbers(found))
    assert found["systems"]["trained"]["nll"] != found["systems"]["before training"]["nll"]
    assert shell.errors == ""


def test_the_folder_holds_the_models_their_card_and_their_curves(
    taught: tuple[Lessons, dict[str, Any]],
) -> None:
    shell, _ = taught
    folders = [shell.out, *(shell.out / "baselines" / name for name in ("closed-book", "concatenation"))]
    for folder in folders:
        assert {"adapter", "mixrag.json", "metrics.jsonl", "curves.png"} <= {p.name for p in folder.iterdir()}
        assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert (shell.out / "question-encoder").is_dir() and not (folders[1] / "question-encoder").exists()
    lines = [json.loads(line) for line in (shell.out / "metrics.jsonl").read_text().splitlines()]
    kinds = [line["kind"] for line in lines]
    assert all(line["tokens"] > line["rows"] for line in lines if line["kind"] == "train")
    assert kinds.count("train") == 2 and "dev" in kinds
    assert not list(shell.out.rglob(".*"))  # nothing half written


def test_the_card_says_data_settings_scores_and_command(taught: tuple[Lessons, dict[str, Any]]) -> None:
    shell, found = taught
    card = (shell.out / "README.md").read_text()
    assert "pairs.jsonl: 6 training pairs (sha256 " in card and "2 held-out pairs" in card
    assert "| rank | 2 |" in card and "| parts | generator, question-encoder, temperature |" in card
    for name in SYSTEMS:
        assert f"| {name} | {found['systems'][name]['exact_match']['mean']:.2f}" in card
    (command,) = (line for line in card.splitlines() if line.startswith("mixrag train"))
    assert f"--out {shell.out}" in command and "--steps 2" in command and str(shell.pairs) in command


def test_what_was_learnt_answers(taught: tuple[Lessons, dict[str, Any]]) -> None:
    shell, _ = taught
    shell.models["ask"] = ["--max-tokens", "4"]
    answer = shell.json("ask", QUESTION, "--model", shell.out)
    assert len(answer["passages"]) == 2 and answer["question"] == QUESTION
    closed = shell.json("ask", QUESTION, "--model", shell.out / "baselines" / "closed-book")
    assert closed["passages"] == [] and answer["log_prob"] != closed["log_prob"]
    joined = shell.json("ask", QUESTION, "--model", shell.out / "baselines" / "concatenation")
    assert len(joined["passages"]) == 2


def test_the_table_and_how_to_use_what_was_learnt(shell: Lessons) -> None:
    shown = shell("train", *shell.command)
    assert f"use it: mixrag ask QUESTION --store STORE --model {shell.out}" in shown
    for head in ("system", "EM", "F1", "recall@5", "-log p(gold)", "before training", "trained"):
        assert head in shown
    assert "step 2/2" in shell.errors and "dev -log p(gold answer)" in shell.errors and "\x1b" not in shown


def test_the_same_command_again_trains_nothing_and_says_the_same(shell: Lessons) -> None:
    first = shell.json("train", *shell.command)
    files = {name: (shell.out / name).read_bytes() for name in ("metrics.jsonl", "mixrag.json")}
    weights = (shell.out / "adapter" / "adapter_model.safetensors").read_bytes()
    second = shell.json("train", *shell.command)
    assert second == first
    assert {name: (shell.out / name).read_bytes() for name in files} == files
    assert (shell.out / "adapter" / "adapter_model.safetensors").read_bytes() == weights
    shell("train", *shell.command)
    assert "is finished: nothing is trained" in shell.errors and "step 1/2" not in shell.errors


@pytest.mark.parametrize("changed", [["--seed", "1"], ["--rank", "3"], ["-k", "3"], ["--dtype", "bfloat16"]])
def test_another_command_on_the_same_folder_is_refused(
    taught: tuple[Lessons, dict[str, Any]], changed: list[str]
) -> None:
    shell, _ = taught
    before = {path: path.read_bytes() for path in shell.out.rglob("*") if path.is_file()}
    assert "give another --out" in shell.refused("train", *shell.command, *changed, "--json")
    assert {path: path.read_bytes() for path in shell.out.rglob("*") if path.is_file()} == before


def test_a_tenth_is_held_out_where_no_dev_pairs_are_given(shell: Lessons) -> None:
    found = shell.json("train", shell.pairs, "--out", shell.out, *QUICK)
    assert found["systems"]["trained"]["n"] == 1
    assert "5 training pairs" in (shell.out / "README.md").read_text()


def test_a_calibration_and_a_run_without_scores(shell: Lessons) -> None:
    found = shell.json("train", *shell.command, "--parts", "temperature,null", "--evaluate", "0")
    assert found["calibration"]["nll_after"] <= found["calibration"]["nll_before"] and found["systems"] == {}
    assert found["steps"] is None and found["settings"]["null"] is not None
    assert "Not scored." in (shell.out / "README.md").read_text()
    shell.models["ask"] = ["--max-tokens", "4"]
    assert shell.json("ask", QUESTION, "--model", shell.out)["null"] is not None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--baselines", "open-book"], "baselines among closed-book"),
        (["--parts", "retriever"], "--parts to be values separated by commas, each 'generator'"),
        (["--parts", ""], "parts among generator"),
        (["--parts", "encoder,question-encoder"], "both"),
        (["--dtype", "float16"], "--dtype float32 or bfloat16"),
        (["--dtype", "int8"], "float32"),
        (["--batch", "0"], "batch to be a whole number"),
        (["--batch", "50"], "lower --batch to 6 or less"),
        (["--skip", "1"], "skip to be a number in [0, 1)"),
        (["--e-step-every", "0"], "to be a whole number"),
        (["--e-step-every", "2"], "objective em"),
        (["--epochs", "nan"], "--epochs to be a number in (0, 10^9]"),
        (["--evaluate", "-1"], "evaluate"),
        (["-k", "0"], "k = 0"),
        (["--group", "all"], "several components"),
        (["--temperature", "0"], "temperature to be a number in [1e-06, 10^9]"),
        (["--dev", "/no/such/file.jsonl"], "/no/such/file.jsonl"),
        (["--adapter", "/no/such/adapter"], "/no/such/adapter"),
        (["--generator", "/no/such/model"], "/no/such/model"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_writes_nothing(shell: Lessons, options: list[str], said: str) -> None:
    line = shell.refused("train", *shell.command, *options)
    assert said in line and "found ;" not in line and not shell.out.exists()


@pytest.mark.parametrize("options", [["--objective", "sum"], ["--method", "half"], ["--steps", "many"]])
def test_values_of_another_type_are_one_line(shell: Lessons, options: list[str]) -> None:
    assert f"expected {options[0]} to be " in shell.refused("train", *shell.command, *options)
    assert not shell.out.exists()


@pytest.mark.parametrize("options", [["--no-such-option"], ["--out"]])
def test_wrong_usage_has_its_own_exit_code_and_writes_nothing(shell: Lessons, options: list[str]) -> None:
    assert shell("train", *shell.command, *options, code=2) == "" and not shell.out.exists()


def test_pairs_and_out_are_required(shell: Lessons) -> None:
    shell("train", shell.pairs, code=2)
    assert "--out" in shell.errors
    shell("train", "--out", shell.out, code=2)
    assert not shell.out.exists()


def test_the_folder_of_a_store_that_is_missing_is_one_line(shell: Lessons) -> None:
    shell.store = shell.folder / "none"
    shell.refused("train", *shell.command)
    assert not shell.out.exists() and not shell.store.exists()


def test_pairs_with_passages_of_their_own_need_no_store(shell: Lessons) -> None:
    lines = [
        {"question": "who came?", "answers": ["Ada"], "passage": "Ada came by boat."},
        {"question": "when did she go?", "answers": [], "passage": "Ada came by boat."},
        {"question": "what is it made of?", "answers": ["tin"], "passage": "It is made of tin."},
    ]
    own, store = shell.folder / "own.jsonl", shell.store
    own.write_text("\n".join(map(json.dumps, lines)))
    shell.store = shell.folder / "none"
    options = ["--dev", own, "--out", shell.out, "--objective", "composite", "--parts", "generator", *QUICK]
    shell("train", own, *options)
    first, *_ = shell.errors.splitlines()
    assert first == "mixrag: opening store and models" and not shell.store.exists()
    assert "2 passages with 2 questions that they answer and 1 that they do not; 2 steps" in shell.errors
    assert "tokens/s, about 0 min left" in shell.errors and "nothing where nothing is stated" in shell.errors
    shell.store, shell.models["ask"] = store, ["--max-tokens", "4"]
    assert shell.json("ask", QUESTION, "--model", shell.out)["question"] == QUESTION
    shell.store = shell.folder / "none"
    assert "--store" in shell.refused("train", shell.pairs, *options) or "store" in shell.errors

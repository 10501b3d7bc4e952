"""What mixrag eval writes: every number against the records, runs that were cut off, pairs that are too few."""

from __future__ import annotations

import base64
import json
import logging
import math
import os
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from lxml import html

from evaluation.test_scoring import WORDS, Counting, distribution
from mixrag import RAG, Settings
from mixrag.answers.confidence import ConfidenceMap, read_calibration
from mixrag.config.command_settings import EvaluationSettings
from mixrag.corpus import Store
from mixrag.errors import MixragError, PairsError, SettingError
from mixrag.evaluation import plots
from mixrag.evaluation.analysis import Evaluation, outcomes
from mixrag.evaluation.calibration import confidences_of, rights
from mixrag.evaluation.proportions import wilson
from mixrag.evaluation.refit import read_answers
from mixrag.evaluation.run import EvaluationRequest, evaluate
from mixrag.evaluation.trust_measures import auroc, expected_calibration_error
from mixrag.generator import TableGenerator
from words_encoder import WordsEncoder

ITEMS = 60
SYSTEMS = ("closed-book", "best-passage", "concat", "uniform", "token", "sequence")


@contextmanager
def opened(root: Path) -> Iterator[Counting]:
    """A document for each item, which names its price."""
    folder = root / "files"
    folder.mkdir()
    for i in range(ITEMS):
        number = WORDS[i % 2]
        (folder / f"item{i}.txt").write_text(f"The licence for item{i} costs {number} crowns.")
    store = Store.open(root / "store", create=True)
    settings = Settings(k=3, temperature=0.05, max_tokens=4)
    encoder = WordsEncoder(dimension=4096)  # no two of the words share a position
    with Counting(store, encoder=encoder, generator=TableGenerator(WORDS, distribution), settings=settings) as rag:
        rag.index([folder])
        yield rag


@pytest.fixture
def rag(tmp_path: Path) -> Iterator[Counting]:
    with opened(tmp_path) as found:
        yield found


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a run of all systems wrote."""
    root = tmp_path_factory.mktemp("whole")
    with opened(root) as rag:
        run(rag, root, drawn=True)
    return root


def pairs(path: Path, count: int = ITEMS, wrong: int = 3, name: str = "pairs.jsonl") -> Path:
    """One of ``wrong`` has a gold answer that no passage holds."""
    lines = [
        {
            "question": f"What does the licence for item{i} cost?",
            "answers": ["nothing" if i % wrong == 0 else f"{WORDS[i % 2]} crowns"],
            "doc": f"item{i}.txt",
        }
        for i in range(count)
    ]
    path.mkdir(exist_ok=True)
    (path / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path / name


class Notices(logging.Handler):
    """What mixrag's loggers say meanwhile."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())

    def __enter__(self) -> None:
        self.before = logging.getLogger("mixrag").level
        logging.getLogger("mixrag").setLevel(logging.INFO)
        logging.getLogger("mixrag").addHandler(self)

    def __exit__(self, *_: object) -> None:
        logging.getLogger("mixrag").removeHandler(self)
        logging.getLogger("mixrag").setLevel(self.before)


PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
)


def run(rag: RAG, path: Path, *, drawn: bool = False, **changes: Any) -> tuple[Evaluation, list[str]]:
    """Not ``drawn``, each picture is one pixel: drawing takes most of the time of a run."""
    notices = Notices()
    given = changes.pop("pairs", None) or (pairs(path),)
    chosen = {"systems": SYSTEMS, **changes}
    out = chosen.pop("out", path / "out")
    with notices, nullcontext() if drawn else mock.patch.object(plots, "_png", return_value=PIXEL):
        found = evaluate(rag, EvaluationRequest(given, out, EvaluationSettings(**chosen)))
    return found, notices.lines


def report(path: Path) -> dict[str, Any]:
    def refuse(text: str) -> None:
        raise AssertionError(f"{text} in a report")

    found: dict[str, Any] = json.loads((path / "out" / "report.json").read_text(), parse_constant=refuse)
    return found


def test_every_mean_is_that_of_the_records(whole: Path) -> None:
    rows = [json.loads(line) for line in (whole / "out" / "answers.jsonl").read_text().splitlines()]
    written = report(whole)
    assert set(written["systems"]) == set(SYSTEMS)
    for name, system in written["systems"].items():
        own = [row for row in rows if row["system"].split()[0] == name]
        assert system["n"] == len(own) == ITEMS
        assert system["exact_match"] == pytest.approx(statistics.fmean(row["exact"] for row in own))
        assert system["nll"] == pytest.approx(statistics.fmean(row["nll"] for row in own))
        assert system["contained"] == pytest.approx(statistics.fmean(row["contained"] for row in own))
        assert (
            system["intervals"]["exact_match"][0] <= system["exact_match"] <= system["intervals"]["exact_match"][1]
        )
        assert 0 <= system["ece"] <= 1 and 0 <= system["ece_raw"] <= 1
        assert all(system[name] is None or 0 <= system[name] <= 1 for name in ("auroc", "auroc_raw"))
        interval = wilson(sum(row["exact"] for row in own), ITEMS)
        assert system["intervals"]["exact_match"] == [interval.low, interval.high]
    assert 0 < written["systems"]["sequence"]["exact_match"] < 1
    own = [row for row in rows if row["system"].split()[0] == "sequence"]
    assert written["retrieval"]["recall@1"] == pytest.approx(statistics.fmean(row["rank"] == 1 for row in own))


def test_gains_and_differences_are_paired(whole: Path) -> None:
    written = report(whole)
    systems = written["systems"]
    assert [(gain["from"], gain["to"]) for gain in written["gains"]] == [
        ("closed-book", "uniform"),
        ("uniform", "token"),
        ("token", "sequence"),
    ]
    for gain in written["gains"]:
        step = systems[gain["to"]]["exact_match"] - systems[gain["from"]]["exact_match"]
        assert gain["exact_match"]["mean"] == pytest.approx(step)
    assert written["differences"]["to"] == "closed-book"
    against = written["differences"]["systems"]["concat"]["nll"]["mean"]
    assert against == pytest.approx(systems["concat"]["nll"] - systems["closed-book"]["nll"])


def test_a_second_run_asks_nothing_and_writes_the_same(rag: Counting, tmp_path: Path) -> None:
    run(rag, tmp_path / "run", systems=("closed-book", "sequence"))
    asked, before = rag.asked, report(tmp_path / "run")
    run(rag, tmp_path / "run", systems=("closed-book", "sequence"))
    assert rag.asked == asked == 2 * ITEMS and report(tmp_path / "run") == before


def test_a_run_that_was_cut_off_goes_on(rag: Counting, tmp_path: Path) -> None:
    run(rag, tmp_path / "run", systems=("closed-book", "sequence"))
    before, path = report(tmp_path / "run"), tmp_path / "run" / "out" / "answers.jsonl"
    path.write_bytes(path.read_bytes()[: -len(path.read_bytes()) // 3])
    rag.asked = 0
    run(rag, tmp_path / "run", systems=("closed-book", "sequence"))
    assert 0 < rag.asked < ITEMS
    after = report(tmp_path / "run")
    for name in ("closed-book", "sequence"):
        assert {**after["systems"][name], "seconds": 0, "tokens_per_second": 0} == {
            **before["systems"][name],
            "seconds": 0,
            "tokens_per_second": 0,
        }


def test_answers_of_other_models_are_not_taken(rag: Counting, tmp_path: Path) -> None:
    run(rag, tmp_path / "run", systems=("sequence",))
    rag.models = replace(rag.models, generator="another")
    run(rag, tmp_path / "run", systems=("sequence",))
    assert rag.asked == 2 * ITEMS


def test_distractors_that_cannot_be_had_are_refused_before_any_question(rag: Counting, tmp_path: Path) -> None:
    rag.settings = replace(rag.settings, max_outside=0.5)
    with pytest.raises(SettingError, match="fixed k"):
        run(rag, tmp_path / "run", distractors=(1,))
    rag.settings = replace(rag.settings, max_outside=None)
    approximate = Counting(
        rag.store, encoder=rag.encoder, generator=rag.generator, settings=rag.settings, index="faiss"
    )
    with pytest.raises(SettingError, match="exact"):
        run(approximate, tmp_path / "run", distractors=(1,))
    assert rag.asked == approximate.asked == 0
    _, notices = run(rag, tmp_path / "run", systems=("sequence",), questions=2, distractors=(100,))
    assert any("57 passages besides the k retrieved" in notice for notice in notices)


def test_the_confidence_that_is_written_is_the_one_that_ask_shows(rag: Counting, tmp_path: Path) -> None:
    found, _ = run(rag, tmp_path / "run", systems=("sequence",))
    path = tmp_path / "run" / "out" / "confidence.json"
    calibration = read_calibration(path)
    assert (
        calibration == found.calibration
        and calibration.method == found.method
        and "60 questions, 40 right" in calibration.fitted_on
    )
    asking = RAG(
        rag.store, encoder=rag.encoder, generator=rag.generator, settings=rag.settings, calibration=calibration
    )
    answer = asking.ask("What does the licence for item7 cost?")
    assert answer.confidence is not None and 0 < answer.confidence.value < 1
    assert answer.to_dict()["confidence"]["value"] == answer.confidence.value
    other = asking.ask("What does the licence for item7 cost?", k=2)
    assert other.confidence is None and other.uncalibrated == "k"
    assert asking.ask("What does the licence for item7 cost?", max_tokens=1).confidence is None
    assert asking.ask("What does the licence for item7 cost?", abstain_below=1.0).abstains
    assert not asking.ask("What does the licence for item7 cost?", abstain_below=0.0).abstains
    assert asking.score("What does the licence for item7 cost?", "four crowns").confidence is None


def in_use(rag: Counting, **changes: Any) -> tuple[Counting, ConfidenceMap]:
    """The same store with a confidence that it had before."""
    own = ConfidenceMap("temperature", right={"plain": 0.5}, threshold=0.5, fitted_on="others", **changes)
    asking = Counting(
        rag.store, encoder=rag.encoder, generator=rag.generator, settings=rag.settings, calibration=own
    )
    return asking, own


def test_the_confidence_in_use_is_judged_from_twenty_pairs_on_without_fitting(
    rag: Counting, tmp_path: Path
) -> None:
    asking, own = in_use(rag)
    found, notices = run(asking, tmp_path / "run", systems=("sequence",), questions=20)
    judged = report(tmp_path / "run")["confidence"]["in_use"]
    answered = outcomes(found.records["sequence"])
    confidences, right = confidences_of(own, answered), rights(answered)
    assert judged["n"] == 20 and judged["fitted_on"] == "others" and judged["threshold"] == 0.5
    assert judged["ece"] == pytest.approx(expected_calibration_error(confidences, right))
    assert judged["auroc"] == auroc(confidences, right) == judged["auroc_raw"]
    assert judged["intervals"]["ece"][0] <= judged["ece"] <= judged["intervals"]["ece"][1]
    assert set(judged["accuracy_at"]) == {"1", "0.9", "0.8", "0.7", "0.6", "0.5"}
    assert any("40 pairs or more" in notice for notice in notices), "a new one is not fitted on so few"
    assert not (tmp_path / "run" / "out" / "confidence.json").exists()
    page = html.fromstring((tmp_path / "run" / "out" / "report.html").read_text())
    assert "The confidence in use" in page.text_content()


@pytest.mark.parametrize(
    "changes, questions, told",
    [({}, 19, "20 pairs or more"), ({"settings": {"k": 9}}, 25, "other k"), ({"models": "x"}, 25, "other models")],
)
def test_a_confidence_in_use_that_cannot_be_judged_says_why(
    rag: Counting, tmp_path: Path, changes: dict[str, Any], questions: int, told: str
) -> None:
    asking, _ = in_use(rag, **changes)
    found, notices = run(asking, tmp_path / "run", systems=("sequence",), questions=questions)
    assert found.in_use is None and report(tmp_path / "run")["confidence"]["in_use"] is None
    assert any("confidence in use is not judged" in notice and told in notice for notice in notices)


def test_the_threshold_is_for_a_precision_unless_a_coverage_is_asked_for(rag: Counting, tmp_path: Path) -> None:
    for changes in ({"precision": 0.6}, {"coverage": 0.5}):
        found, _ = run(rag, tmp_path / "run", systems=("sequence",), calibration="none", **changes)
        answered = outcomes(found.records["sequence"])
        assert found.calibration is not None
        given = confidences_of(found.calibration, answered) >= found.calibration.threshold
        if "coverage" in changes:
            assert found.calibration.precision is None and given.mean() >= 0.5
        else:
            assert found.calibration.precision == 0.6 and rights(answered)[given].mean() >= 0.6


def test_questions_off_the_corpus_are_withheld(rag: Counting, tmp_path: Path) -> None:
    off = tmp_path / "off.jsonl"
    lines = [{"question": f"Whose hens are {i} years old?", "answers": ["ours"], "doc": "x"} for i in range(40)]
    off.write_text("".join(json.dumps(line) + "\n" for line in lines))
    run(rag, tmp_path / "run", systems=("sequence",), off_corpus=(off,), calibration="two-part", coverage=0.8)
    written = report(tmp_path / "run")
    assert written["off_corpus"]["n"] == 40
    assert written["confidence"]["methods"]["two-part"]["off_corpus_withheld"] > 0.9
    assert written["confidence"]["methods"]["two-part"]["coverage"] > 0.6
    assert read_calibration(tmp_path / "run" / "out" / "confidence.json").method == "two-part"


def test_pairs_without_an_answer_are_asked_as_questions_that_the_documents_do_not_answer(
    rag: Counting, tmp_path: Path
) -> None:
    """In the pairs or in a file of their own: they have no part in the scores, and any answer to them is wrong."""
    given, off = pairs(tmp_path / "run"), tmp_path / "off.jsonl"
    lines = [{"question": f"Whose hens are {i} years old?", "answers": []} for i in range(24)]
    with given.open("a") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines[:20])
    off.write_text("".join(json.dumps(line) + "\n" for line in lines[20:]))
    found, notices = run(rag, tmp_path / "run", pairs=(given,), systems=("sequence",), off_corpus=(off,))
    assert any("20 of 80 pairs have no answer" in line for line in notices)
    assert found.summaries["sequence"].n == ITEMS and len(found.off_corpus) == 24
    assert not any(record.answerable or record.exact for record in found.off_corpus)
    stored = read_answers(str(tmp_path / "run" / "out"))
    assert (len(stored.records), len(stored.unanswerable)) == (ITEMS, 24)
    own = read_calibration(tmp_path / "run" / "out" / "confidence.json")
    assert ITEMS < sum(n for n, _ in own.levels.values()) <= ITEMS / 0.8 + 2
    with pytest.raises(PairsError, match="pairs with an answer"):
        run(rag, tmp_path / "none", pairs=(off,), systems=("sequence",))


def test_distractors_are_added_for_every_system_that_reads_passages(rag: Counting, tmp_path: Path) -> None:
    systems, count = ("closed-book", "concat", "sequence"), 15
    run(rag, tmp_path / "run", drawn=True, systems=systems, distractors=(1, 5), questions=count)
    written = report(tmp_path / "run")["distractors"]
    assert set(written) == {"random", "adversarial"}
    for systems in written.values():
        assert set(systems) == {"concat", "sequence"}
        assert all(set(by_count) == {"1", "5"} for by_count in systems.values())
    # Beside its passages the table's language model reads the first number of a prompt: nothing moves.
    assert (
        written["random"]["sequence"]["5"]["mean"]
        == report(tmp_path / "run")["systems"]["sequence"]["exact_match"]
    )


def test_adaptive_k_counts_passages_down_to_the_mass_left_outside(rag: Counting, tmp_path: Path) -> None:
    found, _ = run(rag, tmp_path / "run", systems=("sequence",))
    question = "What does the licence for item0 cost?"
    for mass, ks in found.adaptive_k.items():
        outside = [rag.passages(question, k=k).outside or 0.0 for k in range(1, ITEMS + 1)]
        assert ks[0] == next(k for k, left in enumerate(outside, 1) if left <= mass + 1e-12)
    assert report(tmp_path / "run")["adaptive_k"]["0.1"]["median"] == statistics.median(found.adaptive_k[0.1])


@pytest.mark.parametrize(
    "count, wrong, told",
    [(10, 3, "40 pairs or more"), (ITEMS, 1, "6 right and as many wrong"), (1, 3, "40 pairs")],
)
def test_pairs_that_are_too_few_say_how_many_are_needed(
    rag: Counting, tmp_path: Path, count: int, wrong: int, told: str
) -> None:
    few = pairs(tmp_path / "few", count, wrong)
    _, notices = run(rag, tmp_path / "few", pairs=(few,), drawn=count == 1, systems=("closed-book", "sequence"))
    assert any(told in notice for notice in notices)
    written = report(tmp_path / "few")
    assert written["confidence"]["method"] is None and written["notices"]
    assert all(0 <= system["ece"] <= 1 for system in written["systems"].values())
    assert not (tmp_path / "few" / "out" / "confidence.json").exists()


def test_impossible_answers_leave_no_nan_in_any_report(rag: Counting, tmp_path: Path) -> None:
    """Without a passage "nine" has no chance, with one "four": infinities of both signs in a difference."""

    def never(passages: tuple[int, ...], answer: tuple[int, ...]) -> torch.Tensor:
        return torch.tensor(
            [0.5, 0.0, 0.25, 0, 0.25] if passages else [0.0, 0.5, 0.25, 0, 0.25], dtype=torch.float64
        )

    deaf = RAG(rag.store, encoder=rag.encoder, generator=TableGenerator(WORDS, never), settings=rag.settings)
    run(deaf, tmp_path / "run", drawn=True, systems=("closed-book", "sequence"))
    system, out = report(tmp_path / "run")["systems"]["sequence"], tmp_path / "run" / "out"
    assert system["nll"] is None and system["exact_match"] == 0.0
    cells = [cell.text_content().lower() for cell in html.fromstring((out / "report.html").read_text()).iter("td")]
    assert "undefined" in cells and not any("nan" in cell for cell in cells)
    assert "nan" not in (out / "report.md").read_text().lower()


def test_the_report_measures_the_method_that_is_written(rag: Counting, tmp_path: Path) -> None:
    for method in ("temperature", "isotonic", "logistic", "none"):
        run(rag, tmp_path / "run", systems=("sequence",), calibration=method)
        written = report(tmp_path / "run")
        calibration = read_calibration(tmp_path / "run" / "out" / "confidence.json")
        assert written["confidence"]["method"] == method == calibration.method
        assert written["confidence"]["threshold"] == calibration.threshold
        assert written["systems"]["sequence"]["ece"] == written["confidence"]["methods"][method]["ece"]
        assert written["systems"]["sequence"]["auroc"] == written["confidence"]["methods"][method]["auroc"]
        assert written["confidence"]["precision"] == calibration.precision == 0.8
        counts = {words: (each["n"], each["right"]) for words, each in written["confidence"]["levels"].items()}
        assert sum(n for n, _ in counts.values()) == ITEMS == sum(n for n, _ in calibration.levels.values())
        assert sum(n * (share or 0.0) for n, share in counts.values()) == pytest.approx(40)


def test_what_an_earlier_run_left_does_not_stay_beside_another_report(rag: Counting, tmp_path: Path) -> None:
    run(rag, tmp_path / "run", systems=("sequence",))
    out = tmp_path / "run" / "out"
    assert (out / "confidence.json").exists() and (out / "reliability.png").exists()
    run(rag, tmp_path / "run", systems=("sequence",), questions=10)
    assert not (out / "confidence.json").exists() and not (out / "reliability.png").exists()


def test_answers_from_another_store_or_index_are_not_taken(rag: Counting, tmp_path: Path) -> None:
    run(rag, tmp_path / "run", systems=("sequence",))
    (tmp_path / "files" / "item0.txt").rename(tmp_path / "files" / "renamed.txt")
    rag.index([tmp_path / "files"])
    found, _ = run(rag, tmp_path / "run", systems=("sequence",))
    assert rag.asked == 2 * ITEMS
    assert found.retrieval is not None and found.retrieval.recall_at[20].mean == pytest.approx(1 - 1 / ITEMS)
    rag.index_kind = "exact"
    run(rag, tmp_path / "run", systems=("sequence",))
    assert rag.asked == 3 * ITEMS


def test_models_are_loaded_before_the_clock_runs(rag: Counting, tmp_path: Path) -> None:
    class Slow(Counting):
        @property
        def generator(self) -> Any:
            if not self.__dict__.get("loaded"):
                time.sleep(0.5)
                self.__dict__["loaded"] = True
            return rag.generator

    slow = Slow(rag.store, encoder=rag.encoder, settings=rag.settings)
    found, _ = run(slow, tmp_path / "run", systems=("sequence",))
    assert max(record.seconds for record in found.records["sequence"]) < 0.5


def test_a_name_that_is_no_text_can_be_reported(rag: Counting, tmp_path: Path) -> None:
    path = pairs(tmp_path / "run").rename(tmp_path / "run" / os.fsdecode(b"pairs\xff.jsonl"))
    found, _ = run(rag, tmp_path / "run", pairs=(path,), systems=("sequence",))
    assert "\\udcff" in found.sources[0] and report(tmp_path / "run")["pairs"] == [found.sources[0]]


def test_what_cannot_be_asked_for_is_refused_before_any_question(rag: Counting, tmp_path: Path) -> None:
    for changes, error in (
        ({"systems": ("sequence", "best")}, SettingError),
        ({"systems": ()}, SettingError),
        ({"systems": ("token", "token")}, SettingError),
        ({"questions": 0}, SettingError),
        ({"distractors": (0,)}, SettingError),
        ({"coverage": 0.0}, SettingError),
        ({"calibration": "platt"}, SettingError),
        ({"pairs": (tmp_path / "none.jsonl",)}, PairsError),
        ({"off_corpus": (tmp_path / "none.jsonl",)}, PairsError),
    ):
        with pytest.raises(error) as caught:
            run(rag, tmp_path / "run", **changes)
        assert "\n" not in str(caught.value)
    (tmp_path / "file").write_text("")
    with pytest.raises(MixragError, match="folder for the report"):
        run(rag, tmp_path / "run", out=tmp_path / "file")
    assert rag.asked == 0


def test_names_and_answers_cannot_steer_the_pages(rag: Counting, tmp_path: Path) -> None:
    hostile = pairs(tmp_path / "run", name="<script>alert(1)<|>.jsonl")
    run(rag, tmp_path / "run", pairs=(hostile,), systems=("sequence",))
    page = (tmp_path / "run" / "out" / "report.html").read_text()
    assert "<script" not in page and "&lt;script&gt;" in page
    parsed = html.fromstring(page)
    assert parsed.get("lang") == "en" and not parsed.xpath("//script|//link|//iframe")
    assert all(image.get("src").startswith("data:image/png;base64,") for image in parsed.iter("img"))
    assert "\\<script\\>" in (tmp_path / "run" / "out" / "report.md").read_text()


def test_pages_and_pictures_show_what_the_document_says(whole: Path) -> None:
    out, written = whole / "out", report(whole)
    page, markdown = html.fromstring((out / "report.html").read_text()), (out / "report.md").read_text()
    scores = {row[0].text: [cell.text for cell in row] for row in page.xpath("(//table)[1]/tbody/tr")}
    for name, system in written["systems"].items():
        assert scores[name][1].startswith(f"{system['exact_match']:.3f} [")
        assert f"| {name} | {system['exact_match']:.3f} \\[" in markdown
    shown = ["adaptive-k.png", "coverage.png", "reliability.png", "weights.png"]
    assert sorted(path.name for path in out.glob("*.png")) == shown
    assert all((out / name).read_bytes().startswith(b"\x89PNG") and f"({name})" in markdown for name in shown)
    assert len(page.xpath("//img")) == 4
    assert math.isfinite(written["systems"]["sequence"]["nll"])

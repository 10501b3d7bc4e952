"""Diagnosis: for every planted failure the stage that failed is named, with numbers that can be worked out."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from mixrag import RAG, Generator, ModelConfig, Settings
from mixrag.corpus import Store, WordSplitter
from mixrag.errors import PairsError, QuestionError, SettingError
from mixrag.evaluation import STAGES, Diagnosis, diagnose
from scripted import Laws, scripted
from words_encoder import WordsEncoder

QUESTION = "What does a licence for cod cost ?"
FILES = {
    "right.txt": "Fishing cod needs a licence . It is nine crowns .",
    "wrong.txt": "What does a licence for eel cost ? It is four crowns .",
    "hens.txt": "Hens lay fewer eggs during winter .",
}
READS: Laws = {
    "nine": {"nine crowns": 0.95, "four crowns": 0.03},
    "four": {"four crowns": 0.9, "nine crowns": 0.08},
    "": {"four crowns": 0.5, "nine crowns": 0.2, "nine": 0.1, "no": 0.1, "cod needs a licence": 0.05},
}
IGNORES: Laws = {**READS, "nine": {"four crowns": 0.7, "nine crowns": 0.2}}
GREEDY_MISSES: Laws = {**READS, "nine": {"nine crowns": 0.4, "four crowns": 0.3, "four": 0.25}}
DEMO = Path(__file__).parent.parent.parent / "demo" / "corpus"
SHARP, FLAT = 0.02, 10.0
"""Temperatures at which the first passage has nearly all the prior, and at which all have the same."""


@dataclass(frozen=True)
class Planted:
    """A failure: what is indexed, how the model reads, how it is asked; and the stage that must be named."""

    failed: str | None
    finding: str
    remedy: str = ""
    expected: Sequence[str] = ("nine crowns",)
    files: Mapping[str, str] = field(default_factory=lambda: FILES)
    distributions: Laws = field(default_factory=lambda: READS)
    words: int = 100
    document: str | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)


def without(*names: str) -> dict[str, str]:
    return {name: text for name, text in FILES.items() if name not in names}


PLANTED = {
    "not indexed": Planted(
        "indexed", "no passage of the store holds it", "index the document", files=without("right.txt")
    ),
    "not indexed, document named": Planted(
        "indexed",
        "no document of the store is named right.txt",
        "mixrag info",
        files=without("right.txt"),
        document="right.txt",
    ),
    "filtered out": Planted(
        "indexed",
        "the filter shuts out 1 passage that has it",
        "--where",
        changes={"where": {"document": "wrong.txt"}},
    ),
    "everything filtered out": Planted(
        "indexed", "the filter shuts out", "--where", changes={"where": {"document": "none"}}
    ),
    "named document filtered out": Planted(
        "indexed",
        "the filter shuts out",
        "--where",
        expected=["no"],
        document="right.txt",
        changes={"where": {"document": "wrong.txt"}},
    ),
    "split": Planted("indexed", "split over 2 neighbouring passages", "--splitter", words=9, changes={"k": 1}),
    "split over more than two": Planted(
        "indexed", "split over 4 neighbouring", "--splitter", words=1, expected=["cod needs a licence"]
    ),
    "split in the document named": Planted(
        "indexed", "split over 2", "--splitter", words=9, document="right.txt", changes={"k": 1}
    ),
    "not retrieved": Planted(
        "retrieved", "rank 2 of 3, not among the 1 retrieved", "-k 2 reaches it", changes={"k": 1}
    ),
    "left out by adaptive k": Planted(
        "retrieved",
        "rank 2 of 3, not among the 1 retrieved",
        "-k 2 reaches it, without --max-outside",
        changes={"k": 3, "max_outside": 0.9},
    ),
    "nothing retrieved": Planted("retrieved", "not among the 0 retrieved", "-k 2", changes={"k": 0}),
    "low weight": Planted(
        "weighted", "alone it answers right", "temperature,null", changes={"temperature": SHARP}
    ),
    "low weight, token by token": Planted(
        "weighted", "alone it answers right", changes={"temperature": SHARP, "switch": 1.0}
    ),
    "low weight beside a null component": Planted(
        "weighted", "alone it answers right", changes={"temperature": FLAT, "null": 9.0}
    ),
    "low weight under the full prior": Planted(
        "weighted", "alone it answers right", changes={"temperature": SHARP, "normaliser": "full"}
    ),
    "low weight, found by beam search": Planted(
        "weighted", "alone it answers right", changes={"temperature": SHARP, "decoder": "beam"}
    ),
    "ignored": Planted("used", "the model answers 'four crowns'", "--parts generator", distributions=IGNORES),
    "ignored, whatever its weight": Planted(
        "used", "the model answers 'four crowns'", distributions=IGNORES, changes={"temperature": SHARP}
    ),
    "ignored in one prompt of all": Planted(
        "used",
        "given these 3 passages alone",
        "--group 1",
        distributions={"nine": IGNORES["nine"], "": READS[""]},
        changes={"group": "all"},
    ),
    "decoded too greedily": Planted(
        "decoded",
        "but the mixture prefers the expected answer",
        "--decoder beam, which",
        distributions=GREEDY_MISSES,
        files=without("wrong.txt"),
    ),
    "drawn badly": Planted(
        "decoded",
        "sample decoding wrote",
        "--decoder beam",
        files=without("wrong.txt"),
        changes={"decoder": "sample", "seed": 5},
        distributions={**READS, "nine": {"nine crowns": 0.4, "four crowns": 0.3, "no": 0.25}},
    ),
    "cut short": Planted(
        "decoded",
        "cut off at --max-tokens; the expected one takes 3 tokens",
        "--max-tokens 3",
        changes={"max_tokens": 1, "temperature": FLAT},
        files=without("wrong.txt"),
    ),
    "nothing": Planted(None, "the answer is right", files=without("wrong.txt")),
    "nothing, in other letters": Planted(
        None, "the answer is right", expected=["The Nine, crowns!"], files=without("wrong.txt")
    ),
    "nothing, though the passage was not retrieved": Planted(
        None,
        "right, though without passing retrieved",
        changes={"k": 1},
        distributions={**READS, "four": READS["nine"]},
    ),
    "one of several expected": Planted(
        None, "the answer is right", expected=["9 crowns", "nine crowns"], files=without("wrong.txt")
    ),
    "several expected, none written": Planted(
        "weighted", "alone it answers right", expected=["nine", "nine crowns"], changes={"temperature": SHARP}
    ),
}


@pytest.fixture
def planted(tmp_path: Path) -> Callable[[Planted], RAG]:
    return lambda case: opened(tmp_path, case.files, scripted(case.distributions), case.words)


def opened(
    tmp_path: Path, files: Mapping[str, str], generator: Generator, words: int = 100, **options: Any
) -> RAG:
    folder = tmp_path / "files"
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text)
    store = Store.open(tmp_path / "store", create=True)
    settings = Settings(max_tokens=4, temperature=0.1)
    rag = RAG(store, encoder=WordsEncoder(), generator=generator, settings=settings, **options)
    if files:
        rag.index([folder], splitter=WordSplitter(words))
    return rag


def run(rag: RAG, case: Planted) -> Diagnosis:
    return diagnose(rag, QUESTION, case.expected, document=case.document, **case.changes)


@pytest.mark.parametrize("name", PLANTED)
def test_the_stage_that_failed_is_named(planted: Callable[[Planted], RAG], name: str) -> None:
    case = PLANTED[name]
    with planted(case) as rag:
        found = run(rag, case)
    assert (found.failed, found.right) == (case.failed, case.failed is None), found.as_dict()
    assert case.finding in found.finding and case.remedy in found.remedy
    assert bool(found.remedy) == (not found.right)
    for stage in STAGES[: STAGES.index(found.failed) if found.failed else 0]:
        assert found.stage(stage).passed is not False


def test_every_stage_is_measured_where_nothing_failed(planted: Callable[[Planted], RAG]) -> None:
    with planted(PLANTED["nothing"]) as rag:
        found = run(rag, PLANTED["nothing"])
        answer = rag.ask(QUESTION)
    (passage,) = found.indexed.location.passages
    assert passage.text == FILES["right.txt"] and found.answer.best_guess == answer.best_guess
    assert (found.retrieved.rank, found.retrieved.k, found.retrieved.ranked) == (1, 2, 2)
    assert found.retrieved.passage == passage == found.used.passages[0]
    assert found.weighted.prior == pytest.approx(answer.passages[0].prior)
    assert found.weighted.posterior == pytest.approx(answer.passages[0].posterior)
    distribution, bare = READS["nine"], READS[""]
    alone, closed = [
        distribution["nine crowns"] + (1 - sum(distribution.values())) / 5,
        bare["nine crowns"] + (1 - sum(bare.values())) / 5,
    ]
    assert found.used.log_likelihood == pytest.approx(math.log(alone)) == pytest.approx(found.used.answer_log_prob)
    assert found.used.log_evidence_ratio == pytest.approx(math.log(alone / closed))
    assert (
        found.decoded.log_prob == pytest.approx(answer.log_prob) == pytest.approx(found.decoded.expected_log_prob)
    )


@pytest.mark.parametrize(
    "name", ["low weight", "low weight beside a null component", "low weight under the full prior"]
)
def test_the_prior_that_was_needed_is_the_one_at_which_the_answers_tie(
    planted: Callable[[Planted], RAG], name: str
) -> None:
    """Plugged into the mixture: a little more, and the expected answer leads; a little less, and it does not."""
    case = PLANTED[name]
    with planted(case) as rag:
        found = run(rag, case)
        mixture = rag.condition(QUESTION, **case.changes)
    assert found.weighted.prior < found.weighted.needed < 1
    prior = mixture.log_prior.exp()
    j = next(
        j for j, c in enumerate(mixture.components) if c.passages and c.passages[0].text == FILES["right.txt"]
    )
    assert found.weighted.prior == pytest.approx(float(prior[j]))
    for change in (-1e-6, 0.0, 1e-6):
        needed = found.weighted.needed + change
        moved = prior * (1 - needed) / (1 - prior[j])
        moved[j] = needed
        other = replace(mixture, unconditioned_log_prior=moved.log())
        lead = other.log_prob("nine crowns") - other.log_prob("four crowns")
        assert (
            lead == pytest.approx(0.0, abs=1e-9)
            if change == 0.0
            else math.copysign(1, lead) == math.copysign(1, change)
        )


def test_the_answer_is_right_from_the_prior_on_that_was_needed(planted: Callable[[Planted], RAG]) -> None:
    """With one other passage the prior that is needed is the same at every temperature."""
    case = PLANTED["low weight"]
    with planted(case) as rag:
        needed = diagnose(rag, QUESTION, case.expected, k=2, temperature=SHARP).weighted.needed
        found = [diagnose(rag, QUESTION, case.expected, k=2, temperature=0.02 * 1.5**i) for i in range(15)]
    assert {each.right for each in found} == {True, False}
    for each in found:
        assert each.right == (each.weighted.prior > needed)
        assert each.right or each.weighted.needed == pytest.approx(needed)


def test_a_remedy_that_is_named_mends_it(planted: Callable[[Planted], RAG]) -> None:
    with planted(PLANTED["not retrieved"]) as rag:
        found = run(rag, PLANTED["not retrieved"])
        assert (found.retrieved.rank, found.weighted) == (2, None)
        assert found.used.answer == "nine crowns" and found.used.passed, "the model would have used it"
        again = diagnose(rag, QUESTION, ["nine crowns"], k=found.retrieved.rank, temperature=FLAT)
        assert again.retrieved.passed and again.right
        assert found.retrieved.other_lexical == 0.5
        by_words = rag.passages(QUESTION, k="all", lexical=0.5).passages
        assert by_words[found.retrieved.other_rank - 1].text == FILES["right.txt"]
        dense = diagnose(rag, QUESTION, ["nine crowns"], k=1, lexical=0.9)
        assert (dense.retrieved.other_lexical, dense.retrieved.other_rank) == (0.0, 2)


def test_beam_search_finds_what_was_decoded_too_greedily(planted: Callable[[Planted], RAG]) -> None:
    case = PLANTED["decoded too greedily"]
    with planted(case) as rag:
        found = run(rag, case)
        assert found.decoded.beam_is_right and found.decoded.expected_log_prob > found.decoded.log_prob
        assert diagnose(rag, QUESTION, case.expected, decoder="beam").right
        narrow = diagnose(rag, QUESTION, case.expected, decoder="beam", beams=1)
        assert (narrow.right, narrow.failed) in ((True, None), (False, "decoded"))


def test_a_passage_whose_end_was_not_read_is_cut_off(
    tmp_path: Path, tiny_generator: Callable[[str], Generator]
) -> None:
    long = " ".join(["cod licence"] * 120) + " nine crowns"
    with opened(tmp_path, {"long.txt": long}, tiny_generator("llama-chat"), words=400) as rag:
        found = diagnose(rag, QUESTION, ["nine crowns"])
        kept, total = found.used.shortened
        assert found.failed == "used" and found.used.is_cut_off and 0 < kept < total
        assert f"only {kept} of its {total} tokens" in found.finding and "--splitter" in found.remedy
        early = diagnose(rag, QUESTION, ["cod licence cod"])
        assert early.used.shortened[1] == total and not early.used.is_cut_off and early.failed == "used"


@pytest.mark.parametrize("kind", ["llama", "gpt2", "t5", "bart"])
def test_real_models_are_diagnosed_likewise(
    tmp_path: Path, tiny_generator: Callable[[str], Generator], kind: str
) -> None:
    """They say nonsense: what they say is right by definition, and what they never say is not."""
    with opened(tmp_path, FILES, tiny_generator(kind)) as rag:
        said = rag.ask(QUESTION, max_tokens=6)
        long = "nine crowns for the whole of the season"
        found = diagnose(rag, QUESTION, ["nine crowns", long], max_tokens=6)
        assert found.failed in ("weighted", "used", "decoded") and not found.right
        best = max(rag.score(QUESTION, text).log_prob for text in ("nine crowns", long))
        assert found.decoded.expected_log_prob == pytest.approx(best, abs=1e-3)
        assert found.decoded.log_prob == pytest.approx(said.log_prob, abs=1e-3)
        assert diagnose(rag, QUESTION, [said.best_guess], max_tokens=6).right or not said.best_guess.strip()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("許可証は九クローネです。", "九クローネ"),
        ("Лицензия стоит «девять крон» в год.", "девять крон"),
        ("ใบอนุญาตราคาเก้าโครน", "เก้าโครน"),
        ("It costs ni\u00adne crowns.", "nine crowns"),
        ("COST: ｎｉｎｅ crowns", "nine crowns"),
        ("the fee is 50 % of it", "%"),
    ],
)
def test_every_script_is_looked_for(tmp_path: Path, text: str, expected: str) -> None:
    with opened(
        tmp_path, {"a.txt": text, "b.txt": "nothing of the kind"}, scripted({"": {"no": 0.9, expected: 0.1}})
    ) as rag:
        found = diagnose(rag, "licence ?", [expected])
        assert found.indexed.location.place == "passage" and found.failed == "used"
        read = text.replace("\u00ad", "")  # the parser leaves soft hyphens out
        assert [passage.text for passage in found.indexed.location.passages] == [read]


def test_a_verdict_needs_its_document(planted: Callable[[Planted], RAG]) -> None:
    case = Planted(
        None,
        "",
        expected=["yes"],
        distributions={**READS, "": {"yes": 0.1}},
        files={"no.txt": "It is yes , or no ."},
    )
    with planted(case) as rag:
        free = diagnose(rag, QUESTION, ["yes"], k=1)
        wrong = diagnose(rag, "eggs", ["no"])
        named = diagnose(rag, "eggs", ["no"], document="no.txt")
    assert free.indexed.passed is None and free.retrieved is None and free.used is None
    assert not wrong.right and wrong.failed is None and "--document" in wrong.remedy and "verdict" in wrong.finding
    assert named.indexed.location.place == "document" and named.retrieved.rank == 1 and named.failed == "used"


def test_free_wording_is_judged_by_the_document(planted: Callable[[Planted], RAG]) -> None:
    distributions = {**READS, "nine": {"9 kr": 0.97}}
    with planted(Planted(None, "", distributions=distributions)) as rag:
        bare = diagnose(rag, QUESTION, ["9 kr"], k=1)
        assert bare.failed == "indexed" and "--document" in bare.remedy
        found = diagnose(rag, QUESTION, ["9 kr"], document="right.txt", k=1)
        assert found.failed == "retrieved" and found.indexed.passed and "literally" in found.indexed.finding
        assert diagnose(rag, QUESTION, ["9 kr"], document="files/right.txt", temperature=FLAT, k=2).right


def test_only_passages_of_the_document_named_count(planted: Callable[[Planted], RAG]) -> None:
    files = {**FILES, "other.txt": "What does a licence for cod cost ? nine crowns"}
    with planted(Planted(None, "", files=files)) as rag:
        assert diagnose(rag, QUESTION, ["nine crowns"]).retrieved.rank == 1
        named = diagnose(rag, QUESTION, ["nine crowns"], document="right.txt")
        assert named.retrieved.rank == 3 and named.retrieved.passage.text == FILES["right.txt"]


def test_an_empty_store_has_indexed_nothing(planted: Callable[[Planted], RAG]) -> None:
    with planted(Planted(None, "", files={})) as rag:
        found = run(rag, PLANTED["nothing"])
    assert found.failed == "indexed" and found.answer is None and found.decoded is None
    assert "index the document" in found.remedy and found.as_dict()["answer"] is None


def test_what_the_filter_shuts_out_is_read_all_the_same(planted: Callable[[Planted], RAG]) -> None:
    for name in ("filtered out", "everything filtered out"):
        case = PLANTED[name]
        with planted(case) as rag:
            found = run(rag, case)
        assert found.used.answer == "nine crowns" and found.weighted is None
        shutil.rmtree(rag.store.directory.parent)
        rag.store.directory.parent.mkdir()


@pytest.mark.parametrize(
    ("question", "expected", "changes", "error", "part"),
    [
        (QUESTION, [], {}, PairsError, "expected an expected answer; found none"),
        (QUESTION, ["nine", "  "], {}, PairsError, "found an empty one"),
        (QUESTION, ["ni\udcffne"], {}, PairsError, "in UTF-8"),
        (" ", ["nine"], {}, QuestionError, "ask something"),
        (QUESTION, ["nine"], {"width": 3}, SettingError, "found 'width'"),
        (QUESTION, ["nine"], {"k": -1}, SettingError, "k to be"),
        (QUESTION, ["nine " * 5000], {}, QuestionError, "shorten"),
    ],
)
def test_what_cannot_be_diagnosed_is_refused_in_one_line(
    planted: Callable[[Planted], RAG],
    question: str,
    expected: Sequence[str],
    changes: Mapping[str, Any],
    error: type[Exception],
    part: str,
) -> None:
    with planted(PLANTED["nothing"]) as rag, pytest.raises(error, match=part):
        diagnose(rag, question, expected, **changes)


def test_an_approximate_index_says_among_how_many_it_was_looked_for(tmp_path: Path) -> None:
    with opened(tmp_path, FILES, scripted(READS), index="faiss") as rag:
        found = diagnose(rag, QUESTION, ["nine crowns"], k=1)
    assert found.failed == "retrieved" and not found.retrieved.is_exact
    assert "rank 2 of the 3 that an approximate search gave" in found.finding


def test_equal_settings_give_equal_diagnoses(planted: Callable[[Planted], RAG]) -> None:
    with planted(PLANTED["low weight"]) as rag:
        first, second = (run(rag, PLANTED["low weight"]).as_dict() for _ in range(2))
    assert first == second and set(first["stages"]) == set(STAGES)


def test_decoding_is_not_blamed_where_beam_search_finds_a_better_wrong_answer(
    planted: Callable[[Planted], RAG],
) -> None:
    """Greedy decoding missed two answers; the mixture's own is the wrong one of them."""
    distribution = {"nine crowns": 0.27, "no": 0.31, "four crowns": 0.2, "four": 0.15}
    with planted(
        Planted(None, "", distributions={**READS, "nine": distribution}, files=without("wrong.txt", "hens.txt"))
    ) as rag:
        found = diagnose(rag, QUESTION, ["nine crowns"])
        assert (
            found.answer.best_guess == "four crowns" and found.decoded.expected_log_prob > found.decoded.log_prob
        )
        assert (found.failed, found.decoded.passed, found.decoded.beam) == ("used", True, "no")
        assert diagnose(rag, QUESTION, ["no"]).failed == "decoded"


@pytest.mark.slow
def test_the_packaged_models_are_diagnosed_on_the_demo_corpus(tmp_path: Path) -> None:
    founder = "Who founded the Dunmarret Credit Union?"
    wool = "Which breeding station receives most of the wool levy of Tarravoe?"
    bailiff = "Who holds the post of Water Bailiff on the River Tamble?"
    excess = "What is the excess per claim under Tiskerry Mutual's policy TM-204?"
    trustees = "Who presides over the trustees of Tarravoe's Public Pension Fund?"
    with RAG.open(tmp_path / "store", create=True, models=ModelConfig(device="cpu")) as rag:
        rag.index([DEMO], splitter=WordSplitter(100))
        found = diagnose(rag, founder, ["Osric Penhallow"], k=3)
        assert found.right and found.failed is None and found.retrieved.rank == 1
        assert diagnose(rag, wool, ["Ossery Farm"], k=3).indexed.location.place == "split"
        ranked = rag.passages(bailiff, k="all").passages
        rank = next(rank for rank, passage in enumerate(ranked, 1) if "Gideon Starling" in passage.text)
        low = diagnose(rag, bailiff, ["Gideon Starling"], k=rank - 1)
        assert rank > 1 and (low.failed, low.retrieved.rank) == ("retrieved", rank)
        assert diagnose(rag, excess, ["350 talms"], k=3).failed is None
        assert diagnose(rag, trustees, ["Bettany Crowle"], lexical=0.0).failed == "weighted"
        rag.remove([DEMO / "finance" / "dunmarret-credit-union-rules.txt"])
        gone = diagnose(rag, founder, ["Osric Penhallow"], k=3)
        assert gone.failed == "indexed" and gone.indexed.location.place == "absent"


def test_passages_over_which_an_answer_is_split_do_not_hold_it(planted: Callable[[Planted], RAG]) -> None:
    case = replace(PLANTED["split"], changes={})
    with planted(case) as rag:
        found = run(rag, case)
    assert len(found.indexed.location.passages) == 2 and found.retrieved is None
    assert found.weighted is None and found.used is None and found.decoded is not None

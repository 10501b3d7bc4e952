"""Damaged files of every format: none may crash us, hang, or lose text without a word.

``python benchmarks/fuzz.py --files 300`` reads many more; a seed of it that failed is listed here.
"""

import pytest

import fuzz
from fuzz_samples import SAMPLES
from mixrag.corpus.parsers.isolation import borrowed_worker

FILES = 10
MOST_LOST = 0.05
"""Share of the sentences in sight that may be lost without a word."""
FAILED = (("a.pdf", 1002), ("a.pdf", 1008), ("a.pdf", 1010), ("a.pdf", 1023))
"""Samples and seeds of files that once failed: whole pages of a damaged PDF were blank, and nothing said so."""


@pytest.mark.parametrize("name", fuzz.names())
def test_a_sound_file_is_read_whole(name):
    with borrowed_worker() as worker:
        worker.submit(f"/fuzz/{name}", SAMPLES[name](), fuzz.LIMITS)
        text = " ".join(document.text for document in worker.collect().documents)
    assert [f"mark{number}" for number in range(40) if f"mark{number} " not in text] == []


@pytest.mark.parametrize("name", fuzz.names())
def test_damaged_files_are_read_or_refused(name):
    found = fuzz.run(name, range(1000, 1000 + FILES))
    assert {each.kind for each in found} <= {"read", "refused", "crashed", "memory"}
    assert all("\n" not in each.reason for each in found)
    assert fuzz.lost_share(found) <= MOST_LOST


@pytest.mark.parametrize("name, seed", FAILED)
def test_what_failed_once(name, seed):
    with borrowed_worker() as worker:
        found = fuzz.outcome(worker, name, seed)
    assert found.kind in {"read", "refused"} and found.lost <= MOST_LOST * max(1, found.in_sight)


def test_the_same_seed_gives_the_same_file():
    for name in SAMPLES:
        assert fuzz.damaged(name, 7) == fuzz.damaged(name, 7)
        assert len({fuzz.damaged(name, seed)[0] for seed in range(20)}) > 15

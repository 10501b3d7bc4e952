import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import bad_parsers
import psutil
import pytest

from fake_corpus import check_sound, run
from mixrag.corpus import Notice, ParseLimits, ParseResult, Skipped, UnreadableError, WordSplitter, read
from mixrag.corpus.parsers import isolation, worker_process
from mixrag.corpus.parsers import worker as worker_module
from mixrag.corpus.parsers.isolation import Worker, borrowed_worker, close_idle_workers
from mixrag.corpus.parsers.worker import check_output
from mixrag.corpus.passage import Block, Document
from mixrag.errors import SettingError, SourceError

SHORT = ParseLimits(seconds=1.0, megabytes=256)
LONG = ParseLimits(seconds=60.0, megabytes=256)


@pytest.fixture
def bad(monkeypatch):
    """A worker whose parser does what the file says."""
    monkeypatch.setattr(worker_process, "_BOOT", bad_parsers.BOOT)
    close_idle_workers()
    worker = Worker()
    yield worker
    worker.close()
    close_idle_workers()


def answer(worker, what, limits=LONG):
    worker.submit("/folder/a.txt", what.encode(), limits)
    return worker.collect()


def refusal(worker, what, limits=LONG):
    with pytest.raises(UnreadableError) as caught:
        answer(worker, what, limits)
    assert "\n" not in str(caught.value) and not worker.waiting
    return str(caught.value)


def children():
    return [p for p in psutil.Process().children(recursive=True) if p.status() != psutil.STATUS_ZOMBIE]


def gone(pid, seconds=20.0):
    """Whether a process ends within some time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.02)
    return False


# answers


def test_an_answer_is_what_the_parser_returned(bad):
    found = answer(bad, "tëxt")
    blocks = (Block(0, 4, "text", 0, 3, "page 3", "c"),)
    assert found == ParseResult(
        (Document("tëxt", "r", "Title", {"n": 1, "x": None, "y": 0.5, "z": "ü"}, blocks),),
        (Skipped("p:1", "why"),),
        (Notice("images", 2, "d"),),
    )


def test_one_process_reads_many_files(bad):
    answer(bad, "one")
    pid = bad.pid
    assert pid != os.getpid() and answer(bad, "two").documents[0].text == "two" and bad.pid == pid


def test_many_documents_and_large_texts_come_whole(bad):
    found = answer(bad, "many:2500").documents
    assert [each.id for each in found] == [str(i) for i in range(2500)]
    long = "ab" * 3_000_000
    assert answer(bad, long).documents[0].text == long


def test_files_that_wait_are_answered_in_order(bad):
    for i in range(200):  # more than a pipe holds in either direction
        bad.submit("a.txt", f"{i} ".encode() * 2000, LONG)
    assert [bad.collect().documents[0].text.split()[0] for i in range(200)] == [str(i) for i in range(200)]


def test_what_a_library_prints_reaches_neither_the_answer_nor_the_terminal(bad, capfd):
    assert answer(bad, "print:text").documents[0].text == "text"
    assert capfd.readouterr() == ("", "")
    assert "signal 9" in refusal(bad, "signal:9")  # its flood of errors was of the file before


def test_halves_of_surrogate_pairs_cannot_come(bad):
    assert answer(bad, "surrogate").documents[0].text == "a?b"


# what a file does to its parser


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGKILL])
def test_a_crash_costs_its_file_alone(bad, number):
    found = refusal(bad, f"signal:{int(number)}")
    assert f"found that its parser crashed (signal {int(number)}, {number.name})" in found
    assert answer(bad, "next").documents[0].text == "next"


def test_a_crash_costs_its_file_alone_among_those_that_wait(bad):
    for what in ("a", "signal:11", "b", "exit:3", "c"):
        bad.submit("a.txt", what.encode(), LONG)
    found = []
    while bad.waiting:
        try:
            found.append(bad.collect().documents[0].text)
        except UnreadableError as error:
            found.append(error.found)
    crash = "that its parser crashed ({})"
    assert found == ["a", crash.format("signal 11, SIGSEGV"), "b", crash.format("exit code 3"), "c"]


def test_a_process_that_was_killed_between_files_is_replaced(bad):
    answer(bad, "one")
    os.kill(bad.pid, signal.SIGKILL)
    gone(bad.pid)
    assert answer(bad, "two").documents[0].text == "two"


def test_a_file_after_others_gets_a_second_process(bad, tmp_path):
    """Files before it may have damaged the first."""
    answer(bad, "one")
    bad.submit("a.txt", b"sleep:0.5", LONG)
    bad._process._push()
    os.kill(bad.pid, signal.SIGKILL)
    assert bad.collect().documents[0].text == "slept"


def test_a_hang_ends_at_the_limit(bad):
    start = time.monotonic()
    assert "parsed within 1 s" in refusal(bad, "hang", SHORT) and time.monotonic() - start >= 1.0
    assert answer(bad, "next", SHORT).documents[0].text == "next"


def test_a_stopped_process_ends_at_the_limit(bad):
    """It can do nothing about its own limit."""
    assert "parsed within 1 s" in refusal(bad, f"signal:{int(signal.SIGSTOP)}", SHORT)


@pytest.mark.parametrize("what", ["grow", "grow-outside"])
def test_memory_is_limited(bad, what):
    assert "parsed within 256 MB of memory" in refusal(bad, what)
    assert answer(bad, "next").documents[0].text == "next"


def test_a_process_that_has_grown_is_replaced(bad):
    answer(bad, "remember:1000")
    pid = bad.pid
    answer(bad, f"remember:{200 * 2**20}")
    assert bad.pid is None and gone(pid)
    assert answer(bad, "next").documents[0].text == "next"


def test_what_the_parser_started_ends_with_it(bad, tmp_path):
    assert "within 1 s" in refusal(bad, f"another:{tmp_path / 'pid'}", SHORT)
    assert gone(int((tmp_path / "pid").read_text()))


@pytest.mark.parametrize("limit", ["_DOCUMENTS", "_CHARACTERS"])
def test_more_output_than_a_file_can_have_is_refused(monkeypatch, limit):
    result = ParseResult(tuple(Document("text") for _ in range(11)))
    check_output(result, 1)
    monkeypatch.setattr(worker_module, limit, 10)
    with pytest.raises(UnreadableError, match=r"in a file; found (11|44)"):
        check_output(result, 1)


# the process


def test_the_working_folder_is_no_place_for_modules(monkeypatch, tmp_path):
    (tmp_path / "json.py").write_text("raise SystemExit('code of a folder of documents')")
    (tmp_path / "csv.py").write_text("raise SystemExit('code of a folder of documents')")
    (tmp_path / "a.csv").write_text("id,text\n1,words\n")
    close_idle_workers()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(sys, "path", ["", str(tmp_path), *sys.path])
    assert read(tmp_path / "a.csv", max_bytes=1000).documents[0].text == "words"


def test_no_model_library_is_loaded():
    code = (
        "import sys; import mixrag.corpus.parsers.worker;"
        " print(sorted({'torch', 'transformers', 'pydantic', 'faiss'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"


def test_a_process_that_cannot_start_is_one_line(monkeypatch):
    monkeypatch.setattr(worker_process, "_BOOT", "import no_such_module")
    with pytest.raises(SourceError, match="No module named 'no_such_module'") as caught:
        answer(Worker(), "text")
    assert "\n" not in str(caught.value)
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(SourceError, match="No such file"):
        answer(Worker(), "text")


@pytest.mark.parametrize(
    "sent", ["0000000000000002" + b"[]".hex(), "ffffffffffffffff", "0000000000000003" + b"{x}".hex()]
)
def test_a_process_that_sends_something_else_is_ended(bad, sent, monkeypatch):
    answer(bad, "one")
    pid = bad.pid
    bad._served = 0
    bad._process._received += bytes.fromhex(sent)
    assert "crashed (it answered with" in refusal(bad, "sleep:1")
    assert gone(pid)


def test_an_idle_process_is_used_again_and_ends_with_us(bad):
    with borrowed_worker() as one:
        answer(one, "text")
    pid = one.pid
    with borrowed_worker() as two, borrowed_worker() as three:
        assert two is one and three is not one
    close_idle_workers()
    assert gone(pid) and children() == []


def test_a_borrower_that_leaves_in_the_middle_ends_the_process(bad):
    with pytest.raises(KeyboardInterrupt), borrowed_worker() as worker:
        answer(worker, "one")
        pid = worker.pid
        worker.submit("a.txt", b"hang", LONG)
        raise KeyboardInterrupt
    assert gone(pid) and isolation._idle == []


def test_several_threads_read_at_once(folder):
    found = {}

    def reads(name):
        (folder / name).write_text(f"text of {name}")
        for _ in range(20):
            found.setdefault(name, set()).add(read(folder / name, max_bytes=100).documents[0].text)

    threads = [threading.Thread(target=reads, args=(f"{i}.txt",)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {f"{i}.txt": {f"text of {i}.txt"} for i in range(4)}


ORPHAN = """
import sys
sys.path[:0] = sys.argv[2].split(":")
import bad_parsers
from mixrag.corpus.parsers import worker_process
from mixrag.corpus.parsers.isolation import ParseLimits, borrowed_worker
worker_process._BOOT = bad_parsers.BOOT
with borrowed_worker() as worker:
    worker.submit("a.txt", b"one", ParseLimits())
    worker.collect()
    worker.submit("a.txt", sys.argv[1].encode(), ParseLimits())
    print(worker.pid, flush=True)
    worker.collect()
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_no_process_outlives_ours(number):
    path = ":".join([str(Path(__file__).parent), *sys.path])
    parent = subprocess.Popen([sys.executable, "-c", ORPHAN, "hang", path], stdout=subprocess.PIPE, stderr=-3)
    pid = int(parent.stdout.readline())
    time.sleep(0.3)
    assert psutil.pid_exists(pid)
    parent.send_signal(number)
    parent.wait(20)
    parent.stdout.close()
    assert gone(pid)


@pytest.mark.parametrize("values", [(0, 1024), (60, 1), ("60", 1024), (True, 1024), (float("nan"), 1024)])
def test_limits_are_checked(values):
    with pytest.raises(SettingError):
        ParseLimits(*values)


# a run


def test_a_run_goes_on_and_says_what_it_skipped(bad, store, folder):
    texts = ["first words", "signal:11", "hang", "grow", "last words"]
    for number, text in enumerate(texts):
        (folder / f"{number}.txt").write_text(text)
    report = run(store, folder, limits=ParseLimits(2, 256))
    assert report.documents == 2 and report.passages == 2
    assert [Path(skip.path).name for skip in report.skipped] == ["1.txt", "2.txt", "3.txt"]
    for skip, words in zip(report.skipped, ["signal 11", "within 2 s", "256 MB"], strict=True):
        assert words in skip.reason
    check_sound(store)


def test_what_was_stored_of_a_file_stays_while_its_parser_crashes(bad, store, folder):
    (folder / "a.txt").write_text("old words")
    run(store, folder)
    (folder / "a.txt").write_text("signal:11")
    assert run(store, folder).passages == 1


def test_the_bytes_that_are_hashed_are_parsed(bad, store, folder, monkeypatch):
    (folder / "a.txt").write_text("words of now")
    submit = Worker.submit

    def changed(worker, name, data, limits):
        (folder / "a.txt").write_text("words of later")
        submit(worker, name, data, limits)

    monkeypatch.setattr(Worker, "submit", changed)
    run(store, folder)
    assert store.passages(store.rows_where({}))[0].text == "words of now"


def test_a_parser_of_the_caller_runs_in_this_process(bad, store, folder):
    class Here:
        name, suffixes = "here:1", (".txt",)

        def parse(self, data, name):
            return [Document(f"{os.getpid()} {data.decode()}")]

    (folder / "a.txt").write_text("mine")
    (folder / "b.md").write_text("theirs")
    from mixrag.corpus import ParserRegistry

    run(store, folder, parsers=ParserRegistry([Here()]), splitter=WordSplitter(5))
    texts = {passage.text for passage in store.passages(store.rows_where({}))}
    assert texts == {f"{os.getpid()} mine", "theirs"}


def test_an_unchanged_folder_starts_no_process(store, folder):
    (folder / "a.txt").write_text("words")
    run(store, folder)
    close_idle_workers()
    assert run(store, folder).unchanged == 1 and children() == []

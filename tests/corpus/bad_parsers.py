"""A worker whose parser does to a file what the file says: the child process of ``test_isolation.py``."""

import os
import re
import sys
import time
from pathlib import Path

from mixrag.corpus.parsers import worker
from mixrag.corpus.parsers.registry import ParserRegistry
from mixrag.corpus.parsers.result import Notice, ParseResult, Skipped
from mixrag.corpus.passage import Block, Document

BOOT = "import json, sys; sys.path[:] = json.loads(sys.argv.pop()); import bad_parsers; bad_parsers.main()"


def main():
    ParserRegistry.parse = parse
    worker.main()


def parse(self, path: Path, data: bytes, ocr=None):
    what, _, argument = data.decode().partition(":")
    return ACTIONS.get(what, plain)(argument or data.decode())


def plain(text):
    blocks = (Block(0, len(text), "text", 0, 3, "page 3", "c"),)
    document = Document(text, "r", "Title", {"n": 1, "x": None, "y": 0.5, "z": "ü"}, blocks)
    skipped = (Skipped("p:1", "why"),) if text == "tëxt" else ()
    return ParseResult((document,), skipped, (Notice("images", 2, "d"),))


def signalled(number):
    os.kill(os.getpid(), int(number))
    time.sleep(60)


def hangs(_):
    re.match(r"(a+)+$", "a" * 64 + "b")  # does not let another thread of Python run


def grows(_):
    found = []
    while True:
        found.append(bytearray(2**20))


def grows_outside_of_python(_):
    import numpy as np

    found = []
    while True:
        found.append(np.ones(2**17))


def prints(text):
    os.write(1, b"on standard output")
    sys.stderr.write("out of memory" * 100_000)
    os.write(1, b"\0" * 100)
    return plain(text)


def many(count):
    return ParseResult(tuple(Document(f"document {i}", str(i)) for i in range(int(count))))


def surrogate(_):
    return ParseResult((Document("a\ud800b"),))


def remembers(size):
    hoard.append(bytearray(int(size)))
    hoard[-1][::4096] = b"x" * len(hoard[-1][::4096])  # memory that was never written is not in use
    return plain("big")


def starts_another(path):
    import subprocess

    child = subprocess.Popen(["sleep", "600"])
    Path(path).write_text(str(child.pid))
    time.sleep(600)


hoard = []
ACTIONS = {
    "signal": signalled,
    "hang": hangs,
    "grow": grows,
    "grow-outside": grows_outside_of_python,
    "print": prints,
    "many": many,
    "surrogate": surrogate,
    "remember": remembers,
    "exit": lambda code: os._exit(int(code)),
    "another": starts_another,
    "sleep": lambda seconds: time.sleep(float(seconds)) or plain("slept"),
}

"""A server whose one question never ends; run by test_second_interrupt.py in a process of its own."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

from mixrag import RAG
from mixrag.config.command_settings import ServerSettings
from mixrag.corpus import Store
from mixrag.server.security.policy import Security
from mixrag.server.service import Service
from mixrag.server.serving import run
from mixrag.server.stores import Served, Stores
from words_encoder import WordsEncoder


def say(line: str) -> None:
    """To the test."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


class StuckEncoder(WordsEncoder):
    """Passages are encoded; a question is not."""

    def encode_questions(self, questions: Any) -> Any:
        """Wait for ever."""
        say("asked")
        return threading.Event().wait()


def main(directory: Path) -> None:
    """Serve; the first line names the address."""
    rag = RAG(Store.open(directory, create=True), encoder=StuckEncoder())
    rag.add([{"id": "cod", "text": "A licence to fish cod costs nine crowns a year."}])
    settings = ServerSettings(port=0)
    run(Service(Stores([Served("demo", rag)])), settings, Security(), say)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

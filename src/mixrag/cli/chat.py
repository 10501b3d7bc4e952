"""mixrag chat: a conversation with the documents in a terminal, in one process, whose models stay loaded."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import typer
from rich.text import Text

from mixrag.cli import show, show_page
from mixrag.cli.app import ENVIRONMENT, app
from mixrag.cli.help import Command
from mixrag.cli.options import INTERRUPTED, Options, takes
from mixrag.config.schema import settings_of
from mixrag.config.settings import Settings
from mixrag.errors import MixragError, SettingError
from mixrag.utils.text import is_unicode, printable

if TYPE_CHECKING:
    from mixrag.answers.answer import Answer
    from mixrag.rag import RAG

PROMPT = "> "
HELP = """\
Ask in plain words. A question that refers back ("And for eel?") is asked with words of the one before it;
what is asked then is shown.
/why          the numbers of the last answer, and what each passage alone would answer
/passages     the passages of the last question, with their probability
/exactly ...  ask these words as they are, with no others
/k 10         read so many passages; without a number: how many
/new          forget the questions before
/help         this list
/quit         end; so do Ctrl-D and Ctrl-C"""


@app.command(cls=Command, epilog=ENVIRONMENT)
@takes("chat")
def chat(options: Options) -> None:
    """Ask one question after another: follow-up questions too, with the models loaded once."""
    with options.open() as rag:
        if server := rag.server:
            show.error_line(server.describe())
        if sys.stdin.isatty():
            counts = rag.store.counts()
            counted = f"{counts.documents} documents, {counts.passages} passages"
            show.terminal().print(Text(f"{counted}. Ask, or /help.", style="dim"))
        Conversation(rag).run(_lines())


class Conversation:
    """Questions of one person, and the commands between them."""

    def __init__(self, rag: RAG) -> None:
        self._rag = rag
        self._earlier: list[str] = []
        """The questions, as they were asked."""
        self._asked: str | None = None
        """The last question, answered or not."""
        self._answer: Answer | None = None
        """To it, with probabilities."""
        self._commands: dict[str, Callable[[str], None]] = {
            "why": self._why,
            "passages": self._passages,
            "exactly": lambda text: self._ask(text, text),
            "k": self._k,
            "new": self._new,
            "help": lambda _: show.terminal().print(HELP, markup=False),
        }

    def run(self, lines: Iterator[str]) -> None:
        """Answer each line until one is /quit, or they end; what is wrong with one ends nothing."""
        for line in lines:
            said = line.strip()
            if said in ("/quit", "/exit", "/q"):
                return
            if said:
                self._answered(said)

    def _answered(self, said: str) -> None:
        try:
            self._respond(said)
        except MixragError as error:
            show.error_line(str(error))
        except KeyboardInterrupt:
            show.error_line("interrupted; ask again, or /quit")

    def _respond(self, said: str) -> None:
        if not said.startswith("/"):
            from mixrag.answers.standalone import standalone

            return self._ask(said, standalone(said, self._earlier) if is_unicode(said) else said)
        name, _, rest = said[1:].partition(" ")
        command = self._commands.get(name)
        if command is None:
            known = ", ".join(f"/{each}" for each in (*self._commands, "quit"))
            raise SettingError(f"one of {known}", repr(f"/{name}"[:40]), "see /help")
        command(rest.strip())

    def _ask(self, said: str, asked: str) -> None:
        if asked != said:
            show.terminal().print(Text(printable(f"asked: {asked}"), style="dim"), soft_wrap=True)
        rag, self._asked, self._answer = self._rag, asked, None
        if (server := rag.server) and not server.returns_probabilities:
            show.written(rag.write(asked), as_json=False)
        else:
            stream = rag.stream(asked)
            at_once = stream.decoder.streams and not stream.may_abstain
            if at_once:
                show.streaming(stream)
            answer = stream.answer
            if not at_once:
                show.decided(answer)
            show_page.page(answer)
            self._answer = answer
        self._earlier.append(asked)

    def _why(self, _: str) -> None:
        answer = self._last()
        explanation = answer.explain()
        if answer.abstains:
            show.decided(answer, numbers=True)
        show.answer(answer, explanation, as_json=False)

    def _passages(self, _: str) -> None:
        if (question := self._asked) is None:
            raise SettingError("a question before this command", "none", "ask something first")
        show.passages(question, self._rag.passages(question), self._rag.settings, as_json=False)

    def _k(self, text: str) -> None:
        if text:
            self._rag.settings = replace(self._rag.settings, k=settings_of(Settings)["k"].parsed(text))
        show.terminal().print(f"passages read: {self._rag.settings.k}")

    def _new(self, _: str) -> None:
        self._earlier, self._asked, self._answer = [], None, None

    def _last(self) -> Answer:
        if self._answer is None:
            found = "none" if self._asked is None else "none to the last question"
            raise SettingError("an answer with probabilities before this command", found, "ask something first")
        return self._answer


def _lines() -> Iterator[str]:
    """The lines of standard input: of a terminal with a prompt, and editing where readline is there."""
    if not sys.stdin.isatty():
        yield from sys.stdin
        return
    with suppress(ImportError):
        import readline  # noqa: F401 - input() uses it
    while True:
        try:
            yield input(PROMPT)
        except EOFError:
            show.terminal().print()
            return
        except KeyboardInterrupt:
            show.terminal().print()
            raise typer.Exit(INTERRUPTED) from None

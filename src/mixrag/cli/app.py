"""The commands: parse, call the facade, show."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mixrag.cli import output, show, show_page, show_reports
from mixrag.cli.help import Command
from mixrag.cli.options import Options, takes
from mixrag.config.command_settings import IndexingSettings
from mixrag.config.schema import MORE
from mixrag.errors import SettingError, SourceError

SKIPPED = 3
"""Exit code of ``index`` where it did its work but had to skip something."""
WITHHELD = 4
"""Exit code of ``ask`` where no answer was given."""

app = typer.Typer(
    name="mixrag",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help=(
        "Answers from your own documents, with their probability and the passages behind them.\n\n"
        "First index a folder, then ask. Nothing leaves this machine.\n\n"
        "Exit codes: 0 done; 1 error (one line says what to do); 2 wrong usage; "
        "3 index: done, but some files were skipped; 4 ask: no answer was given, for it would probably be wrong; "
        "130 interrupted."
    ),
    epilog="Example: mixrag index documents --store store && mixrag ask 'Who issues the licence?' --store store",
)

ENVIRONMENT = "(…): default, or by MIXRAG_STORE, _MODEL, _GENERATOR, _ENGINE, _ENCODER."
"""Last line of every command's help."""
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Question = Annotated[str, typer.Argument(help="The question, in quotes.", show_default=False)]


@app.command(cls=Command, epilog=ENVIRONMENT)
@takes("index")
def index(
    options: Options,
    paths: Annotated[list[Path] | None, typer.Argument(help="Files and folders.", show_default=False)] = None,
    json: Json = False,
) -> None:
    """Bring the store up to date with files and folders.

    Reads PDF, DOCX, HTML, Markdown, plain text, CSV and JSONL ({"id", "text", metadata}). What has not changed
    is not read again; a changed file replaces its passages; a file that is no longer in its folder is removed.
    """
    from mixrag.cli.progress import reporting
    from mixrag.corpus import ParseLimits, splitter_named

    chosen = options.made(IndexingSettings)
    if not paths and not chosen.re_embed:
        raise SourceError("files or folders to index", "none", "run: mixrag index PATH --store DIR")
    with options.open(create=True) as rag:
        with reporting(quiet=json) as progress:
            report = rag.index(
                paths or [],
                splitter=splitter_named(chosen.splitter, chosen.context),
                reembed=chosen.re_embed,
                shard=chosen.shard,
                max_bytes=int(chosen.max_mb * 2**20),
                limits=ParseLimits(
                    chosen.parse_seconds, chosen.parse_mb, chosen.ocr_language if chosen.ocr == "auto" else ""
                ),
                ray=chosen.ray,
                ray_encoders=chosen.ray_encoders,
                progress=progress,
            )
        show_reports.index_report(report, as_json=json)
        # After the report: what it says is stored, whatever becomes of files that can be built again.
        with reporting(quiet=json):
            rag.update_index_files()
    if report.skipped:
        raise typer.Exit(SKIPPED)


@app.command(cls=Command, epilog=ENVIRONMENT)
@takes("ask")
def ask(
    options: Options,
    question: Question,
    why: Annotated[bool, typer.Option("--why", help="Explain: numbers, prompts, each passage alone.")] = False,
    html: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write the explanation as a page.", show_default=False, rich_help_panel=MORE
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the answer alone, for scripts.")] = False,
    json: Json = False,
) -> None:
    """Answer a question: how surely, and from where. Exit code 4: no answer."""
    if quiet and (why or json):
        raise SettingError("--quiet without --why and --json", "both", "leave one out")
    target = html and output.target(html, "why.html")
    with options.open() as rag:
        server = rag.server
        if server and not server.returns_probabilities and (why or target):
            expected = "a server that gives exact probabilities, for --why and --html"
            raise SettingError(expected, server.describe(), "leave them out")
        if server and not json and not quiet:
            show.error_line(server.describe())
        if server and not server.returns_probabilities:
            written = rag.write(question)
            return show_page.text_alone(written) if quiet else show.written(written, as_json=json)
        stream = rag.stream(question)
        at_once = stream.decoder.streams and not stream.may_abstain
        if at_once and not json and not quiet:
            show.streaming(stream)
        answer = stream.answer
        explanation = answer.explain() if why or target else None
    if target and explanation:
        output.write_explanation(target, explanation)
    if quiet:
        show_page.text_alone(answer)
    elif json:
        show.answer(answer, explanation if why else None, as_json=True)
    else:
        if not at_once:
            show.decided(answer, numbers=why)
        show_page.page(answer)
    if why and not json:
        show.answer(answer, explanation, as_json=False)
    if target:
        show.error_line(f"explanation written to {target}")
    if answer.abstains:
        raise typer.Exit(WITHHELD)


@app.command(cls=Command, epilog=ENVIRONMENT)
@takes("score")
def score(
    options: Options,
    question: Question,
    answer: Annotated[str, typer.Argument(help="The answer whose probability is wanted.", show_default=False)],
    json: Json = False,
) -> None:
    """The probability of a given answer, and the passages that support it."""
    with options.open() as rag:
        if (server := rag.server) and server.returns_probabilities and not json:
            show.error_line(server.describe())
        show.answer(rag.score(question, answer), None, as_json=json)


@app.command(cls=Command, epilog=ENVIRONMENT)
@takes("passages")
def passages(options: Options, question: Question, json: Json = False) -> None:
    """The passages for a question and their prior p(passage | question); no language model runs."""
    with options.open() as rag:
        show.passages(question, rag.passages(question), rag.settings, as_json=json)


@app.command(cls=Command, epilog=ENVIRONMENT)
@takes("info")
def info(options: Options, json: Json = False) -> None:
    """What the store holds: documents, passages, encoder, kind of index."""
    with options.open() as rag:
        show_reports.info(rag.info(), as_json=json)


@app.command(cls=Command, epilog=ENVIRONMENT)
@takes("remove")
def remove(
    options: Options,
    paths: Annotated[
        list[Path], typer.Argument(help="Files, or folders with all below them.", show_default=False)
    ],
    json: Json = False,
) -> None:
    """Delete documents from the store; the files themselves stay."""
    with options.open() as rag:
        removed = rag.remove(paths)
    if removed.sources == 0:
        listed = ", ".join(str(path) for path in paths)
        raise SourceError("paths that are in the store", f"nothing stored of {listed}", "see: mixrag info")
    show_reports.removed(removed, as_json=json)

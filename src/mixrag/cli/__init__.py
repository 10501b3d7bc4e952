"""The command line: parse, call the facade, show."""

from __future__ import annotations

import gc
import logging
import os
import sys
import warnings

_usual: tuple[int, int, int] | None = None
"""The collector's thresholds before ``main`` raised them."""


def main() -> None:
    """Entry point. Errors end as one line on standard error and exit code 1, Ctrl-C as one line and 130."""
    global _usual
    try:
        # Libraries make a million objects that stay: the collector would look through them again and again.
        _usual = gc.get_threshold()
        gc.set_threshold(100_000, 20, 20)
        _quiet_libraries()
        _run()
    except KeyboardInterrupt:  # outside a command: while modules are imported, or as the process ends
        sys.stderr.write("mixrag: interrupted\n")
        sys.exit(130)


def stays() -> None:
    """The command goes on for long: garbage is collected as usual, and what was made at the start left alone."""
    if _usual is not None:
        gc.freeze()
        gc.set_threshold(*_usual)


def _run() -> None:
    from mixrag.cli.app import app
    from mixrag.cli.calibrate import calibrate as _calibrate  # noqa: F401 - registers itself
    from mixrag.cli.chat import chat as _chat  # noqa: F401 - registers itself
    from mixrag.cli.clozes import clozes as _clozes  # noqa: F401 - registers itself
    from mixrag.cli.decide import decide as _decide  # noqa: F401 - registers itself
    from mixrag.cli.diagnose import diagnose as _diagnose  # noqa: F401 - registers itself
    from mixrag.cli.evaluate import evaluate as _evaluate  # noqa: F401 - registers itself
    from mixrag.cli.guarantee import guarantee as _guarantee  # noqa: F401 - registers itself
    from mixrag.cli.keys import keys as _keys  # noqa: F401 - registers itself
    from mixrag.cli.mcp import mcp as _mcp  # noqa: F401 - registers itself
    from mixrag.cli.notices import notices
    from mixrag.cli.precompute import precompute as _precompute  # noqa: F401 - registers itself
    from mixrag.cli.serve import serve as _serve  # noqa: F401 - registers itself
    from mixrag.cli.shards import shards as _shards  # noqa: F401 - registers itself
    from mixrag.cli.show import error_line
    from mixrag.cli.train import train as _train  # noqa: F401 - registers itself
    from mixrag.errors import MixragError

    try:
        with notices(logging.WARNING, error_line):
            app()
    except MixragError as error:
        error_line(str(error))
        sys.exit(1)
    except BrokenPipeError:
        # The process that reads our output (head, less) has closed the pipe: nothing can be shown.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except Exception as error:
        if os.environ.get("MIXRAG_DEBUG"):
            raise
        error_line(f"unexpected {type(error).__name__}: {error}; for a report, run it again with MIXRAG_DEBUG=1")
        sys.exit(1)


def _quiet_libraries() -> None:
    # Loading bars and advice of the model libraries would mix with our output.
    for name in ("TRANSFORMERS_VERBOSITY", "HF_HUB_VERBOSITY"):
        os.environ.setdefault(name, "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TQDM_DISABLE", "1")
    # peft still calls transformers by names that it is giving up.
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    logging.getLogger("sentence_transformers").setLevel(logging.ERROR)

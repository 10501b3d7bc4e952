"""Training runs in processes of their own, to be killed or to be several.

The script imports everything once, then forks a process for every run that it is asked for, so that a run begins
within a moment, and with nothing in its memory of the runs before.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mixrag import ModelConfig, Settings
from mixrag.config.training_settings import TrainingSettings
from mixrag.pairs.pairs import Pair
from mixrag.rag import RAG
from mixrag.training import loop
from mixrag.training.run import train
from mixrag.training.run_spec import RunSpec
from training.recorder import Recorder

TOO_LONG = 60.0
"""Seconds after which a run hangs."""


@dataclass(frozen=True)
class Job:
    """One run, in words that go through a pipe."""

    store: str
    encoder: str
    generator: str
    out: str
    pairs: Sequence[Pair]
    dev: Sequence[Pair]
    training: Mapping[str, Any]
    mixture: Mapping[str, Any] = field(default_factory=dict)
    pause: float = 0.0
    environment: Mapping[str, str] = field(default_factory=dict)
    late: float = 0.0
    """Seconds that pass before it looks for checkpoints."""
    arguments: Sequence[str] = ()
    """Of the command line, which then does the job; ``out`` and what follows it do not count."""

    def run(self) -> None:
        """Train, in this process."""
        if self.arguments:
            from mixrag.cli import main

            sys.argv = ["mixrag", *self.arguments]
            return main()
        latest = loop.latest_checkpoint
        loop.latest_checkpoint = lambda *given: time.sleep(self.late) or latest(*given)
        models = ModelConfig(encoder=self.encoder, generator=self.generator, device="cpu", dtype="float32")
        settings = Settings(**{"k": 3, "temperature": 0.5, "max_tokens": 16, **self.mixture})
        with RAG.open(self.store, models=models, settings=settings) as rag:
            training = TrainingSettings(**{**self.training, "parts": tuple(self.training["parts"])})
            spec = RunSpec(rag, tuple(self.pairs), tuple(self.dev), training, Path(self.out))
            train(spec, Recorder(pause=self.pause))


class Processes:
    """Runs begun and ended in processes below the script."""

    def __init__(self, script: subprocess.Popen[str]) -> None:
        self._script = script

    def start(self, job: Job) -> int:
        """The number of the process that does the job."""
        return int(self._ask(asdict(job)))

    def wait(self, process: int) -> int:
        """Its exit code, minus the signal where it was killed."""
        return int(self._ask(process))

    def _ask(self, request: object) -> Any:
        assert self._script.stdin is not None and self._script.stdout is not None
        self._script.stdin.write(json.dumps(request) + "\n")
        self._script.stdin.flush()
        return json.loads(self._script.stdout.readline())


@contextmanager
def processes() -> Iterator[Processes]:
    """The script, ready to begin runs; what still runs at the end is killed."""
    # torch's threads do not survive a fork; and two runs that share a processor need no more than one each.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, __file__], env=environment, **pipes) as script:
        try:
            yield Processes(script)
        finally:
            script.stdin.close()


def until(fact: Callable[[], bool]) -> None:
    """Wait for a fact; a run that hangs is an error."""
    end = time.monotonic() + TOO_LONG
    while not fact():
        assert time.monotonic() < end, "the run does not come this far"
        time.sleep(0.002)


def _serve() -> None:
    import peft  # noqa: F401 - imported here so that no run has to
    import sentence_transformers  # noqa: F401

    begun: list[int] = []
    for line in sys.stdin:
        request = json.loads(line)
        if isinstance(request, int):
            answer = _ended(request)
        else:
            answer = _forked(request)
            begun.append(answer)
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()
    for process in begun:
        with suppress(ProcessLookupError, ChildProcessError):
            if os.waitpid(process, os.WNOHANG) == (0, 0):
                os.kill(process, signal.SIGKILL)


def _forked(request: dict[str, Any]) -> int:
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        # What it prints is no answer to the test.
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        pairs, dev = ([_pair(**each) for each in request.pop(name)] for name in ("pairs", "dev"))
        job = Job(**request, pairs=pairs, dev=dev)
        os.environ.update(job.environment)
        job.run()
        code = 0
    except SystemExit as ended:
        code = int(ended.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _pair(answers: list[str], **fields: Any) -> Pair:
    return Pair(answers=tuple(answers), **fields)


def _ended(process: int) -> int:
    end = time.monotonic() + TOO_LONG
    while True:
        found, status = os.waitpid(process, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > end:
            os.kill(process, signal.SIGKILL)
        time.sleep(0.01)


if __name__ == "__main__":
    _serve()

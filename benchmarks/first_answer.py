"""From the start of ``mixrag ask`` to its end, in a new process, with a converted model: OpenVINO beside torch.

    python benchmarks/first_answer.py [--rounds 5]

The bundled documents (demo/), the packaged readers as they are set. Both have been run once before, so that files
are in the system's cache.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from mixrag import RAG
from side_by_side import alternately, keep, seconds, show

DEMO = Path(__file__).parent.parent / "demo" / "corpus"
QUESTION = "Who issues the fishing licence?"


def main() -> None:
    """Index, ask in turn, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "store"
        with RAG.open(store, create=True) as rag:
            rag.index([DEMO])
        ours, peer = (partial(asked, store, engine) for engine in ("openvino", "torch"))
        ours()
        row = alternately(
            "1 first answer of a process",
            "mixrag ask, OpenVINO (converted) beside torch",
            "<= 3 s",
            partial(seconds, ours),
            partial(seconds, peer),
            options.rounds,
        )
    show([row])
    keep([row])


def asked(store: Path, engine: str) -> None:
    """One process."""
    command = [
        sys.executable,
        "-m",
        "mixrag",
        "ask",
        QUESTION,
        "--store",
        str(store),
        "--engine",
        engine,
        "--quiet",
    ]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
    if done.returncode not in (0, 4):  # 4: withheld
        raise SystemExit(f"mixrag ask ended with {done.returncode}")


if __name__ == "__main__":
    main()

"""A GGUF file is first loaded in a process of its own: llama.cpp ends the process for some damaged files.

That happens once for each file and version of llama.cpp, and is remembered in the cache folder.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from mixrag.errors import ModelError
from mixrag.generator.file_digests import remembered_digests
from mixrag.generator.llamacpp.runtime import version
from mixrag.utils.atomic import write_atomically
from mixrag.utils.user_cache import cache_folder

LOADING = """
import sys
from cyllama.llama import llama_cpp
llama_cpp.disable_logging()
parameters = llama_cpp.LlamaModelParams()
parameters.n_gpu_layers = 0
try:
    model = llama_cpp.LlamaModel(sys.argv[1], parameters, False)
except Exception:
    sys.exit(0)  # reported where it is loaded again
parameters = llama_cpp.LlamaContextParams()
parameters.n_ctx = parameters.n_batch = parameters.n_ubatch = 256
parameters.n_threads = parameters.n_threads_batch = 1
context = llama_cpp.LlamaContext(model, parameters, False)
batch = llama_cpp.LlamaBatch(n_tokens=8, embd=0, n_seq_max=1)
for place in range(8):
    batch.add((place + 1) % model.get_vocab().n_vocab, place, [0], place == 7)
context.decode(batch)
"""
"""What the process runs: little is imported, so that it takes no longer than the model does."""
LONGEST = 1800
"""Seconds that it may take."""


def check(file: Path, name: str) -> None:
    """Refuse a file that ends the process which loads it.

    Raises:
        ModelError: it does, or cannot be read.
    """
    (digest,) = remembered_digests([file])
    passed = cache_folder() / f"gguf-checked-{digest[:24]}-{version()}"
    if passed.exists():
        return
    command = [sys.executable, "-W", "ignore", "-c", LOADING, os.fspath(file)]
    environment = {**os.environ, "GGML_NO_BACKTRACE": "1"}  # it would start a debugger
    try:
        ended = subprocess.run(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment, timeout=LONGEST
        ).returncode
        found = None if ended in (0, 1) else f"one at which llama.cpp ends its process ({_named(ended)})"
    except subprocess.TimeoutExpired:
        found = f"one that it does not load within {LONGEST} seconds"
    if found is not None:
        remedy = "get the whole file, or another one"
        raise ModelError(f"a GGUF file that llama.cpp can run at {name!r}", found, remedy)
    with suppress(OSError):  # what is not remembered is tried again
        passed.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(passed, b"", shared=True)


def _named(ended: int) -> str:
    try:
        return signal.Signals(-ended).name
    except ValueError:
        return f"exit status {ended}"

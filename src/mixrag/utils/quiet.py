"""Model libraries without progress bars and advice while mixrag loads a model inside an application.

What belongs in a log goes to ``logging.getLogger("mixrag.<package>")`` instead. Nothing is changed permanently: no
environment variable is set, and what the application had set is restored.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import Lock
from typing import Any

LIBRARIES = ("transformers", "huggingface_hub", "sentence_transformers", "accelerate")
_lock = Lock()
_loading = 0
_restore = ExitStack()


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """No progress bars of transformers, sentence-transformers and the hub; of their messages errors only.

    A level that the application has chosen for their loggers stays, as do bars that it forces by
    ``HF_HUB_DISABLE_PROGRESS_BARS=0``. May be nested and entered by several threads: these switches are the
    libraries' own and hold for the whole process, so they are set by the first to enter and restored by the last
    to leave.
    """
    global _loading, _restore
    with _lock:
        if _loading == 0:
            _restore = ExitStack()
            _silence(_restore)
        _loading += 1
    try:
        yield
    finally:
        with _lock:
            _loading -= 1
            if _loading == 0:
                _restore.close()


def _silence(restore: ExitStack) -> None:
    from huggingface_hub import constants
    from transformers.utils import logging as transformers_logging

    previous = transformers_logging.set_tqdm_hook(
        lambda factory, args, options: transformers_logging.EmptyTqdm(*args, **options)
    )
    restore.callback(transformers_logging.set_tqdm_hook, previous)
    if constants.HF_HUB_DISABLE_PROGRESS_BARS is None:  # else the environment decides
        states = importlib.import_module("huggingface_hub.utils.tqdm").progress_bar_states
        restore.callback(states.update, dict(states))
        restore.callback(states.clear)  # called first
        states.clear()
        states["_global"] = False
    gguf: Any = importlib.import_module("transformers.modeling_gguf_pytorch_utils")  # its bar has no switch
    restore.callback(setattr, gguf, "tqdm", gguf.tqdm)
    gguf.tqdm = lambda tensors, **_: tensors
    for name in LIBRARIES:
        logger = logging.getLogger(name)
        if logger.getEffectiveLevel() == logging.WARNING:  # what they have by default
            restore.callback(logger.setLevel, logger.level)
            logger.setLevel(logging.ERROR)

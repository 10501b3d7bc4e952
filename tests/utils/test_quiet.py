"""Model libraries print nothing while mixrag loads a model, and are afterwards as the application had them."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Barrier, Thread

import pytest

from mixrag.utils.quiet import LIBRARIES, quiet_libraries
from tiny_encoder import save_encoder

NOISY = ("TQDM_DISABLE", "HF_HUB_DISABLE_PROGRESS_BARS", "TRANSFORMERS_VERBOSITY", "HF_HUB_VERBOSITY")
MARK = "== what follows is loud =="


def printed_before_and_after(code: str, loud: str) -> tuple[str, str]:
    """What a process of Python writes to both of its outputs while it runs ``code``, and after that ``loud``.

    One process does both: importing the model libraries is most of its time. Nothing in its environment is against
    bars.
    """
    environment = {name: value for name, value in os.environ.items() if name not in NOISY}
    between = f"import os; os.write(1, {MARK!r}.encode()); os.write(2, {MARK!r}.encode())"
    lines = f"{code}\nimport sys; sys.stdout.flush(); sys.stderr.flush(); {between}\n{loud}"
    run = subprocess.run(
        [sys.executable, "-c", lines], capture_output=True, text=True, env=environment, timeout=300, check=True
    )
    parts = [each.split(MARK) for each in (run.stdout, run.stderr)]
    return "".join(before for before, _ in parts), "".join(after for _, after in parts)


def test_nothing_is_printed_while_models_are_loaded(tiny_folder: Callable[[str], Path], tmp_path: Path) -> None:
    encoder = save_encoder(tmp_path / "encoder")
    folders = [str(tiny_folder(kind)) for kind in ("llama", "t5")]
    loud = f"from transformers import AutoModelForCausalLM as A; A.from_pretrained({folders[0]!r})"
    code = (
        "from mixrag.generator import load_generator\n"
        "from mixrag.retrieval.encoders import load_encoder\n"
        f"for folder in {folders!r}: load_generator(folder, device='cpu')\n"
        f"load_encoder({str(encoder)!r}, device='cpu').encode_passages(['text'])\n"
    )
    quiet, after = printed_before_and_after(code, loud)
    assert quiet == ""
    assert "Loading weights" in after, "the application's own bars are gone, or this version has none"


def test_nothing_is_printed_by_a_whole_application(tiny_folder: Callable[[str], Path], tmp_path: Path) -> None:
    """Documents, questions, a saved bundle of model objects, an evaluation and a training run."""
    encoder = save_encoder(tmp_path / "encoder")
    loud = (
        "from transformers import AutoModelForCausalLM as A\n"
        f"model = A.from_pretrained({str(tiny_folder('llama'))!r}); model.save_pretrained({str(tmp_path / 'x')!r})"
    )
    code = (
        "import contextlib, io, warnings\n"
        "warnings.simplefilter('ignore', FutureWarning)  # peft calls transformers by former names\n"
        "with contextlib.redirect_stderr(io.StringIO()):\n"
        "    from transformers import AutoModelForCausalLM as A, AutoTokenizer as T\n"
        "    from sentence_transformers import SentenceTransformer as S\n"
        f"    folder, encoder = {str(tiny_folder('llama'))!r}, {str(encoder)!r}\n"
        "    objects = dict(generator=A.from_pretrained(folder), tokenizer=T.from_pretrained(folder),\n"
        "        encoder=S(encoder, device='cpu'))\n"
        "from mixrag import RAG\n"
        f"root, settings = {str(tmp_path)!r}, dict(k=2, max_tokens=4)\n"
        "pairs = [{'question': f'What costs {i}?', 'answers': [f'item {i}']} for i in range(4)]\n"
        "with RAG.open(root + '/store', create=True, **objects, settings=settings) as rag:\n"
        "    rag.add_texts([f'item {i} costs {i}' for i in range(4)])\n"
        "    rag.ask('What costs 3?')\n"
        "    rag.save(root + '/bundle')\n"
        "with RAG.load(root + '/bundle', root + '/store', device='cpu', settings=settings) as rag:\n"
        "    rag.evaluate(pairs, systems=['sequence'])\n"
        "    settings = dict(steps=1, batch=1, parts=('generator', 'encoder'))\n"
        "    rag.train(pairs, root + '/out', dev=pairs[:1], settings=settings)\n"
    )
    quiet, after = printed_before_and_after(code, loud)
    assert quiet == ""
    assert "Writing model" in after, "this version has no bar: the test shows nothing"


def switches() -> tuple[object, ...]:
    """All that ``quiet_libraries`` touches."""
    import huggingface_hub.utils.tqdm  # noqa: F401 - the function of this name hides the module
    from transformers import modeling_gguf_pytorch_utils as gguf
    from transformers.utils import logging as transformers_logging

    hook = transformers_logging._tqdm_hook
    states = dict(sys.modules["huggingface_hub.utils.tqdm"].progress_bar_states)
    return hook, states, gguf.tqdm, [logging.getLogger(name).level for name in LIBRARIES], dict(os.environ)


def test_everything_is_put_back_also_after_an_error_and_when_nested() -> None:
    before = switches()
    with pytest.raises(ZeroDivisionError), quiet_libraries():
        with quiet_libraries():
            inside = switches()
        assert switches() == inside != before
        raise ZeroDivisionError
    assert switches() == before


def test_the_last_of_several_threads_puts_back() -> None:
    before, both, one_left = switches(), Barrier(3), Barrier(2)

    def load(stays: bool) -> None:
        with quiet_libraries():
            both.wait()
            if stays:
                one_left.wait()

    threads = [Thread(target=load, args=(stays,)) for stays in (False, True)]
    for thread in threads:
        thread.start()
    both.wait()
    threads[0].join()
    assert switches() != before
    one_left.wait()
    threads[1].join()
    assert switches() == before


def test_a_level_that_the_application_chose_stays() -> None:
    logger = logging.getLogger("sentence_transformers")
    before = logger.level
    logger.setLevel(logging.DEBUG)
    try:
        with quiet_libraries():
            assert logger.level == logging.DEBUG
        assert logger.level == logging.DEBUG
    finally:
        logger.setLevel(before)

"""The engines that ``engines_side_by_side.py`` compares, each opened when its turn comes."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from gguf import GGUFReader, GGUFValueType, GGUFWriter, LlamaFileType, dequantize

from mixrag import RAG
from mixrag.config.model_config import ModelConfig
from mixrag.generator.llamacpp import runtime
from mixrag.generator.rounding import LLAMACPP_QUANTISED, rounding_of
from model_server import ModelServer, Rows, listening

SERVER_TIMEOUT = 600.0


@dataclass(frozen=True)
class Engine:
    """One way to run the language model."""

    name: str
    open: Callable[[ExitStack], tuple[RAG, Any]]
    """The RAG, and its fake server, which counts requests; None: it has none."""
    rounding: float | None = None
    """How far log-odds of a next token may be from the reference's (``generator/rounding.py``); None: as the
    generator says."""
    shares: bool = False
    """Whether it shares what was read with the other engines that do."""

    def allowed(self, rag: RAG) -> float:
        """``rounding``."""
        return rounding_of(rag.generator) if self.rounding is None else self.rounding


@dataclass(frozen=True)
class Sources:
    """What engines are made of."""

    store: Path
    generator: Any
    """The reference's, of which the fake servers are made."""
    model: Path | None
    """Its folder; None: the packaged model."""
    gguf: Path | None
    """The file of which the reference has the weights, de-quantised."""
    scratch: Path
    """A folder for a file of them in float32."""
    slots: int
    """Rows that a real server reads side by side."""
    encoder: Path | str | None = None
    """None: the packaged one."""


def engines(sources: Sources) -> Iterator[Engine]:
    """Those that can be run here."""
    rows = Rows(sources.generator)
    lists = {"echo": False, "prompt_logprobs": False}
    yield Engine("vLLM's dialect, scores", partial(_fake, sources, rows, {}), shares=True)
    yield Engine("lists of 20", partial(_fake, sources, rows, lists), shares=True)
    yield Engine("lists of 5", partial(_fake, sources, rows, {**lists, "largest": 5}), shares=True)
    if importlib.util.find_spec("openvino"):
        for dtype in ("float32", "bfloat16", "int8"):
            yield Engine(f"OpenVINO, {dtype}", partial(_in_process, sources, sources.model, "openvino", dtype))
    if (file := sources.gguf) is None:
        return
    whole, as_it_is = partial(float32_file, file, sources.scratch), partial(Path, file)
    if runtime.available():
        yield Engine("GGUF in float32, in process", partial(_gguf, sources, whole, "float32"))
        yield Engine("GGUF as it is, in process", partial(_gguf, sources, as_it_is, "auto"))
    if importlib.util.find_spec("xllamacpp"):
        yield Engine("GGUF in float32, llama.cpp's server", partial(_llama_cpp, sources, whole, True), 0.0)
        yield Engine(
            "GGUF as it is, llama.cpp's server", partial(_llama_cpp, sources, as_it_is, False), LLAMACPP_QUANTISED
        )


def _in_process(
    sources: Sources, model: Path | None, engine: Any, dtype: str, stack: ExitStack
) -> tuple[RAG, None]:
    options: dict[str, Any] = {"engine": engine, "dtype": dtype, "encoder": sources.encoder}
    models = ModelConfig(generator=model, adapter="none", device="cpu", **options)
    return stack.enter_context(RAG.open(sources.store, models=models)), None


def _gguf(sources: Sources, file: Callable[[], Path], dtype: str, stack: ExitStack) -> tuple[RAG, None]:
    return _in_process(sources, file(), "llamacpp", dtype, stack)


def _fake(sources: Sources, rows: Rows, options: dict[str, Any], stack: ExitStack) -> tuple[RAG, Any]:
    server = ModelServer(rows, **options)
    return _behind(sources, stack.enter_context(listening(server)), stack), server


def _behind(sources: Sources, name: str, stack: ExitStack) -> RAG:
    tokenizer = sources.generator.tokens.tokenizer
    options: dict[str, Any] = {"tokenizer": tokenizer, "encoder": sources.encoder}
    models = ModelConfig(generator=name, device="cpu", server_timeout=SERVER_TIMEOUT, **options)
    return stack.enter_context(RAG.open(sources.store, models=models))


def _llama_cpp(sources: Sources, file: Callable[[], Path], exact: bool, stack: ExitStack) -> tuple[RAG, None]:
    url = stack.enter_context(llama_cpp(file(), sources.slots, exact))
    return _behind(sources, f"llamacpp:{url}", stack), None


@contextmanager
def llama_cpp(file: Path, slots: int, exact: bool) -> Iterator[str]:
    """The address of llama.cpp's own server in this process; ``exact``: keys and values in float32."""
    import xllamacpp  # type: ignore[import-not-found]

    params = xllamacpp.CommonParams()
    params.model.path = str(file)
    params.n_parallel, params.n_ctx = slots, 2048 * slots
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = torch.get_num_threads()
    if exact:
        params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    params.port, params.warmup = 0, False
    server = xllamacpp.Server(params)
    yield f"{server.listening_address}/v1"
    del server


def float32_file(file: Path, folder: Path) -> Path:
    """A GGUF file with the same model and the same weights, de-quantised into float32; made once."""
    target = folder / f"{file.stem}-float32.gguf"
    if target.exists():
        return target
    reader = GGUFReader(file)
    architecture = str(bytes(reader.fields["general.architecture"].parts[-1]), "utf-8")
    half_made = target.with_suffix(".part")
    writer = GGUFWriter(half_made, architecture)
    for name, each in reader.fields.items():
        if name.startswith("GGUF.") or name in ("general.architecture", "general.file_type"):
            continue
        kind = each.types[0]
        inner = each.types[-1] if kind == GGUFValueType.ARRAY else None
        writer.add_key_value(name, each.contents(), kind, inner)
    writer.add_file_type(LlamaFileType.ALL_F32)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, dequantize(tensor.data, tensor.tensor_type).astype("float32"))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return half_made.rename(target)

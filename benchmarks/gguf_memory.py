"""Memory of a GGUF file that llama.cpp runs in this process.

    python benchmarks/gguf_memory.py [--sizes small large] [--formats Q4_0 Q8_0 Q4_1] [--folder FOLDER]

Files: the packaged one (SmolLM2-135M-Instruct, Q4_1), and models of random weights with its tokenizer: a Llama of
the shape given, in each format, written and deleted again. Each is loaded in a process of its own, as mixrag
loads it, which then reads five prompts of 40 tokens and answers three tokens. Printed are the size of the file,
and by how much resident memory has grown, in MB, when it is loaded and after the answer: what is not mapped from
a file (anonymous), and what is; then the processor time of the answer, on one thread. Memory that is mapped from
a file can be taken back by the system, and is shared between processes.

``--plain`` loads with ``use_extra_bufts`` off: llama.cpp then has no rearranged copy of the weights.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

PROMPTS, LENGTH, ANSWER = 5, 40, 3
SHAPES = {"small": (1536, 4096, 12), "large": (2560, 6912, 24)}
"""Width, width between the layers of a block, and blocks: 0.4 and 2 billion weights."""
HEAD = 64


def memory() -> dict[str, float]:
    """Resident memory of this process in MB: anonymous, and mapped from files."""
    lines = Path("/proc/self/smaps_rollup").read_text(encoding="ascii").splitlines()[1:]
    found = {line.split(":")[0]: int(line.split()[1]) * 1024 / 1e6 for line in lines}
    return {"anonymous": found["Anonymous"], "file": found["Rss"] - found["Anonymous"]}


def packaged() -> Path:
    """The packaged GGUF file."""
    from mixrag.config.default_models import packaged_generator

    return packaged_generator()


def write(file: Path, shape: str, form: str) -> Path:
    """A Llama of random weights in a format, with the tokenizer and the metadata of the packaged file."""
    import gguf
    import numpy as np

    width, between, blocks = SHAPES[shape]
    kind = gguf.GGMLQuantizationType[form]
    reader, writer = gguf.GGUFReader(packaged()), gguf.GGUFWriter(file, "llama")
    sizes = {"block_count": blocks, "embedding_length": width, "feed_forward_length": between}
    sizes |= {"attention.head_count": width // HEAD, "attention.head_count_kv": width // HEAD}
    sizes |= {"rope.dimension_count": HEAD}
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name == "general.architecture":
            continue
        value = sizes.get(name.removeprefix("llama."), field.contents())
        sub = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(name, value, field.types[0], sub)
    random = np.random.default_rng(0)
    matrices = {"attn_q": (width, width), "attn_k": (width, width), "attn_v": (width, width)}
    matrices |= {"attn_output": (width, width), "ffn_gate": (between, width), "ffn_up": (between, width)}
    matrices |= {"ffn_down": (width, between)}

    def matrix(name: str, rows: int, columns: int) -> None:
        part = gguf.quantize(random.standard_normal((128, columns), np.float32) / columns**0.5, kind)
        writer.add_tensor(name, np.tile(part, (-(-rows // 128), 1))[:rows], raw_dtype=kind)

    matrix("token_embd.weight", len(reader.fields["tokenizer.ggml.tokens"].data), width)
    writer.add_tensor("output_norm.weight", np.ones(width, np.float32))
    for block in range(blocks):
        for name, (rows, columns) in matrices.items():
            matrix(f"blk.{block}.{name}.weight", rows, columns)
        for name in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"blk.{block}.{name}.weight", np.ones(width, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def measure(file: str, plain: bool) -> dict[str, Any]:
    """Resident memory before a file is loaded, after it, and after an answer with five passages."""
    import torch

    from mixrag.generator.llamacpp import model as module
    from mixrag.generator.llamacpp import runtime
    from mixrag.generator.llamacpp.sequences import Row, Sequences

    torch.set_num_threads(1)
    if plain:
        own = runtime.llama().LlamaModelParams

        def without() -> Any:
            parameters = own()
            parameters.use_extra_bufts = False
            return parameters

        runtime.llama().LlamaModelParams = without
    before = memory()
    model = module.opened(Path(file), file, "float16")
    loaded = memory()
    sequences, start = Sequences(model, None), time.process_time()
    rows = [tuple((11 * place + 101 * row) % 40000 + 20 for place in range(LENGTH)) for row in range(PROMPTS)]
    for token in range(ANSWER):
        sequences.read([Row(row, LENGTH - 10, stays=True) for row in rows], lambda *_: None)
        rows = [(*row, 300 + token) for row in rows]
    return {"before": before, "loaded": loaded, "answered": memory(), "seconds": time.process_time() - start}


def report(name: str, file: Path) -> None:
    """Measure a file with and without the rearranged copy, each in a process, and print a line for each."""
    for plain in (False, True):
        command = [sys.executable, __file__, "--measure", str(file), *(["--plain"] if plain else [])]
        ended = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
        found = json.loads(ended.stdout.splitlines()[-1])
        values = [found[when][kind] - found["before"][kind] for when in ("loaded", "answered") for kind in KINDS]
        shown = " | ".join(f"{value:,.0f}" for value in values)
        size = file.stat().st_size / 1e6
        print(
            f"| {name} | {'off' if plain else 'on'} | {size:,.0f} | {shown} | {found['seconds']:.1f} |", flush=True
        )


KINDS = ("anonymous", "file")


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="*", default=["small"], choices=[*SHAPES])
    parser.add_argument("--formats", nargs="*", default=["Q4_0", "Q4_1", "Q8_0"])
    parser.add_argument("--folder", default=None)
    parser.add_argument("--measure", default=None, help=argparse.SUPPRESS)
    parser.add_argument("--plain", action="store_true")
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure, options.plain)))
        return
    print("| file | rearranged | size | loaded: anonymous | from file | answered: anonymous | from file | s |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    report("packaged, Q4_1", packaged())
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for shape in options.sizes:
            for form in options.formats:
                file = write(Path(folder) / f"{shape}-{form}.gguf", shape, form)
                report(f"{shape}, {form}", file)
                file.unlink()


if __name__ == "__main__":
    main()

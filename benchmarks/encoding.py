"""Passages to vectors beside sentence-transformers, and the demo's first answer.

    python benchmarks/encoding.py [--rounds N] [--copies N] [--only encoding|demo]

Row 7: the bundled documents in passages of 100 words, ``copies`` times over, with the packaged encoder. Peer:
``SentenceTransformer.encode`` in float32 with that batch size among 8, 16, 32 and 64 which is fastest here. First
the two are compared: equal within 1e-5 in float32; in bfloat16 a cosine of at least 0.99, and the
overlap of the ten nearest passages.

Row 9: ``mixrag index`` and ``mixrag ask`` as ``make demo`` calls them, each in a process of its own, with an empty
folder for converted models; then ``mixrag index`` again, which must embed nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from mixrag.corpus import WordSplitter, read
from mixrag.pairs.pairs import read_pairs
from mixrag.retrieval.encoders import SentenceEncoder, load_encoder
from mixrag.retrieval.encoders.batch import TOKENS, buckets
from mixrag.utils.cpu_features import native_bfloat16
from side_by_side import Row, alternately, keep, seconds, show

DEMO = Path(__file__).parent.parent / "demo"
QUESTION = "What was the name of Rosamund Quill's boat?"
SECONDS = 60.0
"""Row 9: until the first answer after the installation."""


def main() -> None:
    """Check, measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--copies", type=int, default=3, help="how often the documents' 101 passages are taken")
    parser.add_argument("--only", choices=("encoding", "demo"), help="row 7 alone, or row 9")
    options = parser.parse_args()
    if options.only != "demo":
        report(encoding(options.copies, options.rounds))
    if options.only != "encoding":
        report(demo())


def report(rows: list[Row]) -> None:
    """Print, and write into results.json."""
    show(rows)
    keep(rows)


def passages() -> list[str]:
    """The bundled documents in passages of 100 words."""
    splitter = WordSplitter()
    files = sorted(path for path in (DEMO / "corpus").rglob("*") if path.is_file())
    texts = [each.text for path in files for each in read(path, max_bytes=2**25).documents]
    return [text[start:end] for text in texts for start, end in splitter.split(text)]


def check(encoder: SentenceEncoder, half: SentenceEncoder, texts: Sequence[str]) -> None:
    """Stop where the vectors are not those of the peer."""
    expected = encoder.passage_model.encode_document(list(texts), show_progress_bar=False)
    difference = float(np.abs(encoder.encode_passages(texts) - expected).max())
    if not difference <= 1e-5:
        raise SystemExit(f"expected the vectors of sentence-transformers; they differ by {difference:.1g}")
    found = half.encode_passages(texts)
    cosines = cosine(found, expected)
    if not cosines.min() >= 0.99:
        raise SystemExit(f"expected a cosine of 0.99; found {cosines.min():.4f}")
    questions = encoder.encode_questions([pair.question for pair in read_pairs([DEMO / "pairs.jsonl"]).pairs])
    print(f"float32 beside the peer: largest difference {difference:.1e}")
    print(
        f"bfloat16 beside the peer: cosine {cosines.min():.5f} at least, {cosines.mean():.5f} on average;", end=" "
    )
    print(f"{overlap(questions @ expected.T, questions @ found.T):.4f} of the ten nearest passages are the same")


def cosine(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """(M,) of the rows of (M, D)."""
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.asarray((a * b).sum(1) / lengths, np.float32)


def overlap(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32], k: int = 10) -> float:
    """Share of the k largest of every row of a that are among the k largest of that row of b."""
    best = (np.argsort(-scores, axis=1, kind="stable")[:, :k] for scores in (a, b))
    return float(np.mean([len(set(x) & set(y)) / k for x, y in zip(*best, strict=True)]))


def limits(encoder: SentenceEncoder, texts: Sequence[str]) -> None:
    """Print how fast the matrix products alone could be, and how much of a batch is padding."""
    lengths = [len(ids) for ids in encoder.passage_model.tokenizer(list(texts))["input_ids"]]
    products, tokens = per_token(encoder.passage_model), sum(lengths) / len(lengths)
    computed = sum(len(rows) * lengths[rows[0]] for rows in buckets(lengths, TOKENS["cpu"]))
    print(f"{tokens:.0f} tokens a passage; {computed / sum(lengths) - 1:.1%} more with padding")
    for dtype in (torch.float32, torch.bfloat16):
        rate = product_rate(encoder.passage_model, dtype)
        limit = rate / (products * tokens)
        print(f"matrix products, {dtype}: {rate / 1e9:.0f} GFLOP/s, thus at most {limit:.0f} passages/s")


def per_token(model: Any) -> float:
    """Operations of all linear layers for one token."""
    return float(2 * sum(m.weight.numel() for m in linear_layers(model)))


def linear_layers(model: Any) -> list[torch.nn.Linear]:
    """Those that every token passes (the pooler on the first token is none of them)."""
    return [m for name, m in model.named_modules() if isinstance(m, torch.nn.Linear) and "pooler" not in name]


@torch.inference_mode()
def product_rate(model: Any, dtype: torch.dtype) -> float:
    """Operations a second in one pass through the linear layers alone, with a batch as ours; best of ten."""
    rows = TOKENS["cpu"]
    weights = [(m.weight.to(dtype), m.bias.to(dtype)) for m in linear_layers(model)]
    given = {weight.shape[1]: torch.randn(rows, weight.shape[1]).to(dtype) for weight, _ in weights}

    def work() -> None:
        for weight, bias in weights:
            torch.nn.functional.linear(given[weight.shape[1]], weight, bias)

    return per_token(model) * rows / min(seconds(work) for _ in range(10))


def encoding(copies: int, rounds: int) -> list[Row]:
    """Row 7, in both formats."""
    encoder, half = load_encoder(device="cpu"), load_encoder(device="cpu", dtype="bfloat16")
    once = passages()
    check(encoder, half, once)
    limits(encoder, once)
    texts = once * copies
    size = best_size(encoder.passage_model, texts)

    def theirs() -> float:
        return seconds(peer(encoder.passage_model, texts, size))

    known = "" if native_bfloat16() else " (emulated)"
    scenario = f"{len(texts)} passages, batches of {size} for the peer"
    rows = [
        alternately(
            "7 encoding",
            f"{scenario}, {dtype}",
            goal,
            lambda ours=ours: seconds(lambda: ours.encode_passages(texts)),  # type: ignore[misc]
            theirs,
            rounds,
        )
        for dtype, ours, goal in ((f"bfloat16{known}", half, ">= 3"), ("float32", encoder, ">= 1"))
    ]
    for row in rows:
        print(f"{row.scenario}: {len(texts) / row.ours:.0f} passages/s, the peer {len(texts) / row.peer:.0f}")
    return rows


def best_size(model: Any, texts: list[str]) -> int:
    """The batch size with which the peer is fastest."""
    times = {size: min(seconds(peer(model, texts, size)) for _ in range(2)) for size in (8, 16, 32, 64)}
    print("peer's batch sizes, passages/s:", {size: round(len(texts) / time) for size, time in times.items()})
    return min(times, key=times.__getitem__)


def peer(model: Any, texts: list[str], size: int) -> Callable[[], object]:
    """sentence-transformers alone."""
    return lambda: model.encode_document(texts, batch_size=size, show_progress_bar=False)


def demo() -> list[Row]:
    """Row 9: seconds until the first answer; the peer is the time that is allowed."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "MIXRAG_CACHE": f"{folder}/cache"}
        store = ["--store", f"{folder}/store", "--json"]

        def mixrag(*words: str) -> dict[str, Any]:
            line = [sys.executable, "-m", "mixrag", *words, *store]
            done = subprocess.run(line, env=environment, check=True, stdout=subprocess.PIPE, cwd=DEMO.parent)
            found: dict[str, Any] = json.loads(done.stdout)
            return found

        def first_answer() -> None:
            mixrag("index", "demo/corpus")
            print("first answer:", mixrag("ask", QUESTION)["answer"])

        taken = seconds(first_answer)
        again = mixrag("index", "demo/corpus")["embedded"]
    print(f"first answer after {taken:.1f} s; the second index embedded {again} passages")
    if again:
        raise SystemExit(f"expected a second index to embed nothing; it embedded {again}")
    scenario = "first answer after the installation; peer: what is allowed"
    return [Row("9 demo", scenario, taken, SECONDS, SECONDS / taken, (SECONDS / taken,) * 2, ">= 1")]


if __name__ == "__main__":
    main()

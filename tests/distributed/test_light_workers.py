"""A worker imports only what its work needs: there are as many workers as processors."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

from mixrag.corpus import StructureSplitter
from mixrag.corpus.distributed.reading import PortableReading
from mixrag.corpus.parsers.isolation import ParseLimits
from mixrag.corpus.splitting import Splitting
from mixrag.retrieval.encoders.plugin import completed_encoder
from mixrag.retrieval.encoders.shipping import portable_encoder, portable_splitting
from words_encoder import WordsEncoder

WORKER = """
import pickle, sys
from pathlib import Path
import mixrag.corpus.distributed.encoders, mixrag.corpus.distributed.reading
reading, encoder = pickle.loads(Path(sys.argv[1]).read_bytes())
reading.here()
encode = encoder.encode(1)
print(encode(["nine crowns"]).shape, sorted({"torch", "transformers", "sentence_transformers"} & {*sys.modules}))
"""


def test_an_own_encoder_needs_no_torch(tmp_path: Path) -> None:
    encoder = completed_encoder(WordsEncoder())
    splitting = portable_splitting(encoder, Splitting(StructureSplitter(), encoder.passage_text, encoder.tokens))
    sent = tmp_path / "sent"
    sent.write_bytes(pickle.dumps((PortableReading((), ParseLimits(), splitting), portable_encoder(encoder))))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", WORKER, str(sent)]
    found = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert (found.stdout.strip(), found.returncode) == ("(1, 256) []", 0), found.stderr

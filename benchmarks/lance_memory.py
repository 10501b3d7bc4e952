"""Memory that a process needs for the files, documents and words of a store in LanceDB (no passages, no vectors).

    python benchmarks/lance_memory.py [--documents 100000] [--words 1000000]

Each document is the only one of a file of its own, with a path of 60 characters, a title of 40, and two values
of metadata. Bytes are those that Python allocates (tracemalloc) for the state as it is read from a whole state
in the log, at most while it is read, for a second state while a commit is made, and for what filters ask of
documents.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tracemalloc
import zlib

from mixrag.corpus.store.lance.catalogue import Catalogue
from mixrag.corpus.store.lance.log import _packed


def documents(number: int) -> Catalogue:
    """A state with so many documents of ten passages."""
    made = Catalogue()
    for id_ in range(1, number + 1):
        hash_ = hashlib.sha256(str(id_).encode()).hexdigest()
        path = f"/data/acts/{id_ % 97:02}/{id_:012}".ljust(60, "x")
        metadata = json.dumps({"year": 1900 + id_ % 120, "court": f"court {id_ % 50}"})
        made.apply(["file", path, hash_[::-1], "splitter"])
        made.apply(["document", id_, hash_, f"Title {id_}".ljust(40, "y"), metadata, "", 10 * id_, 10, None, 9000])
        made.apply(["source", path, "", id_])
    return made


def words(number: int) -> Catalogue:
    """A state with so many words of eight letters."""
    made = Catalogue()
    made.apply(["terms", [f"w{word:07}" for word in range(number)]])
    return made


def main() -> None:
    """Print the bytes for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--words", type=int, default=1_000_000)
    given = parser.parse_args()
    for name, make, number in (("document", documents, given.documents), ("word", words, given.words)):
        content = _packed(list(make(number).operations()))
        tracemalloc.start()
        read = Catalogue()
        for operation in json.loads(zlib.decompress(content)):
            read.apply(operation)
        del operation
        alone, most = tracemalloc.get_traced_memory()
        draft = read.draft()
        copied = tracemalloc.get_traced_memory()[0] - alone
        described = read.described
        filtered = tracemalloc.get_traced_memory()[0] - alone - copied
        tracemalloc.stop()
        figures = [round(each / number) for each in (alone, most, copied, filtered)]
        print("{}: {} bytes, {} while it is read, {} more in a commit, {} for filters".format(name, *figures))
        del read, draft, described


if __name__ == "__main__":
    main()

"""Parts of a corpus: which files belong to part i of n, decided by each machine for itself.

A file belongs to a part by a hash of its path below the folder that was named, so that machines which see the same
folder, wherever it is mounted, agree without talking, and a file that changes stays in its part. The path counts
in its composed form (NFC), since one machine may see an accent as a character of its own where another does not.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from mixrag.corpus.store.sources import composed
from mixrag.errors import SettingError

MOST = 10_000
_FORM = re.compile(r"([0-9]{1,5})/([0-9]{1,5})")


@dataclass(frozen=True, slots=True)
class Part:
    """Part ``number`` (from 1) of ``of`` parts."""

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Part:
        """The part that "i/n" means.

        Raises:
            SettingError: none.

        >>> Part.parse("2/10")
        Part(number=2, of=10)
        """
        found = _FORM.fullmatch(text.strip()) if isinstance(text, str) else None
        number, of = (int(found[1]), int(found[2])) if found else (0, 0)
        if not 1 <= number <= of <= MOST:
            expected = f"a part i/n with 1 <= i <= n <= {MOST}"
            raise SettingError(expected, repr(text)[:40], "for instance --shard 2/10, and 1/10 to 10/10 elsewhere")
        return cls(number, of)

    def has(self, path: Path, root: Path) -> bool:
        """Whether a file found below a root belongs to it; of a file that was named itself, its name counts.

        >>> [n for n in (1, 2, 3) if Part(n, 3).has(Path("/srv/acts/1990/law.txt"), Path("/srv/acts"))]
        [3]
        """
        relative = path.name if path == root else path.relative_to(root).as_posix()
        digest = hashlib.sha256(composed(relative).encode("utf-8", "surrogatepass")).digest()
        return int.from_bytes(digest[:8], "big") % self.of == self.number - 1

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

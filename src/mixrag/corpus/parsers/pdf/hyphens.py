"""Lines joined to paragraphs: which hyphens at line ends belong to the word.

Where the joined word stands within a line of the document, the hyphen is dropped. Else it stays where the word
with its hyphen stands within a line; where the second half begins with a capital or a digit, or the first ends
with one; and where one of the halves is known to take a hyphen (non-, long-; -term, -based). In all other cases it
is dropped.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")
_LAST = re.compile(r"((?:[^\W_]+-)*[^\W_]+)-$")
_FIRST = re.compile(r"[^\W_]+")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_HEADS = _words(
    """
    able above anti back best better brand cash close cross current day double dual ever ex far fast first
    five fixed follow four full general half hard high ill large last late lead left less like long longer
    loss low lower market medium mid middle multi near new nine non north off old one open own part pay post
    pre present price pro profit quasi rate real right second self semi seven share short single six small so
    soft south start state stock tax ten third three time top two under user value vice well west work world
    year zero
    """
)
"""First halves that keep their hyphen: non-refundable, long-term."""
_TAILS = _words(
    """
    adjusted backed based bearing border built called case centric class compliant controlled date dependent
    dollar driven earned effective efficient equity exempt facing family flow free friendly funded generating
    grade growing house inch income intensive interest kilometre known laden law led level listed looking mile
    minded month national neutral oriented owned paid party performing person phase point price priced
    producing profit purpose quality quarter range ranging rata rate rated reaching ready recourse recurring
    refundable related resident resistant rich scale sector sensitive service size sized specific speed stage
    style sum taking tax term terms tier to total traded type value valued wage weighted winning year
    """
)
"""Second halves that keep it: euro-denominated, asset-backed."""
_JOINED = _words(
    """
    background backlog backup closely downside firsthand fullest halfway highland highlight highlights highway
    larger largest lastly latest leading leaflet likewise longer longest lowest lowland mainland marketing
    midday midnight midst nearest network networks newer newest newsletter newspaper nonetheless nonsense
    office offset offsets offshore oldest online onset openness ourselves owner owners partake partial
    particular partly partner partners partnership payable payment payments payroll pension postpone premium
    prepaid prepare prepared present presented pricing procedure proceed process produce product profile
    profits program programme progress project promise promote property proposal prospect protect provide
    provided provision realise realize rights selfish shareholder shareholders sharing shortage shorter
    shortfall shortly singular slightly social society softer software solely startup statement statements
    stockholder stockholders straight taxable taxation taxes tenant tenants tender tenor tension timeframe
    timeline timely together topic total toward towards twofold underlie underlying understand understanding
    undertake underway useful users valuable valuation welcome welfare wellness withdrew worker workers
    workforce working worldwide yearly zeros
    """
)
"""Words that begin or end like one of these and have no hyphen."""
_ENDINGS = _words(
    """
    able age ages al ally an ance ant ants ary ate ated ation ceed ceeds cess cial cially cies der ders dom
    duce duct ducts ed en ence ency ened ent er ers ery es est fession ful fully gram gress hood ian ible ic
    ical ics ied ier ies iest ily ing ings ion ional ions ish ism ist ists ity ive ives ize ized izing ject
    jects less let lets ling lings ly mal man men ment ments mote nal ness or ors ous pare pose posed s ship
    ships sion sions spect tain tained tect tection tend ter ters test th tic ties tion tions tive ton tor
    tors ture tures ty vide vided vision visions ward wards y
    """
)
"""Second halves that are the end of one word: short-er, market-ing."""


class Joiner:
    """Joins lines, with what the whole document says about its words."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._words: set[str] = set()
        for line in lines:
            words = _WORD.findall(line)
            if words and line.endswith("-"):
                words = words[:-1]  # its last word is half of one
            self._words.update(word.lower() for word in words)

    def join(self, lines: Sequence[str]) -> str:
        """The lines with spaces between them, and the halves of words together.

        >>> Joiner([]).join(["The commis-", "sioner of long-", "term plans"])
        'The commissioner of long-term plans'
        """
        text = ""
        for line in lines:
            if text.endswith("-") and (head := _LAST.search(text)) and (tail := _FIRST.match(line)):
                text = (text if self._keeps(head[1], tail[0]) else text[:-1]) + line
            else:
                text = f"{text} {line}" if text else line
        return text

    def _keeps(self, head: str, tail: str) -> bool:
        whole, hyphened = (head + tail).lower(), f"{head}-{tail}".lower()
        if not tail[0].islower() or not head[-1].islower():
            # Scripts without case, and words in capitals, are joined like words in small letters.
            capitals = head.isupper() and tail.isupper() and len(head) > 1 and len(tail) > 2
            if not capitals and (
                tail[0].isupper() or tail[0].isdigit() or head[-1].isupper() or head[-1].isdigit()
            ):
                return True
        if whole in self._words:
            return False
        if hyphened in self._words:
            return True
        if whole in _JOINED or tail.lower() in _ENDINGS:
            return False
        return "-" in head or head.lower() in _HEADS or tail.lower() in _TAILS

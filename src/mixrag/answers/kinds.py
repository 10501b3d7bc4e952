"""What a question asks for: a span, yes or no, a list, or an explanation. Rules of plain English, nothing learnt.

A question that no rule knows asks for a span: so do all that are not in English.
"""

from __future__ import annotations

import re
from typing import Literal

Kind = Literal["span", "yes-no", "list", "extract"]

_AUXILIARY = (
    r"(?:is|are|was|were|am|do|does|did|has|have|had|can|could|may|might|must|shall|should|will|would|need|ought"
    r"|cannot)(?:n['’]?t)?|can['’]t|won['’]t|shan['’]t|ain['’]t"
)
_WH = r"(?:what|which|who|whom|whose|when|where|why|how)"
_NUMBER = r"(?:two|three|four|five|six|seven|eight|nine|ten|twelve|several|various|different|main|\d{1,2})"
_POLITE = re.compile(
    r"(?:(?:please|kindly|so|and|but|also|ok|okay|hi|hello|well)\b[,:]?\s*"
    r"|(?:can|could|would|will) (?:you|we|someone|anyone) (?:please |kindly )?"
    r"(?:tell (?:me|us)|let (?:me|us) know)\b,?\s*"
    r"|(?:can|could|would|will) (?:you|someone) (?:please |kindly )?"
    r"(?=(?:explain|describe|summari[sz]e|outline|list"
    r"|name|enumerate|give|show|provide|discuss|compare)\b)"
    r"|(?:i (?:want|need|would like|['’]d like) (?:you )?to (?:know )?|do you know "
    r"|tell (?:me|us) (?=(?:if|whether|"
    rf"{_WH})\b)))"
)
_CLAUSE = re.compile(
    r"(?:in|on|at|by|under|for|after|before|during|since|from|according to|if|when|where|as|with|within)\b"
    r"[^?]*?,\s+"
    rf"(?=(?:{_AUXILIARY}|{_WH})\b)"
)
_TAG = re.compile(
    rf",\s*(?:(?:{_AUXILIARY})\s+(?:not\s+)?(?:it|he|she|they|we|you|i|there|this|that|one)|right|correct|yes|no"
    r"|true)\s*\?*$"
)
_YES_NO = re.compile(rf"(?:(?:{_AUXILIARY})\b(?!\s*\d{{4}})\s+\S|whether\b|if\b[^,?]*\?*$)")
_OPEN_END = re.compile(
    rf"\b{_WH}\s*\?*$|(?:,|\band|\bor|,\s*and)\s+(?:if so,?\s+)?(?:for |by |in |to )?{_WH}\b(?!\s*(?:is|are) not)"
)
_ALTERNATIVES = re.compile(
    r"\bor\b(?!\s+(?:not|more|less|fewer|later|earlier|above|below|over|under|older|younger|so|higher|lower|other"
    r"|otherwise|longer|shorter|better|similar)\b)"
)
_LIST = re.compile(
    r"(?:list|enumerate)\b(?! prices?\b)"
    r"|(?:name|give|mention|state|identify|cite|provide|show)\s+(?:me\s+|us\s+)?"
    rf"(?:(?:all|every|each|a list|the list|the names|any {_NUMBER}|some|the (?:\w+ )?{_NUMBER}|{_NUMBER})\b)"
    r"|who (?:all )?(?:are|were)\b(?! (?:you|we)\b)|who all\b"
    rf"|(?:(?:in|on|at|for|of|to|by|under|with|from|into|through) )?(?:what|which) (?:are|were)\b"
    rf" (?:all |some |the |its |his |her |their |our |my |your |those |these |{_NUMBER}\b)"
    rf"|(?:(?:in|on|at|for|of|to|by|under|with|from|into|through) )?(?:what|which) (?:{_NUMBER} \w+"
    r"|(?:kinds|types|sorts|forms|categories|groups|classes) of\b|(?:of the )?(?:[\w'’-]+ ){0,4}?"
    r"(?:\w*[^\Ws]s|people|men|women|children|species|data|criteria|media) (?:\w+ ){0,2}?(?:are|were)\b)"
)
_NO_LIST = re.compile(r"(?:what|which) (?:are|were) the (?:odds|chances|dimensions|dates?|hours|costs?|figures)\b")
_EXTRACT = re.compile(
    r"(?:explain|summari[sz]e|describe|outline|discuss|elaborate|compare|contrast|paraphrase)\b"
    r"|(?:tell (?:me|us) )?(?:more )?about\b(?! (?:how|what|which|when|where|who|whose)\b)"
    r"|tell (?:me|us) (?:why|how)\b"
    r"|(?:give|write|provide|show) (?:me |us )?(?:a |an |the )?(?:\w+ )?"
    r"(?:summary|overview|explanation|description|outline|account|synopsis)\b"
    r"|why\b|how come\b|for what reasons?\b"
    r"|how(?: exactly| precisely| else)? (?:do|does|did|is|are|was|were|can|could|should|must|would|will|shall"
    r"|to|may|might|has|have|had|am)\b"
)
_NAMED = re.compile(
    r"how (?:is|are|was|were|do|does|did|can|would|should) .*\b(?:called|named|known as|spelled|spelt|"
    r"pronounced|abbreviated|call|spell|pronounce)\b"
)


def kind_of(question: str) -> Kind:
    """What is asked for.

    >>> [kind_of(q) for q in ("Who issues it?", "Is it free?", "Which fees are due?", "Why is it due?")]
    ['span', 'yes-no', 'list', 'extract']
    """
    asked = _asked(question)
    if _TAG.search(asked):
        return "yes-no"
    asked = _bare(asked)
    if _LIST.match(asked) and not _NO_LIST.match(asked):
        return "list"
    if _EXTRACT.match(asked) and not _NAMED.match(asked):
        return "extract"
    if _YES_NO.match(asked) and not _OPEN_END.search(asked) and not _ALTERNATIVES.search(asked):
        return "yes-no"
    return "span"


def _asked(question: str) -> str:
    """The last sentence that asks, or the whole, in small letters with single spaces."""
    text = " ".join(question.split()).lower()
    *before, last = re.split(r"(?<=[.!?]) (?=\w)", text)
    asking = [each for each in (*before, last) if each.endswith("?")]
    return asking[-1] if asking else text


def _bare(asked: str) -> str:
    """Without what stands before the question itself: courtesies, and a clause that ends with a comma."""
    for _ in range(4):
        shorter = asked
        for front in (_POLITE, _CLAUSE):
            if found := front.match(shorter):
                shorter = shorter[found.end() :]
        if shorter == asked:
            break
        asked = shorter
    return asked

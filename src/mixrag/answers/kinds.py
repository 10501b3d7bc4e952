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
_CONTRACTIONS = (
    (re.compile(r"\b(what|who|how|where|when|why)(?:['’]s|(?<=what)s|(?<=who)s)\b"), r"\1 is"),
    (re.compile(r"\b(what|who|how)['’]re\b"), r"\1 are"),
)
_POLITE = re.compile(
    r"(?:(?:please|kindly|so|and|but|also|ok|okay|hi|hello|well|briefly|in short|in brief|in a nutshell)\b[,:]?\s*"
    r"|(?:can|could|would|will) (?:you|we|someone|anyone) (?:please |kindly )?"
    r"(?:tell (?:me|us)|let (?:me|us) know)\b,?\s*"
    r"|(?:can|could|would|will) (?:you|someone) (?:please |kindly )?"
    r"(?=(?:explain|describe|summari[sz]e|outline|list"
    r"|name|enumerate|give|show|provide|discuss|compare|walk|talk|guide|help)\b)"
    r"|i(?: would|['’]d) like (?=an? |the )|i (?:need|want) (?=an? |the )"
    r"|(?:i (?:want|need|would like|['’]d like) (?:you )?to (?:know )?|do you know "
    r"|tell (?:me|us) (?=(?:if|whether|"
    rf"{_WH})\b)))"
)
_CLAUSE = re.compile(
    r"(?:in|on|at|by|under|for|after|before|during|since|from|according to|if|when|where|as|with|within)\b"
    rf"(?! (?:{_AUXILIARY})\b)[^?]*?,\s+"
    rf"(?=(?:{_AUXILIARY}|{_WH})\b)"
)
_STATEMENT = re.compile(
    rf"(?!{_WH}\b|(?:name|list|explain|describe|tell|give|show)\b)[^?,;:]+[,;:]\s+"
    rf"(?=(?:{_AUXILIARY})\s+(?:i|we|you|he|she|it|they|there|this|that|these|those|the|a|an|my|our|your|his|her"
    r"|their|its|any|one)\b)"
)
"""What is said before a question: "I live on Orrin, do I have to pay?"."""
_TAG = re.compile(
    rf",\s*(?:(?:{_AUXILIARY})\s+(?:not\s+)?(?:it|he|she|they|we|you|i|there|this|that|one)|right|correct|yes|no"
    r"|true)\s*\?*$"
)
_YES_NO = re.compile(rf"(?:any chance\b|(?:{_AUXILIARY})\b(?!\s*\d{{4}})\s+\S|whether\b|if\b[^,?]*\?*$)")
_OPEN_END = re.compile(
    rf"\b{_WH}\s*\?*$|(?:,|\band|\bor|,\s*and)\s+(?:if so,?\s+)?(?:for |by |in |to )?{_WH}\b(?!\s*(?:is|are) not)"
)
_ALTERNATIVES = re.compile(
    r"\bor\b(?!\s+(?:not|more|less|fewer|later|earlier|above|below|over|under|older|younger|so|higher|lower|other"
    r"|otherwise|longer|shorter|better|similar)\b)"
)
_PLURAL = (
    r"(?!(?:gas|atlas|canvas|lens|series|species|news|bias|chaos|diabetes|rabies|means|\w*ics)\b)[\w’'-]*[^\Wsui]s"
)
"""A word that may be a plural; many verbs look alike ("issues"), so what follows has to show that it is none."""
_ADJECTIVE = r"(?:(?!(?:of|for|in|on|at|to|with|and|that|who|which|kind|type|sort|form)\b)[\w'’-]+ )"
_AFTER_PLURAL = r"(?:are|were|do|does|did|have|had|can|may|might|must|shall|should|will|would|could|need)\b"
_PLURAL_VERB = (
    rf"(?:{_AFTER_PLURAL}|\w+ed\b|(?:apply|require|count|belong|live|work|go|come|exist|fall|cost|take|make|get|give"
    r"|use|include|contain|pay|heard|held|went|came|took|made|gave|got|won|lost|paid|sat|spoke|became|began)\b)"
)
_GROUP = r"(?:crew|team|board|committee|council|panel|staff|cast|band|jury|commission|bench|cabinet)"
_LIST = re.compile(
    r"(?:list|enumerate)\b(?! prices?\b)"
    r"|(?:name|give|mention|state|identify|cite|provide|show)\s+(?:me\s+|us\s+)?"
    rf"(?:(?:all|every|each|a list|the list|the names|any {_NUMBER}|some|the (?:\w+ )?{_NUMBER}|{_NUMBER})\b)"
    r"|tell (?:me|us) (?:the names|all (?!about\b|i\b|you\b))|(?:what (?:is|are) )?(?:a |the )?(?:\w+ )?list of\b"
    rf"|name (?:the|its|their) {_ADJECTIVE}{{0,2}}?{_PLURAL}(?= (?:of|in|on|at|that|which|who|for|from)\b|[.?!]*$)"
    rf"|who (?:is|was|sits|sat) (?:in|on) (?:the|its|our|this) (?:[\w'’-]+ )?{_GROUP}\b"
    r"|who (?:all )?(?:are|were)\b(?! (?:you|we)\b)|who all\b"
    rf"|(?:what|which) of (?:these|those|them|the {_PLURAL})\b(?! (?:is|was|has)\b)"
    rf"|(?:what|which) (?!(?:{_AUXILIARY})\b){_ADJECTIVE}{{0,2}}?{_PLURAL} {_AFTER_PLURAL}"
    rf"|which {_PLURAL} {_PLURAL_VERB}"
    rf"|(?:(?:in|on|at|for|of|to|by|under|with|from|into|through) )?(?:what|which) (?:are|were)\b"
    rf" (?:all |some |the |its |his |her |their |our |my |your |those |these |{_NUMBER}\b)"
    rf"|(?:(?:in|on|at|for|of|to|by|under|with|from|into|through) )?(?:what|which) (?:{_NUMBER} \w+"
    r"|(?:kinds|types|sorts|forms|categories|groups|classes) of\b|(?:of the )?(?:[\w'’-]+ ){0,4}?"
    r"(?:\w*[^\Ws]s|people|men|women|children|species|data|criteria|media) (?:\w+ ){0,2}?(?:are|were)\b)"
)
_NO_LIST = re.compile(r"(?:what|which) (?:are|were) the (?:odds|chances|dimensions|dates?|hours|costs?|figures)\b")
_EXTRACT = re.compile(
    r"(?:explain|summari[sz]e|describe|outline|discuss|elaborate|compare|contrast|paraphrase)\b"
    r"|(?:tell (?:me|us) )?(?:more |all |everything )?about\b(?! (?:how|what|which|when|where|who|whose)\b)"
    r"|(?:walk|talk|guide) (?:me|us) through\b|help (?:me|us) (?:to )?understand\b|tl;?dr\b"
    r"|what do you know about\b|what happens (?:if|when|after|once|with)\b"
    r"|what (?:does|do|did) [^?]* say (?:about|on)\b"
    r"|what (?:should|must|can|do|does|shall) (?:i|we|you|one|people|someone|a \w+) (?:have to |need to )?do"
    r" (?:if|when|in case|to|after|before|once|with|about)\b"
    r"|what (?:is|are) the (?:procedures?|process|steps?|differences?) (?:for|of|to|between|in)\b"
    r"|tell (?:me|us) (?:why|how)\b"
    r"|(?:(?:give|write|provide|show) (?:me |us )?)?(?:a |an |the )?(?:\w+ )?"
    r"(?:summary|overview|explanation|description|outline|account|synopsis) (?:of|on|about)\b"
    r"|(?:give|write|provide|show) (?:me |us )?(?:a |an |the )?(?:\w+ )?"
    r"(?:summary|overview|explanation|description|outline|synopsis)\b"
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
    for contraction, whole in _CONTRACTIONS:
        text = contraction.sub(whole, text)
    *before, last = re.split(r"(?<=[.!?]) (?=\w)", text)
    asking = [each for each in (*before, last) if each.endswith("?")]
    return asking[-1] if asking else text


def _bare(asked: str) -> str:
    """Without what stands before the question itself: courtesies, and a clause that ends with a comma."""
    for _ in range(4):
        shorter = asked
        for front in (_POLITE, _CLAUSE, _STATEMENT):
            if found := front.match(shorter):
                shorter = shorter[found.end() :]
        if shorter == asked:
            break
        asked = shorter
    return asked

"""A follow-up question made to stand alone: the earlier question's key words after it. Rules of plain English.

Retrieval and readers see one question, so a conversation becomes one: "And for eel?" after "What does a licence
for cod cost?" is asked as "And for eel? (licence cost)". The rule, which uses no model:

1. A follow-up refers back where it is *elliptical* (it begins with "what about" or "how about"; or, after "and",
   "but", "or", "also", "so", it has no question word and no auxiliary; or it has at most one content word, and
   does not ask what something *is*), or *pronominal* (it, they, this, that, there, the same, which one, ... where
   the word refers to nothing in the question itself).
2. It gets, in parentheses, the key words of the question before it, as that stands alone itself: its words that
   are no function words, in their order, each once, without those that the follow-up has, at most ``MOST_WORDS``.
3. What an elliptical follow-up replaces is left out: the name after the preposition that it begins with ("for
   eel" replaces "for cod"), and numbers where it has a number.

All other questions stay as they are, and so do those that no rule knows, as in other languages. Both kinds of
error can happen, so the rewritten question is shown wherever one is asked.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import islice

from mixrag.answers.word_overlap import FUNCTION_WORDS
from mixrag.corpus.words import words

MOST_WORDS = 12
"""Key words that a follow-up gets, so that a long conversation makes no long question."""

_WORD = re.compile(r"\w(?:[\w'’.,/:&+#-]*[\w+#])?")
_AUXILIARY = (
    r"(?:is|are|was|were|do|does|did|has|have|had|can|could|may|might|must|shall|should|will|would)(?:n['’]?t)?"
)
_WH = r"(?:what|which|who|whom|whose|when|where|why|how)"
_PREPOSITION = r"(?:for|in|on|at|by|with|without|from|to|of|about|under|over|after|before|during|since|until|near)"
_CONNECTIVE = re.compile(r"(?:(?:and|but|or|also|so|then|ok|okay|plus)\b,?\s*)+", re.IGNORECASE)
_ABOUT = re.compile(r"(?:what|how) about\b", re.IGNORECASE)
_COMPLETE = re.compile(rf"\b(?:{_WH}|{_AUXILIARY})\b", re.IGNORECASE)
_DEFINED = re.compile(
    r"(?:what|who|where)(?:['’]s|\s+(?:is|are|was|were))\s+(?!it\b|that\b|this\b)\w", re.IGNORECASE
)
_DEGREE = re.compile(
    r"\bhow\s+(?:long|far|old|often|soon|late|early|big|large|high|deep|wide|heavy|fast|tall|small)\b",
    re.IGNORECASE,
)
_BEGINS = re.compile(rf"(?:(?:what|how) about\s+)?({_PREPOSITION})\s+(?:an?\s+|the\s+)?(\w+)", re.IGNORECASE)

_CAPITAL = r"[^\W\d_a-z]\w*"

_EXPLETIVE = re.compile(
    rf"\b{_AUXILIARY}\s+it\s+(?:\w+\s+){{0,2}}?(?:to|that|if|whether|when)\s|\bit\s+(?:takes?|costs?)\s.*\bto\s"
    r"|\bwhat time is it\b",
    re.IGNORECASE,
)
"""An "it" that stands for what follows: "is it legal to fish", "how long does it take to get one"."""
_PERSONAL = re.compile(r"\b(?:it|they|them|theirs|he|him|she|hers|itself|themselves)\b", re.IGNORECASE)
_POSSESSIVE = re.compile(r"\b(?:its|their|his|her)\b", re.IGNORECASE)
_DEMONSTRATIVE = re.compile(
    r"\bthis\b(?!\s+(?:year|month|week|morning|evening|afternoon|summer|winter|spring|autumn|time)\b)"
    r"|\b(?:these|those)\b(?!\s+(?:who|whom|that|which|days)\b)"
    rf"|(?:^|\b(?:{_PREPOSITION}|{_AUXILIARY}|than|like|and|but)\s+)that\b|\bthat\W*$"
    r"|\b(?:there|then)\W*$"
    r"|\b(?:which|the|that|another|each)\s+(?:\w+\s+)?ones?\b|\bthe\s+(?:former|latter|others)\b"
    r"|\bthe\s+same\b(?!\W*$)",
    re.IGNORECASE,
)


def standalone(question: str, earlier: Sequence[str]) -> str:
    """The question as it can be asked by itself.

    Args:
        question: the last one of a conversation.
        earlier: the questions before it, oldest first; as they were asked, or as they were rewritten.

    Returns:
        The question itself where it does not refer back, where there is no earlier one, or where it has the
        earlier one's key words already: what this function returned is returned as it is.

    >>> standalone("And for eel?", ["What does a licence for cod cost?"])
    'And for eel? (licence cost)'
    >>> standalone("Who issues it?", ["What does a licence for cod cost?", "And for eel?"])
    'Who issues it? (eel licence cost)'
    """
    before = ""
    for each in (*earlier, question):
        before = _after(each, before) if before else each
    return before


def refers_back(question: str) -> bool:
    """Whether a question is elliptical or pronominal.

    >>> [refers_back(q) for q in ("And in winter?", "Is that free?", "Is it legal to fish at night?")]
    [True, True, False]
    """
    return is_elliptical(question) or _is_pronominal(question)


def is_elliptical(question: str) -> bool:
    """Whether a question leaves out what it asks, or whom it asks it of."""
    connective = _CONNECTIVE.match(question.strip())
    rest = _rest(question)
    if _ABOUT.match(rest):
        return True
    if connective and not _COMPLETE.search(rest):
        return True
    return len([*key_words(rest)]) <= 1 and not _DEFINED.match(rest)


def key_words(question: str) -> Iterator[str]:
    """The words of a question that are no function words, as they stand in it."""
    for each in _WORD.findall(_DEGREE.sub(" ", question)):
        stems = words(each)
        if stems and not set(stems) <= FUNCTION_WORDS:
            yield each


def _after(question: str, before: str) -> str:
    """The question with the key words of the one before it, which stands alone, where it refers back."""
    if not before.strip() or not refers_back(question):
        return question
    own = {stem for each in key_words(question) for stem in words(each)}
    left_out = _replaced(question, before) if is_elliptical(question) else set()
    found: dict[tuple[str, ...], str] = {}
    for each in key_words(before):
        stems = tuple(words(each))
        if not own.issuperset(stems) and not left_out.issuperset(stems):
            found.setdefault(stems, each)
    added = " ".join(islice(found.values(), MOST_WORDS))
    return f"{question.strip()} ({added})" if added else question


def _replaced(question: str, before: str) -> set[str]:
    """Stems of what an elliptical question has another one of: see the rule, 3."""
    found = set[str]()
    if begins := _BEGINS.match(_rest(question)):
        name = re.search(rf"\b(?i:{begins[1]})\s+(?i:an?\s+|the\s+)?({_CAPITAL}(?:\s+{_CAPITAL})*|\w+)", before)
        found.update(words(name[1]) if name else ())
    if any(each.isdigit() for each in words(question)):
        found.update(each for each in words(before) if each.isdigit())
    return found


def _rest(question: str) -> str:
    """Without the connectives that it begins with."""
    return _CONNECTIVE.sub("", question.strip(), count=1)


def _is_pronominal(question: str) -> bool:
    """Whether a word refers to something outside: after a clause and its comma it may mean what that names."""
    rest = _rest(_EXPLETIVE.sub(" ", question))
    if _DEMONSTRATIVE.search(rest):
        return True
    personal = _PERSONAL.search(rest)
    if personal and not ("," in rest[: personal.start()] and len([*key_words(rest[: personal.start()])]) >= 2):
        return True
    possessive = _POSSESSIVE.search(rest)
    return possessive is not None and not [*key_words(rest[: possessive.start()])]

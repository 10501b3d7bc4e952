"""A follow-up question made to stand alone, by the words of the question before it. Rules of plain English.

Retrieval and readers see one question, so a conversation becomes one: "And for eel?" after "What does a licence
for cod cost?" is asked as "What does a licence for eel cost?". The rule, which uses no model:

1. A follow-up refers back where it is *elliptical* (it begins with "what about" or "how about"; or, after "and",
   "but", "or", "also", "so", it has no question word and no auxiliary; or it has at most one content word, and
   does not ask what something *is*), or *pronominal* (it, they, this, that, there, the same, which one, ... where
   the word refers to nothing in the question itself).
2. An elliptical one that begins with a preposition ("for eel") takes the place of the last name after the same
   preposition in the question before it ("for cod"). Where that has no such preposition, its key words come
   first: "licence cod cost in winter?".
3. Any other gets the key words of the question before it, in parentheses: "Who issues it? (licence cod cost)".
   Those are its words that are no function words, in their order, each once, without those that the follow-up
   has, at most ``MOST_WORDS``; of numbers none where the follow-up is elliptical and has one.

The question before it is taken as it stands alone itself. All other questions stay as they are, and so do those
that no rule knows, as in other languages. Errors of both kinds happen, so the rewritten question is shown wherever
one is asked.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import islice, takewhile

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
_BEGINS = re.compile(rf"(?:(?:what|how) about\s+)?({_PREPOSITION})\s+\w", re.IGNORECASE)
_DO = re.compile(r"\b(?:do|does|did)\b", re.IGNORECASE)

_EXPLETIVE = re.compile(
    rf"\b{_AUXILIARY}\s+it\s+(?:\w+\s+){{0,2}}?(?:to|that|if|whether|when)\s"
    # Bounded, so that a long question takes no longer than its length.
    r"|\bit\s+(?:takes?|costs?)\s.{0,80}?\bto\s"
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
    'What does a licence for eel cost?'
    >>> standalone("Who issues it?", ["What does a licence for cod cost?", "And for eel?"])
    'Who issues it? (licence eel cost)'
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
        if _is_content(each):
            yield each


def _after(question: str, before: str) -> str:
    """The question with words of the one before it, which stands alone, where it refers back."""
    if not before.strip() or not refers_back(question):
        return question
    elliptical = is_elliptical(question)
    begins = _BEGINS.match(_rest(question)) if elliptical else None
    if begins is not None:
        return _continued(begins[1].lower(), _rest(question)[begins.start(1) :], before)
    added = " ".join(islice(_others(question, before, numbers=not elliptical), MOST_WORDS))
    return f"{question.strip()} ({added})" if added else question


def _continued(preposition: str, phrase: str, before: str) -> str:
    """The question before, with a phrase in the place of the name after the same preposition, or at its end."""
    place = _name_after(preposition, before)
    if place is not None:
        return before[: place[0]] + phrase.rstrip(" ?!.") + before[place[1] :]
    return " ".join([*islice(_others(phrase, before), MOST_WORDS), phrase])


def _name_after(preposition: str, before: str) -> tuple[int, int] | None:
    """Where the last such preposition with a name after it begins, and where the name ends.

    A name is capitalised words in a row, or content words in a row; but for the last of several in a question with
    "do", where that is the verb ("does a licence for brown trout cost").
    """
    found = None
    for each in re.finditer(rf"\b{preposition}\s+(?:an?\s+|the\s+)?(?=\w)", before, re.IGNORECASE):
        row = [*_content_words_at(before, each.end())]
        capitals = [*takewhile(lambda word: word[0][0].isupper(), row)]
        if not capitals and len(row) > 1 and _DO.search(before[: each.start()]):
            row.pop()
        if row:
            found = each.start(), (capitals or row)[-1].end()
    return found


def _content_words_at(text: str, place: int) -> Iterator[re.Match[str]]:
    """The content words that follow each other from a place on."""
    for each in _WORD.finditer(text, place):
        if text[place : each.start()].strip() or not _is_content(each[0]):
            return
        yield each
        place = each.end()


def _others(question: str, before: str, *, numbers: bool = True) -> Iterator[str]:
    """The key words of the question before that this one has not; of numbers none where it has one itself."""
    known = {tuple(words(each)) for each in key_words(question)}
    own = {stem for each in known for stem in each}
    numbers = numbers or not any(each.isdigit() for each in own)
    for each in key_words(before):
        stems = tuple(words(each))
        if stems not in known and not own.issuperset(stems) and (numbers or not all(map(str.isdigit, stems))):
            known.add(stems)
            yield each


def _is_content(word: str) -> bool:
    stems = words(word)
    return bool(stems) and not set(stems) <= FUNCTION_WORDS


def _rest(question: str) -> str:
    """Without the connectives that it begins with."""
    asked = question.strip()
    connective = _CONNECTIVE.match(asked)
    return asked[connective.end() :] if connective else asked


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

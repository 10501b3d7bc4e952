"""Where sentences end, in many scripts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixrag.corpus.splitters.sentences import ends_sentence, has_ended, sentence_ends, sentences

WHOLE = {
    "abbreviations": "Dr. Vane and Mrs. Orr met at St. Ives, e.g. on 3 Jan. 2024, cf. No. 7 and Fig. 2.",
    "initials": "The levy of J. R. Orr and of the U.S. Treasury.",
    "decimals": "It costs 3.50 or 1.000,25 crowns.",
    "a small letter follows": "He asked “Who?” and left, etc. and so on.",
    "numbered": "3. The fee is due.",
    "German": "Das ist z. B. die Nr. 5 der Abs. 2.",
    "Russian": "Это стр. 5 и т. е. рис. 2.",
    "a name with a mark": "The site example.com/a.b is down",
    "brackets": "It is due (see sec. 4) in May.",
}
ENDED = {
    "plain": ["It ended.", "Who asked?", "Stop!", "Yes…", "And so on."],
    "quotes": ["He said “no.”", "She left.", "(It rained.)", "Then it stopped."],
    "years": ["It was built in 1998.", "The next one followed."],
    "Chinese": ["费用是九元。", "谁付？", "“我付。”", "好！"],
    "Japanese": ["料金は九円です。", "「はい。」", "以上"],
    "Hindi": ["शुल्क नौ है।", "कौन देता है?", "वह।"],
    "Thai": ["ค่าธรรมเนียมคือเก้าบาท", "จ่ายเป็นเงินสด"],
    "Arabic": ["من يدفع؟", "هو يدفع."],
    "Armenian": ["Սա է։", "Նա է։"],
    "blank lines": ["no mark here", "nor there"],
}


@pytest.mark.parametrize("name", WHOLE)
def test_what_ends_no_sentence(name: str) -> None:
    assert list(sentence_ends(WHOLE[name])) == []


@pytest.mark.parametrize("name", ENDED)
def test_what_ends_one(name: str) -> None:
    between = {"Chinese": "", "Japanese": "", "blank lines": "\n \n"}.get(name, " ")
    text = between.join(ENDED[name])
    assert [text[a:b] for a, b in sentences(text, 0, len(text))] == ENDED[name]


@given(st.text(st.sampled_from("aB 1.?!。।\n\t”)’\u0e01(")), st.integers(0, 9))
def test_ends_ascend_and_sentences_cover_all_but_whitespace(text: str, start: int) -> None:
    ends = list(sentence_ends(text))
    assert ends == sorted(set(ends))
    found = list(sentences(text, start, len(text)))
    assert "".join("".join(text[a:b] for a, b in found).split()) == "".join(text[start:].split())


@pytest.mark.parametrize(
    ("text", "expected"), [("It ended.”", True), ("Fees:", True), ("费用。", True), ("and", False)]
)
def test_whether_a_text_ends_with_a_sentence(text: str, expected: bool) -> None:
    assert ends_sentence(text) is expected


@pytest.mark.parametrize("name", [*WHOLE])
def test_a_text_that_goes_on_has_ended_nowhere_but_at_its_end(name: str) -> None:
    """All but what only the next character tells."""
    text = WHOLE[name]
    expected = {
        "a small letter follows": ["He asked “Who?", "He asked “Who?”", "He asked “Who?” "],
        "a name with a mark": ["The site example.", "The site example.com/a."],
    }
    assert [text[:end] for end in range(len(text)) if has_ended(text[:end])] == expected.get(name, [])


@pytest.mark.parametrize("name", [*ENDED])
def test_a_text_that_goes_on_has_ended_with_each_sentence(name: str) -> None:
    between = {"Chinese": "", "Japanese": "", "blank lines": "\n \n", "Thai": " "}.get(name, " ")
    for sentence in ENDED[name][:-1]:
        end = between if name in ("blank lines", "Thai") else ""
        assert has_ended(sentence + end), sentence
        assert not has_ended(sentence.rstrip("?!….”。？।։؟)'」")), sentence


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *(("It costs 3.", False), ("It costs 3. ", True), ("It costs 3.\n", True), ("In 1998.", True)),
        *(("3. ", False), ("Fees:\n3. ", False), ("No.", False), ("J. R.", False), ("- one\n", True)),
        *(("\n", False), ("", False), ("费用\ufffd", False), ("He left.  ", True), ("Fees:", False)),
    ],
)
def test_what_only_later_characters_can_tell_ends_nothing(text: str, expected: bool) -> None:
    assert has_ended(text) is expected

"""Words of texts: each kind of spelling meets its other spellings, and what differs stays apart."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mixrag.corpus.words import LONGEST, asked_words, words


def meet(one: str, other: str) -> bool:
    """Whether a question with the one finds a text with the other."""
    return not set(words(one)).isdisjoint(words(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("harbour", "HARBOUR"),
        ("harbour", "ＨＡＲＢＯＵＲ"),
        ("harbour", "har\u00adbour"),
        ("harbour", "har\u200bbour"),
        ("harbour", "\ufeffharbour"),
        ("office", "oﬃce"),
        ("flounder", "ﬂounder"),
        ("licence", "licences"),
        ("Straße", "STRASSE"),
        ("cafe", "café"),
        ("cafe", "cafe\u0301"),
        ("Malmö", "Malmo"),
        ("Łódź", "lodz"),
        ("smørrebrød", "smorrebrod"),
        ("İstanbul", "istanbul"),
        ("ΘΆΛΑΣΣΑ", "θάλασσα"),
        ("λιμάνι", "λιμανι"),
        ("ёлка", "елка"),
        ("за\u0301мок", "замок"),
        ("гавань", "гавани"),
        ("الرُّسُوم", "الرسوم"),
        ("שָׁלוֹם", "שלום"),
        ("harbour's", "harbour"),
        ("harbour’s", "harbour's"),
        ("O’Brien", "OBrien"),
        ("l’avion", "avion"),
        ("e-mail", "email"),
        ("e‑mail", "e-mail"),
        ("U.S.A.", "USA"),
        ("AT&T", "ATT"),
    ],
)
def test_spellings_of_one_word_meet(one: str, other: str) -> None:
    assert meet(one, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("йод", "иод"),
        ("їжа", "іжа"),
        ("किला", "कल"),
        ("が", "か"),
        ("C++", "D++"),
        ("1250", "125"),
        ("1.25", "125"),
        ("1.25", "12.5"),
        ("10⁶", "106"),
        ("2½", "21"),
        ("1250", "1251"),
        ("港口", "灯塔"),
        ("수수료", "등대"),
        ("harbour", "lighthouse"),
    ],
)
def test_different_words_do_not(one: str, other: str) -> None:
    assert not meet(one, other)


@pytest.mark.parametrize("code", ["QX-77", "QX77", "qx_77", "QX/77", "QX.77", "qx–77"])
@pytest.mark.parametrize("asked", ["QX-77", "qx77", "QX", "77"])
def test_codes_are_found_by_every_spelling_and_by_their_parts(code: str, asked: str) -> None:
    assert meet(asked, f"The lamp {code}, made in Ellick")


NUMBER = [
    "4730",
    "4,730",
    "4.730",
    "4 730",
    "4\u00a0730",
    "4\u202f730",
    "4'730",
    "4’730",
    "４７３０",
    "٤٧٣٠",
    "४७३०",
]


@pytest.mark.parametrize("written", NUMBER)
def test_spellings_of_a_number_meet(written: str) -> None:
    for text in (
        written,
        f"It was {written}.",
        f"({written})",
        f"${written},",
        f"{written}克朗",
        f"{written}–9,999",
    ):
        assert "4730" in words(text), text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3.50", ["3.5"]),
        ("3,5", ["3.5"]),
        ("0.125", ["0.125"]),
        ("1,234,567.80", ["1234567.8"]),
        ("1.234.567,80", ["1234567.8"]),
        ("12,34,567", ["1234567"]),
        ("2020 100", ["2020", "100"]),
        ("7,8,9", ["7", "8", "9"]),
        ("2024-05-12", ["20240512", "2024", "05", "12"]),
        ("5%", ["5"]),
        ("007", ["007"]),
    ],
)
def test_numbers(text: str, expected: list[str]) -> None:
    assert list(dict.fromkeys(words(text)))[: len(expected)] == expected or words(text) == expected


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        ("许可", "港务办公室签发许可证。"),
        ("猫", "猫は魚を食べる"),
        ("ライセンス", "釣りのﾗｲｾﾝｽは十二クローネ"),
        ("ใบอนุญาต", "เรือประมงต้องมีใบอนุญาตทุกปี"),
        ("ອະນຸຍາດ", "ໃບອະນຸຍາດຫາປາ"),
        ("អាជ្ញាប័ណ្ណ", "ត្រូវការអាជ្ញាប័ណ្ណនេសាទ"),
        ("လိုင်စင်", "ငါးဖမ်းလိုင်စင်လိုအပ်သည်"),
        ("요금", "항만사무소가 요금을 받는다"),
        ("값", "값은 열두 크로네"),
        ("型号ZK88", "灯的型号是ZK88。"),
        ("ZK88", "灯的型号ZK88是新的"),
    ],
)
def test_words_are_found_in_scripts_without_spaces(asked: str, text: str) -> None:
    assert set(words(asked)) <= set(words(text))


def test_every_pair_is_weighed_as_it_is_written() -> None:
    assert words("港口税") == ["港", "港口", "口", "口税", "税"]
    assert words("みなと") == ["みな", "なと"] and words("と") == ["と"]
    assert words("항만은") == ["항만", "만은"]


def test_weights_of_a_question() -> None:
    assert asked_words("fee fee QX-77 e-mail 4 730") == {
        "fee": 1.0,
        "qx77": 0.5,
        "qx": 0.25,
        "77": 0.25,
        "email": 0.5,
        "e": 1.0,
        "mail": 1.0,
        "4730": 0.5,
        "4": 0.25,
        "730": 0.25,
    }


@given(st.text())
@example("\ud7ff\U0010ffff\0")
@example("1,2.3'4" * 9)
@example("'-_./:" * 5 + "a'")
@example("\u0301\u0e33\u1160")
@example("²³½⅓①Ⅷ")
@example("a\0b 1\x000 4\x00730")
def test_any_text(text: str) -> None:
    found = words(text)
    assert all(0 < len(word) <= LONGEST and not word.isspace() for word in found)
    assert set(asked_words(text)) == set(found)
    assert all(0.0 < weight <= 1.0 for weight in asked_words(text).values())
    assert words(unicodedata.normalize("NFD", text)) == words(unicodedata.normalize("NFC", text))


@given(st.text(alphabet="abcäß 1,.'-\u00ad漢字かな한글Жй", max_size=30))
def test_case_does_not_matter(text: str) -> None:
    assert words(text.upper()) == words(text.upper().lower().upper())


@pytest.mark.parametrize(
    "text", ["a-" * 20_000, "1," * 20_000, "1.000" * 8000, "漢" * 20_000, "a'" * 20_000, "9" * 50_000]
)
def test_no_text_takes_minutes(text: str) -> None:
    """Patterns that backtrack would."""
    assert words(text)

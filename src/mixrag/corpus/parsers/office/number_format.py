"""Numbers of a spreadsheet as its cells show them: dates, per cent, thousands, currencies, scientific."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from functools import lru_cache

BUILT_IN = {
    0: "General", 1: "0", 2: "0.00", 3: "#,##0", 4: "#,##0.00", 9: "0%", 10: "0.00%", 11: "0.00E+00", 12: "# ?/?",
    13: "# ??/??", 14: "yyyy-mm-dd", 15: "d-mmm-yy", 16: "d-mmm", 17: "mmm-yy",
    18: "h:mm AM/PM", 19: "h:mm:ss AM/PM",
    20: "h:mm", 21: "h:mm:ss", 22: "yyyy-mm-dd h:mm", 37: "#,##0;(#,##0)", 38: "#,##0;(#,##0)",
    39: "#,##0.00;(#,##0.00)", 40: "#,##0.00;(#,##0.00)", 41: "#,##0;(#,##0);-", 42: "$#,##0;($#,##0);-",
    43: "#,##0.00;(#,##0.00);-", 44: "$#,##0.00;($#,##0.00);-", 45: "mm:ss", 46: "[h]:mm:ss", 47: "mm:ss.0",
    48: "##0.0E+0", 49: "@",
}  # fmt: skip
"""Formats by their number (ECMA-376, 18.8.30); dates that follow the locale are given as ISO 8601."""

_TOKEN = re.compile(
    r'"([^"]*)"|\\(.)|_(?:.)|\*(?:.)|\[([^\]]*)\]|(AM/PM|A/P|上午/下午)|(E[+-]|e[+-])|(General)|([yYdDhHsSmMbBgGeE]+)'
    r"|([0#?]+|[.,%/@])|(.)",
    re.DOTALL,
)
_MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
           "November", "December")  # fmt: skip
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_ELAPSED = re.compile(r"h+|m+|s+", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    """One of text, date, elapsed, noon, exponent, digits, point, comma, percent, slash, at, general, condition."""
    text: str


def formatted(value: float, code: str, *, date1904: bool = False) -> str:
    """The number as a cell with this format shows it.

    >>> formatted(0.125, "0.0%"), formatted(-1234.5, "#,##0.00;(#,##0.00)"), formatted(45291, "d mmm yyyy")
    ('12.5%', '(1,234.50)', '31 Dec 2023')
    """
    if value != value or value in (float("inf"), float("-inf")):
        return ""
    sections = _sections(code)
    tokens, signed = _choose(sections, value)
    if any(token.kind in ("date", "elapsed") for token in tokens):
        return _date(value, tokens, date1904) if value >= 0 else general(value)
    if any(token.kind == "general" for token in tokens) or (not tokens and len(sections) == 1):
        shown = general(abs(value) if signed else value)
        return "".join(shown if token.kind == "general" else token.text for token in tokens) or shown
    return _number(abs(value) if signed else value, tokens)


def general(value: float) -> str:
    """A number as a cell without a format shows it: up to 11 digits, none added by binary fractions.

    >>> general(0.1 + 0.2), general(12.0), general(1e15), general(1.5e-9)
    ('0.3', '12', '1000000000000000', '1.5E-09')
    """
    if value != value or abs(value) == float("inf"):
        return ""
    if value == int(value) and abs(value) < 1e16:
        return str(int(value))
    if 1e-5 <= abs(value) < 1e11:
        text = f"{value:.10f}" if abs(value) < 1 else f"{value:.{max(0, 10 - len(str(int(abs(value)))) + 1)}f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    return f"{value:.5E}".replace(".00000", "").replace("E+", "E+") if value else "0"


@lru_cache(maxsize=4096)
def _sections(code: str) -> tuple[tuple[_Token, ...], ...]:
    parts: list[list[_Token]] = [[]]
    for match in _TOKEN.finditer(code[:500]):
        quoted, escaped, bracket, noon, exponent, general_, date, sign, other = match.groups()
        if other == ";":
            parts.append([])
        elif quoted is not None or escaped is not None or other is not None:
            parts[-1].append(_Token("text", quoted if quoted is not None else escaped or other))
        elif bracket is not None:
            parts[-1] += _bracket(bracket)
        elif noon:
            parts[-1].append(_Token("noon", noon))
        elif exponent:
            parts[-1].append(_Token("exponent", exponent))
        elif date:
            parts[-1] += [_Token("date", run[0]) for run in re.finditer(r"(.)\1*", date.lower())]
        elif general_:
            parts[-1].append(_Token("general", general_))
        elif sign:
            kinds = {".": "point", ",": "comma", "%": "percent", "/": "slash", "@": "at"}
            parts[-1].append(_Token(kinds.get(sign, "digits"), sign))
    return tuple(tuple(part) for part in parts)


def _bracket(text: str) -> list[_Token]:
    if text.startswith("$"):
        symbol = text[1:].split("-")[0]
        return [_Token("text", symbol)] if symbol else []
    if _ELAPSED.fullmatch(text):
        return [_Token("elapsed", text.lower())]
    condition = re.fullmatch(r"(<=|>=|<>|<|>|=)\s*(-?[\d.]+)", text)
    return [_Token("condition", text)] if condition else []


def _choose(sections: tuple[tuple[_Token, ...], ...], value: float) -> tuple[tuple[_Token, ...], bool]:
    """The section for this value without its condition, and whether it writes the sign itself."""
    for section in sections:
        condition = next((token.text for token in section if token.kind == "condition"), "")
        if condition and _holds(condition, value):
            return _without_condition(section), False
    if any(token.kind == "condition" for section in sections for token in section):
        return _without_condition(sections[-1]), False
    numeric = sections[:3]
    if value < 0 and len(numeric) > 1:
        return numeric[1], True
    if value == 0 and len(numeric) > 2:
        return numeric[2], False
    return numeric[0], False


def _without_condition(section: tuple[_Token, ...]) -> tuple[_Token, ...]:
    return tuple(token for token in section if token.kind != "condition")


def _holds(condition: str, value: float) -> bool:
    match = re.fullmatch(r"(<=|>=|<>|<|>|=)\s*(-?[\d.]+)", condition)
    try:
        limit = float(match[2]) if match else 0.0
    except ValueError:
        return False
    sign = match[1] if match else "="
    return {
        "<": value < limit, "<=": value <= limit, ">": value > limit, ">=": value >= limit,
        "=": value == limit, "<>": value != limit,
    }[sign]  # fmt: skip


def _number(value: float, tokens: tuple[_Token, ...]) -> str:
    first = next((place for place, token in enumerate(tokens) if token.kind == "digits"), None)
    if first is None:
        texts = (general(value) if token.kind == "at" else token.text for token in tokens if token.kind != "comma")
        return "".join(texts).strip()
    last = max(place for place, token in enumerate(tokens) if token.kind == "digits")
    pattern = tokens[first : last + 1]
    if any(token.kind == "slash" for token in pattern):
        return _around(tokens, first, last, general(round(value, 6)))
    scale = sum(2 for token in tokens if token.kind == "percent")
    end = last + 1
    while end < len(tokens) and tokens[end].kind == "comma":  # each divides by a thousand
        scale -= 3
        end += 1
    number = Decimal(repr(value)).scaleb(scale)
    exponent = next((token for token in pattern if token.kind == "exponent"), None)
    if exponent is not None:
        return _around(tokens, first, last, _scientific(number, pattern))
    point = next((place for place, token in enumerate(pattern) if token.kind == "point"), len(pattern))
    return _around(tokens, first, end - 1, _fixed(number, pattern[:point], pattern[point:]))


def _around(tokens: tuple[_Token, ...], first: int, last: int, number: str) -> str:
    """The number between the literal texts; a minus sign goes to the very front."""
    minus, number = ("-", number[1:]) if number.startswith("-") else ("", number)
    before = "".join(token.text for token in tokens[:first] if token.kind in ("text", "percent"))
    after = "".join(token.text for token in tokens[last + 1 :] if token.kind in ("text", "percent"))
    return (minus + before + number + after).strip()


def _fixed(number: Decimal, whole: tuple[_Token, ...], decimals: tuple[_Token, ...]) -> str:
    signs = "".join(token.text for token in decimals if token.kind == "digits")
    least = len(signs.rstrip("#?"))
    try:
        rounded = number.quantize(Decimal(1).scaleb(-len(signs)), rounding=ROUND_HALF_UP)
    except InvalidOperation:  # more digits than Decimal counts
        return f"{number:f}"
    minus = "-" if rounded < 0 else ""
    digits, _, fraction = f"{abs(rounded):f}".partition(".")
    while len(fraction) > least and fraction.endswith("0"):
        fraction = fraction[:-1]
    required = "".join(token.text for token in whole if token.kind == "digits").count("0")
    digits = digits.lstrip("0").rjust(required, "0") or ("" if fraction else "0")
    if any(token.kind == "comma" for token in whole):
        digits = re.sub(r"(?<=\d)(?=(?:\d{3})+$)", ",", digits)
    # Literal signs between the digits, as in 000-00-0000, are put in from the right.
    if any(token.kind == "text" for token in whole):
        digits = _interleaved(digits, whole)
    return f"{minus}{digits}.{fraction}" if fraction else f"{minus}{digits}"


def _interleaved(digits: str, pattern: tuple[_Token, ...]) -> str:
    out: list[str] = []
    for token in reversed(pattern):
        if token.kind == "text":
            out.append(token.text)
        elif token.kind == "digits":
            out.append(digits[-len(token.text) :])
            digits = digits[: -len(token.text)]
    return digits + "".join(reversed(out))


def _scientific(number: Decimal, pattern: tuple[_Token, ...]) -> str:
    place = next(place for place, token in enumerate(pattern) if token.kind == "exponent")
    point = next((at for at, token in enumerate(pattern) if token.kind == "point"), place)
    decimals = sum(len(token.text) for token in pattern[point:place] if token.kind == "digits")
    digits = sum(len(token.text) for token in pattern[place:] if token.kind == "digits")
    mantissa, _, exponent = f"{number:.{decimals}E}".partition("E")
    sign = "-" if exponent.startswith("-") else ("+" if pattern[place].text.endswith("+") else "")
    return f"{mantissa}E{sign}{exponent.lstrip('+-').lstrip('0').rjust(digits, '0')}"


def _date(value: float, tokens: tuple[_Token, ...], date1904: bool) -> str:
    seconds = round(value * 86400, 3)
    if value > 2_958_465:  # after the year 9999
        return general(value)
    days = int(value) + (1462 if date1904 else 0)
    # Spreadsheets count a 29 February 1900 that never was.
    origin = datetime(1899, 12, 30 if days >= 60 else 31)
    moment = origin + timedelta(days=days, milliseconds=round((value - int(value)) * 86400) * 1000)
    if not any(token.kind == "date" and token.text.startswith(("mmm", "h", "s")) for token in tokens) and (
        _has(tokens, "y") and _has(tokens, "d")
    ):
        return moment.strftime("%Y-%m-%d") if moment.year >= 1000 else moment.date().isoformat()
    if _has(tokens, "y") and _has(tokens, "d") and _has(tokens, "h") and not _has(tokens, "mmm"):
        return moment.isoformat(" ", "seconds" if _has(tokens, "s") else "minutes")
    return _spelled(moment, seconds, tokens)


def _has(tokens: tuple[_Token, ...], start: str) -> bool:
    return any(token.kind == "date" and token.text.startswith(start) for token in tokens)


def _spelled(moment: datetime, seconds: float, tokens: tuple[_Token, ...]) -> str:
    noon = any(token.kind == "noon" for token in tokens)
    out = ""
    for place, token in enumerate(tokens):
        if token.kind == "elapsed":
            unit = {"h": 3600, "m": 60, "s": 1}[token.text[0]]
            out += str(int(seconds // unit)).rjust(len(token.text), "0")
        elif token.kind == "noon":
            out += "AM" if moment.hour < 12 else "PM"
        elif token.kind == "date":
            minutes = token.text in ("m", "mm") and _is_minute(tokens, place)
            out += _part(moment, "M" * len(token.text) if minutes else token.text, noon)
        elif token.kind in ("text", "slash", "point", "comma"):
            out += token.text
    return out.strip()


def _is_minute(tokens: tuple[_Token, ...], place: int) -> bool:
    """Whether "m" means minutes: behind hours or in front of seconds."""
    timed = [token for token in tokens[:place] if token.kind in ("date", "elapsed")]
    after = [token for token in tokens[place + 1 :] if token.kind == "date"]
    return bool(timed and timed[-1].text[0] == "h") or bool(after and after[0].text[0] == "s")


def _part(moment: datetime, code: str, noon: bool) -> str:
    hour = (moment.hour % 12 or 12) if noon else moment.hour
    length = len(code)
    if code[0] == "y":
        return f"{moment.year % 100:02d}" if length <= 2 else f"{moment.year:04d}"
    if code[0] == "m":
        name = _MONTHS[moment.month - 1]
        return {1: str(moment.month), 2: f"{moment.month:02d}", 3: name[:3], 5: name[0]}.get(length, name)
    if code[0] == "d":
        name = _DAYS[moment.weekday()]
        return {1: str(moment.day), 2: f"{moment.day:02d}", 3: name[:3]}.get(length, name)
    number = {"h": hour, "M": moment.minute, "s": moment.second}.get(code[0])
    return "" if number is None else (str(number) if length == 1 else f"{number:02d}")

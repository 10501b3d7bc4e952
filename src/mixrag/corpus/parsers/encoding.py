"""From bytes to text: what the bytes say about their encoding, then UTF-8, then a guess that the report names."""

from __future__ import annotations

import codecs
import re
from collections import Counter

from mixrag.corpus.parsers.result import Notice, UnreadableError
from mixrag.utils.extras import require

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_XML_ENCODING = re.compile(rb"""\s*<\?xml[^>]{0,200}?\sencoding\s*=\s*["']([^"'<>]{1,40})["']""")
_META = re.compile(rb"<meta[\s/][^>]*", re.IGNORECASE)
_CHARSET = re.compile(rb"""charset\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s;"'>]+))""", re.IGNORECASE)
_COMMENT = re.compile(rb"<!--.*?-->", re.DOTALL)
# What texts of Western Europe are written with in windows-1252, beside ASCII.
_WESTERN = "äöüÄÖÜßàâçéèêëîïôûáíóúñÑÁÉÍÓÚÀÂÇÈÊåæøÅÆØ¿¡ªº«»‹›“”‘’„‚…–—•·€£¥§©®™°±²³¼½¾×µ\xa0\xad"
_WESTERN_BYTES = frozenset(_WESTERN.encode("cp1252"))
_LETTERS = re.compile(rb"[A-Za-z]")
_REMEDY = "save it as UTF-8 text, or give it the suffix of its real format"


def decode_text(data: bytes, declared: str = "") -> tuple[str, tuple[Notice, ...]]:
    """The text and, where its encoding was guessed or bytes could not be decoded, a notice.

    A byte order mark counts before ``declared``, the name of an encoding of the WHATWG's list ("" for none), and
    that before UTF-8. Everything else is detected by chardet.

    Raises:
        UnreadableError: binary data.
    """
    bom, encoding = next(((bom, name) for bom, name in _BOMS if data.startswith(bom)), (b"", ""))
    if encoding:
        return _decoded(data[len(bom) :], encoding)
    if encoding := _wide(data):
        return _decoded(data, encoding, guessed=True)
    if (offset := data.find(b"\0")) >= 0:
        raise UnreadableError("text", f"binary data (a NUL byte at offset {offset})", _REMEDY)
    for name in filter(None, (_python_name(declared), "utf-8")):
        try:
            return data.decode(name), ()
        except UnicodeError:
            continue
    if declared and (encoding := _python_name(declared)):
        text, notices = _decoded(data, encoding)
        if text.count("\ufffd") * 50 < len(text):
            return text, notices
    return _decoded(data, _detected(data), guessed=True)


def xml_encoding(data: bytes) -> str:
    """What the XML declaration names; "" without one."""
    found = _XML_ENCODING.match(data.removeprefix(codecs.BOM_UTF8)[:1024])
    return _ascii_compatible(found[1]) if found else ""


def html_encoding(data: bytes) -> str:
    """What a browser finds in the first KB of a page: the XML declaration or a ``meta`` outside comments.

    Source: WHATWG HTML, "prescan a byte stream to determine its encoding".
    """
    if name := xml_encoding(data):
        return name
    head = _COMMENT.sub(b"", data[:8192]).partition(b"<!--")[0]
    for meta in _META.findall(head):
        found = _CHARSET.search(meta)
        if not found or (b"content" in meta[: found.start()].lower() and b"http-equiv" not in meta.lower()):
            continue
        if name := _ascii_compatible(next(filter(None, found.groups()), b"")):
            return name
    return ""


def _ascii_compatible(label: bytes) -> str:
    """The name for a label found in ASCII text, which UTF-16 cannot be: UTF-8 is meant then."""
    name = label.decode("ascii", "replace").strip()
    return "utf-8" if name.lower().replace("_", "-").startswith(("utf-16", "utf-32", "ucs-")) else name


def _python_name(label: str) -> str:
    """The codec for a label of the WHATWG's list, "" for others: "punycode" is no charset."""
    if not label:
        return ""
    found = require("webencodings", "files", "charsets of pages").lookup(label)
    if found is None or found.name in {"replacement", "x-user-defined"}:
        return ""
    return {"gbk": "gb18030"}.get(found.name, str(found.codec_info.name))


def _decoded(data: bytes, encoding: str, *, guessed: bool = False) -> tuple[str, tuple[Notice, ...]]:
    notices = [Notice("guessed encodings", 1, f"read as {_shown(encoding)}")] if guessed else []
    try:
        text = data.decode(encoding)
    except UnicodeError:
        text = data.decode(encoding, "replace")
        lost = text.count("\ufffd")
        notices.append(Notice("undecodable bytes", lost, f"{lost} of them are no {_shown(encoding)}"))
    return text, tuple(notices)


def _shown(encoding: str) -> str:
    return re.sub(r"^cp(?=125\d)", "windows-", encoding.lower())


def _wide(data: bytes) -> str:
    """UTF-16 or UTF-32 without a mark, by the zero bytes of its spaces, digits and line ends."""
    sample = data[:4096]
    zeros = [sample[place::4].count(0) * 4 / len(sample) for place in range(4)] if len(sample) >= 8 else [0.0] * 4
    if len(data) % 4 == 0 and min(zeros[:2]) > 0.9 > 0.1 > zeros[3]:
        return "utf-32-be"
    if len(data) % 4 == 0 and min(zeros[2:]) > 0.9 > 0.1 > zeros[0]:
        return "utf-32-le"
    first, second = (zeros[0] + zeros[2]) / 2, (zeros[1] + zeros[3]) / 2
    for encoding, zero, other in (("utf-16-le", second, first), ("utf-16-be", first, second)):
        if zero > 0.02 and other < 0.001 and _readable(data[: len(data) // 2 * 2], encoding):
            return encoding
    return ""


def _readable(data: bytes, encoding: str) -> bool:
    """Whether the bytes give printable characters, most of them of one script."""
    try:
        text = data.decode(encoding)[:2000]
    except UnicodeError:
        return False
    shown = sum(1 for each in text if each.isprintable() or each in "\t\r\n\f")
    script = Counter(ord(each) >> 8 for each in text).most_common(1)[0][1]
    return shown >= 0.98 * len(text) and script >= 0.6 * len(text)


def _detected(data: bytes) -> str:
    """The name of the encoding that the bytes most likely have.

    Raises:
        UnreadableError: they look like no text at all.
    """
    controls = len(re.findall(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]", data[:65536]))
    if controls * 50 > len(data[:65536]):
        raise UnreadableError("text", "binary data (control characters)", _REMEDY)
    whole = data.decode("utf-8", "replace")
    lost = whole.count("\ufffd")
    if lost * 4 <= sum(1 for each in whole if each > "\x7f") - lost:
        return "utf-8"  # with a damaged character
    others = bytes(byte for byte in data[:262144] if byte > 0x7F)
    letters = sum(1 for byte in others if byte >= 0xC0)
    if _WESTERN_BYTES.issuperset(others) and letters < 0.4 * len(_LETTERS.findall(data[:262144])):
        return "cp1252"
    guess = require("chardet", "files", "text that is not UTF-8").detect(data[:1_000_000])
    try:
        return codecs.lookup(guess["encoding"] or "cp1252").name
    except LookupError:
        return "cp1252"

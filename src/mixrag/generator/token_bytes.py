"""The bytes that each token of a vocabulary writes, whatever tokenizer it comes from.

Byte-level vocabularies (GPT-2 and most after it) write one printable character for each byte; SentencePiece writes
"▁" for a space and <0x0A> for a byte. Any other vocabulary, and that of a generator without a Hugging Face
tokenizer, is read by its own ``text``: what a token adds after another one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from mixrag.generator.protocol import Generator

SPACE = "\u2581"
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")


def token_bytes(generator: Generator) -> list[bytes | None]:
    """(V,) the bytes that each token adds to an answer; None for special tokens, and ids without a text."""
    tokenizer = getattr(getattr(generator, "tokens", None), "tokenizer", None)
    if tokenizer is not None:
        found = _of_vocabulary(tokenizer, generator.vocabulary_size)
        if found is not None:
            return found
    return _by_text(generator)


def _of_vocabulary(tokenizer: Any, size: int) -> list[bytes | None] | None:
    """By the spelling of the vocabulary; None where it is neither byte-level nor SentencePiece."""
    added: Mapping[int, Any] = tokenizer.added_tokens_decoder
    special = {*map(int, tokenizer.all_special_ids), *(i for i, token in added.items() if token.special)}
    names = tokenizer.convert_ids_to_tokens(list(range(min(size, len(tokenizer)))))
    plain = [name for i, name in enumerate(names) if name and i not in added and i not in special]
    alphabet = _byte_alphabet()
    if all(character in alphabet for name in plain for character in name):
        spelled = [None if name is None else _of_byte_level(name) for name in names]
    elif any(SPACE in name for name in plain):
        spelled = [None if name is None else _of_sentencepiece(name) for name in names]
    else:
        return None
    for i, token in added.items():
        if i < len(spelled):
            spelled[i] = None if token.special else str(token).encode()
    found = [None if i in special or not each else each for i, each in enumerate(spelled)]
    return found + [None] * (size - len(found))


def _of_byte_level(name: str) -> bytes | None:
    alphabet = _byte_alphabet()
    codes = [alphabet.get(character) for character in name]
    return None if None in codes else bytes(code for code in codes if code is not None)


def _of_sentencepiece(name: str) -> bytes:
    byte = _BYTE.fullmatch(name)
    return bytes([int(byte[1], 16)]) if byte else name.replace(SPACE, " ").encode()


@cache
def _byte_alphabet() -> Mapping[str, int]:
    """The byte of each character of a byte-level vocabulary, as GPT-2 has it."""
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in set(shown)]
    return {chr(byte): byte for byte in shown} | {chr(256 + i): byte for i, byte in enumerate(hidden)}


def _by_text(generator: Generator) -> list[bytes | None]:
    """What each token adds to the text of another one, as ``generator.text`` writes both."""
    ordinary = [token for token in range(generator.vocabulary_size) if token not in generator.stop_tokens]
    first = next((token for token in ordinary if _text(generator, [token]).strip()), None)
    found: list[bytes | None] = [None] * generator.vocabulary_size
    if first is None:
        return found
    before = _text(generator, [first])
    for token in ordinary:
        both = _text(generator, [first, token])
        if both.startswith(before) and "\ufffd" not in both and len(both) > len(before):
            found[token] = both[len(before) :].encode()
    return found


def _text(generator: Generator, tokens: Sequence[int]) -> str:
    return generator.text(tokens)

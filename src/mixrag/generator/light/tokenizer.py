"""A tokenizer of transformers by its serialised form, through the library tokenizers.

It has those members of a fast tokenizer that answering a question needs. Whatever else is asked of it is asked of
transformers' own, which is loaded then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Encoding, Tokenizer

from mixrag.generator.light.chat import rendered
from mixrag.generator.light.entries import UnlikeError

FILE = "serialised.json"
SAMPLES = (
    "a",
    "Zoë paid £5 (in 1973): 東京, naïve 𝔸",
    "two  spaces,\n\nlines\tand don't",
    "The 12345.678 of X_y-z is https://example.org/?a=1",
)
_STATED = ("eos_token", "eos_token_id", "bos_token", "unk_token", "unk_token_id", "pad_token", "sep_token")
_CALL = {"add_special_tokens", "split_special_tokens", "return_offsets_mapping"}
_WINDOWS = {"truncation", "max_length", "stride", "padding", "return_overflowing_tokens"}
_CHATS = (
    [{"role": "user", "content": "a"}],
    [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}],
    [{"role": "user", "content": [{"type": "text", "text": "a"}]}],
)


class Read(dict[str, Any]):
    """What a tokenizer gives for one text, or for several: lists by name, also as attributes."""

    def __init__(self, lists: Mapping[str, Any], encodings: Sequence[Encoding]) -> None:
        super().__init__(lists)
        self.encodings = encodings

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None

    def sequence_ids(self, number: int) -> list[int | None]:
        """Which text of the pair each token of a window is from."""
        return list(self.encodings[number].sequence_ids)


class LightTokenizer:
    """A fast tokenizer without transformers."""

    is_fast = True

    def __init__(self, backend: Tokenizer, about: Mapping[str, Any], load: Callable[[], Any]) -> None:
        self.backend_tokenizer, self._about, self._load = backend, about, load
        self._reference: Any = None

    @property
    def reference(self) -> Any:
        """The tokenizer of transformers."""
        if self._reference is None:
            self._reference = self._load()
        return self._reference

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        stated: Mapping[str, Any] = self._about["stated"]
        return stated[name] if name in stated else getattr(self.reference, name)

    def __len__(self) -> int:
        return int(self.backend_tokenizer.get_vocab_size(with_added_tokens=True))

    def __call__(self, text: Any, pair: str | None = None, **options: Any) -> Any:
        """As transformers' own; options that are not known here are left to it."""
        texts = [text] if isinstance(text, str) else text
        known = _CALL | (_WINDOWS if pair is not None else set())
        whole = pair is None or options.get("truncation") == "only_second"
        if options.keys() - known or not whole or not isinstance(texts, list):
            return self.reference(text, pair, **options)
        backend, special = self.backend_tokenizer, options.get("add_special_tokens", True)
        backend.encode_special_tokens = bool(options.get("split_special_tokens", False))
        if pair is not None:
            return self._windows(text, pair, **options)
        backend.no_truncation()
        backend.no_padding()
        found = backend.encode_batch(texts, add_special_tokens=special)
        lists = _lists(found, bool(options.get("return_offsets_mapping")))
        return Read({name: each[0] for name, each in lists.items()} if isinstance(text, str) else lists, found)

    def _windows(self, text: str, pair: str, **options: Any) -> Read:
        backend = self.backend_tokenizer
        backend.no_padding()
        length, stride = int(options["max_length"]), int(options.get("stride", 0))
        backend.enable_truncation(length, stride=stride, strategy="only_second", direction="right")
        first = backend.encode(text, pair)
        found = [first, *first.overflowing]
        lists = _lists(found, bool(options.get("return_offsets_mapping")))
        if not self._about["stated"]["types"]:
            del lists["token_type_ids"]
        return Read(lists, found)

    def num_special_tokens_to_add(self, pair: bool = False) -> int:
        """Of one text, or of a pair."""
        return int(self.backend_tokenizer.num_special_tokens_to_add(pair))

    def decode(self, ids: Any, skip_special_tokens: bool = False, **options: Any) -> str:
        """The text of token ids."""
        if options.get("clean_up_tokenization_spaces", True):
            return str(self.reference.decode(ids, skip_special_tokens=skip_special_tokens, **options))
        return str(self.backend_tokenizer.decode(list(ids), skip_special_tokens=skip_special_tokens))

    def tokenize(self, text: str) -> list[str]:
        """The tokens of a text as they are spelled. No option is changed: others may be using it."""
        return list(self.backend_tokenizer.encode(text, add_special_tokens=False).tokens)

    def convert_ids_to_tokens(self, ids: Any) -> Any:
        """How tokens are spelled."""
        if isinstance(ids, int):
            return self.backend_tokenizer.id_to_token(ids)
        return [self.backend_tokenizer.id_to_token(int(each)) for each in ids]

    def convert_tokens_to_ids(self, tokens: Any) -> Any:
        """The ids of tokens; that of the unknown token where there is none."""
        if not isinstance(tokens, str):
            return [self.convert_tokens_to_ids(each) for each in tokens]
        found = self.backend_tokenizer.token_to_id(tokens)
        return self._about["stated"]["unk_token_id"] if found is None else found

    @property
    def added_tokens_decoder(self) -> dict[int, AddedToken]:
        """Added tokens by their ids."""
        return dict(self.backend_tokenizer.get_added_tokens_decoder())

    def get_chat_template(self) -> str:
        """The source of the chat template."""
        template = self._about["stated"]["chat_template"]
        return str(self.reference.get_chat_template() if template is None else template)

    def apply_chat_template(self, messages: Any, **options: Any) -> Any:
        """As transformers' own; with ``tokenize=False`` by jinja2 alone."""
        if options.pop("tokenize", True) or not self._about["renders"]:
            return self.reference.apply_chat_template(messages, **options)
        template = options.pop("chat_template", None) or self.get_chat_template()
        return rendered(template, messages, self._about["special"], **options)


def _lists(found: Sequence[Encoding], offsets: bool) -> dict[str, list[Any]]:
    lists = {"input_ids": [each.ids for each in found], "token_type_ids": [each.type_ids for each in found]}
    return {**lists, "offset_mapping": [each.offsets for each in found]} if offsets else lists


def write_tokenizer(reference: Any, folder: Path) -> dict[str, Any]:
    """Write a fast tokenizer of transformers into a folder; what ``read_tokenizer`` is to be given.

    Raises:
        UnlikeError: it is of another kind.
    """
    backend, template = getattr(reference, "backend_tokenizer", None), getattr(reference, "chat_template", None)
    if backend is None or not isinstance(template, str | None):
        raise UnlikeError("a tokenizer in Python, or one with several chat templates")
    text: str = backend.to_str()
    (folder / FILE).write_text(text, encoding="utf-8")
    stated = {name: getattr(reference, name, None) for name in _STATED}
    stated |= {"model_max_length": int(reference.model_max_length), "chat_template": template}
    stated |= {"all_special_ids": [*map(int, reference.all_special_ids)]}
    stated |= {"types": "token_type_ids" in reference.model_input_names}
    special = {name: str(value) for name, value in reference.special_tokens_map.items() if isinstance(value, str)}
    renders = template is None or all(_renders(reference, template, special, chat) for chat in _CHATS)
    return {"stated": stated, "special": special, "renders": renders}


def read_tokenizer(folder: Path, about: Mapping[str, Any], load: Callable[[], Any]) -> LightTokenizer:
    """The tokenizer that ``write_tokenizer`` wrote; ``load`` loads that of transformers."""
    return LightTokenizer(Tokenizer.from_file(str(folder / FILE)), about, load)


def check_tokenizer(light: LightTokenizer, reference: Any) -> None:
    """Refuse a tokenizer that reads or writes some text in another way than that of transformers.

    Raises:
        UnlikeError: it does.
    """
    texts = [*SAMPLES, " ".join(map(str, reference.all_special_tokens)) + " a"]
    for split in (False, True):
        options: dict[str, Any] = {
            "add_special_tokens": False,
            "split_special_tokens": split,
            "return_offsets_mapping": True,
        }
        for text in texts:
            own, other = light(text, **options), reference(text, **options)
            pairs = ((own.input_ids, other.input_ids), (own.offset_mapping, other.offset_mapping))
            if any([*map(_plain, a)] != [*map(_plain, b)] for a, b in pairs):
                raise UnlikeError(f"other tokens of {text!r}")
            for skipped in (False, True):
                decoding: dict[str, Any] = {"skip_special_tokens": skipped, "clean_up_tokenization_spaces": False}
                if light.decode(own.input_ids, **decoding) != reference.decode(own.input_ids, **decoding):
                    raise UnlikeError(f"another text of {text!r}")
    if list(light(texts[1]).input_ids) != list(reference(texts[1]).input_ids) or len(light) != len(reference):
        raise UnlikeError("other special tokens")
    added = {int(i): (str(token), token.special) for i, token in reference.added_tokens_decoder.items()}
    if {i: (str(token), token.special) for i, token in light.added_tokens_decoder.items()} != added:
        raise UnlikeError("other added tokens")


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, (list, tuple)) else value


def _renders(reference: Any, template: str, special: Mapping[str, str], chat: Sequence[Any]) -> bool:
    """Whether jinja2 alone writes what transformers writes, or fails where it fails."""
    options = {"add_generation_prompt": True}
    try:
        expected = reference.apply_chat_template(chat, tokenize=False, **options)
    except Exception:
        expected = None
    try:
        return bool(rendered(template, chat, special, **options) == expected)
    except Exception:
        return expected is None

"""From text to the three parts of a prompt, for any Hugging Face tokenizer.

Passages and questions are data: a special token spelled out in them is read as ordinary letters, so that no
document can open or close a chat turn.
"""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from mixrag.config.prompt_template import PromptTemplate
from mixrag.corpus.passage import Passage
from mixrag.errors import ModelError, QuestionError
from mixrag.generator.protocol import Prompt, Shortened
from mixrag.generator.thoughts import closed, marks_thoughts, thought_tokens, without_thoughts
from mixrag.utils.turns import turn

UNLIMITED_CONTEXT = 2**20
"""Means "no limit" where a model states no context length (T5's relative positions have none)."""
DATE = datetime.datetime(2024, 7, 26)
"""Today, for templates that write the date: with the real one, every prompt and its probabilities would change by
day. It is the date that those of Llama 3 write where they are told none."""
NO_THOUGHTS: dict[str, Any] = {"enable_thinking": False, "thinking": False}
"""What templates of models that may think before they answer read (Qwen3, SmolLM3 and GLM; DeepSeek-V3.1, Granite
and Kimi); many think by default."""
_SENTINEL = "\u2063mixrag\u2063"


@dataclass(frozen=True)
class PromptTokenizer:
    """A tokenizer, a template, and the number of tokens that prompt and answer may have together."""

    tokenizer: Any
    template: PromptTemplate
    context_size: int
    keep_suffix: bool
    """Encoders of seq2seq models read a special token at the end; a causal prompt must not have one."""

    def prompt(self, question: str, passages: Sequence[Passage], reserve: int) -> Prompt:
        """Tokenise the three parts; passages share the context that header, question and answer leave.

        Raises:
            QuestionError: header, question and answer alone exceed the context.
        """
        before, after = self._frame
        template = self.template
        header = before + self._plain(template.header if passages else template.header_without_passage)
        asked = self._plain(template.question_text(question)) + after
        available = self.context_size - reserve - len(header) - len(asked)
        if available < 0:
            raise QuestionError(
                f"question, prompt text and {reserve} tokens of answer within {self.context_size} tokens",
                f"{len(asked)} tokens of question and {len(header)} of prompt text",
                "shorten the question, lower max_tokens or choose a model with a longer context",
            )
        parts, shortened = self._fit(passages, available)
        own = self._own(asked, question)
        passage = tuple(token for part in parts for token in part)
        return Prompt(tuple(header), passage, tuple(asked), shortened, own_question=own)

    def prompt_text(self, prompt: Prompt) -> str:
        """The text of a prompt, special tokens spelled out."""
        return str(self.tokenizer.decode(list(prompt.tokens), clean_up_tokenization_spaces=False))

    def answer_tokens(self, answer: str, stop: int) -> tuple[int, ...]:
        """An answer's ids with the stop token; in plain (not chat) text a space separates it from the prompt.

        The thoughts of a model that thinks are left out.
        """
        if self.never or (self._in_chat and marks_thoughts(self._source)):
            answer = without_thoughts(answer)
        return (*self._plain(self.separator + answer), stop)

    def text(self, tokens: Sequence[int], stop_tokens: Set[int]) -> str:
        """The text of answer ids without special tokens and without the space before it."""
        written = [token for token in tokens if token not in stop_tokens]
        text: str = self.tokenizer.decode(written, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text.removeprefix(self.separator)

    def plain(self, texts: Sequence[str]) -> list[tuple[int, ...]]:
        """The ids of each of several texts by itself, without special tokens: they are data."""
        if self._inside_marker is not None or not texts:
            return [tuple(self._plain(text)) for text in texts]
        with turn(self.tokenizer):
            read = self.tokenizer(list(texts), add_special_tokens=False, split_special_tokens=True)
        return [tuple(ids) for ids in read.input_ids]

    def turn_end(self, stop_tokens: Set[int]) -> int | None:
        """The token that the chat format writes after an assistant's message; None if it has none.

        It is one of the stop tokens, or an added token that the model was not declared to stop at.
        """
        if not self._in_chat:
            return None
        rendered = self._chat([("user", "a"), ("assistant", _SENTINEL)], self._in_parts)
        ids = self._trusted(rendered.partition(_SENTINEL)[2])
        known = stop_tokens | self.tokenizer.added_tokens_decoder.keys()
        return ids[0] if ids and ids[0] in known else None

    @cached_property
    def never(self) -> tuple[int, ...]:
        """Tokens that no answer has: those that open or close a thought."""
        return thought_tokens(self.tokenizer)

    @cached_property
    def _in_chat(self) -> bool:
        return self.template.chat and bool(getattr(self.tokenizer, "chat_template", None))

    @cached_property
    def separator(self) -> str:
        """What separates an answer from the prompt in plain text: a space or nothing."""
        separated = self._in_chat or self.keep_suffix or self.template.question[-1:].isspace()
        first = self.tokenizer.convert_ids_to_tokens(self._trusted("a"))[0]
        # SentencePiece puts a space before every text by itself.
        return "" if separated or first.startswith("\u2581") else " "

    @cached_property
    def _frame(self) -> tuple[list[int], list[int]]:
        """Trusted ids before and after the user's text: chat format or the tokenizer's special tokens."""
        if self._in_chat:
            rendered = self._chat([("user", _SENTINEL)], self._in_parts, add_generation_prompt=True)
            before, _, after = rendered.partition(_SENTINEL)
            return self._trusted(before), self._trusted(closed(after, self._source))
        return self._special_ends

    @cached_property
    def _in_parts(self) -> bool:
        """Whether the chat template reads a message as a list of parts, and not as a text.

        Raises:
            ModelError: it writes the user's message neither way or more than once, or reads no such argument.
            Exception: any error of the template.
        """
        self._check_arguments()
        failure: Exception | None = None
        for in_parts in (False, True):
            try:
                rendered = self._chat([("user", _SENTINEL)], in_parts, add_generation_prompt=True)
            except Exception as error:  # a template may refuse text
                failure = failure or error
                continue
            if rendered.count(_SENTINEL) == 1:
                return in_parts
        if failure is not None:
            raise failure
        expected = "a chat template that writes the user's message once"
        remedy = "give a tokenizer with another template, or a prompt file with chat = false"
        raise ModelError(expected, "one that leaves it out, changes it or repeats it", remedy)

    def _check_arguments(self) -> None:
        for name in self.template.template_args:
            if not self._reads(name):
                raise ModelError(
                    f"a chat template that reads the argument {name}", "one that does not", "leave it out"
                )

    def _reads(self, name: str) -> bool:
        return re.search(rf"\b{name}\b", str(self.tokenizer.chat_template)) is not None

    @cached_property
    def _source(self) -> str:
        """The chat template that is used, of several."""
        return str(self.tokenizer.get_chat_template())

    @cached_property
    def _arguments(self) -> dict[str, Any]:
        """Arguments of the chat template: those given, and that a model which may think shall not."""
        given = dict(self.template.template_args)
        if given.keys() & NO_THOUGHTS.keys():
            return given
        return {**{name: value for name, value in NO_THOUGHTS.items() if self._reads(name)}, **given}

    def _chat(self, messages: Sequence[tuple[str, str]], in_parts: bool, **options: Any) -> str:
        """Messages (role, content) in the chat format; a template that asks for today's date gets ``DATE``."""
        written = [
            {"role": role, "content": [{"type": "text", "text": content}] if in_parts else content}
            for role, content in messages
        ]
        options |= {"chat_template": self._dated_template, **self._arguments}
        return str(self.tokenizer.apply_chat_template(written, tokenize=False, **options))

    @cached_property
    def _dated_template(self) -> str | None:
        """The chat template with a clock that stands still; None where it does not ask for the time.

        transformers turns functions that it is given into text, so the clock is a macro.
        """
        source = self._source
        if "strftime_now" not in source:
            return None
        formats = ["%d %b %Y", *re.findall(r"'([^'\n]*%[^'\n]*)'|\"([^\"\n]*%[^\"\n]*)\"", source)]
        shown = {each: DATE.strftime(each) for each in ("".join(found) for found in formats)}
        clock = f"{{{{ {json.dumps(shown)}.get(format, {DATE:'%d %b %Y'}) }}}}"
        return f"{{% macro strftime_now(format) %}}{clock}{{% endmacro %}}{{{{ '' }}}}{source}"

    @cached_property
    def _special_ends(self) -> tuple[list[int], list[int]]:
        bare = self._trusted("a")
        with turn(self.tokenizer):
            full = list(self.tokenizer("a").input_ids)
        starts = [i for i in range(len(full)) if full[i : i + len(bare)] == bare]
        if not starts:
            return [], []
        suffix = full[starts[0] + len(bare) :]
        return full[: starts[0]], suffix if self.keep_suffix else []

    def _own(self, asked: Sequence[int], question: str) -> tuple[int, int]:
        """Where among ``asked`` the tokens are that have a letter of the question, at its first place."""
        _, after = self.template.around_question(question)
        first = _common_start(asked, self._before_question)
        rest = asked[first:]
        ending = [*self._plain(after), *self._frame[1]]
        return first, len(asked) - _common_start(rest[::-1], ending[::-1])

    @cached_property
    def _before_question(self) -> list[int]:
        return self._plain(self.template.around_question("")[0])

    def _trusted(self, text: str) -> list[int]:
        with turn(self.tokenizer):
            return list(self.tokenizer(text, add_special_tokens=False).input_ids)

    def _plain(self, text: str) -> list[int]:
        with turn(self.tokenizer):
            encoded = [
                self.tokenizer(p, add_special_tokens=False, split_special_tokens=True).input_ids
                for p in self._pieces(text)
            ]
        return [token for ids in encoded for token in ids]

    def _characters(self, text: str, length: int, count: int) -> int | None:
        """Of the last ``length`` characters of a text how many stand before its token number ``count``."""
        if not getattr(self.tokenizer, "is_fast", False):
            return None
        starts, place = list[int](), 0
        for piece in self._pieces(text):
            with turn(self.tokenizer):
                read = self.tokenizer(
                    piece, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True
                )
            starts += [place + start for start, _ in read.offset_mapping]
            place += len(piece)
        return max(0, starts[count] - (len(text) - length))

    def _pieces(self, text: str) -> list[str]:
        return [text] if self._inside_marker is None else self._inside_marker.split(text)

    @cached_property
    def _inside_marker(self) -> re.Pattern[str] | None:
        """The place after the first letter of a marker, where a text is cut so that the marker stays letters.

        Chat formats may use added tokens that are not declared special; the tokenizer's own option
        (split_special_tokens) does not split those.
        """
        added = self.tokenizer.added_tokens_decoder.values()
        ordinary = {str(token) for token in added if not token.special}
        markers = sorted(token for token in ordinary if len(token) > 1 and not token.isspace())
        places = [f"(?<={re.escape(marker[0])})(?={re.escape(marker[1:])})" for marker in markers]
        return re.compile("|".join(places)) if places else None

    def _fit(self, passages: Sequence[Passage], available: int) -> tuple[list[list[int]], tuple[Shortened, ...]]:
        texts, bodies, endings = [], [], []
        for passage in passages:
            body, ending = self.template.passage_text(passage.title, passage.text, passage.context)
            texts.append(body)
            bodies.append(self._plain(body))
            endings.append(self._plain(ending))
        available -= sum(len(ending) for ending in endings)
        limit = fair_limit([len(body) for body in bodies], max(0, available))
        if limit == 0:
            endings = [[] for _ in passages]
        shortened = tuple(
            Shortened(passage.id, limit, len(body), self._characters(text, len(passage.text), limit))
            for passage, text, body in zip(passages, texts, bodies, strict=True)
            if len(body) > limit
        )
        return [body[:limit] + ending for body, ending in zip(bodies, endings, strict=True)], shortened


def _common_start(tokens: Sequence[int], others: Sequence[int]) -> int:
    """How many tokens both begin with."""
    differ = (place for place, (a, b) in enumerate(zip(tokens, others, strict=False)) if a != b)
    return next(differ, min(len(tokens), len(others)))


def fair_limit(lengths: Sequence[int], total: int) -> int:
    """The largest length to which all may be cut so that their sum is at most ``total``.

    Only the longest are cut, all to the same length.

    Example:
        >>> fair_limit([10, 50, 90], 100)
        45
    """
    left = total
    for done, length in enumerate(sorted(lengths)):
        share = left // (len(lengths) - done)
        if length > share:
            return share
        left -= length
    return max(lengths, default=0)

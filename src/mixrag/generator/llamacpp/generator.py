"""Causal language models in GGUF files, as generators."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mixrag.config.prompt_template import PromptTemplate
from mixrag.errors import MixragError, ModelError
from mixrag.generator.base import TokenizerMethods
from mixrag.generator.gguf import gguf_tokenizer
from mixrag.generator.llamacpp.model import GGUFModel, opened, same_tokens, states_for
from mixrag.generator.llamacpp.sequences import Row, Sequences
from mixrag.generator.names import unusable
from mixrag.generator.prefix_cache import PrefixCache
from mixrag.generator.prompt_tokenizer import PromptTokenizer
from mixrag.generator.protocol import Prompt
from mixrag.generator.questions import teacher_forced
from mixrag.generator.thoughts import without_tokens
from mixrag.generator.tokenizer import SAMPLES, loaded_tokenizer

Known = tuple[tuple[int, ...], int]
"""Tokens of a row, and how many of them are header and passages."""
TOLERANCE = 0.3
"""Sum of the differences of probabilities in the trial; that of unlike distributions is 2. What is read together
changes products of quantised weights, and keys and values have half precision."""


@dataclass(frozen=True)
class SequenceBranches:
    """Rows of a ``GGUFGenerator``."""

    generator: GGUFGenerator
    rows: tuple[Known, ...]
    """R rows: prompt and answer so far."""
    log_probs: Tensor
    """(R, V)."""

    def advance(self, rows: Tensor, tokens: Tensor) -> SequenceBranches:
        """See ``Branches.advance``."""
        chosen = zip(rows.tolist(), tokens.tolist(), strict=True)
        longer = tuple(((*self.rows[row][0], token), self.rows[row][1]) for row, token in chosen)
        return SequenceBranches(self.generator, longer, self.generator.next_log_probs(longer))

    def select(self, rows: Tensor) -> SequenceBranches:
        """See ``Branches.select``."""
        chosen = tuple(self.rows[row] for row in rows.tolist())
        return SequenceBranches(self.generator, chosen, self.log_probs[rows])

    @property
    def joins(self) -> bool:
        """Always: what a row has read is looked up by its tokens."""
        return True

    def join(self, rows: Tensor, others: Sequence[tuple[SequenceBranches, Tensor]]) -> SequenceBranches:
        """See ``JoiningBranches.join``."""
        parts = [self.select(rows), *(each.select(some) for each, some in others)]
        log_probs = torch.cat([part.log_probs for part in parts])
        return SequenceBranches(self.generator, tuple(row for part in parts for row in part.rows), log_probs)

    def score(self, tokens: Sequence[int]) -> Tensor:
        """See ``Branches.score``."""
        tokens = tuple(tokens)
        first = self.log_probs[:, tokens[0], None]
        longer = [((*row, *tokens[:-1]), prefix) for row, prefix in self.rows]
        return torch.cat([first, self.generator.scored(longer, tokens[1:])], -1)


@dataclass(frozen=True)
class GGUFGenerator(TokenizerMethods):
    """A causal model that llama.cpp runs, with a Hugging Face tokenizer; see ``Generator`` for each member."""

    name: str
    model: GGUFModel
    tokens: PromptTokenizer
    stop_tokens: frozenset[int]
    stop_token: int
    prefix_cache_bytes: int | None = None
    """Memory for the states of passages, in bytes; None: none."""
    prefix_cache: PrefixCache | None = field(init=False, compare=False)
    sequences: Sequences = field(init=False, compare=False)
    engine = "llamacpp"
    """What runs the model; see ``engines.py``."""

    def __post_init__(self) -> None:
        """Begin with nothing read; a copy (``dataclasses.replace``) has read nothing either."""
        size = self.prefix_cache_bytes
        object.__setattr__(self, "prefix_cache", None if size is None else PrefixCache(size))
        object.__setattr__(self, "sequences", Sequences(self.model, self.prefix_cache))

    @property
    def vocabulary_size(self) -> int:
        """V."""
        return self.model.vocabulary_size

    @property
    def rounding(self) -> float:
        """See ``generator/rounding.py``."""
        return self.model.rounding

    @property
    def device(self) -> torch.device:
        """The processor."""
        return torch.device("cpu")

    @property
    def never(self) -> tuple[int, ...]:
        """Tokens that no answer has: see ``generator/thoughts.py``."""
        return self.tokens.never

    def start(self, prompts: Sequence[Prompt]) -> SequenceBranches:
        """See ``Generator.start``."""
        rows = tuple((prompt.tokens, _prefix(prompt)) for prompt in prompts)
        return SequenceBranches(self, rows, self.next_log_probs(rows))

    def log_likelihood(self, prompts: Sequence[Prompt], answer: Sequence[int]) -> Tensor:
        """See ``Generator.log_likelihood``."""
        answer = tuple(answer)
        return self.scored([((*prompt.tokens, *answer[:-1]), _prefix(prompt)) for prompt in prompts], answer)

    def question_log_likelihood(self, prompts: Sequence[Prompt]) -> Tensor:
        """See ``QuestionReader``."""
        return teacher_forced(self, prompts)

    def next_log_probs(self, rows: Sequence[Known]) -> Tensor:
        """(R, V) log p(next token) after R rows, which can be continued."""
        distinct = [*dict.fromkeys(rows)]
        table = torch.empty(len(distinct), self.vocabulary_size)

        def found(row: int, _: int, logits: Tensor) -> None:
            table[row] = self._log_probs(logits)

        self.sequences.read([Row(*each, stays=True) for each in distinct], found)
        place = {each: row for row, each in enumerate(distinct)}
        return table if len(distinct) == len(rows) else table[[place[each] for each in rows]]

    def scored(self, rows: Sequence[Known], answer: Sequence[int]) -> Tensor:
        """(R, T) log p of the tokens of an answer (T,), all but the last of which end each row."""
        result = torch.empty(len(rows), len(answer))

        def found(row: int, place: int, logits: Tensor) -> None:
            result[row, place] = self._log_probs(logits)[answer[place]]

        if answer:
            self.sequences.read([Row(*each, outputs=len(answer)) for each in rows], found)
        return result

    def _log_probs(self, logits: Tensor) -> Tensor:
        return without_tokens(logits, self.never).log_softmax(-1)


def _prefix(prompt: Prompt) -> int:
    return len(prompt.header) + len(prompt.passages)


def gguf_generator(
    name: str,
    file: Path,
    *,
    tokenizer: Any,
    template: PromptTemplate,
    dtype: str | torch.dtype,
    budget: int,
    hub: Mapping[str, Any],
) -> GGUFGenerator:
    """The generator of a GGUF file.

    Args:
        name: what messages call it.
        file: the file.
        tokenizer: object, folder or hub name; None is the one in the file.
        template: the prompt.
        dtype: as the setting; see ``model.STATES``.
        budget: bytes for the states of passages that were read; 0 is none.
        hub: options of a tokenizer that is loaded from the hub.

    Raises:
        ModelError: a file or model that cannot be run, or a tokenizer that is not the model's.
        SettingError: another dtype.
        MissingPackageError: llama.cpp is not installed.
    """
    model = opened(file, name, states_for(dtype))
    own = _tokenizer(tokenizer, file, hub)
    limit = min(model.context_size, own.model_max_length)
    tokens = PromptTokenizer(own, template, int(limit), keep_suffix=False)
    _check_tokenizer(model, tokens)
    stops = model.end_tokens | {int(own.eos_token_id)}
    stop = tokens.turn_end(stops) or int(own.eos_token_id)
    found = GGUFGenerator(name, model, tokens, stops | {stop}, stop, budget or None)
    _try(found)
    return found


def _tokenizer(given: Any, file: Path, hub: Mapping[str, Any]) -> Any:
    try:
        found = loaded_tokenizer(given, str(gguf_tokenizer(file)) if given is None else "", hub)
    except MixragError:
        raise
    except Exception as error:
        raise unusable(str(file if given is None else given), "a tokenizer", error) from error
    if found.eos_token_id is None:
        raise ModelError("a model with an end-of-text token", "none", "set eos_token in its tokenizer")
    return found


def _check_tokenizer(model: GGUFModel, tokens: PromptTokenizer) -> None:
    """Refuse a tokenizer that splits texts otherwise than the model's own, and a chat template that fails."""
    remedy = "give the tokenizer of the model that the file was made from (--tokenizer)"
    if not same_tokens(model, SAMPLES, tokens.plain(SAMPLES)):
        expected = f"a tokenizer that splits texts as llama.cpp does for {model.name}"
        raise ModelError(expected, "one that splits them otherwise", remedy)
    try:
        tokens.prompt("", (), 0)
    except MixragError:
        raise
    except Exception as error:  # of the template
        raise unusable(model.name, "a chat template that can be used", error) from error


def _try(generator: GGUFGenerator) -> None:
    """Refuse a model that says something else where a part of a row was read before.

    Raises:
        ModelError: it does, or its numbers are none.
    """
    trial = replace(generator, prefix_cache_bytes=2**30)
    whole, other = (tuple(token % trial.vocabulary_size for token in row) for row in _TRIAL)
    expected = [trial.next_log_probs([(row, 0)])[0] for row in (whole, other)]
    trial.sequences.forget()
    # As the first tokens of a question, and from the states of passages that are stored.
    begun = trial.start([Prompt((), whole[:5], whole[5:-1]), Prompt((), other[:3], other[3:-1])])
    found = begun.advance(torch.tensor([1, 0, 1]), torch.tensor([whole[-1], whole[-1], other[-1]]))
    trial.sequences.forget()
    again = trial.start([Prompt((), whole[:5], whole[5:]), Prompt((), other[:3], other[3:])])
    trial.sequences.forget()
    pairs = zip(expected * 2, [*found.log_probs[1:], *again.log_probs], strict=True)
    differences = [float((one.exp() - two.exp()).abs().sum()) for one, two in pairs]
    if not all(each < TOLERANCE for each in differences):
        named = f"{generator.name} to say the same of a row, however it was read"
        raise ModelError(named, f"probabilities that differ by {max(differences):.2g}", "give engine torch")


_TRIAL = ((1, 2, 3, 4, 5, 6, 7, 8, 9), (3, 4, 5, 6, 7))

"""Causal language models inside vLLM, as generators: answers are mixed there, everything else is asked of it."""

from __future__ import annotations

import itertools
import logging
import math
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from mixrag.config.prompt_template import PromptTemplate
from mixrag.errors import ModelError, SettingError
from mixrag.generator.assembly import reading_parts, refuse_text_encoder
from mixrag.generator.base import BaseGenerator
from mixrag.generator.branch_mixing import BranchGroup, MixedAnswer
from mixrag.generator.protocol import Prompt
from mixrag.generator.rounding import BY_DTYPE, INT8
from mixrag.generator.thoughts import without_tokens
from mixrag.generator.vllm.engine import Asked, Given, Unit
from mixrag.generator.vllm.group import GroupSpec
from mixrag.generator.vllm.opening import Opened, opened
from mixrag.probability import Listed, listed

logger = logging.getLogger("mixrag.generator")
DTYPES = ("auto", "float32", "bfloat16", "float16")
LISTED = 100
"""Tokens that are listed where the most probable ones are asked for."""
NAMED = 128
"""Tokens that vLLM gives a log-probability by their ids; for more, all are asked for."""
PREFIXES_IN_STEP = 2
"""Where a group's prompts fill more than one in so many of a step's tokens, their passages are read before."""
_ONCE: Mapping[str, Any] = {"temperature": 0.0, "ignore_eos": True, "detokenize": False}


class VLLMGenerator(BaseGenerator):
    """A causal model inside vLLM; a ``BranchMixer`` and a ``TokenLister``.

    Other decoders than greedy ones and sampling have whole next-token distributions, one request for each row and
    token: exact, and slow.
    """

    engine = "vllm"

    def __init__(
        self, inside: Opened, config: Any, generation: Any, tokenizer: Any, *, name: str, template: PromptTemplate
    ) -> None:
        tokens, stop_tokens, stop_token = reading_parts(config, generation, tokenizer, template)
        size = min(tokens.context_size, inside.context_size)
        super().__init__(
            tokenizer,
            name=name,
            template=template,
            context_size=size,
            vocabulary_size=inside.vocabulary_size,
        )
        self.tokens = replace(tokens, context_size=size)
        self.stop_tokens, self.stop_token, self.inside = stop_tokens, stop_token, inside
        # No stop token, and one that answers rarely have: often it stands for nothing.
        self.marker = next(each for each in reversed(range(self.vocabulary_size)) if each not in stop_tokens)
        self.not_mixed = 0
        """Answers that were asked for and not mixed, since their rows were not computed side by side."""
        self._session, self._groups = uuid.uuid4().hex, itertools.count()

    @property
    def rounding(self) -> float:  # type: ignore[override]
        """See ``generator/rounding.py``."""
        return INT8 if self.inside.quantised else BY_DTYPE.get(self.inside.dtype, INT8)

    @property
    def never(self) -> tuple[int, ...]:
        """Tokens that no answer has: see ``generator/thoughts.py``."""
        return self.tokens.never

    # Answers, mixed inside.

    def mix(self, groups: Sequence[BranchGroup], max_tokens: int) -> list[MixedAnswer | None]:
        """See ``BranchMixer.mix``: side by side, and what was broken once more by itself."""
        found = self._mixed(groups, max_tokens)
        for place, group in enumerate(groups):
            if found[place] is None:
                found[place] = self._mixed([group], max_tokens)[0]
        self.not_mixed += found.count(None)
        if broken := found.count(None):
            logger.info("%d of %d answers could not be mixed inside vLLM: scored instead", broken, len(groups))
        return found

    def knows_drawn(self, sampling: Mapping[str, float]) -> bool:
        """See ``BranchMixer.knows_drawn``: where the processor is in this process, or nothing changes p."""
        return self.inside.in_process or not sampling

    def check(self) -> None:
        """Whether vLLM runs mixrag's processor: a group of which a row is missing must be found broken.

        Raises:
            ModelError: it does not.
        """
        spec = self._spec(BranchGroup((), torch.tensor([0.5, 0.5], dtype=torch.float64).log(), 0.0))
        tokens = self.answer_tokens("a")[:1]
        (given,) = self.inside.engine.ask([self._row(spec, 0, Prompt((), (), tokens), 2)])
        if given.tokens != (spec.marker,):
            remedy = "install mixrag in the environment of all of vLLM's processes"
            raise ModelError("vLLM with mixrag's logits processor", "an engine that does not run it", remedy)

    def _mixed(self, groups: Sequence[BranchGroup], max_tokens: int) -> list[MixedAnswer | None]:
        specs = [self._spec(group) for group in groups]
        units = [self._unit(spec, group, max_tokens) for spec, group in zip(specs, groups, strict=True)]
        fitting = [i for i, unit in enumerate(units) if self.inside.engine.limits.fits(unit.rows)]
        given = self.inside.engine.run([units[i] for i in fitting])
        found: list[MixedAnswer | None] = [None] * len(groups)
        for i, rows in zip(fitting, given, strict=True):
            found[i] = accepted(specs[i], rows, units[i].rows[0].max_tokens)
        return found

    def _spec(self, group: BranchGroup) -> GroupSpec:
        chosen: dict[str, Any] = {}
        if group.draw is not None:
            chosen = {"seed": group.draw.seed, **group.draw.sampling}
            chosen |= {"top_k": int(chosen.get("top_k", 0))}
        return GroupSpec(
            group=f"{self._session}-{next(self._groups)}",
            log_prior=tuple(group.log_prior.double().tolist()),
            switch=float(group.switch),
            marker=self.marker,
            stop_tokens=tuple(sorted(self.stop_tokens)),
            answered=group.answered,
            never=self.never,
            **chosen,
        )

    def _unit(self, spec: GroupSpec, group: BranchGroup, max_tokens: int) -> Unit:
        """The requests of a group, after those that read its passages where its prompts are long."""
        limits = self.inside.engine.limits
        room = self.inside.context_size + 1 - max(len(prompt.tokens) for prompt in group.prompts)
        longest = max(1, min(max_tokens, room))
        rows = [self._row(spec, row, prompt, longest) for row, prompt in enumerate(group.prompts)]
        if sum(map(limits.unread, rows)) * PREFIXES_IN_STEP <= limits.step:
            return Unit(tuple(rows))
        prefixes = [prompt.header + prompt.passages for prompt in group.prompts]
        before = tuple(Asked(prefix, 1, _ONCE) for prefix in dict.fromkeys(prefixes) if prefix)
        known = [replace(row, read_before=len(prefix)) for row, prefix in zip(rows, prefixes, strict=True)]
        return Unit(tuple(known), before)

    def _row(self, spec: GroupSpec, row: int, prompt: Prompt, max_tokens: int) -> Asked:
        # Without tokens that are impossible the one that is given is enough.
        wanted: dict[str, Any] = {"logprob_token_ids": [*spec.never]} if spec.never else {"logprobs": 1}
        ends = [*spec.stop_tokens, spec.marker]
        arguments = spec.arguments(row, len(prompt.tokens))
        options = {**_ONCE, **wanted, "stop_token_ids": ends, "extra_args": arguments}
        return Asked(prompt.tokens, max_tokens, options)

    # Numbers.

    def next_log_probs(self, rows: Sequence[tuple[int, ...]]) -> Tensor:
        """See ``BaseGenerator.next_log_probs``; of equal rows one is asked for."""
        distinct = [*dict.fromkeys(rows)]
        given = self._next(distinct, [{"logprobs": -1}] * len(distinct))
        found = {row: self._whole(each) for row, each in zip(distinct, given, strict=True)}
        return torch.stack([found[row] for row in rows])

    def log_likelihood(self, prompts: Sequence[Prompt], answer: Sequence[int]) -> Tensor:
        """See ``Generator.log_likelihood``: prompts and answer are read in one pass, and nothing is cached."""
        if self.never or not answer:
            return super().log_likelihood(prompts, answer)
        rows = [(*prompt.tokens, *answer) for prompt in prompts]
        distinct = [*dict.fromkeys(rows)]
        asked = [Asked(row, 1, {**_ONCE, "prompt_logprobs": 1}) for row in distinct]
        given = dict(zip(distinct, self.inside.engine.ask(asked), strict=True))
        found = []
        for row in rows:
            places = range(len(row) - len(answer), len(row))
            found.append([_log_prob(given[row].prompt_log_probs[place], row[place]) for place in places])
        return torch.tensor(found, dtype=torch.float64)

    says_more = True

    def next_listed(self, prompts: Sequence[Prompt], answers: Sequence[Sequence[int]]) -> list[Listed]:
        """See ``TokenLister.next_listed``."""
        if self.never:
            return self.next_longer(prompts, answers, [()] * len(prompts))
        asked = [{"logprobs": min(LISTED, self.vocabulary_size)}] * len(prompts)
        return [listed(dict(_pairs(given))) for given in self._next(_continued(prompts, answers), asked)]

    def next_longer(
        self, prompts: Sequence[Prompt], answers: Sequence[Sequence[int]], tokens: Sequence[Sequence[int]]
    ) -> list[Listed]:
        """See ``TokenLister.next_longer``."""
        named = [bool(each) and len(each) <= NAMED and not self.never for each in tokens]
        asked = [
            {"logprob_token_ids": [*each]} if by_id else {"logprobs": -1}
            for each, by_id in zip(tokens, named, strict=True)
        ]
        given = self._next(_continued(prompts, answers), asked)
        found = []
        for each, wanted, by_id in zip(given, tokens, named, strict=True):
            if by_id:
                found.append(Listed({token: value for token, value in _pairs(each) if token in wanted}, 0.0))
            else:
                found.append(Listed(dict(enumerate(self._whole(each).tolist())), -math.inf))
        return found

    def _next(self, rows: Sequence[tuple[int, ...]], wanted: Sequence[Mapping[str, Any]]) -> list[Given]:
        """The token after each row, with the log-probabilities that are wanted of it."""
        asked = zip(rows, wanted, strict=True)
        return self.inside.engine.ask([Asked(row, 1, {**_ONCE, **each}) for row, each in asked])

    def _whole(self, given: Given) -> Tensor:
        """(V,) log p(next token)."""
        tokens, values = zip(*_pairs(given), strict=True)
        found = torch.full((self.vocabulary_size,), -math.inf)
        found[list(tokens)] = torch.tensor(values)
        return without_tokens(found, self.never).log_softmax(-1) if self.never else found


def accepted(spec: GroupSpec, rows: Sequence[Given], max_tokens: int) -> MixedAnswer | None:
    """The answer of a group, where its rows show that all of them decided each of its tokens; else None."""
    tokens = rows[0].tokens
    ended = bool(tokens) and (tokens[-1] in spec.stop_tokens or len(tokens) == max_tokens)
    same = all(row.tokens == tokens and row.reason in ("stop", "length") for row in rows)
    if len(rows) != len(spec.log_prior) or not ended or not same or spec.marker in tokens:
        return None
    table = torch.tensor(
        [[_likelihood(row, t, spec.never) for t in range(len(tokens))] for row in rows], dtype=torch.float64
    )
    return None if bool(table.isnan().any()) else MixedAnswer(tokens, table, _drawn(spec))


def _likelihood(row: Given, t: int, never: Sequence[int]) -> float:
    """log p of a row's token, given that it is none that is impossible."""
    own = _log_prob(row.log_probs[t], row.tokens[t])
    impossible = math.fsum(math.exp(_log_prob(row.log_probs[t], token)) for token in never)
    return own - math.log1p(-min(impossible, 1.0 - 1e-12))


def _drawn(spec: GroupSpec) -> float | None:
    """log-probability with which a group was drawn, where its processor is in this process."""
    if spec.seed is None:
        return None
    from mixrag.generator.vllm.processor import MADE

    groups = (processor.mixer.group(spec.group) for processor in MADE)
    return next((group.log_drawn for group in groups if group is not None), None)


def _pairs(given: Given) -> Iterable[tuple[int, float]]:
    """Token and log-probability of all that is listed of the first token."""
    return [(int(token), float(each.logprob)) for token, each in given.log_probs[0].items()]


def _log_prob(found: Mapping[int, Any], token: int) -> float:
    return float(found[token].logprob)


def _continued(prompts: Sequence[Prompt], answers: Sequence[Sequence[int]]) -> list[tuple[int, ...]]:
    return [(*prompt.tokens, *answer) for prompt, answer in zip(prompts, answers, strict=True)]


def vllm_generator(
    name: str,
    source: str,
    *,
    tokenizer: Any,
    template: PromptTemplate,
    dtype: str | torch.dtype,
    arguments: Mapping[str, Any],
    hub: Mapping[str, Any],
) -> VLLMGenerator:
    """The generator of a model folder or hub name.

    Args:
        name: what messages call it.
        source: folder, or name on the hub.
        tokenizer: a tokenizer object.
        template: the prompt.
        dtype: as the setting; auto is that of the model's files.
        arguments: of ``vllm.EngineArgs``.
        hub: options of the hub.

    Raises:
        SettingError: int8, or arguments that cannot be used.
        MissingPackageError: vLLM is not installed.
        ModelError: it cannot run the model.
    """
    from transformers import AutoConfig, GenerationConfig

    kind = str(dtype).removeprefix("torch.")
    if kind not in DTYPES:
        raise SettingError(
            f"dtype among {', '.join(DTYPES)} for vLLM", kind, "name a model with quantised weights"
        )
    config = AutoConfig.from_pretrained(source, trust_remote_code=False, **hub)
    refuse_text_encoder(name, config)
    if config.is_encoder_decoder:
        raise ModelError(
            "a causal language model for engine vllm", f"the encoder-decoder {name}", "give engine torch"
        )
    try:
        generation = GenerationConfig.from_pretrained(source, **hub)
    except OSError:
        generation = GenerationConfig.from_model_config(config)
    own = str(tokenizer.name_or_path) or None
    inside = opened(source, None if own == source else own, kind, arguments, hub)
    found = VLLMGenerator(inside, config, generation, tokenizer, name=name, template=template)
    found.check()
    return found

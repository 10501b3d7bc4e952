"""What a trained mixture is compared with: the same language model, pairs and steps, and another way to answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from mixrag.answers.pipeline import Pipeline
from mixrag.errors import PairsError, SettingError
from mixrag.pairs.pairs import Pair
from mixrag.training.run_spec import RunSpec


@dataclass(frozen=True)
class Baseline:
    """Changes to the mixture that turn it into another system."""

    shown: str
    """How tables name it."""
    changes: Mapping[str, Any] = field(default_factory=dict)
    passages_first: bool = False


BASELINES: Mapping[str, Baseline] = {
    "closed-book": Baseline("closed book, fine-tuned", {"k": 0, "null": None}),
    "passages": Baseline("closed book, fine-tuned on passages, then pairs", {"k": 0, "null": None}, True),
    "concatenation": Baseline("concatenation, trained alike", {"group": "all", "null": None}),
    "frozen": Baseline("mixture, retriever frozen"),
}
"""What ``--baselines`` can name. All train the generator alone."""


def named_baselines(names: Sequence[str]) -> dict[str, Baseline]:
    """The baselines of these names, in order.

    Raises:
        SettingError: a name that does not exist.
    """
    unknown = [name for name in names if name not in BASELINES]
    if unknown:
        raise SettingError(f"baselines among {', '.join(BASELINES)}", unknown[0], "rename or remove it")
    return {name: BASELINES[name] for name in names}


def check_baselines(names: Sequence[str], pairs: Sequence[Pair], batch: int) -> None:
    """Refuse baselines that would have too few pairs, before anything is trained: they ask the documents.

    Raises:
        PairsError: most pairs name a passage of their own, and the others are fewer than one batch.
    """
    asking = sum(pair.passage is None for pair in pairs)
    if names and asking < min(batch, len(pairs)):
        expected = f"at least {batch} pairs without a passage of their own for --baselines {','.join(names)}"
        raise PairsError(expected, f"{asking} of {len(pairs)}", "add such pairs, or leave --baselines out")


def baseline_of(spec: RunSpec, name: str) -> RunSpec:
    """The run of a baseline: in a folder of its own below the spec's, else the same."""
    baseline = BASELINES[name]
    rag = spec.rag
    # Encoders are loaded again: the spec's own may have been trained.
    changed = Pipeline(
        rag.store,
        models=rag.models,
        index=rag.index_kind,
        settings=replace(rag.settings, **baseline.changes),
    )
    # Distillation is a loss of the retriever, and the empty answer is of passages: these learn by the likelihood.
    objective = spec.settings.objective
    objective = "marginal" if objective in ("distill", "composite") else objective
    pairs, dev = (tuple(pair for pair in some if pair.passage is None) for some in (spec.pairs, spec.dev))
    return replace(
        spec,
        pairs=pairs,
        dev=dev,
        rag=changed,
        settings=replace(spec.settings, parts=("generator",), objective=objective),
        folder=spec.folder / "baselines" / name,
        passages_first=baseline.passages_first,
    )

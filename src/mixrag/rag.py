"""RAG: the facade that applications import."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from mixrag.answers.open_store import Info
from mixrag.answers.pipeline import Pipeline
from mixrag.answers.saving import bundle_folder, publish, save_pipeline
from mixrag.config.model_config import ModelConfig
from mixrag.config.schema import made
from mixrag.utils.arguments import path_given
from mixrag.utils.progress import Progress

if TYPE_CHECKING:  # what training and evaluation import is not needed to ask
    from mixrag.answers.guarantee import Guarantee
    from mixrag.config.training_settings import TrainingSettings
    from mixrag.evaluation.analysis import Evaluation
    from mixrag.pairs.pairs import PairSource
    from mixrag.training.api import TrainingReport

__all__ = ["RAG", "Info"]


class RAG(Pipeline):
    """A store of passages, an encoder and a language model: index documents, ask, train, evaluate.

    >>> rag = RAG.open("store", create=True)  # doctest: +SKIP
    >>> rag.index(["documents"])  # doctest: +SKIP
    >>> answer = rag.ask("Who issues the fishing licence?")  # doctest: +SKIP
    >>> answer.text, answer.probability, answer.passages[0].posterior  # doctest: +SKIP
    """

    def train(
        self,
        pairs: PairSource,
        out: str | Path,
        dev: PairSource | None = None,
        settings: TrainingSettings | Mapping[str, Any] | None = None,
        progress: Progress | None = None,
        **comparison: Any,
    ) -> TrainingReport:
        """Learn from question-answer pairs alone, as ``mixrag train`` does; this RAG itself stays as it is.

        >>> report = rag.train("pairs.jsonl", "trained", settings={"epochs": 2})  # doctest: +SKIP
        >>> report.scores["trained"].exact_match  # doctest: +SKIP
        >>> better = RAG.open("store", model=report.folder)  # doctest: +SKIP

        Args:
            pairs: a file, files, or pairs in memory: ``Pair`` objects, mappings with "question" and "answers" (and
                "doc", "where"), or a DataFrame of such rows.
            out: folder for the trained bundle; a run that was killed is continued there.
            dev: held-out pairs; None: a tenth of ``pairs``.
            settings: what is trained, how and how long; a mapping changes only what it names.
            progress: called with stages "training", "dev pairs" and "answering"; see ``run_training``.
            comparison: ``evaluate`` (so many of the held-out questions are answered before and after; 0: none) and
                ``baselines`` (other systems to train in the same way), as in ``TrainingReportSettings``.

        Raises:
            SettingError: a setting outside its range, or parts that the models do not have.
            PairsError: pairs that cannot be read, or are too few.
            CheckpointError: the folder belongs to another run.
            ModelError: a model that was given as an object: training loads models by name.
            TrainingError: a loss that is not finite, or a full disk.
        """
        from mixrag.config.command_settings import TrainingReportSettings
        from mixrag.config.training_settings import TrainingSettings
        from mixrag.training.api import TrainingRequest, run_training

        chosen = made(TrainingSettings, settings, "training settings")
        compared = TrainingReportSettings(**comparison)
        request = TrainingRequest(
            pairs=pairs,
            out=path_given(out, "out"),
            dev=dev,
            settings=chosen,
            evaluate=compared.evaluate,
            baselines=compared.baselines,
        )
        return run_training(self, request, progress)

    def evaluate(
        self,
        pairs: PairSource,
        out: str | Path | None = None,
        *,
        off_corpus: PairSource | None = None,
        progress: Progress | None = None,
        **settings: Any,
    ) -> Evaluation:
        """Score several systems on the same pairs, as ``mixrag eval`` does.

        >>> found = rag.evaluate("pairs.jsonl", systems=["concat", "sequence"])  # doctest: +SKIP
        >>> found.summaries["sequence"].exact_match  # doctest: +SKIP

        Args:
            pairs: as in ``train``.
            out: folder for the report and ``confidence.json``; None: nothing is written.
            off_corpus: pairs that these documents cannot answer, to see their answers withheld.
            progress: called with stage "answering", the system as detail.
            settings: what is compared, as in ``EvaluationSettings``: ``systems``, ``questions``, ``distractors``,
                ``calibration``, ``precision``, ``coverage``, ``seed``.

        Raises:
            SettingError: a system that does not exist, or a number outside its range.
            PairsError: pairs that cannot be read, or asked.
            MixragError: the folder cannot be written to, or as ``ask``.
        """
        from mixrag.config.command_settings import EvaluationSettings
        from mixrag.evaluation.run import EvaluationRequest, evaluate

        target = None if out is None else path_given(out, "out")
        request = EvaluationRequest(pairs, target, EvaluationSettings(**settings), off_corpus)
        return evaluate(self, request, progress)

    def guarantee_on(
        self, pairs: PairSource, out: str | Path | None = None, progress: Progress | None = None, **settings: Any
    ) -> Guarantee:
        """Find the confidence above which answers are right as often as asked, as ``mixrag guarantee`` does.

        >>> found = rag.guarantee_on("pairs.jsonl", "guaranteed", risk=0.1)  # doctest: +SKIP
        >>> RAG.open("store", confidence="guaranteed/confidence.json").ask("...").guarantee  # doctest: +SKIP

        Args:
            pairs: as in ``train``, also such without an answer, to which every answer is wrong. Those whose
                questions the confidence was fitted on are left out.
            out: folder for ``guarantee.json`` and its ``confidence.json``; None: nothing is written.
            progress: called with stage "answering".
            settings: as in ``GuaranteeSettings``.

        Raises:
            SettingError: no calibration applies, or a number outside its range.
            PairsError: pairs that cannot be read, are too few, or on which the target is not met.
            MixragError: the folder cannot be written to, or as ``ask``.
        """
        from mixrag.config.command_settings import GuaranteeSettings
        from mixrag.evaluation.guarantee import GuaranteeRequest, guarantee

        target = None if out is None else path_given(out, "out")
        return guarantee(self, GuaranteeRequest(pairs, target, GuaranteeSettings(**settings)), progress)

    def save(self, folder: str | Path) -> Path:
        """Write a bundle of models, settings, prompt and confidence, which ``RAG.load`` opens with equal numbers.

        Settings of how an answer is written (decoder, max_tokens, ...) are not part of the bundle, nor
        are device and dtype: numbers are equal under the dtype that this RAG has.

        Raises:
            OutputError: the folder is in use for something else, or cannot be written.
            ModelError: a model that cannot be saved.
        """
        return save_pipeline(self, folder)

    @classmethod
    def load(
        cls,
        folder: str | Path,
        store: str | Path,
        *,
        token: str | bool | None = None,
        revision: str | None = None,
        **options: Any,
    ) -> Self:
        """Open a bundle over a store.

        Args:
            folder: what ``save`` or ``train`` wrote, or the name of a repository of the hub, which is downloaded.
            store: the directory of the store.
            token: access token of the hub.
            revision: branch, tag or commit of the repository.
            options: as in ``open``.

        Raises:
            ModelError: no bundle there; else as ``open``.
        """
        if token is not None:  # the models that the bundle names may need it as well
            options["models"] = replace(made(ModelConfig, options.get("models"), "models"), token=token)
        return cls.open(store, model=bundle_folder(folder, token, revision), **options)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        token: str | bool | None = None,
        private: bool | None = None,
        revision: str | None = None,
    ) -> str:
        """Upload the bundle that ``save`` writes to a repository of the Hugging Face hub.

        Neither documents nor paths of this machine are uploaded.

        Args:
            repo_id: "owner/name"; made if it does not exist.
            token: access token; None: the one that ``hf auth login`` stored.
            private: whether a new repository is private; None: the owner's default.
            revision: branch to write to; made if it does not exist.

        Returns:
            The address of the commit.

        Raises:
            OutputError: the hub does not take it.
            ModelError: a model that cannot be saved.
        """
        return publish(self, repo_id, token, private, revision)

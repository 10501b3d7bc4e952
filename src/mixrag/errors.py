"""Every error that mixrag raises on purpose.

MixragError                 one line for the user: expected, found, remedy
├── SettingError            a setting outside its range (switch, temperature, k, ...)
├── QuestionError           a question that is empty or does not fit the model
├── SourceError             a path that cannot be indexed at all
├── OutputError             a file that cannot be written
├── StoreError              the store on disk cannot be used
│   ├── StoreMissingError   there is none at this path
│   ├── StoreEmptyError     it holds no passages
│   ├── StoreVersionError   written by a newer mixrag
│   ├── StoreCorruptError   not a readable mixrag store
│   ├── StoreBusyError      another process is writing to it
│   ├── StoreFullError      no space is left on its disk
│   ├── ShardMissingError   a part of it does not answer, and is needed
│   └── EncoderMismatchError  its vectors come from another encoder
├── ClusterError            a Ray cluster that cannot be reached, or whose workers fail
├── PairsError              question-answer pairs that cannot be used
├── StreamClosedError       an answer asked of a stream that was not read to its end
├── PluginError             an object that lacks what a plug-in point asks for
├── TrainingError           a training run that cannot continue
│   └── CheckpointError       a checkpoint that is damaged, or of another run
└── ModelError              a path or name that is not a usable model
    ├── ModelLoadError        a model that an open store needs cannot be loaded
    ├── MissingPackageError   an optional package is not installed
    └── ServerError           a server that cannot be reached, refuses, or returns what cannot be used
"""

from __future__ import annotations


class MixragError(Exception):
    """Base of all errors that mixrag raises on purpose; the message is one line.

    The line says what was expected, what was found and the remedy.
    """

    def __init__(self, expected: str, found: str, remedy: str) -> None:
        self.expected, self.found, self.remedy = expected, found, remedy
        super().__init__(f"expected {expected}; found {found}; {remedy}")

    def __reduce__(self) -> tuple[type[MixragError], tuple[str, str, str]]:
        """Its three parts, so that it can come from another process."""
        return type(self), (self.expected, self.found, self.remedy)


class SettingError(MixragError, ValueError):
    """A setting is outside its range."""


class QuestionError(MixragError, ValueError):
    """A question is empty, or does not fit into the model's context."""


class SourceError(MixragError):
    """A path cannot be indexed, or nothing in it can."""


class OutputError(MixragError):
    """A file that was asked for cannot be written."""


class StoreError(MixragError):
    """The store on disk cannot be used."""


class StoreMissingError(StoreError):
    """There is no store at this path."""


class StoreEmptyError(StoreError):
    """The store holds no passages."""


class StoreVersionError(StoreError):
    """The store was written by a newer version of mixrag."""


class StoreCorruptError(StoreError):
    """The file is not a readable mixrag store."""


class StoreBusyError(StoreError):
    """Another process holds the store's write lock."""


class StoreFullError(StoreError):
    """No space is left on the disk of the store."""


class ShardMissingError(StoreError):
    """A part of a store on several machines does not answer, and is needed."""


class EncoderMismatchError(StoreError):
    """The store's vectors come from another encoder."""


class ClusterError(MixragError):
    """A Ray cluster cannot be reached, or its workers cannot do what they are asked."""


class PairsError(MixragError, ValueError):
    """Question-answer pairs cannot be used."""


class PluginError(MixragError, TypeError):
    """An object given as a plug-in lacks a method that is needed."""


class StreamClosedError(MixragError, RuntimeError):
    """The answer of a stream was asked for that was closed, or not read, before its end."""


class TrainingError(MixragError):
    """A training run cannot continue; what it has saved stays."""


class CheckpointError(TrainingError):
    """A checkpoint is damaged, or belongs to another run."""


class ModelError(MixragError):
    """A path or name is not a usable model."""


class ModelLoadError(ModelError):
    """A model that an open store needs for its questions cannot be loaded; the message is that of its cause."""


class MissingPackageError(ModelError):
    """A package that this feature needs is not installed."""


class ServerError(ModelError):
    """A server of language models cannot be reached, refuses, or returns something that cannot be used."""

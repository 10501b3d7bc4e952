"""The backends of the conformance suite: an empty place for a store, which can be opened by several at once."""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from pathlib import Path

from mixrag.corpus import Store, open_store


class Backend(ABC):
    """A place where nothing is yet."""

    location: str
    trials = 1.0
    """Which part of random trials is enough: each takes longer where a store is not a file."""

    @abstractmethod
    def another(self) -> Backend:
        """A second place of the same kind, where nothing is yet either."""

    @abstractmethod
    def destroy(self) -> None:
        """Delete what is there, for example at the end of a test; nothing has it open."""

    def open(self, timeout: float = 30.0) -> Store:
        """The store, made where there is none."""
        return open_store(self.location, create=True, timeout=timeout)

    def reopen(self, timeout: float = 30.0) -> Store:
        """The store that is there."""
        return open_store(self.location, timeout=timeout)


class SqliteBackend(Backend):
    """A folder below ``root``."""

    def __init__(self, root: Path, name: str = "store") -> None:
        self.root, self.name = root, name
        self.location = str(root / name)

    def another(self) -> Backend:
        """See ``Backend``."""
        return SqliteBackend(self.root, f"{self.name}-2")

    def destroy(self) -> None:
        """See ``Backend``."""
        shutil.rmtree(self.location, ignore_errors=True)


class LanceBackend(Backend):
    """LanceDB in a folder below ``root``."""

    trials = 0.3

    def __init__(self, root: Path, name: str = "store") -> None:
        self.root, self.name = root, name
        self.location = f"lance:{root / name}"

    def another(self) -> Backend:
        """See ``Backend``."""
        return LanceBackend(self.root, f"{self.name}-2")

    def destroy(self) -> None:
        """See ``Backend``."""
        shutil.rmtree(self.root / self.name, ignore_errors=True)


class S3Backend(Backend):
    """LanceDB below a prefix of a bucket; the environment says where the server is."""

    trials = 0.1

    def __init__(self, bucket: str, prefix: str = "a/store") -> None:
        self.bucket, self.prefix = bucket, prefix
        self.location = f"s3://{bucket}/{prefix}"

    def another(self) -> Backend:
        """See ``Backend``."""
        return S3Backend(self.bucket, f"{self.prefix}-2")

    def destroy(self) -> None:
        """See ``Backend``."""
        import boto3

        boto3.resource("s3").Bucket(self.bucket).objects.filter(Prefix=f"{self.prefix}/").delete()

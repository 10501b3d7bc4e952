"""A real cluster of two workers on this machine, for the tests of one module."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from mixrag.corpus.distributed.cluster import ENVIRONMENT


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """Its address; this process is connected to it."""
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore", FutureWarning)
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        # What the tests send is of modules of theirs.
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        import ray

        folder = tempfile.mkdtemp(prefix="mixrag-ray-test-")
        options: dict[str, Any] = {"num_cpus": 2, "object_store_memory": 100 * 2**20, "_temp_dir": folder}
        quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": logging.CRITICAL}
        ray.init(address="local", **options, **quiet)
        try:
            yield ray.get_runtime_context().gcs_address
        finally:
            ray.shutdown()
            shutil.rmtree(folder, ignore_errors=True)

"""A connection to a Ray cluster, or a cluster of this machine alone, for the time of an indexing run.

Nothing is reported to the makers of Ray, no dashboard is started, and nothing of what Ray and its workers write
appears on the terminal.
"""

from __future__ import annotations

import importlib
import logging
import os
import re
import shutil
import signal
import socket
import tempfile
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from mixrag.corpus.distributed.encoders import Size
from mixrag.errors import ClusterError, MissingPackageError, SettingError
from mixrag.utils.extras import require_extra

LOCAL, AUTO, CLIENT = "local", "auto", "ray://"
REACH_SECONDS = 5.0
"""How long a port may take to answer."""
CONNECT_SECONDS = 45.0
"""How long connecting may take; after 60 s without an answer Ray ends the process."""
_THREAD_SECONDS = 30.0
_OBJECT_STORE = 512 * 2**20
"""Bytes, of a cluster of this machine."""
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_USAGE_STATS_PROMPT_ENABLED": "0",
    # A worker without a GPU must not see any.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",
    # Workers would give way to every other program of the machine.
    "RAY_worker_niceness": "0",
    # Other programs that fill the memory of a machine are no reason to kill workers.
    "RAY_memory_monitor_refresh_ms": "0",
    # Ray would try a task again and again that needs more memory than there is.
    "RAY_task_oom_retries": "1",
}
"""What Ray reads when a cluster of this machine is started, or a connection made."""
_ADDRESS = re.compile(r"(?:ray://)?(?P<host>[^\s:/@]+|\[[0-9a-fA-F:]+\]):(?P<port>[0-9]{1,5})")


def check_address(address: str) -> None:
    """Refuse what is no address of a cluster.

    Raises:
        SettingError: it is neither local, auto, HOST:PORT nor ray://HOST:PORT.
    """
    if address not in (LOCAL, AUTO) and not _ADDRESS.fullmatch(address):
        expected = "a Ray cluster: local, auto, HOST:PORT or ray://HOST:PORT"
        raise SettingError(expected, repr(address)[:80], "correct --ray")


@contextmanager
def connected(address: str) -> Iterator[Any]:
    """The module ``ray``, connected to a cluster; where this process is connected already, to that one.

    Args:
        address: "local" starts a cluster of this machine and ends it afterwards; "auto" is that of RAY_ADDRESS,
            else the one that runs on this machine.

    Raises:
        SettingError: no such address.
        MissingPackageError: Ray is not installed.
        ClusterError: there is no cluster within the time limit, or one of other versions.
    """
    check_address(address)
    with ExitStack() as stack:
        stack.enter_context(_environment(ENVIRONMENT))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            require_extra("ray", "indexing by workers (--ray)")
            import ray
            import ray.data
        if not ray.is_initialized():
            stack.enter_context(_quiet(ray))
            stack.enter_context(_own_connection(ray, address))
        yield ray


def check_worker(ray: Any) -> None:
    """Make sure that workers have this version of mixrag.

    Raises:
        ClusterError: they have not, or none answers.
    """
    own, remedy = _version(), "install the same version on all machines"
    expected = f"mixrag {own} on the workers"
    try:
        found = ray.get(ray.remote(num_cpus=0)(_version).remote(), timeout=CONNECT_SECONDS)
    except ray.exceptions.GetTimeoutError as error:
        raise ClusterError("a worker", f"none within {CONNECT_SECONDS:g} s", "look into: ray status") from error
    except (ray.exceptions.RayError, ImportError) as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        raise ClusterError(expected, lines[-1].strip()[:200] if lines else type(error).__name__, remedy) from error
    if found != own:
        raise ClusterError(expected, found, remedy)


def _version() -> str:
    return str(importlib.import_module("mixrag").__version__)


def processors_of(ray: Any) -> int:
    """Processors of the cluster, at least one."""
    return max(1, int(ray.cluster_resources().get("CPU", 1)))


def size_for(ray: Any, encoders: int | None) -> Size:
    """How many actors load the encoder: one for each GPU, or each processor where there is none.

    Args:
        ray: the module, connected.
        encoders: so many, in the place of that.
    """
    processors, gpus = processors_of(ray), int(ray.cluster_resources().get("GPU", 0))
    if gpus:
        actors = encoders or gpus
        return Size(actors, 1.0 if actors <= gpus else gpus / actors, None)
    actors = encoders or processors
    nodes = [node.get("Resources", {}) for node in ray.nodes() if node.get("Alive")]
    smallest = min((int(each["CPU"]) for each in nodes if each.get("CPU", 0) >= 1), default=1)
    return Size(actors, 0.0, max(1, min(smallest, processors // actors)))


@contextmanager
def _own_connection(ray: Any, address: str) -> Iterator[None]:
    """Connect, and disconnect at the end; what a cluster of this machine has written is deleted."""
    folder = tempfile.mkdtemp(prefix="mixrag-ray-") if address == LOCAL else None
    options: dict[str, Any] = {"address": address, "log_to_driver": False, "logging_level": logging.CRITICAL}
    if folder:
        options |= {"include_dashboard": False, "object_store_memory": _OBJECT_STORE, "_temp_dir": folder}
    else:
        _reach(address)
    try:
        # The system ends processes with the thread that started them: no cluster is started in one that ends.
        failed = _failure(ray, options) if folder else _within(CONNECT_SECONDS, ray, options)
        if failed is not None:
            raise _refused(address, failed) from failed
        yield
    finally:
        _end_threads()
        ray.shutdown()
        if folder:
            shutil.rmtree(folder, ignore_errors=True)


def _end_threads() -> None:
    """Wait for the threads of Ray Data: one that finds no connection any more ends the process."""
    for thread in threading.enumerate():
        if type(thread).__module__.startswith("ray.data"):
            thread.join(_THREAD_SECONDS)


def _reach(address: str) -> None:
    """Refuse a cluster whose port does not answer, before Ray waits for it for minutes.

    Raises:
        ClusterError: it does not answer.
    """
    if address == AUTO:
        address = os.environ.get("RAY_ADDRESS", "")
        if not _ADDRESS.fullmatch(address):
            return
    found = _ADDRESS.fullmatch(address)
    assert found is not None
    host, port = found["host"].strip("[]"), int(found["port"])
    try:
        socket.create_connection((host, port), timeout=REACH_SECONDS).close()
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise _unreachable(address, f"no answer at {host}:{port} ({reason})") from error


def _within(seconds: float, ray: Any, options: Mapping[str, Any]) -> BaseException | None:
    """``_failure``, in a thread of its own.

    Raises:
        ClusterError: it did not return in time.
    """
    found: list[BaseException | None] = []
    thread = threading.Thread(target=lambda: found.append(_failure(ray, options)), name="mixrag-ray", daemon=True)
    thread.start()
    thread.join(seconds)
    if not found:
        raise _unreachable(str(options["address"]), f"no connection within {seconds:g} s")
    return found[0]


def _failure(ray: Any, options: Mapping[str, Any]) -> BaseException | None:
    """Connect; what was raised."""
    try:
        ray.init(**options)
    except Exception as error:
        return error
    return None


def _refused(address: str, error: BaseException) -> ClusterError | MissingPackageError:
    text = " ".join(str(error).split())
    if match := re.search(r"Ray: (\S+) Python: (\S+) .*Ray: (\S+) Python: (\S+)", text):
        cluster, own = f"Ray {match[1]}, Python {match[2]}", f"Ray {match[3]}, Python {match[4]}"
        return ClusterError(f"a cluster of {own}, as this process", cluster, "install the same versions")
    if isinstance(error, ImportError):
        remedy = 'run: pip install "ray[client]", or give HOST:PORT of a machine of the cluster'
        return MissingPackageError(f"Ray's client, for {address}", "it is not installed", remedy)
    return _unreachable(address, text[:200] or type(error).__name__)


def _unreachable(address: str, found: str) -> ClusterError:
    remedy = "check the address, start the cluster with: ray start, or give --ray local"
    return ClusterError(f"a Ray cluster at {address!r}", found, remedy)


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Variables that Ray reads when it starts; what the user has set stays."""
    own = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(own)
    try:
        yield
    finally:
        for name in own:
            os.environ.pop(name, None)


@contextmanager
def _quiet(ray: Any) -> Iterator[None]:
    """Neither Ray's notices of workers that died nor Ray Data's tracebacks on the terminal; its log files stay."""
    worker = ray._private.worker
    shown = getattr(worker, "_worker_logs_enabled", True)
    handlers = [h for h in logging.getLogger("ray.data").handlers if isinstance(h, logging.StreamHandler)]
    levels = [handler.level for handler in handlers]
    terminate = signal.getsignal(signal.SIGTERM)
    worker._worker_logs_enabled = False
    for handler in handlers:
        handler.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        worker._worker_logs_enabled = shown
        for handler, level in zip(handlers, levels, strict=True):
            handler.setLevel(level)
        if threading.current_thread() is threading.main_thread() and terminate is not None:
            signal.signal(signal.SIGTERM, terminate)

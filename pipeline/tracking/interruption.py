"""End the runs of killed trainings, which the MLflow UI would show as running forever.

A process id is unique only within one boot of a machine and one process namespace. A host name does
not identify them, because containers and machines that share a store may have the same name.
"""

import logging
import signal
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import psutil
from mlflow import MlflowClient
from mlflow.entities import Run

logger = logging.getLogger(__name__)

_HOST, _PID, _STARTED = "process.host", "process.pid", "process.started"
_SPACE = "process.space"
# psutil computes the start of a process from the system clock, which may be adjusted.
_SAME_START_SECONDS = 2.0
# A training logs system metrics every few seconds.
SILENT_SECONDS = 3600.0
_EXIT_CODE = 128 + signal.SIGTERM


class Terminated(SystemExit):
    """Raised in the main thread when SIGTERM arrives; exits with 143 and no traceback."""


@contextmanager
def sigterm_raises() -> Iterator[None]:
    """Raise Terminated at the first SIGTERM inside the block; a second one kills at once.

    Does nothing outside the main thread, where Python cannot catch signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def raise_terminated(_signal: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        raise Terminated(_EXIT_CODE)

    previous = signal.signal(signal.SIGTERM, raise_terminated)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def process_tags() -> dict[str, str]:
    """Return tags that identify this process: host, process space, process id, start time."""
    process = psutil.Process()
    return {
        _HOST: socket.gethostname(),
        _SPACE: _process_space(),
        _PID: str(process.pid),
        _STARTED: f"{process.create_time():.2f}",
    }


def close_abandoned_runs(client: MlflowClient, experiment: str) -> None:
    """End as KILLED every RUNNING run whose process is gone.

    A process of this boot and process namespace can be looked up. Any other one counts as gone when
    its run has logged no metric for an hour. If it is still alive, for example behind a broken
    network, it sets the right status when it ends.

    Args:
        experiment: id of the experiment.
    """
    for run in client.search_runs([experiment], "attributes.status = 'RUNNING'"):
        tags = run.data.tags
        if _PID not in tags:
            continue  # not started by this project
        is_gone = not is_alive(tags) if is_here(tags) else _is_silent(run)
        if is_gone:
            client.set_terminated(run.info.run_id, "KILLED")
            logger.info("Closed run %s, whose process was killed.", run.info.run_name)


def _process_space() -> str:
    """Return the scope in which process ids are unique: boot of the machine and namespace."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:  # not Linux
        return f"{socket.gethostname()} {psutil.boot_time():.0f}"


def _is_silent(run: Run) -> bool:
    """Return whether the run has logged no metric for an hour."""
    metrics = run.data.to_proto().metrics  # with their times, in milliseconds
    last = max([run.info.start_time, *(metric.timestamp for metric in metrics)])
    return bool(time.time() - last / 1000 > SILENT_SECONDS)


def is_here(tags: Mapping[str, str]) -> bool:
    """Return whether ``process_tags`` are of a process that this one can look up."""
    return tags.get(_SPACE) == _process_space()


def is_alive(tags: Mapping[str, str]) -> bool:
    """Return whether the process with these ``process_tags`` runs on this machine."""
    if not is_here(tags):
        return False
    try:
        process = psutil.Process(int(tags[_PID]))
        is_zombie = process.status() == psutil.STATUS_ZOMBIE
        is_same = abs(process.create_time() - float(tags[_STARTED])) < _SAME_START_SECONDS
    except psutil.NoSuchProcess:
        return False
    return is_same and not is_zombie

"""End the runs of killed trainings, which the MLflow UI would show as running for ever."""

import logging
import signal
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType

import psutil
from mlflow import MlflowClient

logger = logging.getLogger(__name__)

_HOST, _PID, _STARTED = "process.host", "process.pid", "process.started"
# psutil computes the start of a process from the system clock, which may be adjusted.
_SAME_START_SECONDS = 2.0
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
    """Return tags that identify this process: host, process id and start time."""
    process = psutil.Process()
    return {
        _HOST: socket.gethostname(),
        _PID: str(process.pid),
        _STARTED: f"{process.create_time():.2f}",
    }


def close_abandoned_runs(client: MlflowClient, experiment: str) -> None:
    """End as KILLED every RUNNING run of this host whose process no longer exists.

    Args:
        experiment: id of the experiment.
    """
    running = client.search_runs(
        [experiment],
        f"attributes.status = 'RUNNING' AND tags.`{_HOST}` = '{socket.gethostname()}'",
    )
    for run in running:
        if not _is_alive(run.data.tags):
            client.set_terminated(run.info.run_id, "KILLED")
            logger.info("Closed run %s, whose process was killed.", run.info.run_name)


def _is_alive(tags: Mapping[str, str]) -> bool:
    try:
        process = psutil.Process(int(tags[_PID]))
        is_zombie = process.status() == psutil.STATUS_ZOMBIE
        is_same = abs(process.create_time() - float(tags[_STARTED])) < _SAME_START_SECONDS
    except psutil.NoSuchProcess:
        return False
    return is_same and not is_zombie

"""End the runs of killed trainings, which the MLflow UI would show as running forever."""

import logging
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from mlflow import MlflowClient
from mlflow.entities import Run

from pipeline.compute.processes import PID, is_alive, is_here

logger = logging.getLogger(__name__)

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
        if PID not in tags:
            continue  # not started by this project
        is_gone = not is_alive(tags) if is_here(tags) else _is_silent(run)
        if is_gone:
            client.set_terminated(run.info.run_id, "KILLED")
            logger.info("Closed run %s, whose process was killed.", run.info.run_name)


def _is_silent(run: Run) -> bool:
    """Return whether the run has logged no metric for an hour."""
    metrics = run.data.to_proto().metrics  # with their times, in milliseconds
    last = max([run.info.start_time, *(metric.timestamp for metric in metrics)])
    return bool(time.time() - last / 1000 > SILENT_SECONDS)

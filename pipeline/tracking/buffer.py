"""A run that survives an outage of the store: what cannot be sent is kept in a file.

::

    mlflow-buffer/20261127-210311-1f6b09ae.jsonl    one run: a header, then one operation a line

The header has the id of the run, or what creates the run if the store was unreachable from the
start. Operations are metrics, tags and the end of the run, with their times. Sending a file twice
changes nothing, so an interrupted upload can be repeated.
"""

import json
import logging
import os
import threading
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import mlflow
from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric

from pipeline.common.errors import PipelineError
from pipeline.compute.processes import is_alive, is_here, process_tags
from pipeline.tracking.interruption import SILENT_SECONDS
from pipeline.tracking.notes import start_note
from pipeline.tracking.store import (
    EXPERIMENT,
    StoreUnreachableError,
    connect,
    experiment_id,
    mlflow_errors,
    shown_uri,
)

logger = logging.getLogger(__name__)

BUFFER = Path("mlflow-buffer")

# After a failure, so that a server that hangs does not stop the training at every epoch.
_PAUSE_SECONDS = 60.0
_PAUSE_TIMES = 10.0  # as long as the failed try took, if that is longer

_BUFFER_ID = "buffer.id"  # tag of a run: name of its file
_TRAINING = InputTag("mlflow.data.context", "training")


@dataclass(frozen=True)
class RunDescription:
    """The part of a run that is known at its start.

    Attributes:
        name: of the run.
        start_time: milliseconds since 1970.
        tags, params: as text.
        note: Markdown of the note.
        dataset: fields of ``mlflow.entities.Dataset``; {} if the data is unknown.
    """

    name: str
    start_time: int
    tags: Mapping[str, str]
    params: Mapping[str, str]
    note: str
    dataset: Mapping[str, str]

    def create(self, client: MlflowClient, buffer_id: str) -> str:
        """Create the run unless the store has it; return its id."""
        experiment = experiment_id(client, EXPERIMENT)
        runs = client.search_runs([experiment], f"tags.`{_BUFFER_ID}` = '{buffer_id}'")
        run = runs[0] if runs else None
        if run is None:
            run = client.create_run(
                experiment,
                start_time=self.start_time,
                tags={**self.tags, _BUFFER_ID: buffer_id},
                run_name=self.name,
            )
        run_id = str(run.info.run_id)
        mlflow.log_params(dict(self.params), run_id=run_id)
        start_note(client, run_id, self.note)
        if self.dataset:
            client.log_inputs(run_id, [DatasetInput(Dataset(**self.dataset), [_TRAINING])])
        return run_id


class BufferedRun:
    """A run whose metrics, tags and end are kept in a file while the store fails.

    All of them are sent, in order, with a later operation: at least a minute after the last
    failure, and longer if that try was slow. The end of the run always tries. ``upload_buffered``
    sends those of a run that has ended.

    Attributes:
        id: of the run; None while the store has never been reached.
    """

    def __init__(self, description: RunDescription) -> None:
        self.id: str | None = None
        self._store = ""  # address of the store that has the run
        self._description = description
        self._pending: list[dict[str, Any]] = []
        self._n_written = 0  # of the pending operations
        self._next_try = 0.0  # of time.monotonic()
        self._lock = threading.RLock()  # system metrics have a thread of their own
        name = f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:8]}"
        self._path = BUFFER / f"{name}.jsonl"

    def create(self) -> None:
        """Create the run in the store.

        Raises:
            PipelineError: the store cannot be opened or written.
        """
        client = connect()
        with mlflow_errors():
            self._create(client)

    def log_metrics(self, metrics: Mapping[str, float], *, step: int, retry: bool = True) -> None:
        """Log metrics of one step, such as an epoch counted from 1.

        Args:
            retry: after a failure and a pause, try to send everything. False only keeps the
                metrics then.
        """
        operation = {"metrics": dict(metrics), "step": step, "time": _now()}
        self._do(operation, f"metrics of step {step}", retry=retry)

    def set_tag(self, key: str, value: str) -> None:
        """Set a tag of the run."""
        self._do({"tag": [key, value]}, f"the tag {key}")

    def end(self, status: str) -> None:
        """End the run as FINISHED, FAILED or KILLED."""
        self._do({"end": status, "time": _now()}, "the end of the run", is_last=True)

    def keep(self) -> None:
        """Write the run to its file, to be created later."""
        with self._lock:
            self._write()
            self._next_try = time.monotonic() + _PAUSE_SECONDS

    def _create(self, client: MlflowClient) -> None:
        self.id, self._store = self._description.create(client, self._path.stem), shown_uri()

    def _do(
        self, operation: dict[str, Any], title: str, *, retry: bool = True, is_last: bool = False
    ) -> None:
        with self._lock:
            is_failing = bool(self._pending) or self.id is None
            self._pending.append(operation)
            if is_failing:  # before the next try, which may be killed
                self._write()
            started = time.monotonic()
            is_due = is_last or (retry and started >= self._next_try)
            if is_failing and not is_due:
                return
            try:
                client = connect()
                with mlflow_errors():
                    if self.id is None:
                        self._create(client)
                    while self._pending:
                        _apply(client, str(self.id), self._pending[0])
                        self._pending.pop(0)
                        self._n_written = max(0, self._n_written - 1)
            except PipelineError as error:
                self._write()
                ended = time.monotonic()
                pause = max(_PAUSE_SECONDS, _PAUSE_TIMES * (ended - started))
                self._next_try = ended + pause
                logger.warning("MLflow did not get %s. Kept in %s: %s", title, self._path, error)
            else:
                self._path.unlink(missing_ok=True)

    def _write(self) -> None:
        """Append the pending operations that the file lacks, after a header if it is new.

        After a failure, the file is as before: half a line would corrupt the next one.
        """
        rows = self._pending[self._n_written :]
        try:
            BUFFER.mkdir(exist_ok=True)
            size_bytes = self._path.stat().st_size if self._path.exists() else 0
            if not size_bytes:
                header = {
                    "store": self._store,
                    "run": self.id,
                    "process": process_tags(),
                    "description": asdict(self._description),
                }
                rows = [header, *self._pending]
            try:
                with self._path.open("a", encoding="utf-8") as file:
                    file.writelines(json.dumps(row) + "\n" for row in rows)
            except BaseException:  # a full disk, Ctrl-C
                with suppress(OSError):
                    if size_bytes:
                        os.truncate(self._path, size_bytes)
                    else:
                        self._path.unlink()
                raise
        except OSError as error:
            logger.warning("%s cannot be written, so the run may lack metrics: %s", BUFFER, error)
        else:
            self._n_written = len(self._pending)


def upload_buffered() -> int:
    """Send the runs of ``mlflow-buffer/`` to the store and delete their files.

    A run whose process was killed ends as KILLED. A run that has not ended and whose process is
    alive stays: the process sends it. A process of another machine counts as alive for an hour
    after it has last written its file. A run that began in another store stays, too. A file that
    cannot be sent does not stop the others.

    Returns:
        The number of runs that were sent.

    Raises:
        StoreUnreachableError: the store does not answer; the other files are not tried.
        PipelineError: after all files: names those that could not be sent.
    """
    if not any(BUFFER.glob("*.jsonl")):
        return 0
    with FileLock(BUFFER / ".lock"):  # of the uploads, not of trainings
        experiment_id(connect(), EXPERIMENT)
        n_sent = 0
        errors: list[PipelineError] = []
        for path in sorted(BUFFER.glob("*.jsonl")):
            try:
                n_sent += _upload(path)
            except StoreUnreachableError:
                raise
            except PipelineError as error:
                errors.append(error)
    if len(errors) > 1:
        sentences = " ".join(str(error) for error in errors)
        raise PipelineError(f"{BUFFER}: {len(errors)} files are not sent. {sentences}")
    if errors:
        raise errors[0]
    return n_sent


def _upload(path: Path) -> bool:
    """Send one file and delete it; return whether it was sent."""
    try:
        header, *operations = _read(path)
        silent_seconds = time.time() - path.stat().st_mtime
    except FileNotFoundError:  # its process has sent it
        return False
    process, has_ended = header["process"], any("end" in row for row in operations)
    if not has_ended and is_alive(process):
        logger.info("%s: the training is running, and sends its metrics itself.", path)
        return False
    if not has_ended and not is_here(process) and silent_seconds < SILENT_SECONDS:
        logger.info(
            "%s: kept, because its training may be running on another machine or in another "
            "container. It can be sent an hour after its last line.",
            path,
        )
        return False
    if header["run"] and header["store"] != shown_uri():
        logger.warning(
            "%s: kept, because its run is in another store, %s. Set MLFLOW_TRACKING_URI to it, or "
            "delete the file.",
            path,
            header["store"],
        )
        return False
    description = RunDescription(**header["description"])
    client = connect()
    try:
        with mlflow_errors():
            run_id = header["run"] or description.create(client, path.stem)
            for operation in operations:
                _apply(client, run_id, operation)
            if not has_ended:
                client.set_terminated(run_id, "KILLED")
    except StoreUnreachableError:
        raise
    except PipelineError as error:
        raise PipelineError(
            f"{path}: not sent. {error} If its run was deleted, delete the file."
        ) from None
    path.unlink(missing_ok=True)
    logger.info("%s: sent to MLflow as run %s.", path, description.name)
    return True


def _apply(client: MlflowClient, run_id: str, operation: Mapping[str, Any]) -> None:
    if "metrics" in operation:
        step, when = operation["step"], operation["time"]
        metrics = [Metric(name, value, when, step) for name, value in operation["metrics"].items()]
        client.log_batch(run_id, metrics=metrics)
    elif "tag" in operation:
        client.set_tag(run_id, *operation["tag"])
    else:
        client.set_terminated(run_id, operation["end"], operation["time"])


def _read(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a file, without a last one that a kill cut off.

    Raises:
        FileNotFoundError: it was deleted.
        PipelineError: it cannot be read, or is damaged.
    """
    try:
        text = path.read_text(encoding="utf-8")
        complete = text[: text.rfind("\n") + 1]
        rows: list[dict[str, Any]] = [json.loads(line) for line in complete.splitlines()]
        RunDescription(**rows[0]["description"])
    except FileNotFoundError:
        raise
    except OSError as error:
        raise PipelineError(f"{path}: {error.strerror}. Expected a readable file.") from None
    except (ValueError, LookupError, TypeError) as error:
        raise PipelineError(
            f"{path}: expected a run, one JSON object a line ({error}). Delete the file to go on "
            "without it."
        ) from None
    return rows


def _now() -> int:
    return time.time_ns() // 1_000_000  # milliseconds, as MLflow counts

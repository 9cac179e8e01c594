"""A registered version in its own process, with its own code: see worker.py.

A process of its own keeps a video that hangs or crashes one version from ending the promotion,
and keeps the code of two versions apart.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pipeline.common.errors import PipelineError
from pipeline.common.records import VideoRecord
from pipeline.tracking.store import store_uri

_WORKER = Path(__file__).with_name("worker.py")
_START_SECONDS = 600  # TensorFlow takes seconds, the download of a large model more
_GRACE_SECONDS = 30.0  # the model watches the time limit itself
_MAX_LOSSES = 5  # of processes, before the model is considered broken


@dataclass(frozen=True)
class Answer:
    """The answer of a version for one video.

    Attributes:
        row: the served answer by field; None when the video cannot be read.
        milliseconds: from the bytes of the file to the answer.
        error: why there is no answer.
    """

    row: dict[str, Any] | None
    milliseconds: float | None = None
    error: str = ""


class _LostError(Exception):
    """The process died or was stopped; the message says which."""


class ModelProcess:
    """Answers one video after another. Use it as a context manager.

    A process that hangs or dies on a video is replaced, and the video counts as unreadable.

    Args:
        uri: such as models:/video-classifier/3.
        folder: of the videos.
        timeout_seconds: for a video.
        grace_seconds: after the timeout, until the process is killed.
        worker: script that the process runs.
    """

    def __init__(
        self,
        uri: str,
        *,
        folder: Path,
        timeout_seconds: float,
        grace_seconds: float = _GRACE_SECONDS,
        worker: Path = _WORKER,
    ) -> None:
        self._uri = uri
        self._folder = folder
        self._timeout_seconds = timeout_seconds
        self._grace_seconds = grace_seconds
        self._worker = worker
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115  # closed by __exit__
        self._process: subprocess.Popen[str] | None = None
        self._is_ready = False
        self._losses = 0

    def __enter__(self) -> Self:
        self._start()  # without waiting, so that several versions load at the same time
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop()
        self._stderr.close()

    def wait_until_ready(self) -> None:
        """Wait until the model is loaded.

        Raises:
            PipelineError: it cannot be loaded.
        """
        self._ready_process()

    def answer(self, record: VideoRecord) -> Answer:
        """Return the answer for a video or a segment of one.

        Raises:
            PipelineError: the model cannot be loaded, or its process dies again and again.
        """
        process = self._ready_process()
        request = {
            "path": str(self._folder / record.video),
            "start_seconds": record.start_seconds,
            "end_seconds": record.end_seconds,
        }
        assert process.stdin is not None
        try:
            try:
                process.stdin.write(json.dumps(request) + "\n")
                process.stdin.flush()
            except BrokenPipeError:
                raise _LostError(f"the process died (exit code {process.wait()})") from None
            response = self._receive(process, self._timeout_seconds + self._grace_seconds)
        except _LostError as lost:
            self._losses += 1
            if self._losses == _MAX_LOSSES:
                raise PipelineError(
                    f"{self._uri}: its process was lost {_MAX_LOSSES} times, the last time on "
                    f"{record.name}: {lost}. {self._last_line()}"
                ) from None
            self._stop()
            return Answer(None, error=str(lost))
        return Answer(response.get("row"), response.get("milliseconds"), response.get("error", ""))

    def _start(self) -> subprocess.Popen[str]:
        environment = {**os.environ, "MLFLOW_TRACKING_URI": store_uri()}
        environment.pop("PYTHONPATH", None)  # it may lead to the checkout
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(self._worker), self._uri, str(self._timeout_seconds)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env=environment,
            text=True,
            encoding="utf-8",
        )
        self._is_ready = False
        return self._process

    def _ready_process(self) -> subprocess.Popen[str]:
        process = self._process or self._start()
        if not self._is_ready:
            try:
                self._receive(process, _START_SECONDS)
            except _LostError as lost:
                raise PipelineError(
                    f"{self._uri} cannot be loaded: {lost}. {self._last_line()}"
                ) from None
            self._is_ready = True
        return process

    def _receive(self, process: subprocess.Popen[str], seconds: float) -> dict[str, Any]:
        assert process.stdout is not None
        with _killed_after(process, seconds) as is_late:
            line = process.stdout.readline()
        if line:
            response: dict[str, Any] = json.loads(line)
            return response
        code = process.wait()
        raise _LostError(
            f"no answer after {seconds:g} s"
            if is_late.is_set()
            else f"the process died (exit code {code})"
        )

    def _last_line(self) -> str:
        """Return the last line that the process wrote to stderr."""
        self._stderr.seek(0)
        lines = self._stderr.read().decode("utf-8", "replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "No output.")

    def _stop(self) -> None:
        if self._process is None:
            return
        self._process.kill()
        self._process.communicate()
        self._process = None


@contextmanager
def _killed_after(process: subprocess.Popen[str], seconds: float) -> Iterator[threading.Event]:
    """Kill the process when the block takes longer; the event is then set."""
    is_late = threading.Event()

    def kill() -> None:
        is_late.set()
        process.kill()

    timer = threading.Timer(seconds, kill)
    timer.start()
    try:
        yield is_late
    finally:
        timer.cancel()

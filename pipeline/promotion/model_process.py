"""A registered model in a process of its own, with its own code: see worker.py."""

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

from pipeline.base.errors import PipelineError
from pipeline.promotion.videos import GateVideo
from pipeline.tracking.store import store_uri

_WORKER = Path(__file__).with_name("worker.py")
_START_SECONDS = 600  # TensorFlow takes seconds, a download of a large model more
_GRACE_SECONDS = 30  # the model looks at the clock itself
_MAX_LOSSES = 5  # of processes, before something is said to be wrong with the model


@dataclass(frozen=True)
class Answer:
    """What a model said of a video: probabilities by class, or why there are none."""

    probabilities: dict[str, float] | None
    milliseconds: float | None
    error: str = ""


class _LostError(Exception):
    """The process died or was stopped; the message says which."""


class ModelProcess:
    """Answers for one video after the other. Use it as a context manager.

    A process that hangs or dies on a video is replaced, and the video counts as unreadable.

    Args:
        uri: such as models:/video-classifier/3.
        timeout_seconds: for a video.
    """

    def __init__(self, uri: str, *, timeout_seconds: float) -> None:
        self._uri = uri
        self._timeout_seconds = timeout_seconds
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # closed by __exit__
        self._process: subprocess.Popen[str] | None = None
        self._is_ready = False
        self._losses = 0

    def __enter__(self) -> Self:
        self._start()  # without waiting, so that several load at the same time
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop()
        self._errors.close()

    def wait_until_ready(self) -> None:
        """Wait for a model that was started to be loaded.

        Raises:
            PipelineError: it cannot be loaded.
        """
        self._ready_process()

    def ask(self, video: GateVideo) -> Answer:
        """Return what the model says of a video.

        Raises:
            PipelineError: the model cannot be loaded, or its process dies again and again.
        """
        process = self._ready_process()
        question = {
            "path": str(video.path),
            "start_seconds": video.start_seconds,
            "end_seconds": video.end_seconds,
        }
        try:
            found = self._exchange(process, question)
        except _LostError as lost:
            self._losses += 1
            if self._losses == _MAX_LOSSES:
                raise PipelineError(
                    f"{self._uri}: its process was lost {_MAX_LOSSES} times, the last time on "
                    f"{video.name}: {lost}. {self._last_words()}"
                ) from None
            self._stop()
            return Answer(None, None, str(lost))
        return Answer(found.get("probabilities"), found.get("milliseconds"), found.get("error", ""))

    def _start(self) -> subprocess.Popen[str]:
        environment = {**os.environ, "MLFLOW_TRACKING_URI": store_uri()}
        environment.pop("PYTHONPATH", None)  # it may lead to the checkout, as -P does not
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(_WORKER), self._uri, str(self._timeout_seconds)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
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
                    f"{self._uri} cannot be loaded: {lost}. {self._last_words()}"
                ) from None
            self._is_ready = True
        return process

    def _exchange(self, process: subprocess.Popen[str], question: dict[str, Any]) -> dict[str, Any]:
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(question) + "\n")
            process.stdin.flush()
        except BrokenPipeError:
            raise _LostError(f"the process died (exit code {process.wait()})") from None
        return self._receive(process, self._timeout_seconds + _GRACE_SECONDS)

    def _receive(self, process: subprocess.Popen[str], seconds: float) -> dict[str, Any]:
        assert process.stdout is not None
        with _killed_after(process, seconds) as is_late:
            line = process.stdout.readline()
        if line:
            found: dict[str, Any] = json.loads(line)
            return found
        code = process.wait()
        raise _LostError(
            f"not done after {seconds:g} s"
            if is_late.is_set()
            else f"the process died (exit code {code})"
        )

    def _last_words(self) -> str:
        """Return the last line that the process wrote to stderr."""
        self._errors.seek(0)
        lines = self._errors.read().decode("utf-8", "replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "It said nothing.")

    def _stop(self) -> None:
        if self._process is None:
            return
        self._process.kill()
        self._process.communicate()
        self._process = None


@contextmanager
def _killed_after(process: subprocess.Popen[str], seconds: float) -> Iterator[threading.Event]:
    """Kill the process if the block takes longer; the event is set when that happened."""
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

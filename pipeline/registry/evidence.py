"""The evidence of the gate: the answers of champions and challenger for the test videos.

Versions get the files, not clips: each answers as it would be served, with its own frame size,
frame rate and clip length. Each has a process of its own (worker.py), which keeps a video that
hangs or crashes one version from ending the promotion, and the code of two versions apart.
"""

import json
import os
import select
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from mlflow.entities.model_registry import ModelVersion
from tqdm import tqdm

from pipeline.common.errors import PipelineError
from pipeline.common.records import VideoRecord
from pipeline.dataset.catalog import content_hashes
from pipeline.evaluation.predictions import Predictions
from pipeline.registry.contenders import Contender
from pipeline.registry.versions import TrainingVideos, trained_on, version_uri
from pipeline.tasks.task import Task
from pipeline.tracking.store import store_uri

_WORKER = Path(__file__).with_name("worker.py")
_START_SECONDS = 600  # TensorFlow takes seconds, the download of a large model more
_GRACE_SECONDS = 30.0  # the model watches the time limit itself
_TIMED_VIDEOS = 100  # at most; the latency needs no more
_MAX_LOSSES = 5  # of processes, before the model is considered broken


class UnusableVersionError(PipelineError):
    """A version cannot be loaded, its process dies again and again, or its answers are invalid.

    Attributes:
        uri: of the version, such as models:/video-classifier/3.
    """

    def __init__(self, uri: str, message: str) -> None:
        super().__init__(message)
        self.uri = uri


@dataclass(frozen=True)
class Answer:
    """The served answer of a version for one video, by field; or why there is none."""

    row: dict[str, Any] | None = None
    milliseconds: float | None = None
    error: str = ""


def gather(
    versions: Sequence[ModelVersion],
    catalog: Sequence[VideoRecord],
    *,
    task: type[Task],
    folder: Path,
    timeout_seconds: float,
    start: "Callable[..., ModelProcess] | None" = None,
) -> list[Contender]:
    """Return what each version answers for the test videos of the catalog.

    The versions take turns at a sample of videos, so that a machine that slows down affects the
    latency of all of them. They answer the other videos at the same time, without a latency.

    Args:
        folder: of the videos: ``data.videos``.
        timeout_seconds: for a video.
        start: starts the process of a version, in place of ``ModelProcess``.

    Raises:
        PipelineError: there are no test videos, or a file was added, changed or deleted after the
            catalog was built.
        UnusableVersionError: see its docstring.
    """
    records = [record for record in catalog if record.split == "test"]
    if not records:
        raise PipelineError("Expected test videos in the catalog. Received none. Run: dvc repro")
    _check_files(records, folder)
    start = start or ModelProcess
    with ExitStack() as stack:
        processes = [
            stack.enter_context(
                start(version_uri(version), folder=folder, timeout_seconds=timeout_seconds)
            )
            for version in versions
        ]
        for process in processes:  # all of them, before any latency is measured
            process.wait_until_ready()
        answers = _ask(processes, records)
    return [
        contender(version, list(zip(records, column, strict=True)), catalog=catalog, task=task)
        for version, column in zip(versions, answers, strict=True)
    ]


def _ask(processes: "Sequence[ModelProcess]", records: Sequence[VideoRecord]) -> list[list[Answer]]:
    """Return the answers of each process for all records."""
    no_file = Answer(error="there was no such file when the catalog was built")
    answers = [[no_file] * len(records) for _ in processes]
    wanted = [number for number, record in enumerate(records) if record.sha256]
    timed = wanted[:: max(1, -(-len(wanted) // _TIMED_VIDEOS))]  # of every folder and class
    rest = sorted({*wanted} - {*timed})
    is_over = threading.Event()
    with (
        tqdm(total=len(wanted) * len(processes), desc="judge", unit="answer", disable=None) as bar,
        ThreadPoolExecutor(len(processes)) as pool,
    ):
        for number in timed:
            for process, column in zip(processes, answers, strict=True):
                column[number] = process.answer(records[number])
                bar.update()

        def ask_rest(process: ModelProcess, column: list[Answer]) -> None:
            for number in rest:
                if is_over.is_set():
                    return
                column[number] = replace(process.answer(records[number]), milliseconds=None)
                bar.update()

        futures = [
            pool.submit(ask_rest, process, column)
            for process, column in zip(processes, answers, strict=True)
        ]
        try:
            for future in as_completed(futures):
                future.result()
        finally:
            is_over.set()  # one failed, or Ctrl-C: the others end after their video
    return answers


def _check_files(records: Sequence[VideoRecord], folder: Path) -> None:
    """Refuse videos other than those that the catalog was built from."""
    videos = sorted({record.video for record in records})
    hashes = dict(zip(videos, content_hashes(folder, videos), strict=True))
    changed = [record.video for record in records if hashes[record.video] != record.sha256]
    if changed:
        raise PipelineError(
            f"{folder / changed[0]}: expected the file that the catalog was built from; it is "
            f"missing or another one ({len(changed)} of {len(records)} test videos). Get the "
            "videos of this catalog (dvc pull, if DVC keeps them), or run: dvc repro"
        )


def contender(
    version: ModelVersion,
    answers: Sequence[tuple[VideoRecord, Answer]],
    *,
    catalog: Sequence[VideoRecord],
    task: type[Task],
) -> Contender:
    """Combine the answers of a version with the test videos that its training has seen.

    Raises:
        UnusableVersionError: the answers are not valid outputs, such as NaN.
    """
    read = [(record, answer.row) for record, answer in answers if answer.row is not None]
    predictions = None
    if read:
        targets = tuple(record.target for record, _ in read)
        try:
            learnt, outputs = task.outputs_from_answers([row for _, row in read], targets)
            predictions = Predictions(
                videos=tuple(record.name for record, _ in read),
                groups=tuple(record.group for record, _ in read),
                targets=targets,
                outputs=outputs,
                task=learnt,
            )
        except PipelineError as error:
            uri = version_uri(version)
            raise UnusableVersionError(uri, f"{uri}: {error}") from None
    return Contender(
        version=int(version.version),
        predictions=predictions,
        milliseconds=np.array(
            [answer.milliseconds for _, answer in answers if answer.milliseconds is not None]
        ),
        unreadable={record.name: answer.error for record, answer in answers if answer.row is None},
        seen=_seen([record for record, _ in answers], catalog, trained_on(version)),
    )


def _seen(
    test: Sequence[VideoRecord], catalog: Sequence[VideoRecord], trained: TrainingVideos | None
) -> frozenset[str] | None:
    """Return the test videos of which a training had the content or a video of their group.

    A group is recognised by its name and by the content of its videos, because groups that share
    a copy are joined and may have another name now.
    """
    if trained is None:
        return None
    groups = trained.groups | {one.group for one in catalog if one.sha256 in trained.contents}
    return frozenset(
        record.name
        for record in test
        if record.sha256 in trained.contents or (record.group and record.group in groups)
    )


class _LostError(Exception):
    """The process died or does not answer; the message says which."""


class ModelProcess:
    """A registered version in a process with its own code. Use it as a context manager.

    A process that hangs or dies on a video is replaced, and the video counts as unreadable.

    Args:
        uri: such as models:/video-classifier/3.
        timeout_seconds: for a video; the process is killed ``grace_seconds`` later.
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
        self._patience_seconds = timeout_seconds + grace_seconds
        self._command = [sys.executable, "-P", str(worker), uri, str(timeout_seconds)]
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115  # closed by __exit__
        self._losses = 0
        self._is_ready = False
        # Started without waiting, so that several versions load at the same time.
        self._process: subprocess.Popen[str] | None = self._start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()
        self._stderr.close()

    def wait_until_ready(self) -> subprocess.Popen[str]:
        """Return the process once the model is loaded; start one in place of a lost one.

        Raises:
            UnusableVersionError: the model cannot be loaded.
        """
        self._process = process = self._process or self._start()
        if not self._is_ready:
            try:
                _receive(process, _START_SECONDS)
            except _LostError as lost:
                raise UnusableVersionError(
                    self._uri, f"{self._uri} cannot be loaded: {lost}. {self._last_line()}"
                ) from None
            self._is_ready = True
        return process

    def answer(self, record: VideoRecord) -> Answer:
        """Return the answer for a video or a segment of one.

        Raises:
            UnusableVersionError: the model cannot be loaded, or its process dies again and again.
        """
        process = self.wait_until_ready()
        request = {
            "path": str(self._folder / record.video),
            "start_seconds": record.start_seconds,
            "end_seconds": record.end_seconds,
            "extra": dict(record.extra),
        }
        assert process.stdin is not None
        try:
            with suppress(BrokenPipeError):  # it died; no answer comes
                process.stdin.write(json.dumps(request) + "\n")
                process.stdin.flush()
            return Answer(**_receive(process, self._patience_seconds))
        except _LostError as lost:
            self._stop()
            self._losses += 1
            if self._losses == _MAX_LOSSES:
                raise UnusableVersionError(
                    self._uri,
                    f"{self._uri}: its process was lost {_MAX_LOSSES} times, the last time on "
                    f"{record.name}: {lost}. {self._last_line()}",
                ) from None
            return Answer(error=str(lost))

    def _start(self) -> subprocess.Popen[str]:
        environment = {**os.environ, "MLFLOW_TRACKING_URI": store_uri()}
        environment.pop("PYTHONPATH", None)  # it may lead to the checkout
        return subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env=environment,
            text=True,
            encoding="utf-8",
        )

    def _stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
        self._process, self._is_ready = None, False

    def _last_line(self) -> str:
        """Return the last line that the process wrote to stderr."""
        self._stderr.seek(0)
        lines = self._stderr.read().decode("utf-8", "replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "No output.")


def _receive(process: subprocess.Popen[str], seconds: float) -> dict[str, Any]:
    """Return the next line of the process; raise _LostError if it does not come in time."""
    assert process.stdout is not None
    if not select.select([process.stdout], [], [], seconds)[0]:
        raise _LostError(f"no answer after {seconds:g} s")
    line = process.stdout.readline()
    if not line:
        raise _LostError(f"the process died (exit code {process.wait()})")
    response: dict[str, Any] = json.loads(line)
    return response

"""The evidence of the gate: what champion and challenger answer for the test videos.

Versions get the files, not clips: each answers as it would be served, with its own frame size,
frame rate and clip length.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from mlflow.entities.model_registry import ModelVersion
from tqdm import tqdm

from pipeline.common.errors import PipelineError
from pipeline.common.records import VideoRecord
from pipeline.dataset.catalog import content_hashes
from pipeline.evaluation.predictions import Predictions
from pipeline.registry.gate import Contender
from pipeline.registry.model_process import Answer, ModelProcess
from pipeline.registry.versions import trained_on, version_uri
from pipeline.tasks.task import Task

_NO_FILE = Answer(None, error="there was no such file when the catalog was built")

# Starts the process of a version: model_process.ModelProcess.
StartModel = Callable[..., ModelProcess]


def read_test_videos(catalog: Sequence[VideoRecord], folder: Path) -> list[VideoRecord]:
    """Return the test videos of the catalog, in its order.

    Args:
        folder: of the videos: ``data.videos``.

    Raises:
        PipelineError: there are none, or a file was added, changed or deleted after the catalog
            was built.
    """
    records = [record for record in catalog if record.split == "test"]
    if not records:
        raise PipelineError("Expected test videos in the catalog. Received none. Run: dvc repro")
    paths = sorted({folder / record.video for record in records})
    hashes = dict(zip(paths, content_hashes(paths), strict=True))
    changed = [
        folder / record.video
        for record in records
        if hashes[folder / record.video] != record.sha256
    ]
    if changed:
        raise PipelineError(
            f"{changed[0]}: expected the file that the catalog was built from; it is missing or "
            f"another one ({len(changed)} of {len(records)} test videos). Get the videos of this "
            "catalog (dvc pull, if DVC keeps them), or run: dvc repro"
        )
    return records


def gather(
    versions: Sequence[ModelVersion],
    records: Sequence[VideoRecord],
    *,
    task: type[Task],
    folder: Path,
    timeout_seconds: float,
    start: StartModel = ModelProcess,
) -> list[Contender]:
    """Return what each version answers for the videos, read from their files.

    The versions take turns at every video, so that a machine that slows down affects the
    latency of all of them.

    Args:
        task: of the answers.
        folder: of the videos.
        timeout_seconds: for a video.
        start: starts the process of a version.

    Raises:
        PipelineError: a version cannot be loaded, or its process dies again and again.
    """
    with ExitStack() as stack:
        processes = [
            stack.enter_context(
                start(version_uri(version), folder=folder, timeout_seconds=timeout_seconds)
            )
            for version in versions
        ]
        for process in processes:  # all of them, before any latency is measured
            process.wait_until_ready()
        rows = [
            [process.answer(record) if record.sha256 else _NO_FILE for process in processes]
            for record in tqdm(records, desc="judge", unit="video", disable=None)
        ]
    return [
        contender(version, list(zip(records, answers, strict=True)), task=task)
        for version, answers in zip(versions, zip(*rows, strict=True), strict=True)
    ]


def contender(
    version: ModelVersion, answers: Sequence[tuple[VideoRecord, Answer]], *, task: type[Task]
) -> Contender:
    """Combine the answers of a version with the videos that it was trained on, by content."""
    trained = trained_on(version, ("train", "val"))
    read = [(record, answer.row) for record, answer in answers if answer.row is not None]
    return Contender(
        version=int(version.version),
        predictions=_predictions(version, read, task) if read else None,
        milliseconds=np.array(
            [answer.milliseconds for _, answer in answers if answer.milliseconds is not None]
        ),
        unreadable={record.name: answer.error for record, answer in answers if answer.row is None},
        seen=None
        if trained is None
        else frozenset(record.name for record, _ in answers if record.sha256 in trained),
    )


def _predictions(
    version: ModelVersion,
    answers: Sequence[tuple[VideoRecord, Mapping[str, object]]],
    task: type[Task],
) -> Predictions:
    targets = tuple(record.target for record, _ in answers)
    try:
        learnt, outputs = task.outputs_from_answers([row for _, row in answers], targets)
        return Predictions(
            videos=tuple(record.name for record, _ in answers),
            groups=tuple(record.group for record, _ in answers),
            targets=targets,
            outputs=outputs,
            task=learnt,
        )
    except PipelineError as error:  # the answers are not valid outputs, such as NaN
        raise PipelineError(f"{version_uri(version)}: {error}") from None

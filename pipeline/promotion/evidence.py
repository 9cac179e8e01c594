"""Champion and challenger predict the test videos, each through its own preprocessing."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack

import numpy as np
from mlflow.entities.model_registry import ModelVersion
from tqdm import tqdm

from pipeline.base.errors import PipelineError
from pipeline.evaluation.predictions import Predictions
from pipeline.promotion.contender import Contender
from pipeline.promotion.model_process import Answer, ModelProcess
from pipeline.promotion.videos import GateVideo
from pipeline.tracking.lineage import trained_on

_NO_FILE = Answer(None, None, "there was no such file when the catalog was made")


def gather(
    versions: Sequence[ModelVersion], videos: Sequence[GateVideo], *, timeout_seconds: float
) -> list[Contender]:
    """Return what each version makes of the videos, read from their files.

    The versions take turns at every video, so that a machine that gets slower meanwhile slows
    all of them.

    Args:
        timeout_seconds: for a video.

    Raises:
        PipelineError: a version cannot be loaded, or its process dies again and again.
    """
    with ExitStack() as stack:
        processes = [
            stack.enter_context(ModelProcess(uri_of(version), timeout_seconds=timeout_seconds))
            for version in versions
        ]
        for process in processes:  # all of them, before any latency is measured
            process.wait_until_ready()
        rows = [
            [process.ask(video) if video.sha256 else _NO_FILE for process in processes]
            for video in tqdm(videos, desc="judge", unit="video", disable=None)
        ]
    return [
        contender(version, dict(zip(videos, answers, strict=True)))
        for version, answers in zip(versions, zip(*rows, strict=True), strict=True)
    ]


def uri_of(version: ModelVersion) -> str:
    """Return the address of a version: models:/video-classifier/3."""
    return f"models:/{version.name}/{version.version}"


def contender(version: ModelVersion, answers: Mapping[GateVideo, Answer]) -> Contender:
    """Put together what a version said and what it had seen before.

    A class of the videos that the version does not know has probability 0.
    """
    seen = trained_on(version, splits=("train", "val"))
    return Contender(
        version=int(version.version),
        predictions=_predictions(uri_of(version), answers),
        milliseconds=np.array(
            [answer.milliseconds for answer in answers.values() if answer.milliseconds is not None]
        ),
        unreadable={
            video.name: answer.error
            for video, answer in answers.items()
            if answer.probabilities is None
        },
        seen=None
        if seen is None
        else frozenset(video.name for video in answers if video.sha256 in seen),
    )


def _predictions(uri: str, answers: Mapping[GateVideo, Answer]) -> Predictions | None:
    read = {
        video: answer.probabilities
        for video, answer in answers.items()
        if answer.probabilities is not None
    }
    if not read:
        return None
    known = next(iter(read.values())).keys()
    class_names = tuple(sorted({*known, *(video.label for video in answers)}))
    try:
        return Predictions(
            videos=tuple(video.name for video in read),
            groups=tuple(video.group for video in read),
            labels=np.array([class_names.index(video.label) for video in read]),
            probabilities=np.array(
                [[found.get(name, 0.0) for name in class_names] for found in read.values()]
            ),
            class_names=class_names,
        )
    except PipelineError as error:  # no probabilities, such as NaN
        raise PipelineError(f"{uri}: {error}") from None

"""What became of each video: a prediction, or why there is none."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.base.errors import PipelineError
from pipeline.serving.contract import PLAIN, RequestOptions
from pipeline.tracking.loading import Prediction, RegisteredClassifier

_AT_ONCE = 16  # videos; decoded side by side


@dataclass(frozen=True)
class Outcome:
    """One of ``prediction`` and ``error`` is there."""

    video: Path
    prediction: Prediction | None = None
    error: str = ""  # without the name of the video


def classify(
    classifier: RegisteredClassifier, videos: Sequence[Path], options: RequestOptions = PLAIN
) -> Iterator[Outcome]:
    """Yield what became of each video, in their order. A bad one does not stop the others."""
    for start in range(0, len(videos), _AT_ONCE):
        some = videos[start : start + _AT_ONCE]
        yield from map(_outcome, some, classifier.try_each(some, options))


def _outcome(video: Path, found: Prediction | PipelineError) -> Outcome:
    if isinstance(found, PipelineError):
        return Outcome(video, error=str(found))
    return Outcome(video, found)

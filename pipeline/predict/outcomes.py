"""What became of each video: a prediction, or why there is none."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.base.errors import PipelineError
from pipeline.serving.contract import PLAIN, RequestOptions
from pipeline.tracking.loading import Prediction, RegisteredClassifier

_AT_ONCE = 16  # videos; decoded side by side, and once more one by one if any of them is bad


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
        try:
            found = classifier.predict(some, options)
        except PipelineError:
            yield from (_classify_one(classifier, video, options) for video in some)
        else:
            yield from map(Outcome, some, found)


def _classify_one(
    classifier: RegisteredClassifier, video: Path, options: RequestOptions
) -> Outcome:
    try:
        (prediction,) = classifier.predict([video], options)
    except PipelineError as error:
        return Outcome(video, error=str(error).removeprefix(f"{video.absolute()}: "))
    return Outcome(video, prediction)

"""What differs between two evaluated models: scores, params, and videos."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.compare.sides import Side
from pipeline.evaluation.paired import (
    LOWER_IS_BETTER,
    Difference,
    Metric,
    on_same_videos,
    paired_differences,
)
from pipeline.evaluation.predictions import Predictions

Verdict = Literal["A is better", "B is better", "not sure", "the same"]


@dataclass(frozen=True)
class ParamDifference:
    """A param that differs; None where a side has no such param."""

    key: str
    a: str | None
    b: str | None


@dataclass(frozen=True)
class ChangedVideo:
    """A video that one side has right and the other wrong."""

    video: str
    label: str
    predicted_a: str
    probability_a: float  # of predicted_a
    predicted_b: str
    probability_b: float


@dataclass(frozen=True)
class Comparison:
    """Model B against model A on the videos that both have.

    Attributes:
        differences: of each metric.
        confidence: of their intervals.
        params: that differ, of the sections that both sides have.
        became_right: wrong in A and right in B; those that B is surest of first.
        became_wrong: right in A and wrong in B, likewise.
        both_right, both_wrong: how many of the other videos.
        remarks: sentences about what the two have not in common.
    """

    a: Side
    b: Side
    differences: dict[Metric, Difference]
    confidence: float
    params: tuple[ParamDifference, ...]
    became_right: tuple[ChangedVideo, ...]
    became_wrong: tuple[ChangedVideo, ...]
    both_right: int
    both_wrong: int
    remarks: tuple[str, ...]

    @property
    def videos(self) -> int:
        return next(iter(self.differences.values())).videos


def compare(a: Side, b: Side, *, samples: int, confidence: float, seed: int) -> Comparison:
    """Compare on the videos that both have; ``samples`` and so on as for ``paired_difference``.

    Raises:
        PipelineError: there is no video that both have.
    """
    same_a, same_b = on_same_videos(a.predictions, b.predictions)
    right_a = same_a.predicted == same_a.labels
    right_b = same_b.predicted == same_b.labels
    return Comparison(
        a=a,
        b=b,
        differences=paired_differences(
            same_a, same_b, samples=samples, confidence=confidence, seed=seed
        ),
        confidence=confidence,
        params=tuple(_different_params(a.params, b.params)),
        became_right=_changed(same_a, same_b, ~right_a & right_b),
        became_wrong=_changed(same_a, same_b, right_a & ~right_b),
        both_right=int((right_a & right_b).sum()),
        both_wrong=int((~right_a & ~right_b).sum()),
        remarks=tuple(_remarks(a.predictions, b.predictions, len(same_b.videos))),
    )


def readable(metric: Metric) -> str:
    """Write the name of a metric for people."""
    return metric.replace("_", " ").replace("f1", "F1")


def verdict(metric: Metric, found: Difference) -> Verdict:
    """Say who is better where the interval leaves no doubt."""
    if found.low == found.high == found.difference == 0:
        return "the same"
    if found.low <= 0 <= found.high:
        return "not sure"
    b_is_better = (found.low > 0) != (metric in LOWER_IS_BETTER)
    return "B is better" if b_is_better else "A is better"


def _different_params(a: dict[str, str], b: dict[str, str]) -> Iterator[ParamDifference]:
    def sections(params: dict[str, str]) -> set[str]:
        return {key.split(".")[0] for key in params}

    shared = sections(a) & sections(b)
    for key in dict.fromkeys((*b, *a)):
        if key.split(".")[0] in shared and not is_same_param(a.get(key), b.get(key)):
            yield ParamDifference(key, a.get(key), b.get(key))


def is_same_param(a: str | None, b: str | None) -> bool:
    """Tell whether both say the same: params.yaml may say 10 where a run says 10.0."""
    if a is None or b is None:
        return a is b
    try:
        return float(a) == float(b)
    except ValueError:
        return a == b


def _changed(a: Predictions, b: Predictions, which: NDArray[np.bool_]) -> tuple[ChangedVideo, ...]:
    rows = [
        ChangedVideo(
            video=b.videos[row],
            label=b.class_names[b.labels[row]],
            predicted_a=a.class_names[a.predicted[row]],
            probability_a=float(a.probabilities[row].max()),
            predicted_b=b.class_names[b.predicted[row]],
            probability_b=float(b.probabilities[row].max()),
        )
        for row in np.flatnonzero(which)
    ]
    return tuple(sorted(rows, key=lambda row: (-row.probability_b, row.video)))


def _remarks(a: Predictions, b: Predictions, shared: int) -> Iterator[str]:
    for name, side in (("A", a), ("B", b)):
        if others := len(side.videos) - shared:
            yield f"Not compared, because only {name} has them: {others} of its videos."
    for name, side, other in (("A", a, b), ("B", b, a)):
        if unknown := [c for c in side.class_names if c not in other.class_names]:
            yield f"Only {name} knows the classes {', '.join(unknown)}."
    labels_a, labels_b = _labels_by_video(a), _labels_by_video(b)
    both = labels_a.keys() & labels_b.keys()
    if relabelled := sum(labels_a[video] != labels_b[video] for video in both):
        yield f"With another label in B, which counts for both: {relabelled} of the videos."


def _labels_by_video(predictions: Predictions) -> dict[str, list[str]]:
    labels = defaultdict(list)
    for video, label in zip(predictions.videos, predictions.labels, strict=True):
        labels[video].append(predictions.class_names[label])
    return dict(labels)

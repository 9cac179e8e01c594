"""Segmental scores of labelled frames: F1@k and the edit score.

A segment is a run of consecutive labelled frames with one label. An unlabelled frame ends the
segments before it, both actual and predicted ones, and belongs to none: whatever is predicted there
counts nowhere, and a prediction that continues across it is one segment on each side.

Sources: Lea et al., Temporal Convolutional Networks for Action Segmentation and Detection, 2017,
arXiv 1611.05267, for F1@k; Lea et al., Segmental Spatiotemporal CNNs for Fine-grained
Action Segmentation, 2016, arXiv 1602.02995, for the edit score.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.tasks.intervals import runs


class Segment(NamedTuple):
    """The frames ``start`` to ``stop - 1`` have the class ``label``."""

    start: int
    stop: int
    label: int


def segments_of(labels: NDArray[np.int64], is_labelled: NDArray[np.bool_]) -> list[Segment]:
    """Return the segments of labels int64 [F], in their order.

    >>> [(*segment,) for segment in segments_of(np.array([1, 1, 0]), np.array([True, False, True]))]
    [(0, 1, 1), (2, 3, 0)]
    """
    masked = np.where(is_labelled, labels, -1).tolist()
    return [
        Segment(start, stop, masked[start]) for start, stop in runs(masked) if masked[start] >= 0
    ]


def match_segments(
    actual: Sequence[Segment], predicted: Sequence[Segment], overlap: float
) -> tuple[int, int, int]:
    """Return the numbers of true positives, false positives and false negatives.

    Each predicted segment, in temporal order, is compared with the actual segment of its label with
    which it has the largest intersection over union. It is a true positive if that is at least
    ``overlap`` and no earlier one matched the same actual segment. F1@k is the F1 of these numbers
    at the overlap k / 100, summed over videos.
    """
    matched: set[int] = set()
    for segment in predicted:
        ratios = [
            _intersection_over_union(segment, other) if segment.label == other.label else 0.0
            for other in actual
        ]
        best = int(np.argmax(ratios)) if ratios else -1
        if best >= 0 and ratios[best] >= overlap and best not in matched:
            matched.add(best)
    return len(matched), len(predicted) - len(matched), len(actual) - len(matched)


def edit_score(actual: Sequence[Segment], predicted: Sequence[Segment]) -> float:
    """Return 1 - Levenshtein distance of the sequences of labels / length of the longer one.

    It compares the order of the segments, whatever their lengths.
    """
    one, other = ([segment.label for segment in side] for side in (actual, predicted))
    longest = max(len(one), len(other))
    if not longest:
        return 1.0
    distances = list(range(len(other) + 1))  # from the first 0, 1, ... labels of ``one``
    for row, label in enumerate(one, start=1):
        diagonal, distances[0] = distances[0], row
        for column, other_label in enumerate(other, start=1):
            replaced = diagonal + (label != other_label)
            diagonal = distances[column]
            distances[column] = min(replaced, diagonal + 1, distances[column - 1] + 1)
    return 1 - distances[-1] / longest


def _intersection_over_union(one: Segment, other: Segment) -> float:
    intersection = max(0, min(one.stop, other.stop) - max(one.start, other.start))
    union = (one.stop - one.start) + (other.stop - other.start) - intersection
    return intersection / union

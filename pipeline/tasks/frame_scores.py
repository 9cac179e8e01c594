"""Scores of labelled frames and of their segments: F1@k and the edit score.

As those of classes, they are functions of sums of terms of the videos.

A segment is a run of consecutive labelled frames with one label. An unlabelled frame ends the
segments before it, both actual and predicted ones, and belongs to none: whatever is predicted there
counts nowhere, and a prediction that continues across it is one segment on each side.

Sources: Lea et al., Temporal Convolutional Networks for Action Segmentation and Detection, 2017,
arXiv 1611.05267, for F1@k; Lea et al., Segmental Spatiotemporal CNNs for Fine-grained
Action Segmentation, 2016, arXiv 1602.02995, for the edit score.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.tasks.intervals import runs

OVERLAPS = (10, 25, 50)  # k of the F1@k, in percent

_TOTALS = 6 + 3 * len(OVERLAPS)  # terms that do not depend on classes
_SMALLEST_PROBABILITY = float(np.finfo(np.float64).eps)  # in a log loss, as for classes


class ScoredVideo(NamedTuple):
    """The real frames of a video.

    labels: int64 [F], class of each frame; negative: unlabelled.
    probabilities: float64 [F, C].
    """

    labels: NDArray[np.int64]
    probabilities: NDArray[np.float64]

    @property
    def accuracy(self) -> float:
        """Proportion of the labelled frames that are right; 0 without any."""
        is_labelled = self.labels >= 0
        is_right = self.probabilities.argmax(axis=1) == self.labels
        return float(is_right[is_labelled].mean()) if is_labelled.any() else 0.0


def score_terms(videos: Iterable[ScoredVideo]) -> NDArray[np.float64]:
    """Return the terms of each video, float64 [N, 15 + 3 C]; zeros without a labelled frame.

    1, its labelled frames, its correct frames, the sum of its log losses, edit score, frame
    accuracy; matched, wrong and missed segments at each overlap; for each class, the frames that
    have it, that are predicted to have it, and both.
    """
    rows = []
    for video in videos:
        is_labelled, predicted = video.labels >= 0, video.probabilities.argmax(axis=1)
        if not is_labelled.any():
            rows.append([0.0] * (_TOTALS + 3 * video.probabilities.shape[1]))
            continue
        labels, labelled_predicted = video.labels[is_labelled], predicted[is_labelled]
        own = np.take_along_axis(video.probabilities[is_labelled], labels[:, None], axis=1)
        losses = np.abs(np.log(np.clip(own, _SMALLEST_PROBABILITY, 1)))
        is_correct = labelled_predicted == labels
        actual_segments = segments_of(video.labels, is_labelled)
        predicted_segments = segments_of(predicted, is_labelled)
        matches = [
            match_segments(actual_segments, predicted_segments, overlap / 100)
            for overlap in OVERLAPS
        ]
        by_class = [
            np.bincount(part, minlength=video.probabilities.shape[1])
            for part in (labels, labelled_predicted, labels[is_correct])
        ]
        rows.append(
            [
                1.0,
                len(labels),
                is_correct.sum(),
                losses.sum(),
                edit_score(actual_segments, predicted_segments),
                video.accuracy,
                *np.concatenate(matches),
                *np.concatenate(by_class),
            ]
        )
    return np.array(rows, np.float64)


def scores_from_sums(sums: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Return one array [...] a score from sums of terms [..., 15 + 3 C]."""
    videos, labelled, correct, loss, edit, accuracy, *matches = np.moveaxis(
        sums[..., :_TOTALS], -1, 0
    )
    actual, predicted, both = class_counts(sums)
    segmental = {}
    with np.errstate(invalid="ignore"):  # 0 / 0
        for number, overlap in enumerate(OVERLAPS):
            matched, wrong, missed = matches[3 * number : 3 * number + 3]
            segmental[f"f1_{overlap}"] = 2 * matched / (2 * matched + wrong + missed)
        return {
            **segmental,
            "edit": edit / videos,
            "frame_accuracy": correct / labelled,
            "macro_f1": np.nanmean(2 * both / (actual + predicted), axis=-1),
            "log_loss": loss / labelled,
            "video_accuracy": accuracy / videos,
        }


def class_counts(
    terms: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return the frames [..., C] that have a class, are predicted to have it, and both."""
    actual, predicted, both = np.split(terms[..., _TOTALS:], 3, axis=-1)
    return actual, predicted, both


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

"""Scores of a single-label classifier.

Every score is a function of sums over videos: of hits, of losses, of counts by class, of
calibration gaps by bin. ``addends`` says what each video adds, ``scores_from_sums`` does
the rest, for one set of sums or for thousands of resampled ones (see intervals.py), so
that a score and its interval share one definition.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix

# Where a probability of 0 is cut before its logarithm: a loss of 36.04, as in scikit-learn.
SMALLEST_PROBABILITY = float(np.finfo(np.float64).eps)

_TOTALS = 4  # columns of addends that are one number a video: the video, hit, top-k hit, loss


@dataclass(frozen=True)
class Scores:
    """Scores of one set of predictions; all but the log loss are between 0 and 1.

    accuracy: share of videos whose most probable class is right.
    balanced_accuracy: mean recall of the classes that occur; each weighs the same.
    macro_f1: mean F1 of the classes; each class weighs the same. A class that is neither
        actual nor predicted anywhere has no F1 and is left out; one that is only predicted
        has F1 0. With every class in the test set this is the mean over all classes.
    top_k_accuracy: share of videos whose actual class is among the k most probable.
    log_loss: mean of -ln(probability of the actual class), in nats.
    calibration_error: expected calibration error; see ``calibration_bin``.
    """

    accuracy: float
    balanced_accuracy: float
    macro_f1: float
    top_k_accuracy: float
    log_loss: float
    calibration_error: float


def score(
    labels: NDArray[np.int64],
    probabilities: NDArray[np.float64],
    *,
    top_k: int,
    calibration_bins: int,
) -> Scores:
    """Score predictions.

    Args:
        labels: int64 [N], index of the actual class, N at least 1.
        probabilities: float64 [N, C], rows sum to 1.
        top_k: k of the top-k accuracy; see ``in_top_k``.
        calibration_bins: bins of the calibration error.
    """
    added = addends(labels, probabilities, top_k=top_k, calibration_bins=calibration_bins)
    found = scores_from_sums(added.sum(axis=0), n_classes=probabilities.shape[1])
    return Scores(**{name: float(value) for name, value in found.items()})


def addends(
    labels: NDArray[np.int64],
    probabilities: NDArray[np.float64],
    *,
    top_k: int,
    calibration_bins: int,
) -> NDArray[np.float64]:
    """Return what each video adds to the sums that the scores are computed from.

    Returns:
        float64 [N, 4 + 3 C + B]: 1, hit, top-k hit and loss; then, one column a class,
        whether the video is of it, is predicted as it, and both; then, one column a bin,
        hit minus top probability in the video's own bin.
    """
    n_videos, n_classes = probabilities.shape
    if not n_videos or labels.shape != (n_videos,):
        raise ValueError(
            f"expected labels [N] and probabilities [N, C] with N at least 1, "
            f"got {labels.shape} and {probabilities.shape}"
        )
    predicted = np.argmax(probabilities, axis=1)
    confidence = np.max(probabilities, axis=1)
    hit = predicted == labels
    totals = [np.ones(n_videos), hit, in_top_k(labels, probabilities, top_k)]
    actual_class = np.eye(n_classes)[labels]
    bins = np.eye(calibration_bins)[calibration_bin(confidence, calibration_bins)]
    return np.concatenate(
        [
            np.stack([*totals, _losses(labels, probabilities)], axis=1),
            actual_class,
            np.eye(n_classes)[predicted],
            actual_class * hit[:, None],
            bins * (hit - confidence)[:, None],
        ],
        axis=1,
    )


def scores_from_sums(
    sums: NDArray[np.float64], *, n_classes: int
) -> dict[str, NDArray[np.float64]]:
    """Turn sums of addends, float64 [..., 4 + 3 C + B], into one array [...] a score."""
    ends = [_TOTALS + part * n_classes for part in range(4)]
    totals, actual, predicted, both, gaps = np.split(sums, ends, axis=-1)
    recall = np.divide(both, actual, where=actual > 0, out=np.zeros_like(both))
    videos, hits, top_k_hits, loss = np.moveaxis(totals, -1, 0)
    occurs = actual + predicted > 0
    f1 = np.divide(2 * both, actual + predicted, where=occurs, out=np.zeros_like(both))
    return {
        "accuracy": hits / videos,
        "balanced_accuracy": recall.sum(axis=-1) / (actual > 0).sum(axis=-1),
        "macro_f1": f1.sum(axis=-1) / occurs.sum(axis=-1),
        "top_k_accuracy": top_k_hits / videos,
        "log_loss": loss / videos,
        "calibration_error": np.abs(gaps).sum(axis=-1) / videos,
    }


def in_top_k(
    labels: NDArray[np.int64], probabilities: NDArray[np.float64], k: int
) -> NDArray[np.bool_]:
    """Return bool [N]: fewer than ``k`` classes come before the actual one.

    Of equally probable classes the first comes first, as in argmax, so that top-1 is
    accuracy. A ``k`` above the number of classes C counts as C, where every video is a hit:
    one setting then serves data sets with many classes and with few.
    """
    own = np.take_along_axis(probabilities, labels[:, None], axis=1)
    earlier = np.arange(probabilities.shape[1]) < labels[:, None]
    ahead = (probabilities > own) | ((probabilities == own) & earlier)
    hits: NDArray[np.bool_] = ahead.sum(axis=1) < min(k, probabilities.shape[1])
    return hits


def calibration_bin(confidence: NDArray[np.float64], bins: int) -> NDArray[np.int64]:
    """Return int64 [N]: which of ``bins`` equal parts of (0, 1] a top probability is in.

    A bin includes its upper end. The expected calibration error is the mean over videos of
    the gap, in each bin, between the share of hits and the mean top probability. Source:
    Guo et al., On Calibration of Modern Neural Networks, 2017, arXiv 1706.04599, section 2.
    """
    upper_ends = np.arange(1, bins + 1) / bins
    return np.minimum(np.searchsorted(upper_ends, confidence, side="left"), bins - 1)


def confusion(
    labels: NDArray[np.int64], predicted: NDArray[np.int64], n_classes: int
) -> NDArray[np.int64]:
    """Return int64 [C, C], videos by actual class (rows) and predicted class (columns)."""
    matrix: NDArray[np.int64] = confusion_matrix(labels, predicted, labels=range(n_classes))
    return matrix.astype(np.int64)


def _losses(labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    own = np.take_along_axis(probabilities, labels[:, None], axis=1)[:, 0]
    # abs, not minus: no score should be written as -0.0.
    return np.abs(np.log(np.clip(own, SMALLEST_PROBABILITY, 1)))

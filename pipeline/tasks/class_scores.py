"""Scores of a single-label classifier.

Most scores are functions of sums over the videos: of correct answers, of losses, of counts by
class, of calibration gaps by bin. ``score_terms`` returns the terms of each video.
``scores_from_sums`` computes the scores from one set of sums or from thousands of resampled ones,
so a score and its interval have one definition. Average precision is not a function of sums and
is resampled separately.
"""

from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit
from sklearn.metrics import average_precision_score
from sklearn.metrics import confusion_matrix as sklearn_confusion_matrix

from pipeline.common.bootstrap import Interval, ResampledScore, Resampling

CALIBRATION_BINS = 10

# Lower bound of a probability in a log loss, which is then 36.04 at most, as in scikit-learn.
_SMALLEST_PROBABILITY = float(np.finfo(np.float64).eps)

_TOTALS = 4  # terms that do not depend on classes or bins: 1, correct, correct in top k, loss


def score_terms(
    labels: NDArray[np.int64],
    probabilities: NDArray[np.float64],
    *,
    top_k: int,
    bins: int = CALIBRATION_BINS,
) -> NDArray[np.float64]:
    """Return the per-video terms whose sums the scores are computed from.

    Args:
        labels: int64 [N], index of the actual class, N at least 1.
        probabilities: float64 [N, C], rows sum to 1.
        top_k: see ``in_top_k``.
        bins: number B of bins of the calibration error.

    Returns:
        float64 [N, 4 + 3 C + B]: 1, correct, correct in top k, loss; for each class whether it is
        the actual one, the predicted one, and both; for each bin correct minus confidence, in
        the bin of the video.
    """
    n_videos, n_classes = probabilities.shape
    if not n_videos or labels.shape != (n_videos,):
        raise ValueError(
            "expected labels [N] and probabilities [N, C] with N at least 1. Received: "
            f"{labels.shape} and {probabilities.shape}"
        )
    predicted = np.argmax(probabilities, axis=1)
    confidence = np.max(probabilities, axis=1)
    is_correct = predicted == labels
    own = np.take_along_axis(probabilities, labels[:, None], axis=1)[:, 0]
    # abs and not minus: the loss of a certain answer is 0.0, not -0.0.
    losses = np.abs(np.log(np.clip(own, _SMALLEST_PROBABILITY, 1)))
    is_in_top_k = in_top_k(labels, probabilities, top_k)
    terms = np.zeros((n_videos, _TOTALS + 3 * n_classes + bins))
    terms[:, :_TOTALS] = np.stack([np.ones(n_videos), is_correct, is_in_top_k, losses], axis=1)
    # One column of each part is not 0.
    videos, in_bin = np.arange(n_videos), calibration_bin(confidence, bins)
    terms[videos, _TOTALS + labels] = 1
    terms[videos, _TOTALS + n_classes + predicted] = 1
    terms[videos, _TOTALS + 2 * n_classes + labels] = is_correct
    terms[videos, _TOTALS + 3 * n_classes + in_bin] = is_correct - confidence
    return terms


def scores_from_sums(
    sums: NDArray[np.float64], *, n_classes: int
) -> dict[str, NDArray[np.float64]]:
    """Return one array [...] a score from sums of terms, float64 [..., 4 + 3 C + B].

    accuracy: proportion of videos whose most probable class is correct.
    balanced_accuracy: mean recall of the classes that occur.
    macro_f1: mean F1 of the classes. A class that is neither actual nor predicted anywhere has no
        F1 and is left out; one that is only predicted has F1 0.
    top_k_accuracy: proportion of videos whose actual class is among the k most probable.
    log_loss: mean of -ln(probability of the actual class), in nats.
    calibration_error: expected calibration error; see ``calibration_bin``.
    """
    videos, correct, correct_in_top_k, loss = np.moveaxis(sums[..., :_TOTALS], -1, 0)
    gaps = sums[..., _TOTALS + 3 * n_classes :]
    by_class = class_scores_from_sums(sums, n_classes=n_classes)
    return {
        "accuracy": correct / videos,
        "balanced_accuracy": np.nanmean(by_class["recall"], axis=-1),
        "macro_f1": np.nanmean(by_class["f1"], axis=-1),
        "top_k_accuracy": correct_in_top_k / videos,
        "log_loss": loss / videos,
        "calibration_error": np.abs(gaps).sum(axis=-1) / videos,
    }


def class_scores_from_sums(
    sums: NDArray[np.float64], *, n_classes: int
) -> dict[str, NDArray[np.float64]]:
    """Return precision, recall and F1 of each class, [..., C]; NaN where undefined.

    Precision is undefined without a predicted video, recall without an actual one, F1 without
    either.

    Args:
        sums: of terms, float64 [..., 4 + 3 C + B].
    """
    counts = sums[..., _TOTALS : _TOTALS + 3 * n_classes]
    actual, predicted, both = np.split(counts, 3, axis=-1)
    with np.errstate(invalid="ignore"):  # 0 / 0
        return {
            "precision": both / predicted,
            "recall": both / actual,
            "f1": 2 * both / (actual + predicted),
        }


def in_top_k(
    labels: NDArray[np.int64], probabilities: NDArray[np.float64], k: int
) -> NDArray[np.bool_]:
    """Return bool [N]: whether fewer than ``k`` classes rank before the actual one.

    Of equally probable classes the first ranks first, as in argmax, so that top-1 accuracy is
    accuracy. A ``k`` above the number of classes C counts as C, where every video is correct.
    """
    own = np.take_along_axis(probabilities, labels[:, None], axis=1)
    is_earlier = np.arange(probabilities.shape[1]) < labels[:, None]
    ranks_before = (probabilities > own) | ((probabilities == own) & is_earlier)
    is_in_top_k: NDArray[np.bool_] = ranks_before.sum(axis=1) < min(k, probabilities.shape[1])
    return is_in_top_k


def calibration_bin(
    confidence: NDArray[np.float64], bins: int = CALIBRATION_BINS
) -> NDArray[np.int64]:
    """Return int64 [N]: which of ``bins`` equal parts of (0, 1] each confidence is in.

    A bin includes its upper end. The expected calibration error is the mean over videos of the
    gap, in each bin, between accuracy and mean confidence. Source: Guo et al., On Calibration of
    Modern Neural Networks, 2017, arXiv 1706.04599, section 2.
    """
    upper_ends = np.arange(1, bins + 1) / bins
    return np.minimum(np.searchsorted(upper_ends, confidence, side="left"), bins - 1)


def calibration_interval(
    labels: NDArray[np.int64],
    probabilities: NDArray[np.float64],
    resampling: Resampling,
    bins: int = CALIBRATION_BINS,
) -> Interval:
    """Return an interval of the calibration error, which is biased upwards.

    A calibrated model has an error of about 0.2 on 20 videos in 10 bins. So the lower end is 0
    if a calibrated model with these confidences could have this error, with all videos of a
    group right or wrong together. Otherwise, it is that of the basic bootstrap, which subtracts
    the bias, with Student's t for few groups. The upper end is that of the percentile
    bootstrap. Sources: Broecker and Smith, Increasing the Reliability of Reliability Diagrams,
    2007, Weather and Forecasting 22, section 3, for the calibrated model; Davison and Hinkley,
    Bootstrap Methods and their Application, 1997, section 5.2, for the basic bootstrap.

    Args:
        labels: int64 [N].
        probabilities: float64 [N, C].
    """
    confidence = probabilities.max(axis=1)
    is_correct = probabilities.argmax(axis=1) == labels
    in_bin = np.eye(bins)[calibration_bin(confidence, bins)]

    gaps = in_bin * (is_correct - confidence)[:, None]
    value = float(np.abs(gaps.sum(axis=0)).sum() / len(labels))
    sums = resampling.sums(np.concatenate([gaps, np.ones((len(labels), 1))], axis=1))
    resampled = np.abs(sums[:, :bins]).sum(axis=1) / sums[:, bins]
    calibrated = [
        np.abs(((uniform < confidence) - confidence) @ in_bin).sum(axis=1) / len(labels)
        for uniform in resampling.uniform_by_group()
    ]
    tail = (1 - resampling.confidence) / 2
    percentile_high = float(np.quantile(resampled, 1 - tail))
    is_plausible = value <= np.quantile(np.concatenate(calibrated), 1 - tail)
    # Groups without a single gap do not exclude rare errors.
    high = max(value, percentile_high, 1 - tail ** (1 / resampling.n_groups))
    if is_plausible:
        return 0.0, high
    few_groups = stdtrit(max(1, resampling.n_groups - 1), 1 - tail) / ndtri(1 - tail)  # 1 or more
    low = value - max(0.0, percentile_high - value) * few_groups
    return max(0.0, float(low)), high


def confusion_matrix(
    labels: NDArray[np.int64], predicted: NDArray[np.int64], n_classes: int
) -> NDArray[np.int64]:
    """Return int64 [C, C]: videos by actual class (rows) and predicted class (columns)."""
    matrix: NDArray[np.int64] = sklearn_confusion_matrix(labels, predicted, labels=range(n_classes))
    return matrix.astype(np.int64)


def one_hot(labels: NDArray[np.int64], n_classes: int) -> NDArray[np.bool_]:
    """Return bool [N, C]: True for the class of each video."""
    return np.asarray(labels[:, None] == np.arange(n_classes))


def average_precisions(
    is_positive: NDArray[np.bool_], probabilities: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return float64 [C]: the average precision of each class, NaN when it does not occur.

    It is the area under the stepwise precision-recall curve.

    Args:
        is_positive: bool [N, C], whether each video belongs to each class.
        probabilities: float64 [N, C].
    """
    return np.array(
        [
            average_precision_score(positive, column) if positive.any() else np.nan
            for positive, column in zip(is_positive.T, probabilities.T, strict=True)
        ]
    )


def mean_average_precision(
    is_positive: NDArray[np.bool_], probabilities: NDArray[np.float64], resampling: Resampling
) -> ResampledScore:
    """Return the mean of ``average_precisions`` over the classes that occur."""
    resampled = resampled_average_precisions(is_positive, probabilities, resampling)
    return ResampledScore(
        float(mean_of_defined(average_precisions(is_positive, probabilities))),
        mean_of_defined(resampled),
    )


def mean_of_defined(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean over the last axis without NaN; NaN where all values are NaN."""
    defined = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        mean: NDArray[np.float64] = np.where(defined, values, 0).sum(axis=-1) / defined.sum(axis=-1)
    return mean


def resampled_average_precisions(
    is_positive: NDArray[np.bool_], probabilities: NDArray[np.float64], resampling: Resampling
) -> NDArray[np.float64]:
    """Return float64 [S, C]: ``average_precisions`` of each resampled test set.

    The last result is kept, because the scores and the table of an evaluation both need it.
    """
    hashable = replace(resampling, groups=tuple(resampling.groups))
    return _resample_average_precisions(is_positive.tobytes(), probabilities.tobytes(), hashable)


@lru_cache(maxsize=1)
def _resample_average_precisions(
    positive_bytes: bytes, probability_bytes: bytes, resampling: Resampling
) -> NDArray[np.float64]:
    n_videos = len(resampling.groups)
    is_positive = np.frombuffer(positive_bytes, np.bool_).reshape(n_videos, -1)
    probabilities = np.frombuffer(probability_bytes, np.float64).reshape(n_videos, -1)
    rankings = [
        _rank(positive, column)
        for positive, column in zip(is_positive.T, probabilities.T, strict=True)
    ]
    chunks = []
    for counts in resampling.video_counts():
        # float32 counts exactly up to 2 ** 24, in half the memory.
        weights = np.ascontiguousarray(counts.T, np.float32)
        columns = [_weighted_average_precision(ranking, weights) for ranking in rankings]
        chunks.append(np.stack(columns, axis=1))
    return np.concatenate(chunks)


class _Ranking(NamedTuple):
    """The videos by falling score of a class, up to the last positive one.

    order: int64 [M], indices of videos.
    starts: int64 [L], first position in ``order`` of each threshold.
    is_positive: bool [M].
    """

    order: NDArray[np.int64]
    starts: NDArray[np.int64]
    is_positive: NDArray[np.bool_]


def _rank(is_positive: NDArray[np.bool_], scores: NDArray[np.float64]) -> _Ranking | None:
    """Rank the videos [N] for a class; None if none is positive. Equal scores are one threshold."""
    if not is_positive.any():
        return None
    order = np.argsort(-scores, kind="stable")
    is_last = np.append(np.diff(scores[order]) != 0, True)
    # A threshold without a positive gains no recall: its videos are counted with the next one's.
    level = np.concatenate([[0], np.cumsum(is_last)[:-1]])
    has_positive = np.bincount(level, weights=is_positive[order]) > 0
    stops = np.flatnonzero(is_last)[has_positive] + 1
    order = order[: stops[-1]]
    return _Ranking(order, np.concatenate([[0], stops[:-1]]), is_positive[order])


def _weighted_average_precision(
    ranking: _Ranking | None, weights: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Return float64 [S]: sum of (gain of recall) x precision over falling thresholds.

    Args:
        ranking: of a class.
        weights: float32 [N, S]: how often each video is in each of S test sets.
    """
    if ranking is None:
        return np.full(weights.shape[1], np.nan)
    ranked = weights[ranking.order]
    retrieved = np.cumsum(np.add.reduceat(ranked, ranking.starts, axis=0), axis=0)
    ranked *= ranking.is_positive[:, None]
    gained = np.add.reduceat(ranked, ranking.starts, axis=0)
    hits = np.cumsum(gained, axis=0)
    precision = np.divide(hits, retrieved, where=retrieved > 0, out=np.zeros_like(hits))
    with np.errstate(invalid="ignore"):  # NaN: the class is not in the test set
        average: NDArray[np.float64] = (gained * precision).sum(axis=0, dtype=float) / hits[-1]
    return average

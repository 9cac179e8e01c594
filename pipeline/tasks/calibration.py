"""Fit temperatures and thresholds on validation videos, after training."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import softmax

from pipeline.tasks.task import mean_by_video

# A fit ends at a bound with a poor model or very few validation videos.
_LOWEST_TEMPERATURE = 0.05
_HIGHEST_TEMPERATURE = 20.0
_SMALLEST = float(np.finfo(np.float32).tiny)
_DECIMALS = 6  # of a confidence threshold
_MIN_POSITIVES = 3  # videos with a label, to fit its threshold


def fit_temperature(
    clip_probabilities: NDArray[np.float64], labels: NDArray[np.int64], videos: NDArray[np.int64]
) -> float:
    """Return the temperature with the lowest log loss of the videos, 0.05 to 20.

    The targets are smoothed: the actual class counts (V + 1) / (V + 2), the other classes share
    the rest. Otherwise, the lowest loss on a validation split without a mistake would be at
    temperature 0, where every probability is 0 or 1. Source: Platt, Probabilistic Outputs for
    Support Vector Machines, 1999, section 2.2.

    Args:
        clip_probabilities: float64 [N, C], at temperature 1.
        labels: int64 [V], classes of the videos.
        videos: int64 [N], the number of the video of each clip.
    """
    n_videos, n_classes = len(labels), clip_probabilities.shape[1]
    targets = np.full((n_videos, n_classes), 1 / (n_videos + 2) / (n_classes - 1))
    targets[np.arange(n_videos), labels] = (n_videos + 1) / (n_videos + 2)

    def loss(log_temperature: float) -> float:
        tempered = apply_temperature(clip_probabilities, math.exp(log_temperature))
        log_probabilities = np.log(np.maximum(mean_by_video(tempered, videos), _SMALLEST))
        return float(-(targets * log_probabilities).sum(axis=1).mean())

    bounds = math.log(_LOWEST_TEMPERATURE), math.log(_HIGHEST_TEMPERATURE)
    return math.exp(minimize_scalar(loss, bounds=bounds, method="bounded").x)


def apply_temperature(
    probabilities: NDArray[np.float64], temperature: float
) -> NDArray[np.float64]:
    """Return the probabilities [N, C] at ``temperature`` from those at temperature 1."""
    # Log probabilities are logits up to a constant, which softmax ignores.
    logits = np.log(np.maximum(probabilities, _SMALLEST))
    tempered: NDArray[np.float64] = softmax(logits / temperature, axis=1)
    return tempered


def fit_abstention(
    probabilities: NDArray[np.float64], labels: NDArray[np.int64], *, target_accuracy: float
) -> float | None:
    """Return the lowest confidence threshold that reaches ``target_accuracy``, or None.

    The accuracy is that of the videos at or above the threshold.

    Args:
        probabilities: float64 [V, C], of videos that the model was not trained on.
        labels: int64 [V].
    """
    confidence = probabilities.max(axis=1)
    order = np.argsort(-confidence, kind="stable")
    is_correct = (probabilities.argmax(axis=1) == labels)[order]
    accuracy = np.cumsum(is_correct) / np.arange(1, len(is_correct) + 1)
    is_threshold = np.append(np.diff(confidence[order]) != 0, True)
    reached = np.flatnonzero(is_threshold & (accuracy >= target_accuracy))
    if not reached.size:
        return None
    # Rounded down, so that the video at the threshold is kept.
    return float(math.floor(confidence[order][reached[-1]] * 10**_DECIMALS) / 10**_DECIMALS)


def fit_threshold(probabilities: NDArray[np.float64], is_actual: NDArray[np.bool_]) -> float:
    """Return the decision threshold of a label with the highest F1, of several the nearest to 0.5.

    Candidates are 0.5 and the middles between neighbouring probabilities, as logits. With fewer
    than three positives, or without a negative, the threshold is 0.5.

    Args:
        probabilities: float64 [V], of videos that the model was not trained on.
        is_actual: bool [V].

    >>> is_actual = np.array([False, True, True, True])
    >>> round(fit_threshold(np.array([0.1, 0.2, 0.3, 0.4]), is_actual), 3)
    0.143
    """
    if is_actual.sum() < _MIN_POSITIVES or is_actual.all():
        return 0.5
    smallest = float(np.finfo(np.float32).eps)
    values, inverse = np.unique(np.clip(probabilities, smallest, 1 - smallest), return_inverse=True)
    # Numbers of videos with the k-th value or a higher one; 0 above the highest value.
    counts = np.bincount(inverse), np.bincount(inverse, weights=is_actual)
    n_predicted, n_hits = (np.append(np.cumsum(count[::-1])[::-1], 0) for count in counts)
    f1 = 2 * n_hits / (n_predicted + is_actual.sum())
    logits = np.log(values / (1 - values))
    candidates = np.append((logits[1:] + logits[:-1]) / 2, 0.0)
    f1 = f1[np.append(np.arange(1, len(values)), np.searchsorted(logits, 0.0))]
    best = candidates[f1 == f1.max()]
    return float(1 / (1 + np.exp(-best[np.argmin(np.abs(best))])))

"""What is fitted on validation videos after training: a temperature, and when to abstain."""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass

import keras
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import softmax

from pipeline.clips.shards import ClipArrays
from pipeline.model import task
from pipeline.model.prediction import mean_of_videos, predict_arrays
from pipeline.model.temperature import set_temperature, uncalibrated

logger = logging.getLogger(__name__)

_LEAST, _MOST = (
    0.05,
    20.0,
)  # a temperature beyond says that validation is too small or the model bad
_SMALLEST = float(np.finfo(np.float32).tiny)
_DECIMALS = 6  # of a confidence


@dataclass(frozen=True)
class Calibration:
    """What was fitted.

    temperature: see Temperature.
    abstain_below: confidence below which the model had better say nothing; None where no
        confidence reaches the accuracy that was asked for.
    """

    temperature: float
    abstain_below: float | None


def calibrate(
    model: keras.Model, val: ClipArrays, class_names: Sequence[str], *, target_accuracy: float
) -> Calibration:
    """Set the temperature of ``model``, and find the confidence that ``target_accuracy`` needs."""
    videos = val.video_numbers()
    labels = task.encode_labels(val.chosen(val.first_of_videos()).labels, class_names)
    with uncalibrated(model):
        of_clips = predict_arrays(model, val)
    temperature = fit_temperature(of_clips, labels, videos)
    set_temperature(model, temperature)
    calibrated = mean_of_videos(tempered(of_clips, temperature), videos)
    abstain_below = fit_abstention(calibrated, labels, target_accuracy=target_accuracy)
    if abstain_below is None:
        logger.warning(
            "However sure the model is, its accuracy on validation is below "
            "evaluate.target_accuracy, %g: there is no confidence to abstain below.",
            target_accuracy,
        )
    logger.info("temperature %.3f, abstains below %s", temperature, abstain_below)
    return Calibration(temperature, abstain_below)


def fit_temperature(
    of_clips: NDArray[np.float64], labels: NDArray[np.int64], videos: NDArray[np.int64]
) -> float:
    """Return the temperature with the least log loss of the videos, 0.05 to 20.

    On a validation split without a mistake the least loss would be at temperature 0, where the
    model is never in doubt. So the loss is that of smoothed labels: the actual class counts
    (V + 1) / (V + 2), and the others share the rest, as if one video more had been right and
    one wrong. Source: Platt, Probabilistic Outputs for Support Vector Machines, 1999, section 2.2.

    Args:
        of_clips: float64 [N, C], probabilities of clips at temperature 1.
        labels: int64 [V], classes of the videos.
        videos: int64 [N], the number of the video of each clip.
    """
    n_videos, n_classes = len(labels), of_clips.shape[1]
    targets = np.full((n_videos, n_classes), 1 / (n_videos + 2) / (n_classes - 1))
    targets[np.arange(n_videos), labels] = (n_videos + 1) / (n_videos + 2)

    def loss(log_temperature: float) -> float:
        found = mean_of_videos(tempered(of_clips, math.exp(log_temperature)), videos)
        return float(-(targets * np.log(np.maximum(found, _SMALLEST))).sum(axis=1).mean())

    fitted = minimize_scalar(loss, bounds=(math.log(_LEAST), math.log(_MOST)), method="bounded")
    return math.exp(fitted.x)


def tempered(probabilities: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    """Return what probabilities [N, C] of temperature 1 are at another one."""
    # They say what the softmax was taken of up to a constant, which it does not see.
    logits = np.log(np.maximum(probabilities, _SMALLEST))
    found: NDArray[np.float64] = softmax(logits / temperature, axis=1)
    return found


def fit_abstention(
    probabilities: NDArray[np.float64], labels: NDArray[np.int64], *, target_accuracy: float
) -> float | None:
    """Return the least confidence from which on ``target_accuracy`` is reached, None if none is.

    That is, of all thresholds whose accuracy is high enough, the one that keeps most videos.

    Args:
        probabilities: float64 [V, C], of videos that the model was not trained on.
        labels: int64 [V].
    """
    confidence = probabilities.max(axis=1)
    order = np.argsort(-confidence, kind="stable")
    hits = (probabilities.argmax(axis=1) == labels)[order]
    accuracy = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    is_threshold = np.append(np.diff(confidence[order]) != 0, True)
    reached = np.flatnonzero(is_threshold & (accuracy >= target_accuracy))
    if not reached.size:
        return None
    # Rounded down, so that the video at the threshold is kept.
    return float(math.floor(confidence[order][reached[-1]] * 10**_DECIMALS) / 10**_DECIMALS)

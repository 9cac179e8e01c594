"""Scores of predictions with bootstrap intervals, and differences between two models."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.common.bootstrap import Resampling, Score, percentile_interval
from pipeline.common.files import write_json
from pipeline.evaluation.predictions import Predictions, on_same_videos
from pipeline.evaluation.settings import EvaluateSection


def score_predictions(predictions: Predictions, section: EvaluateSection) -> dict[str, Score]:
    """Return every score of the task, with intervals.

    Without a mistake in the test set, the interval of an accuracy is (1, 1). The interval of the
    calibration error is biased upwards, because resampling adds noise; it can be above the score.
    """
    resampling = section.resampling(predictions.resampling_groups)
    resampling.warn_if_few_groups()
    return {
        **_scores_of_sums(predictions, resampling),
        **predictions.task.other_scores(predictions.targets, predictions.outputs, resampling),
    }


def uncalibrated_scores(predictions: Predictions, section: EvaluateSection) -> dict[str, Score]:
    """Return the task's calibrated metrics as ``<metric>_uncalibrated``, with intervals.

    Args:
        predictions: of the model without its calibration.
    """
    scores = _scores_of_sums(predictions, section.resampling(predictions.resampling_groups))
    return {f"{name}_uncalibrated": scores[name] for name in predictions.task.calibrated_metrics}


def write_scores(metrics: Path, intervals: Path, scores: Mapping[str, Score]) -> None:
    """Write name -> value, and name -> [low, high] of the scores that have an interval."""
    write_json(metrics, {name: score.value for name, score in scores.items()})
    write_json(
        intervals,
        {name: score.interval for name, score in scores.items() if score.interval is not None},
    )


@dataclass(frozen=True)
class Difference:
    """The score of B minus that of A on their common videos.

    Attributes:
        low, high: bootstrap interval of ``difference``.
        videos: number of common videos.
    """

    value_a: float
    value_b: float
    difference: float
    low: float
    high: float
    videos: int


def paired_differences(
    a: Predictions,
    b: Predictions,
    section: EvaluateSection,
    *,
    metrics: Iterable[str] | None = None,
) -> dict[str, Difference]:
    """Compare two models on their common videos, see ``on_same_videos``.

    Both are scored on the same resampled test sets, so the interval of the difference is narrower
    than those of the two scores suggest, and equal outputs differ by exactly 0. Source: Efron and
    Tibshirani, An Introduction to the Bootstrap, 1993, section 8.3.

    Args:
        a, b: such as the champion and the challenger.
        metrics: keys of ``Task.scores``; by default ``Task.compared_metrics``.

    Raises:
        PipelineError: there is no common video.
    """
    a, b = on_same_videos(a, b)
    resampling = section.resampling(b.resampling_groups)
    resampling.warn_if_few_groups()
    terms = [side.task.terms(side.targets, side.outputs) for side in (a, b)]
    values_a, values_b = (b.task.scores(side.sum(axis=0)) for side in terms)
    sums = resampling.sums(np.concatenate(terms, axis=1))
    resampled_a, resampled_b = (b.task.scores(side) for side in np.split(sums, 2, axis=1))
    differences = {}
    for metric in b.task.compared_metrics if metrics is None else metrics:
        value_a, value_b = float(values_a[metric]), float(values_b[metric])
        low, high = percentile_interval(
            resampled_b[metric] - resampled_a[metric], section.confidence
        )
        difference = value_b - value_a
        differences[metric] = Difference(value_a, value_b, difference, low, high, len(b.videos))
    return differences


def _scores_of_sums(predictions: Predictions, resampling: Resampling) -> dict[str, Score]:
    task = predictions.task
    terms = task.terms(predictions.targets, predictions.outputs)
    resampled: dict[str, NDArray[np.float64]] = task.scores(resampling.sums(terms))
    return {
        name: Score(float(value), resampling.interval(resampled[name]))
        for name, value in task.scores(terms.sum(axis=0)).items()
    }

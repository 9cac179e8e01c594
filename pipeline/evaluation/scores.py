"""Scores of predictions with intervals, and differences between two models."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.common.bootstrap import Score
from pipeline.common.files import write_json
from pipeline.evaluation.predictions import Predictions, on_same_videos
from pipeline.evaluation.settings import EvaluateSection


def score_predictions(predictions: Predictions, section: EvaluateSection) -> dict[str, Score]:
    """Return every score of the task that the videos determine, with intervals."""
    resampling = section.resampling(predictions.resampling_groups)
    resampling.warn_if_few_groups()
    task, targets, outputs = predictions.task, predictions.targets, predictions.outputs
    scores = {
        **task.scores_with_intervals(targets, outputs, resampling),
        **task.other_scores(targets, outputs, resampling),
    }
    return {name: score for name, score in scores.items() if not np.isnan(score.value)}


def uncalibrated_scores(predictions: Predictions, section: EvaluateSection) -> dict[str, Score]:
    """Return the task's calibrated metrics as ``<metric>_uncalibrated``, with intervals.

    Args:
        predictions: of the model without its calibration.
    """
    resampling = section.resampling(predictions.resampling_groups)
    task = predictions.task
    scores = task.scores_with_intervals(predictions.targets, predictions.outputs, resampling)
    return {f"{name}_uncalibrated": scores[name] for name in task.calibrated_metrics}


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
        low, high: interval of ``difference``; both 0 for equal outputs.
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
    than those of the two scores suggest. Source: Efron and Tibshirani, An Introduction to the
    Bootstrap, 1993, section 8.3. Equal outputs differ by exactly 0; other models with equal
    scores differ by an interval around 0, see ``Resampling.difference_interval``.

    Args:
        a, b: such as the champion and the challenger.
        metrics: keys of ``Task.resampled_scores``; by default ``Task.compared_metrics``.

    Raises:
        PipelineError: there is no common video.
    """
    a, b = on_same_videos(a, b)
    resampling = section.resampling(b.resampling_groups)
    scores_a, scores_b = (
        side.task.resampled_scores(side.targets, side.outputs, resampling) for side in (a, b)
    )
    weights = b.task.score_weights(b.targets)
    differences = {}
    for metric in b.task.compared_metrics if metrics is None else metrics:
        score_a, score_b = scores_a[metric], scores_b[metric]
        difference = score_b.value - score_a.value
        resampled = score_b.resampled - score_a.resampled
        if np.array_equal(a.outputs, b.outputs):
            low, high = 0.0, 0.0
        elif metric in weights:
            low, high = resampling.difference_interval(difference, resampled, weights[metric])
        else:
            low, high = resampling.interval(resampled) or (-np.inf, np.inf)
        differences[metric] = Difference(
            score_a.value, score_b.value, difference, low, high, len(b.videos)
        )
    return differences

"""Numbers that go to eval/metrics.json, with their intervals, which go to eval/intervals.json."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.base import files
from pipeline.evaluation.intervals import Resampling, intervals, mean_interval
from pipeline.evaluation.metrics import score
from pipeline.evaluation.predictions import Predictions


@dataclass(frozen=True)
class Measured:
    """A number, and how far it would move with other videos; None: it would not, or who knows."""

    value: float
    interval: tuple[float, float] | None = None


def measured_scores(
    predictions: Predictions, *, top_k: int, calibration_bins: int, resampling: Resampling
) -> dict[str, Measured]:
    """Return every score of ``metrics.Scores``."""
    labels, probabilities = predictions.labels, predictions.probabilities
    scores = score(labels, probabilities, top_k=top_k, calibration_bins=calibration_bins)
    of_scores = intervals(
        labels,
        probabilities,
        units=predictions.units,
        top_k=top_k,
        calibration_bins=calibration_bins,
        **asdict(resampling),
    )
    return {name: Measured(value, of_scores[name]) for name, value in asdict(scores).items()}


def measured_mean(
    hits: NDArray[np.bool_],
    *,
    units: Sequence[str],
    resampling: Resampling,
    where: NDArray[np.bool_] | None = None,
) -> Measured:
    """Return the share of hits; with ``where``, of those of some videos, at least one."""
    value = float(hits.mean() if where is None else hits[where].mean())
    return Measured(value, mean_interval(hits, units=units, resampling=resampling, where=where))


def measured_abstention(
    predictions: Predictions, abstain_below: float | None, resampling: Resampling
) -> dict[str, Measured]:
    """Return what abstaining of videos below a confidence comes to.

    coverage: share of the videos that are left.
    accuracy_covered: of those; absent where none is.

    Args:
        abstain_below: None where no confidence is high enough: then nothing is said.
    """
    if abstain_below is None:
        return {}
    units = predictions.units
    sure = predictions.probabilities.max(axis=1) >= abstain_below
    found = {"coverage": measured_mean(sure, units=units, resampling=resampling)}
    if sure.any():
        hits = predictions.predicted == predictions.labels
        found["accuracy_covered"] = measured_mean(
            hits, units=units, resampling=resampling, where=sure
        )
    return found


def write_measures(
    metrics_path: Path, intervals_path: Path, measures: Mapping[str, Measured]
) -> None:
    """Write name -> number, and name -> [low, high] of those that have an interval."""
    files.write_json(metrics_path, {name: found.value for name, found in measures.items()})
    of_measures = {name: found.interval for name, found in measures.items() if found.interval}
    files.write_json(intervals_path, of_measures)

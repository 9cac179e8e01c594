"""Scores of each class against all others, with bootstrap intervals."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, precision_recall_fscore_support

from pipeline.base import files
from pipeline.evaluation.intervals import Resampling, drawn_counts, middle, resampled_sums
from pipeline.evaluation.predictions import Predictions

Interval = tuple[float, float]

_SCORES = ("precision", "recall", "f1", "average_precision")


@dataclass(frozen=True)
class ClassScores:
    """How one class fares against all others; 0 where nothing was predicted or actual.

    average_precision: the area under its precision-recall curve, by steps: how well its
        probability ranks its own videos before those of others.
    intervals: low and high by score; None where no drawn test set has anything to score.
        Empty where they were not asked for.
    """

    class_name: str
    precision: float
    recall: float
    f1: float
    average_precision: float
    support: int  # videos that are of this class
    intervals: Mapping[str, Interval | None] = field(default_factory=dict)


@dataclass(frozen=True)
class ClassReport:
    """All classes, in their order, and the mean average precision of those that occur."""

    rows: Sequence[ClassScores]
    mean_average_precision: float
    mean_average_precision_interval: Interval


def per_class(predictions: Predictions, resampling: Resampling) -> ClassReport:
    """Score each class, with intervals.

    Intervals are drawn as those of all other scores: by group. A drawn test set that leaves a
    score open is left out: precision where the class is not predicted, recall, F1 and average
    precision where it does not occur.
    """
    drawn = {
        **_drawn_scores(predictions, resampling),
        "average_precision": drawn_average_precisions(predictions, resampling),
    }
    rows = [
        replace(
            row,
            intervals={
                name: _interval(drawn[name][:, index], resampling.confidence) for name in _SCORES
            },
        )
        for index, row in enumerate(class_scores(predictions))
    ]
    average = average_precisions(predictions.labels, predictions.probabilities)
    drawn_means = np.nanmean(drawn["average_precision"], axis=1)  # some class is always drawn
    return ClassReport(rows, float(np.nanmean(average)), middle(drawn_means, resampling.confidence))


def class_scores(predictions: Predictions) -> list[ClassScores]:
    """Score each class without intervals, in the order of the classes."""
    labels, names = predictions.labels, predictions.class_names
    precision, recall, f1, support = precision_recall_fscore_support(
        labels, predictions.predicted, labels=range(len(names)), zero_division=0
    )
    average = np.nan_to_num(average_precisions(labels, predictions.probabilities))
    return [
        ClassScores(
            class_name=name,
            precision=float(precision[index]),
            recall=float(recall[index]),
            f1=float(f1[index]),
            average_precision=float(average[index]),
            support=int(support[index]),
        )
        for index, name in enumerate(names)
    ]


def average_precisions(
    labels: NDArray[np.int64], probabilities: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return float64 [C]: the average precision of each class, NaN of one that does not occur."""
    return np.array(
        [
            average_precision_score(labels == index, column) if np.any(labels == index) else np.nan
            for index, column in enumerate(probabilities.T)
        ]
    )


def drawn_average_precisions(
    predictions: Predictions, resampling: Resampling
) -> NDArray[np.float64]:
    """Return float64 [samples, C]: the average precisions in test sets drawn by group.

    NaN where a class is in none of the drawn videos.
    """
    _, unit_of_video = np.unique(np.asarray(predictions.units), return_inverse=True)
    chunks = []
    n_units = int(unit_of_video.max()) + 1
    for counts in drawn_counts(n_units, samples=resampling.samples, seed=resampling.seed):
        # float32 counts exactly up to 2 ** 24, and halves the memory.
        times = np.ascontiguousarray(counts.T, np.float32)[unit_of_video]
        columns = [
            _weighted_average_precision(predictions.labels == index, column, times)
            for index, column in enumerate(predictions.probabilities.T)
        ]
        chunks.append(np.stack(columns, axis=1))
    return np.concatenate(chunks)


def write_per_class_csv(path: Path, rows: Iterable[ClassScores]) -> None:
    """Write class, the scores, support, and ``<score>_low`` and ``<score>_high`` of each.

    Scores have six decimals; an interval that does not exist is empty.
    """
    ends = [f"{score}_{end}" for score in _SCORES for end in ("low", "high")]
    files.write_csv(
        path,
        ["class", *_SCORES, "support", *ends],
        [
            {
                "class": row.class_name,
                **{score: f"{getattr(row, score):.6f}" for score in _SCORES},
                "support": row.support,
                **_ends(row.intervals),
            }
            for row in rows
        ],
    )


def _drawn_scores(
    predictions: Predictions, resampling: Resampling
) -> dict[str, NDArray[np.float64]]:
    """Return float64 [samples, C] a score, NaN where a drawn test set leaves it open."""
    n_classes = len(predictions.class_names)
    actual = np.eye(n_classes)[predictions.labels]
    predicted = np.eye(n_classes)[predictions.predicted]
    added = np.concatenate([actual, predicted, actual * predicted], axis=1)
    sums = resampled_sums(
        added, units=predictions.units, samples=resampling.samples, seed=resampling.seed
    )
    n_actual, n_predicted, n_both = np.split(sums, 3, axis=1)
    with np.errstate(invalid="ignore"):  # 0 / 0 is NaN, as it should be
        f1 = np.where(n_actual > 0, 2 * n_both / (n_actual + n_predicted), np.nan)
        return {"precision": n_both / n_predicted, "recall": n_both / n_actual, "f1": f1}


def _weighted_average_precision(
    is_positive: NDArray[np.bool_], scores: NDArray[np.float64], times: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Return float64 [S]: sum of (recall gained) x precision, over falling thresholds.

    Args:
        is_positive: bool [N].
        scores: float64 [N]; equal ones are one threshold.
        times: float32 [N, S]: how often each video is in each of S test sets.
    """
    n_samples = times.shape[1]
    if not is_positive.any():
        return np.full(n_samples, np.nan)
    order = np.argsort(-scores, kind="stable")
    is_last = np.append(np.diff(scores[order]) != 0, True)
    # Thresholds without a positive gain no recall: count their videos with the next one's.
    level = np.concatenate([[0], np.cumsum(is_last)[:-1]])
    gains = np.bincount(level, weights=is_positive[order]) > 0
    stops = np.flatnonzero(is_last)[gains] + 1
    starts = np.concatenate([[0], stops[:-1]])
    ranked = times[order[: stops[-1]]]
    seen = np.cumsum(np.add.reduceat(ranked, starts, axis=0), axis=0)
    ranked *= is_positive[order[: stops[-1]], None]
    gained = np.add.reduceat(ranked, starts, axis=0)
    found = np.cumsum(gained, axis=0)
    precision = np.divide(found, seen, where=seen > 0, out=np.zeros_like(found))
    with np.errstate(invalid="ignore"):  # of a class that was not drawn: NaN
        average: NDArray[np.float64] = (gained * precision).sum(axis=0, dtype=float) / found[-1]
    return average


def _interval(drawn: NDArray[np.float64], confidence: float) -> Interval | None:
    return None if np.isnan(drawn).all() else middle(drawn, confidence)


def _ends(intervals: Mapping[str, Interval | None]) -> dict[str, object]:
    cells: dict[str, object] = {}
    for score, interval in intervals.items():
        low, high = ("", "") if interval is None else (f"{end:.6f}" for end in interval)
        cells |= {f"{score}_low": low, f"{score}_high": high}
    return cells

"""Tables of a classifier: scores of each class, most frequent confusions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.common.bootstrap import Interval, Resampling
from pipeline.tasks.class_scores import (
    average_precisions,
    confusion_matrix,
    resampled_average_precisions,
)
from pipeline.tasks.task import Table

_CLASS_SCORES = ("precision", "recall", "f1", "average_precision")
_MAX_CONFUSIONS = 10  # in the table


@dataclass(frozen=True)
class ClassScore:
    """A score of each class, float64 [C], and its interval (None when no interval applies)."""

    values: NDArray[np.float64]
    intervals: Sequence[Interval | None]


def score_classes(
    labels: NDArray[np.int64], probabilities: NDArray[np.float64], resampling: Resampling
) -> Mapping[str, ClassScore]:
    """Score each class against all others: precision, recall, F1 and average precision.

    A score is 0 where nothing is predicted or actual. A resampled test set in which it is
    undefined is left out: precision of a class that is not predicted, the other scores of a class
    that does not occur.
    """
    n_classes = probabilities.shape[1]
    predicted = np.argmax(probabilities, axis=1)
    actual_one_hot, predicted_one_hot = np.eye(n_classes)[labels], np.eye(n_classes)[predicted]
    terms = np.concatenate(
        [actual_one_hot, predicted_one_hot, actual_one_hot * predicted_one_hot], axis=1
    )
    values = _scores_from_counts(terms.sum(axis=0))
    resampled = _scores_from_counts(resampling.sums(terms))
    values["average_precision"] = average_precisions(labels, probabilities)
    resampled["average_precision"] = resampled_average_precisions(labels, probabilities, resampling)
    return {
        name: ClassScore(
            np.nan_to_num(values[name]),
            [resampling.interval(column) for column in resampled[name].T],
        )
        for name in _CLASS_SCORES
    }


def class_table(
    labels: NDArray[np.int64],
    probabilities: NDArray[np.float64],
    class_names: Sequence[str],
    resampling: Resampling,
) -> Table:
    """Return the scores of each class with six decimals; an interval may be empty."""
    scores = score_classes(labels, probabilities, resampling)
    support = np.bincount(labels, minlength=len(class_names))
    rows = []
    for index, class_name in enumerate(class_names):
        row = {"class": class_name, "support": str(support[index])}
        for name, score in scores.items():
            interval = score.intervals[index] or (None, None)
            row[name] = f"{score.values[index]:.6f}"
            row[f"{name}_low"], row[f"{name}_high"] = (
                "" if end is None else f"{end:.6f}" for end in interval
            )
        rows.append(row)
    ends = [f"{name}_{end}" for name in _CLASS_SCORES for end in ("low", "high")]
    return Table(
        name="per_class",
        title="Each class against all others",
        columns=["class", *_CLASS_SCORES, "support", *ends],
        rows=rows,
    )


def confusion_table(
    labels: NDArray[np.int64], probabilities: NDArray[np.float64], class_names: Sequence[str]
) -> Table:
    """Return the ten most frequent confusions."""
    matrix = confusion_matrix(labels, probabilities.argmax(axis=1), len(class_names))
    np.fill_diagonal(matrix, 0)
    actual, predicted = np.nonzero(matrix)
    counts = matrix[actual, predicted]
    order = np.argsort(-counts, kind="stable")[:_MAX_CONFUSIONS]
    return Table(
        name="confusions",
        title="Most frequent confusions",
        columns=["actual", "predicted", "videos"],
        rows=[
            {
                "actual": class_names[actual[index]],
                "predicted": class_names[predicted[index]],
                "videos": str(counts[index]),
            }
            for index in order
        ],
    )


def _scores_from_counts(counts: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Return precision, recall and F1 [..., C] from actual, predicted and both [..., 3 C]."""
    actual, predicted, both = np.split(counts, 3, axis=-1)
    with np.errstate(invalid="ignore"):  # 0 / 0 is NaN: undefined
        return {
            "precision": both / predicted,
            "recall": both / actual,
            "f1": np.where(actual > 0, 2 * both / (actual + predicted), np.nan),
        }

"""Tables of a classifier: scores of each class, most frequent confusions."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.common.bootstrap import Resampling, Score
from pipeline.tasks.class_scores import (
    average_precisions,
    class_scores_from_sums,
    confusion_matrix,
    resampled_average_precisions,
    score_terms,
)
from pipeline.tasks.task import Table

_MAX_CONFUSIONS = 10  # in the table


def score_classes(
    labels: NDArray[np.int64], probabilities: NDArray[np.float64], resampling: Resampling
) -> dict[str, list[Score]]:
    """Return precision, recall, F1 and average precision of each class against all others.

    A score is 0 where it is undefined. Resampled test sets in which it is undefined are left out:
    for precision those where the class is not predicted, otherwise those where it does not occur.
    """
    n_classes = probabilities.shape[1]
    terms = score_terms(labels, probabilities, top_k=1)
    values = class_scores_from_sums(terms.sum(axis=0), n_classes=n_classes)
    resampled = class_scores_from_sums(resampling.sums(terms), n_classes=n_classes)
    resampled["f1"][np.isnan(resampled["recall"])] = np.nan
    values["average_precision"] = average_precisions(labels, probabilities)
    resampled["average_precision"] = resampled_average_precisions(labels, probabilities, resampling)
    return {
        name: [
            Score(float(value), resampling.interval(column))
            for value, column in zip(np.nan_to_num(values[name]), resampled[name].T, strict=True)
        ]
        for name in values
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
        for name, by_class in scores.items():
            low, high = by_class[index].interval or (None, None)
            row[name] = f"{by_class[index].value:.6f}"
            row[f"{name}_low"] = "" if low is None else f"{low:.6f}"
            row[f"{name}_high"] = "" if high is None else f"{high:.6f}"
        rows.append(row)
    ends = [f"{name}_{end}" for name in scores for end in ("low", "high")]
    return Table(
        name="per_class",
        title="Each class against all others",
        columns=["class", *scores, "support", *ends],
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

"""Tables of a classifier: scores of each class, most frequent confusions."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.common.bootstrap import Resampling, Score
from pipeline.tasks.class_scores import (
    average_precisions,
    confusion_matrix,
    resampled_average_precisions,
)
from pipeline.tasks.task import LimitedValue, Table

_SHOWN_CLASSES = 100
_SHOWN_CONFUSIONS = 10


def class_table(
    actual: NDArray[np.bool_],
    predicted: NDArray[np.bool_],
    probabilities: NDArray[np.float64],
    class_names: Sequence[str],
    resampling: Resampling,
) -> Table:
    """Return the scores of each class with six decimals; an interval may be empty.

    The classes are in the order of the names or, if more than reports show, the worst F1 first.

    Args:
        actual, predicted: bool [N, C], the classes of each video.
        probabilities: float64 [N, C].
    """
    scores = score_classes(actual, predicted, probabilities, resampling)
    return scores_table(scores, actual.sum(axis=0), class_names)


def scores_table(
    scores: Mapping[str, Sequence[Score]], support: NDArray[np.int64], class_names: Sequence[str]
) -> Table:
    """Return the table of ``class_table`` from the scores of each class.

    Args:
        scores: by name, length C each.
        support: int64 [C], videos or frames of each class.
    """
    order = list(range(len(class_names)))
    if len(order) > _SHOWN_CLASSES:
        order.sort(key=lambda index: scores["f1"][index].value)
    rows = []
    for index in order:
        row = {"class": class_names[index], "support": f"{support[index]:.0f}"}
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
        shown=_SHOWN_CLASSES,
    )


def score_classes(
    actual: NDArray[np.bool_],
    predicted: NDArray[np.bool_],
    probabilities: NDArray[np.float64],
    resampling: Resampling,
) -> dict[str, list[Score]]:
    """Return precision, recall, F1 and average precision of each class against all others.

    Where a score is undefined it is 0 and has no interval: precision without a predicted video,
    F1 without a predicted or an actual one, the others without an actual one.

    Args:
        actual, predicted, probabilities: as for ``class_table``.
    """
    both = (actual & predicted).astype(np.float64)
    weights = actual / np.maximum(actual.sum(axis=0), 1)
    average = average_precisions(actual, probabilities)
    resampled = resampled_average_precisions(actual, probabilities, resampling)
    return {
        **score_counts(
            actual.astype(np.float64), predicted.astype(np.float64), both, resampling=resampling
        ),
        "average_precision": [
            Score(0.0)
            if np.isnan(value)
            else Score(float(value), resampling.bounded_interval(float(value), column, weight))
            for value, column, weight in zip(average, resampled.T, weights.T, strict=True)
        ],
    }


def score_counts(
    actual: NDArray[np.float64],
    predicted: NDArray[np.float64],
    both: NDArray[np.float64],
    *,
    resampling: Resampling,
) -> dict[str, list[Score]]:
    """Return precision, recall and F1 of each class, as ``score_classes``.

    Args:
        actual, predicted, both: float64 [N, C], how often each video has each class, is predicted
            to have it, and both; 0 or 1, or numbers of frames.
    """
    return {
        "precision": resampling.ratio_scores(both, predicted),
        "recall": resampling.ratio_scores(both, actual),
        "f1": resampling.ratio_scores(2 * both, actual + predicted),
    }


def recall_values(
    actual: NDArray[np.float64] | NDArray[np.bool_],
    both: NDArray[np.float64] | NDArray[np.bool_],
    class_names: Sequence[str],
    resampling: Resampling,
) -> list[LimitedValue]:
    """Return the recall of each class for the gate, unknown ones first, then the lowest.

    Args:
        actual, both: [N, C], as for ``score_counts``.
    """
    recalls = resampling.ratio_scores(both.astype(np.float64), actual.astype(np.float64))
    values = [
        LimitedValue(
            name=f"recall of {name}",
            value=recall.value if recall.interval else None,
            interval=recall.interval,
            videos=int((members > 0).sum()),
            groups=len({resampling.groups[index] for index in np.flatnonzero(members).tolist()}),
        )
        for name, recall, members in zip(class_names, recalls, actual.T, strict=True)
    ]
    return sorted(values, key=lambda recall: -1 if recall.value is None else recall.value)


def confusion_table(
    labels: NDArray[np.int64], probabilities: NDArray[np.float64], class_names: Sequence[str]
) -> Table:
    """Return every confusion, the most frequent first."""
    matrix = confusion_matrix(labels, probabilities.argmax(axis=1), len(class_names))
    np.fill_diagonal(matrix, 0)
    actual, predicted = np.nonzero(matrix)
    counts = matrix[actual, predicted]
    order = np.argsort(-counts, kind="stable")
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
        shown=_SHOWN_CONFUSIONS,
    )

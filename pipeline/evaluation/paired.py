"""Two models on the same videos: whose score is better, and by how much for sure."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from pipeline.base.errors import PipelineError
from pipeline.evaluation.intervals import middle, resampled_sums, warn_of_few_units
from pipeline.evaluation.metrics import addends, scores_from_sums
from pipeline.evaluation.predictions import Predictions

Metric = Literal["accuracy", "balanced_accuracy", "macro_f1", "log_loss"]
METRICS: tuple[Metric, ...] = get_args(Metric)
LOWER_IS_BETTER: frozenset[Metric] = frozenset({"log_loss"})


@dataclass(frozen=True)
class Difference:
    """What B scores more than A on the videos that both have.

    ``low`` and ``high`` are the bootstrap interval of ``difference``, which is
    ``value_b - value_a``. Of a log loss, less is better.
    """

    value_a: float
    value_b: float
    difference: float
    low: float
    high: float
    videos: int


def paired_difference(
    a: Predictions,
    b: Predictions,
    *,
    metric: Metric,
    samples: int,
    confidence: float,
    seed: int,
) -> Difference:
    """Compare two models on the videos that both have; labels and groups are those of ``b``.

    Both are scored on the same drawn test sets, so what makes a test set hard or easy for
    both cancels out: the interval of the difference is narrower than the intervals of the two
    scores suggest, and two models that say the same differ by exactly 0. Groups are drawn
    whole, as in ``intervals``. Source: Efron and Tibshirani, An Introduction to the
    Bootstrap, 1993, chapters 8 and 13; pairs are drawn as in their section 8.3.

    Args:
        a, b: such as the champion and the challenger. A class that only one of them knows
            has probability 0 in the other.
        metric: see ``metrics.Scores``.
        samples: how many test sets are drawn.
        confidence: share of them whose difference lies in the interval, such as 0.95.
        seed: the same seed and input give the same interval.

    Raises:
        PipelineError: there is no video that both have.
    """
    found = paired_differences(
        a, b, metrics=[metric], samples=samples, confidence=confidence, seed=seed
    )
    return found[metric]


def paired_differences(
    a: Predictions,
    b: Predictions,
    *,
    metrics: Iterable[Metric] = METRICS,
    samples: int,
    confidence: float,
    seed: int,
) -> dict[Metric, Difference]:
    """Return ``paired_difference`` of each metric, all from the same drawn test sets."""
    a, b = on_same_videos(a, b)
    warn_of_few_units(b.units)
    added = np.concatenate([_addends(a), _addends(b)], axis=1)
    sums = resampled_sums(added, units=b.units, samples=samples, seed=seed)
    scored_a, scored_b = _scores(added.sum(axis=0), len(b.class_names))
    drawn_a, drawn_b = _scores(sums, len(b.class_names))
    found: dict[Metric, Difference] = {}
    for metric in metrics:
        low, high = middle(drawn_b[metric] - drawn_a[metric], confidence)
        value_a, value_b = float(scored_a[metric]), float(scored_b[metric])
        found[metric] = Difference(value_a, value_b, value_b - value_a, low, high, len(b.videos))
    return found


def on_same_videos(a: Predictions, b: Predictions) -> tuple[Predictions, Predictions]:
    """Return both with the videos that both have, in the order of ``b``, and with all classes.

    Parts of one video, which share its path, belong together in their order, and are left
    out where one side has more of them. Labels and groups are those of ``b``, because a
    label that was corrected counts for both. Classes are those of ``b``, then others of ``a``.

    Raises:
        PipelineError: there is no video that both have.
    """
    rows_of_a, rows_of_b = _rows_by_video(a), _rows_by_video(b)
    pairs = [
        (row_a, row_b)
        for video, rows in rows_of_b.items()
        if len(rows_of_a.get(video, ())) == len(rows)
        for row_a, row_b in zip(rows_of_a[video], rows, strict=True)
    ]
    if not pairs:
        raise PipelineError(
            f"expected predictions of the same videos, found none that both have: "
            f"{len(a.videos)} videos such as {a.videos[0]}, and "
            f"{len(b.videos)} such as {b.videos[0]}"
        )
    pairs.sort(key=lambda pair: pair[1])
    chosen_a, chosen_b = (list(rows) for rows in zip(*pairs, strict=True))
    class_names = tuple(dict.fromkeys((*b.class_names, *a.class_names)))
    same_b = Predictions(
        videos=tuple(b.videos[row] for row in chosen_b),
        groups=tuple(b.groups[row] for row in chosen_b),
        labels=b.labels[chosen_b],
        probabilities=_columns(b, class_names)[chosen_b],
        class_names=class_names,
    )
    return replace(same_b, probabilities=_columns(a, class_names)[chosen_a]), same_b


def _rows_by_video(predictions: Predictions) -> Mapping[str, Sequence[int]]:
    rows = defaultdict(list)
    for row, video in enumerate(predictions.videos):
        rows[video].append(row)
    return dict(rows)


def _columns(predictions: Predictions, class_names: Sequence[str]) -> NDArray[np.float64]:
    """Return the probabilities with a column for each of ``class_names``, 0 where unknown."""
    columns = np.zeros((len(predictions.videos), len(class_names)))
    where = [class_names.index(name) for name in predictions.class_names]
    columns[:, where] = predictions.probabilities
    return columns


def _addends(predictions: Predictions) -> NDArray[np.float64]:
    # No metric here depends on k or on the bins.
    return addends(predictions.labels, predictions.probabilities, top_k=1, calibration_bins=1)


def _scores(sums: NDArray[np.float64], n_classes: int) -> list[dict[str, NDArray[np.float64]]]:
    """Return the scores [...] of A and of B from sums [..., 2 K], those of A first."""
    return [
        scores_from_sums(of_side, n_classes=n_classes) for of_side in np.split(sums, 2, axis=-1)
    ]

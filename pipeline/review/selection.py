"""Which test videos are worth a look."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.predictions import Predictions

Kind = Literal["mistakes", "least_sure", "right"]


@dataclass(frozen=True)
class Choice:
    """Some test videos of one kind, by their rows in the predictions."""

    kind: Kind
    title: str
    explanation: str
    rows: Sequence[int]


def choose(predictions: Predictions, *, each: int) -> list[Choice]:
    """Choose the most confident mistakes, the least sure videos, and some that are right.

    A video is in one choice only. Least sure are those with the smallest distance between
    the two most probable classes, right or wrong. The right ones are the middle one of each
    class by confidence, class by class, then the next, so that no class fills the choice.

    Args:
        each: videos of each kind at most.
    """
    wrong = predictions.predicted != predictions.labels
    confidence = predictions.probabilities.max(axis=1)
    mistakes = _first(np.argsort(-confidence, kind="stable"), wrong, each)
    free = ~np.isin(np.arange(len(wrong)), mistakes)
    least_sure = _first(np.argsort(margins(predictions.probabilities), kind="stable"), free, each)
    free[least_sure] = False
    right = _typical(predictions, free & ~wrong, each)
    return [
        Choice(
            "mistakes",
            "Most confident mistakes",
            f"{int(wrong.sum())} of {len(wrong)} test videos are predicted wrong; the surest "
            "first.",
            mistakes,
        ),
        Choice(
            "least_sure",
            "Least sure",
            "The two most probable classes are closest to each other here; right or wrong, "
            "without those above.",
            least_sure,
        ),
        Choice(
            "right",
            "Right ones",
            "Of every class in turn one of middling confidence.",
            right,
        ),
    ]


def margins(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return float64 [N]: how far the most probable class is above the second."""
    ordered = np.sort(probabilities, axis=1)
    if probabilities.shape[1] == 1:
        return ordered[:, -1]
    gaps: NDArray[np.float64] = ordered[:, -1] - ordered[:, -2]
    return gaps


def _first(order: NDArray[np.int64], wanted: NDArray[np.bool_], count: int) -> list[int]:
    rows: list[int] = order[wanted[order]][:count].tolist()
    return rows


def _typical(predictions: Predictions, wanted: NDArray[np.bool_], count: int) -> list[int]:
    confidence = predictions.probabilities.max(axis=1)
    queues = []
    for index in range(len(predictions.class_names)):
        members = np.flatnonzero(wanted & (predictions.labels == index))
        if len(members):
            away = np.abs(confidence[members] - np.median(confidence[members]))
            queues.append(members[np.argsort(away, kind="stable")].tolist())
    longest = max(map(len, queues), default=0)
    in_turn = [queue[turn] for turn in range(longest) for queue in queues if turn < len(queue)]
    return in_turn[:count]

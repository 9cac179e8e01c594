"""What one version of the model made of the current test videos."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.predictions import Predictions


@dataclass(frozen=True, eq=False)
class Contender:
    """What a version says of the test videos, and what may be held against it."""

    version: int
    predictions: Predictions | None  # of the videos that it could read; None: of none
    milliseconds: NDArray[np.float64]  # float64 [N], of each prediction
    unreadable: Mapping[str, str] = field(default_factory=dict)  # video -> why
    seen: frozenset[str] | None = frozenset()  # test videos of its own training; None: not known

    @property
    def latency_ms(self) -> float:
        """Median of a video, from the bytes of the file to probabilities."""
        return float(np.median(self.milliseconds))

    @property
    def unseen(self) -> Predictions | None:
        """What it says of the videos that it was not trained on, as far as that is known."""
        return without(self.predictions, self.seen or frozenset())


def without(predictions: Predictions | None, videos: Collection[str]) -> Predictions | None:
    """Return the rows of all other videos, None when there is no other."""
    if predictions is None:
        return None
    rows = [index for index, video in enumerate(predictions.videos) if video not in videos]
    if not rows:
        return None
    return Predictions(
        videos=tuple(predictions.videos[row] for row in rows),
        groups=tuple(predictions.groups[row] for row in rows),
        labels=predictions.labels[rows],
        probabilities=predictions.probabilities[rows],
        class_names=predictions.class_names,
    )

"""The outputs of versions for the test videos, and the gain of one version over another."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.predictions import Predictions, on_same_videos, without
from pipeline.evaluation.scores import paired_differences
from pipeline.evaluation.settings import EvaluateSection

ROUNDING = 1e-9  # error of sums of logarithms that are added in another order


@dataclass(frozen=True, eq=False)
class Contender:
    """A version and its outputs for the test videos.

    Attributes:
        predictions: of the videos that it can read; None when it can read none.
        milliseconds: float64 [N], of each prediction.
        unreadable: video -> reason.
        seen: test videos whose content or group was in its training or validation set; None when
            unknown.
    """

    version: int
    predictions: Predictions | None
    milliseconds: NDArray[np.float64]
    unreadable: Mapping[str, str] = field(default_factory=dict)
    seen: frozenset[str] | None = frozenset()

    @property
    def n_videos(self) -> int:
        """Number of test videos that it was given."""
        read = len(self.predictions.videos) if self.predictions else 0
        return read + len(self.unreadable)

    @property
    def latency_ms(self) -> float:
        """Median over the videos, from the bytes of the file to the answer."""
        return float(np.median(self.milliseconds))

    @property
    def unseen(self) -> Predictions | None:
        """The predictions of videos that it was not trained on, as far as known."""
        return without(self.predictions, self.seen or ())

    def first_unreadable(self, videos: Collection[str]) -> str:
        """Return the first of these unreadable videos with its reason."""
        return f"The first is {min(videos)}: {self.unreadable[min(videos)]}"


@dataclass(frozen=True)
class Gain:
    """How much better the challenger is than a champion; positive is better for every metric.

    Attributes:
        version: of the champion.
        champion, challenger: their scores.
        low, high: interval of ``gain``.
        videos, groups: numbers of those on which both are scored.
        unit: size of a gain that ``promote.min_gain`` counts as 1.
        fixed: videos on which only the challenger is right.
        broken: videos on which only the champion is right.
    """

    version: int
    metric: str
    champion: float
    challenger: float
    gain: float
    low: float
    high: float
    videos: int
    groups: int
    unit: float
    fixed: tuple[str, ...]
    broken: tuple[str, ...]

    @property
    def is_without_loss(self) -> bool:
        """Whether the challenger is right wherever the champion is, with no lower score."""
        return not self.broken and self.gain >= -ROUNDING


def measure_gain(
    champion: Contender, challenger: Contender, *, metric: str, section: EvaluateSection
) -> Gain | None:
    """Compare on videos that neither was trained on; None when none is left."""
    seen = (champion.seen or frozenset()) | (challenger.seen or frozenset())
    old, new = without(champion.predictions, seen), without(challenger.predictions, seen)
    if old is None or new is None or not set(old.videos) & set(new.videos):
        return None
    difference = paired_differences(old, new, section, metrics=[metric])[metric]
    sign, ends = 1, (difference.low, difference.high)
    if metric in new.task.lower_is_better:
        sign, ends = -1, (-difference.high, -difference.low)
    old, new = on_same_videos(old, new)
    was_right, is_right = old.is_right, new.is_right
    videos = np.array(new.videos)
    return Gain(
        version=champion.version,
        metric=metric,
        champion=difference.value_a,
        challenger=difference.value_b,
        gain=sign * difference.difference,
        low=ends[0],
        high=ends[1],
        videos=len(new.videos),
        groups=len(set(new.resampling_groups)),
        unit=new.task.gain_unit(metric),
        fixed=tuple(videos[is_right & ~was_right].tolist()),
        broken=tuple(videos[was_right & ~is_right].tolist()),
    )

"""Bootstrap intervals of scores, resampled by group.

Videos of one group resemble each other (one scene, one person), so groups are resampled, not
videos: with replacement, as many as there are, each with all of its videos. Source: Efron and
Tibshirani, An Introduction to the Bootstrap, 1993, chapters 8 and 13.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

logger = logging.getLogger(__name__)

# Intervals from fewer groups are too narrow.
MIN_GROUPS = 10

_CHUNK_CELLS = 1 << 21  # 16 MiB as float64

Interval = tuple[float, float]


@dataclass(frozen=True)
class Score:
    """A score and its bootstrap interval (None when no interval applies)."""

    value: float
    interval: Interval | None = None


@dataclass(frozen=True)
class Resampling:
    """Test sets resampled from one test set. Equal fields give equal test sets.

    Attributes:
        groups: the resampling group of each video, length N.
        samples: number S of resampled test sets.
        confidence: probability content of an interval, such as 0.95.
        seed: of the random generator.
    """

    groups: Sequence[str]
    samples: int
    confidence: float
    seed: int

    @cached_property
    def _group_of_video(self) -> NDArray[np.int64]:
        _, group_of_video = np.unique(np.asarray(self.groups), return_inverse=True)
        return group_of_video.astype(np.int64)

    @property
    def n_groups(self) -> int:
        return int(self._group_of_video.max()) + 1

    def warn_if_few_groups(self) -> None:
        """Log a warning when the intervals would be too narrow."""
        if self.n_groups < MIN_GROUPS:
            logger.warning(
                "Only %d groups of test videos: with fewer than %d, the intervals of the scores "
                "are too narrow.",
                self.n_groups,
                MIN_GROUPS,
            )

    def sums(self, terms: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return float64 [S, K]: the sums of per-video terms [N, K] over each test set."""
        by_group = np.zeros((self.n_groups, terms.shape[1]))
        np.add.at(by_group, self._group_of_video, terms)
        return np.concatenate([counts @ by_group for counts in self._group_counts()])

    def video_counts(self) -> Iterator[NDArray[np.int64]]:
        """Yield int64 [some of S, N]: how often each video is in each test set."""
        for counts in self._group_counts():
            yield counts[:, self._group_of_video]

    def interval(self, values: NDArray[np.float64]) -> Interval | None:
        """Return ``percentile_interval`` of a score [S]; None when every value is NaN."""
        return None if np.isnan(values).all() else percentile_interval(values, self.confidence)

    def mean_score(
        self,
        values: NDArray[np.float64] | NDArray[np.bool_],
        where: NDArray[np.bool_] | None = None,
    ) -> Score:
        """Return the mean of values [N], one a video, and its interval.

        Args:
            where: bool [N], True for at least one video: the mean is over these. All videos by
                default. All videos are resampled, and the interval is (0, 1) if no resampled test
                set has one of them.
        """
        counted = np.ones(len(values)) if where is None else where.astype(np.float64)
        sums = self.sums(np.stack([values * counted, counted], axis=1))
        with np.errstate(invalid="ignore"):  # 0 / 0: none of these videos was drawn
            interval = self.interval(sums[:, 0] / sums[:, 1])
        return Score(float((values * counted).sum() / counted.sum()), interval or (0.0, 1.0))

    def _group_counts(self) -> Iterator[NDArray[np.int64]]:
        """Yield int64 [some of S, groups]: how often each group is in each test set."""
        generator = np.random.default_rng(self.seed)
        n_groups = self.n_groups
        chunk = max(1, _CHUNK_CELLS // n_groups)
        for start in range(0, self.samples, chunk):
            rows = min(chunk, self.samples - start)
            drawn = generator.integers(n_groups, size=(rows, n_groups))
            drawn += n_groups * np.arange(rows)[:, None]  # each row counts in its own range
            yield np.bincount(drawn.ravel(), minlength=rows * n_groups).reshape(rows, n_groups)


def percentile_interval(values: NDArray[np.float64], confidence: float) -> Interval:
    """Return the range of the central fraction ``confidence`` of values float64 [S].

    NaN, the score of a resampled test set in which it is undefined, is left out.

    Raises:
        ValueError: every value is NaN.
    """
    defined = values[~np.isnan(values)]
    if not defined.size:
        raise ValueError("values: expected at least one number. Received: only NaN")
    tail = (1 - confidence) / 2
    low, high = np.quantile(defined, [tail, 1 - tail])
    return float(low), float(high)

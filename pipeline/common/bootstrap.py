"""Intervals of scores of grouped videos.

Videos of one group resemble each other (one scene, one person), so groups are resampled, not
videos: with replacement, as many as there are, each with all of its videos. Source: Efron and
Tibshirani, An Introduction to the Bootstrap, 1993, chapters 8 and 13.

A percentile interval has no width where all videos agree: 20 right answers of 20 would be an
accuracy of [1, 1]. Scores between 0 and 1 use ``proportion_intervals``, and differences of two
such scores ``difference_interval``. ``python -m benchmarks.intervals`` measures their coverage.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

logger = logging.getLogger(__name__)

# Intervals from fewer groups are unreliable.
MIN_GROUPS = 10

_CHUNK_CELLS = 1 << 21  # 16 MiB as float64; narrow chunks of many videos take longer

Interval = tuple[float, float]


@dataclass(frozen=True)
class Score:
    """A score and its interval (None when no interval applies)."""

    value: float
    interval: Interval | None = None


class ResampledScore(NamedTuple):
    """A score, and the same score of each resampled test set, float64 [S]; NaN: undefined."""

    value: float
    resampled: NDArray[np.float64]


@dataclass(frozen=True)
class Resampling:
    """Test sets resampled from one test set. Equal fields give equal test sets.

    Attributes:
        groups: the resampling group of each video, length N.
        samples: number S of resampled test sets.
        confidence: coverage probability of an interval, such as 0.95.
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
        """Log a warning when the intervals are unreliable."""
        if self.n_groups < MIN_GROUPS:
            logger.warning(
                "Only %d groups of test videos: with fewer than %d, the intervals of the scores "
                "are unreliable.",
                self.n_groups,
                MIN_GROUPS,
            )

    def sums(self, terms: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return float64 [S, K]: the sums of per-video terms [N, K] over each test set."""
        by_group = self._by_group(terms)
        return np.concatenate([counts @ by_group for counts in self._group_counts()])

    def video_counts(self) -> Iterator[NDArray[np.int32]]:
        """Yield int32 [some of S, N]: how often each video is in each test set."""
        for counts in self._group_counts():
            yield counts[:, self._group_of_video]

    def uniform_by_group(self) -> Iterator[NDArray[np.float64]]:
        """Yield float64 [some of S, N]: random numbers from 0 to 1, the same within a group."""
        generator = np.random.default_rng(self.seed)
        chunk = max(1, _CHUNK_CELLS // len(self.groups))
        for start in range(0, self.samples, chunk):
            rows = min(chunk, self.samples - start)
            yield generator.random((rows, self.n_groups))[:, self._group_of_video]

    def interval(self, resampled: NDArray[np.float64]) -> Interval | None:
        """Return the percentile interval of an unbounded score.

        The percentiles lie further out the fewer groups there are, as the quantiles of Student's
        t distribution do. Source: Hesterberg, What Teachers Should Know About the Bootstrap,
        2015, The American Statistician 69, section 4.2.

        Args:
            resampled: float64 [S], the score of each test set.

        Returns:
            None when the score is undefined, or when there is one group.
        """
        from scipy.special import ndtr, stdtrit  # the command line must start fast

        if np.isnan(resampled).all() or self.n_groups < 2:
            return None
        quantile = stdtrit(self.n_groups - 1, (1 + self.confidence) / 2)
        tail = ndtr(-np.sqrt(self.n_groups / (self.n_groups - 1)) * quantile)
        return percentile_interval(resampled, float(1 - 2 * tail))

    def bounded_interval(
        self, value: float, resampled: NDArray[np.float64], weights: NDArray[np.float64]
    ) -> Interval:
        """Return the ``proportion_intervals`` of a score between 0 and 1.

        Args:
            resampled: float64 [S], the score of each test set.
            weights: float64 [N], of each video in the score, sum 1.
        """
        low, high = proportion_intervals(
            np.float64(value),
            variances=self._variance(resampled),
            videos=1 / (weights**2).sum(),
            groups=1 / (self._by_group(weights) ** 2).sum(),
            confidence=self.confidence,
        )
        return float(low), float(high)

    def difference_interval(
        self, difference: float, resampled: NDArray[np.float64], weights: NDArray[np.float64]
    ) -> Interval:
        """Return the interval of a difference of two scores between 0 and 1 of the same videos.

        Half a pseudo-group is added to each of the four cells (both right, only A, only B, both
        wrong), so that G groups without a difference give about 2 / (G + 2) and not 0. Source:
        Agresti and Min, Simple Improved Confidence Intervals for Comparing Matched Proportions,
        2005, Statistics in Medicine 24, with the variance between groups.

        Args:
            resampled: float64 [S], the difference in each test set.
            weights: as for ``bounded_interval``.
        """
        from scipy.special import stdtrit  # the command line must start fast

        share = (self._by_group(weights) ** 2).sum()  # of an average group
        quantile = stdtrit(max(1, self.n_groups - 1), (1 + self.confidence) / 2)
        half = quantile * np.sqrt(self._variance(resampled) + share**2)
        ends = np.array([difference - half, difference + half]) / (1 + 2 * share)
        low, high = np.clip(ends, -1, 1)
        return float(low), float(high)

    def ratio_scores(
        self, numerators: NDArray[np.float64], denominators: NDArray[np.float64]
    ) -> list[Score]:
        """Return K ratios of sums between 0 and 1, such as the recall of each class.

        The variance is that of a ratio between groups, by linearisation. A ratio without a
        denominator is 0 and has no interval.

        Args:
            numerators: float64 [N, K], of each video.
            denominators: float64 [N, K], as large as the numerators or larger.
        """
        totals = denominators.sum(axis=0)
        is_defined = totals > 0
        weights = denominators / np.where(is_defined, totals, 1)
        values = numerators.sum(axis=0) / np.where(is_defined, totals, 1)
        group_weights = self._by_group(weights)
        errors = self._by_group(numerators / np.where(is_defined, totals, 1))
        errors -= values * group_weights
        n_groups = (group_weights > 0).sum(axis=0)
        lows, highs = proportion_intervals(
            values,
            variances=(errors**2).sum(axis=0) * n_groups / np.maximum(n_groups - 1, 1),
            videos=1 / np.where(is_defined, (weights**2).sum(axis=0), 1),
            groups=1 / np.where(is_defined, (group_weights**2).sum(axis=0), 1),
            confidence=self.confidence,
        )
        return [
            Score(float(value), (float(low), float(high)) if has_interval else None)
            for value, low, high, has_interval in zip(values, lows, highs, is_defined, strict=True)
        ]

    def mean_score(
        self,
        values: NDArray[np.float64] | NDArray[np.bool_],
        where: NDArray[np.bool_] | None = None,
    ) -> Score:
        """Return the mean of values [N] between 0 and 1, one a video, and its interval.

        Args:
            where: bool [N], True for at least one video: the mean is over these. All videos by
                default.
        """
        counted = np.ones(len(values)) if where is None else where.astype(np.float64)
        return self.ratio_scores((values * counted)[:, None], counted[:, None])[0]

    def _variance(self, resampled: NDArray[np.float64]) -> float:
        """Return the variance of a score over the test sets in which it is defined."""
        defined = resampled[~np.isnan(resampled)]
        correction = self.n_groups / max(1, self.n_groups - 1)
        return float(defined.var()) * correction if defined.size else 0.0

    def _by_group(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return float64 [groups, ...]: the sums of values [N, ...] over each group."""
        sums = np.zeros((self.n_groups, *values.shape[1:]))
        np.add.at(sums, self._group_of_video, values)
        return sums

    def _group_counts(self) -> Iterator[NDArray[np.int32]]:
        """Yield int32 [some of S, groups]: how often each group is in each test set."""
        generator = np.random.default_rng(self.seed)
        n_groups = self.n_groups
        chunk = max(1, _CHUNK_CELLS // n_groups)
        for start in range(0, self.samples, chunk):
            counts = np.empty((min(chunk, self.samples - start), n_groups), np.int32)
            for row in counts:
                drawn = generator.integers(n_groups, size=n_groups)
                row[:] = np.bincount(drawn, minlength=n_groups)
            yield counts


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


def proportion_intervals(
    values: NDArray[np.float64] | np.float64,
    *,
    variances: NDArray[np.float64] | float,
    videos: NDArray[np.float64] | float,
    groups: NDArray[np.float64] | float,
    confidence: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the ends [...] of Clopper-Pearson intervals with effective sample sizes.

    The effective sample size is the number of independent videos that are worth as much as these
    groups: ``videos`` divided by the design effect, the variance between groups over that of
    independent videos. Two pseudo-groups of average size, one right and one wrong, are added to
    both variances: with few mistakes, the variance between groups is too uncertain alone. Without
    a mistake, the effective sample size is ``groups``. Sources: Korn and Graubard, Confidence
    Intervals for Proportions with Small Expected Number of Positive Counts Estimated from Survey
    Data, 1998, Survey Methodology 24; Agresti and Coull, Approximate Is Better than Exact, 1998,
    The American Statistician 52, for the pseudo-observations.

    Args:
        values: [...], scores between 0 and 1.
        variances: [...], of the scores, between groups.
        videos, groups: [...], effective numbers, 1 / sum of squared weights (Kish, Survey
            Sampling, 1965, section 11.7).
    """
    from scipy.special import betaincinv  # the command line must start fast

    values, share = np.clip(values, 0, 1), 1 / np.asarray(groups)  # share: of a pseudo-group
    middle = (values + share) / (1 + 2 * share)
    pseudo = share * (middle**2 + (1 - middle) ** 2)
    between = variances + share * (values - middle) ** 2 + share * pseudo
    spread = values * (1 - values) * videos / np.maximum(videos - 1, 1)
    independent = (spread + (values - middle) ** 2 + pseudo) / videos
    size = videos / np.maximum(1, between / independent)
    right, wrong, tail = values * size, (1 - values) * size, (1 - confidence) / 2
    low = np.where(right > 0, betaincinv(right, wrong + 1, tail), 0)
    high = np.where(wrong > 0, betaincinv(right + 1, wrong, 1 - tail), 1)
    return low, high

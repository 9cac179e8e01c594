"""How far scores would move with another test set of the same size and kind."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.metrics import addends, scores_from_sums

logger = logging.getLogger(__name__)

# Resampling a handful of groups gives intervals that are too narrow; below this we say so.
FEW_UNITS = 10

_COUNTS_AT_ONCE = 1 << 21  # cells of a chunk of draws: 16 MiB as float64


@dataclass(frozen=True)
class Resampling:
    """How intervals are drawn: see ``intervals``."""

    samples: int
    confidence: float
    seed: int


def intervals(
    labels: NDArray[np.int64],
    probabilities: NDArray[np.float64],
    *,
    units: Sequence[str],
    top_k: int,
    calibration_bins: int,
    samples: int,
    confidence: float,
    seed: int,
) -> dict[str, tuple[float, float]]:
    """Return the percentile bootstrap interval (low, high) of every field of ``Scores``.

    Videos of one group are alike (one scene, one person), so units and not videos are
    drawn, as many as there are, with replacement. A drawn unit brings all its videos.
    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapters 8 and 13.

    Two things to know when reading them. A score without a mistake has the interval
    (1, 1): drawing again cannot show a mistake that the test set does not hold. Draws are
    noisier than the test set, and noise only ever adds to the calibration error, so its
    interval leans high; for a well calibrated model it can lie wholly above the score.

    Args:
        labels: int64 [N], index of the actual class.
        probabilities: float64 [N, C], rows sum to 1.
        units: of each video, the name of what it is drawn with: ``Predictions.units``.
        top_k, calibration_bins: as for ``metrics.score``.
        samples: how many test sets are drawn.
        confidence: share of them whose score lies in the interval, such as 0.95.
        seed: the same seed and input give the same intervals.
    """
    if len(units) != len(labels):
        raise ValueError(f"units: expected {len(labels)}, one a video, got {len(units)}")
    warn_of_few_units(units)
    added = addends(labels, probabilities, top_k=top_k, calibration_bins=calibration_bins)
    sums = resampled_sums(added, units=units, samples=samples, seed=seed)
    drawn = scores_from_sums(sums, n_classes=probabilities.shape[1])
    return {name: middle(values, confidence) for name, values in drawn.items()}


def warn_of_few_units(units: Sequence[str]) -> None:
    """Warn where the intervals of any score would be too narrow."""
    if (n_units := len(set(units))) < FEW_UNITS:
        logger.warning(
            "Only %d groups of test videos: the intervals of the scores are too narrow. "
            "They need %d or more.",
            n_units,
            FEW_UNITS,
        )


def resampled_sums(
    added: NDArray[np.float64], *, units: Sequence[str], samples: int, seed: int
) -> NDArray[np.float64]:
    """Return float64 [samples, K], sums over units drawn with replacement, as many as there are.

    Args:
        added: float64 [N, K], what each video adds.
        units, samples, seed: as for ``intervals``.
    """
    _, unit_of_video = np.unique(np.asarray(units), return_inverse=True)
    n_units = int(unit_of_video.max()) + 1
    added_by_unit = np.zeros((n_units, added.shape[1]))
    np.add.at(added_by_unit, unit_of_video, added)
    draws = drawn_counts(n_units, samples=samples, seed=seed)
    return np.concatenate([counts @ added_by_unit for counts in draws])


def drawn_counts(n_units: int, *, samples: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Yield int64 [some samples, n_units]: how often each unit is in each drawn test set.

    The same arguments give the same test sets, so that scores of several calls can be compared.
    """
    generator = np.random.default_rng(seed)
    chunk = max(1, _COUNTS_AT_ONCE // n_units)
    for start in range(0, samples, chunk):
        rows = min(chunk, samples - start)
        drawn = generator.integers(n_units, size=(rows, n_units))
        drawn += n_units * np.arange(rows)[:, None]  # row r counts in its own stretch
        yield np.bincount(drawn.ravel(), minlength=rows * n_units).reshape(rows, n_units)


def mean_interval(
    values: NDArray[np.float64] | NDArray[np.bool_],
    *,
    units: Sequence[str],
    resampling: Resampling,
    where: NDArray[np.bool_] | None = None,
) -> tuple[float, float]:
    """Return the bootstrap interval of the mean of values [N], one a video.

    Args:
        where: bool [N], the videos whose mean it is; all by default. All are drawn.
    """
    counted = np.ones(len(values)) if where is None else where.astype(np.float64)
    added = np.stack([values * counted, counted], axis=1)
    sums = resampled_sums(added, units=units, samples=resampling.samples, seed=resampling.seed)
    with np.errstate(invalid="ignore"):  # 0 / 0: none of them was drawn
        return middle_of_shares(sums[:, 0] / sums[:, 1], resampling.confidence)


def middle_of_shares(values: NDArray[np.float64], confidence: float) -> tuple[float, float]:
    """As ``middle``, of shares: 0 to 1 where no draw says anything."""
    return (0.0, 1.0) if np.isnan(values).all() else middle(values, confidence)


def middle(values: NDArray[np.float64], confidence: float) -> tuple[float, float]:
    """Return the ends of the range that holds the share ``confidence`` of values [S].

    NaN stands for a draw in which there is nothing to score; it is left out.

    Raises:
        ValueError: every value is NaN.
    """
    defined = values[~np.isnan(values)]
    if not defined.size:
        raise ValueError("values: expected at least one that is a number, got none")
    tail = (1 - confidence) / 2
    low, high = np.quantile(defined, [tail, 1 - tail])
    return float(low), float(high)

"""Simulate how often the 95 % intervals of scores contain the true value::

    python -m benchmarks.intervals [--trials 2000]

Test sets of 20 to 500 videos in groups of 1 to 10, whose videos are independent, correlated (a
beta-binomial distribution with correlation 0.5) or right and wrong together. The last line of the
output is JSON: for each kind of interval the mean coverage, the lowest, and where that occurs.
``proportion`` is an accuracy of 0.5 to 0.99. ``difference`` is that of two models of which only one
is right on up to 40 % of the videos. ``calibration_error`` is that of a calibrated model and of two
overconfident ones; here, an interval is wrong if all of it is above the true error, because the
gate limits this error from above.
"""

import argparse
import itertools
import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.common.bootstrap import Resampling
from pipeline.tasks.class_scores import calibration_interval

CORRELATIONS = (0.0, 0.5, 1.0)
GROUP_SIZES = {"1": (1,), "2": (2,), "5": (5,), "10": (10,), "1 to 10": (1, 10, 2, 7, 1, 4, 1, 1)}
PROPORTIONS = (0.5, 0.7, 0.9, 0.95, 0.99)
# Proportions of the videos that only A and that only B has right.
DISAGREEMENTS = ((0.01, 0.01), (0.0, 0.03), (0.02, 0.05), (0.0, 0.1), (0.1, 0.1), (0.1, 0.3))
OVERCONFIDENCES = (0.0, 0.1, 0.25)  # confidence minus accuracy
VIDEOS = (20, 50, 100, 200, 500)

_SAMPLES = 200  # bootstrap samples, where an interval needs them
_TRIALS_WITH_SAMPLES = 5  # fewer trials for these


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.intervals")
    parser.add_argument("--trials", type=int, default=2000)
    print(json.dumps(lowest_coverage(trials=parser.parse_args().trials)))


def lowest_coverage(
    *,
    proportions: Sequence[float] = PROPORTIONS,
    videos: Sequence[int] = VIDEOS,
    group_sizes: Sequence[str] = tuple(GROUP_SIZES),
    trials: int,
) -> dict[str, dict[str, Any]]:
    """Return the setting with the lowest coverage for each kind of interval."""
    generator = np.random.default_rng(0)
    rows: list[dict[str, Any]] = []
    for n_videos, size, correlation in itertools.product(videos, group_sizes, CORRELATIONS):
        groups = _groups(n_videos, GROUP_SIZES[size])
        setting = {"videos": n_videos, "group_size": size, "correlation": correlation}
        resampling = Resampling(groups, _SAMPLES, 0.95, seed=1)
        for kind, value, coverage in (
            *_proportions(resampling, proportions, correlation, trials, generator),
            *_differences(resampling, correlation, trials // _TRIALS_WITH_SAMPLES, generator),
            *_calibration(resampling, correlation, trials // _TRIALS_WITH_SAMPLES, generator),
        ):
            rows.append({"kind": kind, "coverage": round(coverage, 4), "value": value, **setting})
    results = {}
    for kind in ("proportion", "difference", "calibration_error"):
        own = [row for row in rows if row["kind"] == kind]
        results[kind] = min(own, key=lambda row: row["coverage"])
        results[kind]["mean_coverage"] = round(float(np.mean([row["coverage"] for row in own])), 4)
    return results


def _groups(n_videos: int, sizes: Sequence[int]) -> list[str]:
    """Return the group of each video; the sizes repeat."""
    groups: list[str] = []
    for number, size in enumerate(itertools.cycle(sizes)):
        groups += [f"group {number:03}"] * size
        if len(groups) >= n_videos:
            return groups[:n_videos]
    raise AssertionError


def _probabilities(
    proportion: float,
    resampling: Resampling,
    correlation: float,
    trials: int,
    generator: np.random.Generator,
) -> NDArray[np.float64]:
    """Return float64 [N, trials]: the probability of each video, one in each group."""
    shape = (resampling.n_groups, trials)
    if correlation in (0, 1) or proportion in (0, 1):
        by_group = np.full(shape, proportion)
        if correlation == 1:
            by_group = (generator.random(shape) < proportion).astype(float)
    else:
        total = 1 / correlation - 1
        by_group = generator.beta(proportion * total, (1 - proportion) * total, shape)
    return by_group[np.unique(resampling.groups, return_inverse=True)[1]]


def _proportions(
    resampling: Resampling,
    proportions: Sequence[float],
    correlation: float,
    trials: int,
    generator: np.random.Generator,
) -> Iterator[tuple[str, Any, float]]:
    for proportion in proportions:
        probability = _probabilities(proportion, resampling, correlation, trials, generator)
        is_right = (generator.random(probability.shape) < probability).astype(float)
        scores = resampling.ratio_scores(is_right, np.ones_like(is_right))
        intervals = [score.interval or (0.0, 1.0) for score in scores]
        yield "proportion", proportion, _coverage(intervals, proportion)


def _differences(
    resampling: Resampling, correlation: float, trials: int, generator: np.random.Generator
) -> Iterator[tuple[str, Any, float]]:
    weights = np.full(len(resampling.groups), 1 / len(resampling.groups))
    for only_a, only_b in DISAGREEMENTS:
        # Which videos differ, and which of them B has right, with the same correlation.
        differs = _probabilities(only_a + only_b, resampling, correlation, trials, generator)
        is_b = _probabilities(
            only_b / (only_a + only_b), resampling, correlation, trials, generator
        )
        signs = np.where(generator.random(is_b.shape) < is_b, 1.0, -1.0)
        terms = np.where(generator.random(differs.shape) < differs, signs, 0)
        counts = resampling.sums(np.ones((len(weights), 1)))
        intervals = [
            resampling.difference_interval(float(mean), resampled, weights)
            for mean, resampled in zip(
                terms.mean(axis=0), (resampling.sums(terms) / counts).T, strict=True
            )
        ]
        yield "difference", [only_a, only_b], _coverage(intervals, only_b - only_a)


def _calibration(
    resampling: Resampling, correlation: float, trials: int, generator: np.random.Generator
) -> Iterator[tuple[str, Any, float]]:
    n_videos = len(resampling.groups)
    for overconfidence in OVERCONFIDENCES:
        confidence = 0.5 + 0.5 * generator.beta(2, 1, (n_videos, trials))
        uniform = generator.random((n_videos, trials))
        shared = next(Resampling(resampling.groups, trials, 0.95, 2).uniform_by_group()).T
        copies = generator.random((n_videos, trials)) < correlation**0.5
        accuracy = np.maximum(confidence - overconfidence, 0)
        labels = (np.where(copies, shared, uniform) >= accuracy).astype(np.int64)  # 1: a mistake
        intervals = [
            calibration_interval(label, np.stack([column, 1 - column], axis=1), resampling)
            for label, column in zip(labels.T, confidence.T, strict=True)
        ]
        is_not_too_high = np.array([low for low, _ in intervals]) <= overconfidence
        yield "calibration_error", overconfidence, float(is_not_too_high.mean())


def _coverage(intervals: Sequence[tuple[float, float]], value: float) -> float:
    low, high = np.array(intervals).T
    return float(((low <= value + 1e-12) & (value - 1e-12 <= high)).mean())


if __name__ == "__main__":
    main()

import logging

import numpy as np
import pytest

from benchmarks.intervals import lowest_coverage
from pipeline.common.bootstrap import Resampling, percentile_interval


def videos(n_videos):
    return [f"video {index:05}" for index in range(n_videos)]


def accuracy_interval(is_correct, groups, **changes):
    settings = {"samples": 1000, "confidence": 0.95, "seed": 0} | changes
    return Resampling(groups, **settings).mean_score(np.asarray(is_correct)).interval


def width(interval):
    return interval[1] - interval[0]


def test_the_interval_of_independent_videos_is_that_of_clopper_and_pearson():
    # 80 of 100, from a table of exact binomial limits.
    interval = accuracy_interval([True] * 80 + [False] * 20, videos(100))
    assert interval == pytest.approx((0.7082, 0.8733), abs=1e-4)


@pytest.mark.parametrize(("n_groups", "low"), [(20, 0.8316), (94, 0.9615)])
def test_perfect_scores_are_not_certain(n_groups, low):
    # Exact: a right answer in n of n independent groups has probability p ** n = 0.025 at low.
    assert low**n_groups == pytest.approx(0.025, abs=1e-3)
    for videos_in_group in (1, 5):
        groups = np.repeat(videos(n_groups), videos_in_group).tolist()
        right = accuracy_interval([True] * len(groups), groups)
        assert right == (pytest.approx(low, abs=1e-4), 1)
        wrong = accuracy_interval([False] * len(groups), groups)
        assert wrong == (0, pytest.approx(1 - low, abs=1e-4))


def test_one_group_shows_next_to_nothing():
    assert accuracy_interval([True] * 30, ["one scene"] * 30) == (pytest.approx(0.025), 1)
    low, high = accuracy_interval([True, False] * 15, ["one scene"] * 30)
    assert low < 0.05 < 0.95 < high


def test_intervals_hold_the_true_score_as_often_as_they_say():
    lowest = lowest_coverage(
        proportions=(0.5, 0.95), videos=(20, 100), group_sizes=("10", "1 to 10"), trials=200
    )
    assert lowest["proportion"]["coverage"] >= 0.92


def test_groups_of_alike_videos_widen_the_interval():
    # 20 groups of 10 equal videos are worth 20 videos, not 200: wider by the root of 10.
    is_correct = np.repeat([True] * 15 + [False] * 5, 10)
    by_group = accuracy_interval(is_correct, np.repeat(videos(20), 10).tolist())
    by_video = accuracy_interval(is_correct, videos(200))
    assert width(by_group) / width(by_video) == pytest.approx(10**0.5, rel=0.15)


def test_more_confidence_is_a_wider_interval():
    is_correct = [True] * 60 + [False] * 40
    narrow = accuracy_interval(is_correct, videos(100), confidence=0.5)
    wide = accuracy_interval(is_correct, videos(100), confidence=0.99)
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_equal_seeds_give_equal_intervals():
    values = np.random.default_rng(0).random((100, 1))

    def interval(seed):
        resampling = Resampling(videos(100), 50, 0.95, seed)
        return resampling.interval(resampling.sums(values)[:, 0])

    assert interval(0) == interval(0) != interval(1)


@pytest.mark.parametrize(("n_groups", "samples"), [(12, 3), (30_000, 80)])
def test_groups_are_drawn_with_replacement_by_one_generator(n_groups, samples):
    # The second case needs more than one chunk.
    terms = np.random.default_rng(1).random((n_groups, 2))
    sums = Resampling(videos(n_groups), samples, 0.95, seed=3).sums(terms)
    drawn = np.random.default_rng(3).integers(n_groups, size=(samples, n_groups))
    assert sums == pytest.approx(terms[drawn].sum(axis=1))


def test_video_counts_and_sums_are_the_same_test_sets():
    resampling = Resampling(["b", "a", "b", "c"], 50, 0.95, 0)
    counts = np.concatenate(list(resampling.video_counts()))
    assert counts.shape == (50, 4)
    assert (counts[:, 0] == counts[:, 2]).all()
    terms = np.array([[1.0], [10], [100], [1000]])
    assert resampling.sums(terms) == pytest.approx(counts @ terms)


def test_the_mean_of_some_videos_rests_on_them_alone():
    is_correct = np.array([True] * 5 + [False] * 5 + [True] * 90)
    score = Resampling(videos(100), 400, 0.95, 0).mean_score(is_correct, where=np.arange(100) < 10)
    assert score.value == 0.5
    assert score.interval[0] < 0.3 < 0.7 < score.interval[1]


def test_undefined_samples_are_left_out_of_an_interval():
    values = np.array([np.nan, 0.0, 1.0])
    assert percentile_interval(values, 0.5) == (0.25, 0.75)
    resampling = Resampling(["a"], 2, 0.5, 0)
    assert resampling.interval(np.array([np.nan, np.nan])) is None
    with pytest.raises(ValueError, match="only NaN"):
        percentile_interval(np.array([np.nan]), 0.5)


@pytest.mark.parametrize(("n_groups", "is_warned"), [(9, True), (10, False)])
def test_few_groups_are_warned_about(caplog, n_groups, is_warned):
    with caplog.at_level(logging.WARNING):
        Resampling([str(index % n_groups) for index in range(40)], 9, 0.9, 0).warn_if_few_groups()
    assert (f"Only {n_groups} groups of test videos" in caplog.text) is is_warned


@pytest.mark.parametrize("n_groups", [10, 20])
def test_intervals_of_an_unbounded_mean_hold_it_about_as_often_as_they_say(n_groups):
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(400):
        values = rng.exponential(size=(n_groups, 1))
        groups = [str(index) for index in range(n_groups)]
        resampling = Resampling(groups, samples=400, confidence=0.95, seed=0)
        low, high = resampling.interval(resampling.sums(values)[:, 0] / n_groups)
        hits += low <= 1 <= high
    assert hits / 400 > 0.87  # a percentile interval without the correction: 0.84 with 10 groups


def test_one_group_gives_no_interval_of_an_unbounded_score():
    resampling = Resampling(["a"] * 20, samples=20, confidence=0.95, seed=0)
    assert resampling.interval(resampling.sums(np.ones((20, 1)))[:, 0]) is None

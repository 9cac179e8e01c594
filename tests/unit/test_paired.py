import numpy as np
import pytest

from pipeline.base.errors import PipelineError
from pipeline.evaluation.paired import (
    METRICS,
    on_same_videos,
    paired_difference,
    paired_differences,
)
from pipeline.evaluation.predictions import Predictions

SAMPLING = {"samples": 1000, "confidence": 0.95, "seed": 0}


def predictions(hits, *, videos=None, groups=None, sure=0.8):
    """Two classes: label "x" always, with probability ``sure`` where hit and 1 - sure where not."""
    hits = np.asarray(hits)
    of_x = np.where(hits, sure, 1 - sure)
    return Predictions(
        videos=tuple(videos or (f"{index}.mp4" for index in range(len(hits)))),
        groups=tuple(groups or [""] * len(hits)),
        labels=np.zeros(len(hits), np.int64),
        probabilities=np.stack([of_x, 1 - of_x], axis=1),
        class_names=("x", "y"),
    )


def test_the_difference_is_b_minus_a():
    found = paired_difference(
        predictions([1, 0, 0, 1]), predictions([1, 1, 1, 0]), metric="accuracy", **SAMPLING
    )
    assert (found.value_a, found.value_b, found.difference) == (0.5, 0.75, 0.25)
    assert found.videos == 4
    assert found.low < 0.25 < found.high


def test_log_loss_is_compared_too():
    a, b = predictions([1, 1]), predictions([1, 1], sure=0.9)
    found = paired_difference(a, b, metric="log_loss", **SAMPLING)
    # Every video gains the same, so every draw does.
    expected = np.log(0.8) - np.log(0.9)
    assert (found.difference, found.low, found.high) == pytest.approx((expected,) * 3)


def test_the_interval_is_that_of_the_binomial_distribution():
    # B is right on 20 videos of 100 more than A, and nowhere else they differ: the drawn
    # difference is Binomial(100, 0.2) / 100, whose quantile at 0.03 is 0.13, at 0.97 0.28.
    a, b = predictions([0] * 60 + [1] * 40), predictions([0] * 40 + [1] * 60)
    settings = SAMPLING | {"samples": 20_000, "confidence": 0.94}
    found = paired_difference(a, b, metric="accuracy", **settings)
    assert (found.low, found.high) == pytest.approx((0.13, 0.28), abs=1e-12)


def test_models_that_agree_differ_by_nothing_however_few_the_videos():
    same = predictions([1, 0, 1])
    for metric in METRICS:
        found = paired_difference(same, same, metric=metric, **SAMPLING)
        assert (found.difference, found.low, found.high) == (0, 0, 0)


def test_metrics_are_compared_one_by_one_or_together():
    a, b = predictions([1, 0, 0, 1, 1, 0, 1]), predictions([1, 1, 1, 0, 1, 1, 0])
    together = paired_differences(a, b, **SAMPLING)
    assert list(together) == list(METRICS)
    for metric, found in together.items():
        assert found == paired_difference(a, b, metric=metric, **SAMPLING)


def test_groups_are_drawn_whole():
    # 20 groups of 10 alike videos are worth 20 videos: wider by about the root of 10.
    hits = np.repeat([1] * 12 + [0] * 8, 10)
    groups = np.repeat([f"g{index}" for index in range(20)], 10).tolist()
    a, b = np.zeros(200, int), hits

    def width(**more):
        found = paired_difference(
            predictions(a, **more), predictions(b, **more), metric="accuracy", **SAMPLING
        )
        return found.high - found.low

    assert width(groups=groups) / width() == pytest.approx(10**0.5, rel=0.15)


def test_only_videos_that_both_have_count_in_whatever_order():
    a = predictions([1, 1, 0], videos=["one", "two", "three"])
    b = predictions([0, 1, 1], videos=["three", "four", "one"])
    found = paired_difference(a, b, metric="accuracy", **SAMPLING)
    assert (found.value_a, found.value_b, found.videos) == (0.5, 0.5, 2)
    same_a, same_b = on_same_videos(a, b)
    assert same_a.videos == same_b.videos == ("three", "one")
    assert same_a.predicted.tolist() == [1, 0]


def test_without_a_shared_video_there_is_nothing_to_compare():
    a, b = predictions([1], videos=["one"]), predictions([1], videos=["two"])
    with pytest.raises(PipelineError, match=r"none that both have: 1 videos such as one, and 1"):
        paired_difference(a, b, metric="accuracy", **SAMPLING)


def test_parts_of_a_video_pair_in_order_and_are_left_out_where_their_number_differs():
    a = predictions([1, 0, 1, 1], videos=["cut", "cut", "recut", "whole"])
    b = predictions([0, 1, 1, 0, 0], videos=["recut", "cut", "cut", "recut", "whole"])
    same_a, same_b = on_same_videos(a, b)
    assert same_b.videos == ("cut", "cut", "whole")
    assert same_a.predicted.tolist() == [0, 1, 0]
    assert same_b.predicted.tolist() == [0, 0, 1]


def test_labels_are_those_of_b_by_name_and_unknown_classes_have_probability_0():
    a = Predictions(
        videos=("one", "two"),
        groups=("", ""),
        labels=np.array([0, 0]),
        probabilities=np.array([[0.9, 0.1], [0.4, 0.6]]),
        class_names=("old", "run"),
    )
    b = Predictions(
        videos=("one", "two"),
        groups=("", "g"),
        labels=np.array([0, 1]),
        probabilities=np.array([[0.7, 0.3], [0.2, 0.8]]),
        class_names=("run", "walk"),
    )
    same_a, same_b = on_same_videos(a, b)
    assert same_a.class_names == same_b.class_names == ("run", "walk", "old")
    assert same_a.labels.tolist() == [0, 1]
    assert same_a.groups == ("", "g")
    assert same_a.probabilities.tolist() == [[0.1, 0, 0.9], [0.6, 0, 0.4]]
    assert same_b.probabilities.tolist() == [[0.7, 0.3, 0], [0.2, 0.8, 0]]

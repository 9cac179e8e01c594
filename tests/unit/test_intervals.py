import logging
from dataclasses import asdict

import numpy as np
import pytest

from pipeline.evaluation import intervals as module
from pipeline.evaluation.intervals import intervals
from pipeline.evaluation.metrics import score

SETTINGS = {"top_k": 2, "calibration_bins": 10}
SAMPLING = {"samples": 1000, "confidence": 0.95, "seed": 0}


def videos(n_videos):
    return [f"video {index}" for index in range(n_videos)]


def mostly_right(n_videos, n_classes=4, *, seed=0):
    """About nine in ten right, with confidence that varies."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(n_classes, size=n_videos)
    logits = generator.normal(size=(n_videos, n_classes))
    logits[np.arange(n_videos), labels] += 2.5
    return labels, np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def right_and_wrong(hits):
    """Two classes: label 0 always, probability 0.8 for it where hit and 0.2 where not."""
    hits = np.asarray(hits)
    first = np.where(hits, 0.8, 0.2)
    return np.zeros(len(hits), np.int64), np.stack([first, 1 - first], axis=1)


def width(interval):
    return interval[1] - interval[0]


def test_every_score_has_an_interval():
    labels, probabilities = mostly_right(50)
    found = intervals(labels, probabilities, units=videos(50), **SETTINGS, **SAMPLING)
    assert list(found) == list(asdict(score(labels, probabilities, **SETTINGS)))


def test_without_a_mistake_the_intervals_are_one():
    # Three videos of five classes: most draws lack a class, which must not cost macro F1.
    labels = np.arange(5).repeat(3)
    found = intervals(labels, np.eye(5)[labels], units=videos(15), **SETTINGS, **SAMPLING)
    assert found["accuracy"] == (1, 1)
    assert found["macro_f1"] == pytest.approx((1, 1), abs=1e-12)
    assert found["top_k_accuracy"] == (1, 1)
    assert found["log_loss"] == (0, 0)
    assert found["calibration_error"] == (0, 0)


def test_the_interval_of_accuracy_is_that_of_the_binomial_distribution():
    # 80 of 100 right: a drawn accuracy is Binomial(100, 0.8) / 100. P(up to 71) = 0.020 and
    # P(up to 72) = 0.034, so its quantile at 0.03 is 0.72; P(up to 86) = 0.953 and
    # P(up to 87) = 0.975, so at 0.97 it is 0.87. 20,000 draws are off by 0.001 or so.
    labels, probabilities = right_and_wrong([True] * 80 + [False] * 20)
    settings = SETTINGS | SAMPLING | {"samples": 20_000, "confidence": 0.94}
    found = intervals(labels, probabilities, units=videos(100), **settings)
    assert found["accuracy"] == pytest.approx((0.72, 0.87), abs=1e-12)


def test_intervals_hold_the_scores_and_have_width():
    labels, probabilities = mostly_right(200)
    found = intervals(labels, probabilities, units=videos(200), **SETTINGS, **SAMPLING)
    for name, value in asdict(score(labels, probabilities, **SETTINGS)).items():
        low, high = found[name]
        assert low < value < high, name


def test_a_draw_scores_as_the_videos_it_repeats():
    # One sample is one drawn test set; build it video by video and score that.
    labels, probabilities = mostly_right(60)
    groups = np.arange(60) % 12  # sorted by name below: u00, u01, ...
    one_draw = SETTINGS | {"samples": 1, "confidence": 0.95, "seed": 3}
    found = intervals(labels, probabilities, units=[f"u{g:02}" for g in groups], **one_draw)
    drawn_groups = np.random.default_rng(3).integers(12, size=12)
    drawn = np.concatenate([np.flatnonzero(groups == group) for group in drawn_groups])
    expected = asdict(score(labels[drawn], probabilities[drawn], **SETTINGS))
    for name, value in expected.items():
        assert found[name] == pytest.approx((value, value), abs=1e-12), name


def test_groups_that_are_all_right_or_all_wrong_widen_the_interval():
    # 20 groups of 10 alike videos are worth 20 videos, not 200: wider by the root of 10.
    labels, probabilities = right_and_wrong(np.repeat([True] * 15 + [False] * 5, 10))
    groups = np.repeat(videos(20), 10).tolist()
    by_group = intervals(labels, probabilities, units=groups, **SETTINGS, **SAMPLING)
    by_video = intervals(labels, probabilities, units=videos(200), **SETTINGS, **SAMPLING)
    ratio = width(by_group["accuracy"]) / width(by_video["accuracy"])
    assert ratio == pytest.approx(10**0.5, rel=0.15)


def test_more_confidence_is_a_wider_interval_around_the_narrower():
    labels, probabilities = mostly_right(100)
    settings = SETTINGS | SAMPLING | {"units": videos(100)}
    narrow = intervals(labels, probabilities, **(settings | {"confidence": 0.5}))["log_loss"]
    wide = intervals(labels, probabilities, **(settings | {"confidence": 0.99}))["log_loss"]
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_the_seed_decides():
    labels, probabilities = mostly_right(100)
    settings = SETTINGS | SAMPLING | {"units": videos(100)}
    first = intervals(labels, probabilities, **settings)
    assert intervals(labels, probabilities, **settings) == first
    assert intervals(labels, probabilities, **(settings | {"seed": 1})) != first


def test_drawing_in_chunks_changes_nothing(monkeypatch):
    labels, probabilities = mostly_right(101)
    settings = SETTINGS | SAMPLING | {"units": videos(101)}
    at_once = intervals(labels, probabilities, **settings)
    monkeypatch.setattr(module, "_COUNTS_AT_ONCE", 101 * 7)  # 142 chunks of 7 and one of 6
    for name, (low, high) in intervals(labels, probabilities, **settings).items():
        assert (low, high) == pytest.approx(at_once[name], abs=1e-12), name


@pytest.mark.parametrize(("n_units", "warned"), [(9, True), (10, False)])
def test_few_groups_are_warned_about(caplog, n_units, warned):
    labels, probabilities = mostly_right(40)
    units = [f"group {index % n_units}" for index in range(40)]
    with caplog.at_level(logging.WARNING):
        intervals(labels, probabilities, units=units, **SETTINGS, **SAMPLING)
    assert (f"Only {n_units} groups of test videos" in caplog.text) is warned


def test_units_must_be_one_a_video():
    labels, probabilities = mostly_right(40)
    with pytest.raises(ValueError, match="units: expected 40, one a video, got 39"):
        intervals(labels, probabilities, units=videos(39), **SETTINGS, **SAMPLING)

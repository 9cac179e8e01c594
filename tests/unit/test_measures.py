import numpy as np
import pytest

from pipeline.base.files import read_json
from pipeline.evaluation.intervals import Resampling
from pipeline.evaluation.measures import (
    Measured,
    measured_abstention,
    measured_mean,
    measured_scores,
    write_measures,
)
from pipeline.evaluation.metrics import score
from pipeline.evaluation.predictions import Predictions

RESAMPLING = Resampling(samples=400, confidence=0.95, seed=0)

# Twelve videos of class 0: six at 0.9, right; three at 0.6, right; three at 0.6, wrong.
FIRST = np.array([0.9] * 6 + [0.6] * 3 + [0.4] * 3)
PREDICTIONS = Predictions(
    videos=tuple(f"{index}.mp4" for index in range(12)),
    groups=("",) * 12,
    labels=np.zeros(12, np.int64),
    probabilities=np.stack([FIRST, 1 - FIRST], axis=1),
    class_names=("cat", "dog"),
)


def test_every_score_has_its_interval():
    found = measured_scores(PREDICTIONS, top_k=1, calibration_bins=10, resampling=RESAMPLING)
    scores = score(PREDICTIONS.labels, PREDICTIONS.probabilities, top_k=1, calibration_bins=10)
    for name, measured in found.items():
        assert measured.value == getattr(scores, name)
        assert measured.interval is not None


def test_abstaining_of_unsure_videos_leaves_the_sure_ones():
    found = measured_abstention(PREDICTIONS, 0.9, RESAMPLING)
    assert found["coverage"].value == 0.5
    # Binomial(12, 0.5) / 12: its quantiles at 0.025 and 0.975 are 3 and 9.
    assert found["coverage"].interval == pytest.approx((3 / 12, 9 / 12), abs=1 / 12)
    assert found["accuracy_covered"] == Measured(1.0, (1.0, 1.0))


def test_a_low_threshold_leaves_all():
    found = measured_abstention(PREDICTIONS, 0.5, RESAMPLING)
    assert found["coverage"].value == 1
    assert found["accuracy_covered"].value == 0.75


def test_where_no_video_is_left_nothing_is_said_of_its_accuracy():
    assert list(measured_abstention(PREDICTIONS, 0.95, RESAMPLING)) == ["coverage"]
    assert measured_abstention(PREDICTIONS, None, RESAMPLING) == {}


def test_the_mean_of_some_videos_is_drawn_with_all():
    hits = np.array([True] * 5 + [False] * 5 + [True] * 90)
    some = np.arange(100) < 10
    units = [f"video {index:03}" for index in range(100)]
    found = measured_mean(hits, units=units, resampling=RESAMPLING, where=some)
    assert found.value == 0.5
    low, high = found.interval
    assert low < 0.3 < 0.7 < high


def test_numbers_without_an_interval_have_no_line_among_the_intervals(tmp_path):
    paths = tmp_path / "metrics.json", tmp_path / "intervals.json"
    write_measures(*paths, {"accuracy": Measured(0.5, (0.4, 0.6)), "videos": Measured(12)})
    assert read_json(paths[0]) == {"accuracy": 0.5, "videos": 12}
    assert read_json(paths[1]) == {"accuracy": [0.4, 0.6]}

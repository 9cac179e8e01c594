import numpy as np
import pytest

from pipeline.evaluation.intervals import Resampling
from pipeline.evaluation.time_order import OrderAccuracies, time_audit
from pipeline.model.prediction import one_frame_order, reversed_order

HITS = np.array([True] * 9 + [False])


def audit(shuffled_hits, *, margin=0.05):
    shuffled_hits = np.array(shuffled_hits)
    return time_audit(
        HITS,
        shuffled_hits,
        accuracies=OrderAccuracies(0.9, float(shuffled_hits.mean()), 0.3, 0.2),
        margin=margin,
        units=[f"video {index}" for index in range(10)],
        resampling=Resampling(samples=400, confidence=0.95, seed=0),
    )


def test_a_model_that_loses_by_shuffling_uses_order():
    found = audit([True] * 4 + [False] * 6)
    assert (found.name, found.threshold, found.ok) == ("time", 0.05, True)
    assert found.value == pytest.approx(0.9 - 0.4)
    assert found.sentence == (
        "With the frames of each clip shuffled the accuracy is 0.400 instead of 0.900, with "
        "frames reversed 0.300, with one frame held still 0.200. Order matters, so what stands "
        "over time earns its place."
    )
    # Five of ten videos lose: the drawn loss is Binomial(10, 0.5) / 10, quantiles 0.2 and 0.8.
    assert (found.details["low"], found.details["high"]) == pytest.approx((0.2, 0.8), abs=0.1)


def test_a_model_that_loses_nothing_does_not():
    found = audit(HITS)
    assert not found.ok
    assert found.value == 0
    assert "model.temporal.recurrent: none" in found.sentence


def test_a_loss_that_may_be_chance_is_said_to_be():
    found = audit([True] * 8 + [False] * 2)  # one of ten: some draws hold none of it
    assert found.ok
    assert found.details["low"] == 0
    assert found.sentence.endswith(
        "Order seems to matter, but 10 test videos are too few to be sure."
    )


def test_the_orders():
    assert reversed_order(7, 4).tolist() == [3, 2, 1, 0]
    assert one_frame_order(7, 4).tolist() == [2, 2, 2, 2]
    assert one_frame_order(7, 1).tolist() == [0]

import math

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from pipeline.evaluation.metrics import (
    addends,
    calibration_bin,
    confusion,
    in_top_k,
    score,
)

# Four videos, three classes. The most probable class is 0, 1, 0, 2: right, right, wrong, right.
LABELS = np.array([0, 1, 1, 2])
PROBABILITIES = np.array(
    [
        [0.75, 0.25, 0.00],
        [0.25, 0.50, 0.25],
        [0.50, 0.25, 0.25],
        [0.00, 0.00, 1.00],
    ]
)


def hand_scores(**settings):
    return score(LABELS, PROBABILITIES, **({"top_k": 2, "calibration_bins": 4} | settings))


def random_predictions(n_videos, n_classes, *, seed=0):
    generator = np.random.default_rng(seed)
    probabilities = generator.dirichlet(np.full(n_classes, 0.4), size=n_videos)
    return generator.integers(n_classes, size=n_videos), probabilities


def test_accuracy_is_three_of_four():
    assert hand_scores().accuracy == 0.75


def test_balanced_accuracy_is_the_mean_recall_of_the_classes_that_occur():
    # Recall of class 0: 1 of 1, of class 1: 1 of 2, of class 2: 1 of 1; a fourth never occurs.
    assert hand_scores().balanced_accuracy == pytest.approx(2.5 / 3, abs=1e-15)
    four_classes = np.pad(PROBABILITIES, ((0, 0), (0, 1)))
    scores = score(LABELS, four_classes, top_k=1, calibration_bins=4)
    assert scores.balanced_accuracy == pytest.approx(2.5 / 3, abs=1e-15)


def test_macro_f1_is_the_mean_over_classes():
    # Class 0: 1 hit, 2 predicted, 1 actual: 2 / 3. Class 1: 1, 1, 2: 2 / 3. Class 2: 1.
    assert hand_scores().macro_f1 == pytest.approx((2 / 3 + 2 / 3 + 1) / 3, abs=1e-15)


def test_macro_f1_leaves_out_a_class_that_is_neither_actual_nor_predicted():
    four_classes = np.pad(PROBABILITIES, ((0, 0), (0, 1)))
    scores = score(LABELS, four_classes, top_k=1, calibration_bins=4)
    assert scores.macro_f1 == hand_scores().macro_f1


def test_macro_f1_counts_a_class_that_is_only_predicted_as_zero():
    # Class 0: 1 hit, 1 predicted, 2 actual: 2 / 3. Class 1 is predicted once, never actual.
    scores = score(np.array([0, 0]), np.eye(3)[[0, 1]], top_k=1, calibration_bins=4)
    assert scores.macro_f1 == pytest.approx(1 / 3, abs=1e-15)


def test_log_loss_is_the_mean_of_minus_ln_of_the_actual_class():
    expected = -(math.log(0.75) + math.log(0.5) + math.log(0.25) + math.log(1)) / 4
    assert hand_scores().log_loss == pytest.approx(expected, abs=1e-15)


def test_log_loss_of_an_impossible_class_is_finite():
    scores = score(np.array([1]), np.array([[1.0, 0.0]]), top_k=1, calibration_bins=4)
    assert scores.log_loss == pytest.approx(52 * math.log(2), abs=1e-12)  # eps is 2 ** -52


def test_what_certainty_adds_to_the_log_loss_is_zero_and_not_minus_zero():
    added = addends(np.array([0]), np.array([[1.0, 0.0]]), top_k=1, calibration_bins=4)
    assert str(float(added[0, 3])) == "0.0"


def test_calibration_error_is_the_weighted_mean_gap_of_the_bins():
    # Four bins, upper ends included. (0.25, 0.5]: videos 1 and 2, one hit in two at 0.5, no
    # gap. (0.5, 0.75]: video 0, hit at 0.75, gap 0.25. (0.75, 1]: video 3, hit at 1, no gap.
    assert hand_scores().calibration_error == 0.25 / 4


def test_opposite_gaps_cancel_within_a_bin_and_not_between_bins():
    labels = np.array([0, 1])
    # Hit at 0.6 (gap +0.4) and miss at 0.8 (gap -0.8).
    probabilities = np.array([[0.6, 0.4], [0.8, 0.2]])
    one_bin = score(labels, probabilities, top_k=1, calibration_bins=1)
    assert one_bin.calibration_error == pytest.approx(abs(0.4 - 0.8) / 2, abs=1e-15)
    ten_bins = score(labels, probabilities, top_k=1, calibration_bins=10)
    assert ten_bins.calibration_error == pytest.approx((0.4 + 0.8) / 2, abs=1e-15)


def test_a_calibration_bin_includes_its_upper_end():
    confidence = np.array([0.1, 0.3, 0.7, 0.7001, 1.0, 1.0000001])
    assert calibration_bin(confidence, 10).tolist() == [0, 2, 6, 7, 9, 9]


def test_top_k_asks_whether_fewer_than_k_classes_come_first():
    # Of video 2 class 1 ties with class 2 behind class 0, and comes before it.
    assert in_top_k(LABELS, PROBABILITIES, 1).tolist() == [True, True, False, True]
    assert in_top_k(LABELS, PROBABILITIES, 2).tolist() == [True, True, True, True]


def test_top_1_is_accuracy_where_classes_tie():
    labels = np.array([0, 1, 2])
    ties = np.full((3, 3), 1 / 3)
    assert in_top_k(labels, ties, 1).tolist() == [True, False, False]
    assert in_top_k(labels, ties, 2).tolist() == [True, True, False]


def test_top_k_above_the_number_of_classes_is_always_right():
    assert hand_scores(top_k=5).top_k_accuracy == 1


@pytest.mark.parametrize(("n_videos", "n_classes"), [(1, 2), (40, 2), (300, 6), (50, 30)])
def test_scores_agree_with_scikit_learn(n_videos, n_classes):
    labels, probabilities = random_predictions(n_videos, n_classes)
    predicted = probabilities.argmax(axis=1)
    scores = score(labels, probabilities, top_k=1, calibration_bins=10)
    every_class = list(range(n_classes))
    assert scores.accuracy == pytest.approx(
        sklearn_metrics.accuracy_score(labels, predicted), abs=1e-12
    )
    assert scores.macro_f1 == pytest.approx(
        sklearn_metrics.f1_score(
            labels, predicted, labels=every_class, average="macro", zero_division=np.nan
        ),
        abs=1e-12,
    )
    assert scores.balanced_accuracy == pytest.approx(
        sklearn_metrics.recall_score(
            labels, predicted, labels=np.unique(labels), average="macro", zero_division=0
        ),
        abs=1e-12,
    )
    assert scores.log_loss == pytest.approx(
        sklearn_metrics.log_loss(labels, probabilities, labels=every_class), abs=1e-12
    )
    if n_classes > 2:
        top_2 = score(labels, probabilities, top_k=2, calibration_bins=10).top_k_accuracy
        assert top_2 == pytest.approx(
            sklearn_metrics.top_k_accuracy_score(labels, probabilities, k=2, labels=every_class),
            abs=1e-12,
        )


def test_calibration_error_agrees_with_a_loop_over_bins():
    labels, probabilities = random_predictions(500, 4)
    confidence = probabilities.max(axis=1)
    hit = probabilities.argmax(axis=1) == labels
    expected = 0.0
    for bin_number in range(15):
        inside = (confidence > bin_number / 15) & (confidence <= (bin_number + 1) / 15)
        if inside.any():
            expected += inside.mean() * abs(hit[inside].mean() - confidence[inside].mean())
    scores = score(labels, probabilities, top_k=1, calibration_bins=15)
    assert scores.calibration_error == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("n_labels", [0, 3])
def test_scoring_needs_one_label_a_video_and_a_video(n_labels):
    with pytest.raises(ValueError, match="expected labels"):
        score(LABELS[:n_labels], PROBABILITIES[: n_labels and 4], top_k=1, calibration_bins=4)


def test_confusion_has_actual_rows_and_predicted_columns_and_every_class():
    matrix = confusion(LABELS, PROBABILITIES.argmax(axis=1), 4)
    assert matrix.dtype == np.int64
    assert matrix.tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]

import math

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from pipeline.common.bootstrap import Resampling
from pipeline.tasks.class_scores import (
    average_precisions,
    calibration_bin,
    calibration_interval,
    confusion_matrix,
    in_top_k,
    one_hot,
    resampled_average_precisions,
    score_terms,
    scores_from_sums,
)
from pipeline.tasks.class_tables import class_table, confusion_table, score_classes

# Four videos, three classes. The most probable class is 0, 1, 0, 2: correct, correct, wrong,
# correct.
LABELS = np.array([0, 1, 1, 2])
PROBABILITIES = np.array(
    [
        [0.75, 0.25, 0.00],
        [0.25, 0.50, 0.25],
        [0.50, 0.25, 0.25],
        [0.00, 0.00, 1.00],
    ]
)
FOUR_CLASSES = np.pad(PROBABILITIES, ((0, 0), (0, 1)))  # no video has the fourth


def scores(labels=LABELS, probabilities=PROBABILITIES, *, top_k=2, bins=4):
    sums = score_terms(labels, probabilities, top_k=top_k, bins=bins).sum(axis=0)
    found = scores_from_sums(sums, n_classes=probabilities.shape[1])
    return {name: float(value) for name, value in found.items()}


def random_predictions(n_videos, n_classes, *, seed=0):
    generator = np.random.default_rng(seed)
    probabilities = generator.dirichlet(np.full(n_classes, 0.4), size=n_videos)
    return generator.integers(n_classes, size=n_videos), probabilities


def resampling(n_videos=4, *, samples=200, seed=0, groups=None):
    groups = groups or [f"video {index:03}" for index in range(n_videos)]
    return Resampling(groups, samples=samples, confidence=0.95, seed=seed)


def one_hots(labels, probabilities):
    """The actual and the predicted class of each video."""
    n_classes = probabilities.shape[1]
    return one_hot(labels, n_classes), one_hot(probabilities.argmax(axis=1), n_classes)


def scores_by_class(labels, probabilities, resampled):
    return score_classes(*one_hots(labels, probabilities), probabilities, resampled)


def test_accuracy_is_three_of_four():
    assert scores()["accuracy"] == 0.75


def test_balanced_accuracy_is_the_mean_recall_of_the_classes_that_occur():
    # Recall of class 0: 1 of 1, of class 1: 1 of 2, of class 2: 1 of 1.
    assert scores()["balanced_accuracy"] == pytest.approx(2.5 / 3, abs=1e-15)
    four = scores(probabilities=FOUR_CLASSES)
    assert four["balanced_accuracy"] == pytest.approx(2.5 / 3, abs=1e-15)


def test_macro_f1_leaves_out_a_class_that_is_neither_actual_nor_predicted():
    # Class 0: 1 correct, 2 predicted, 1 actual: 2 / 3. Class 1: 1, 1, 2: 2 / 3. Class 2: 1.
    expected = pytest.approx((2 / 3 + 2 / 3 + 1) / 3, abs=1e-15)
    assert scores()["macro_f1"] == expected
    assert scores(probabilities=FOUR_CLASSES)["macro_f1"] == expected


def test_macro_f1_counts_a_class_that_is_only_predicted_as_zero():
    # Class 0: 1 correct, 1 predicted, 2 actual: 2 / 3. Class 1 is predicted once, never actual.
    found = scores(np.array([0, 0]), np.eye(3)[[0, 1]])
    assert found["macro_f1"] == pytest.approx(1 / 3, abs=1e-15)


def test_log_loss_is_the_mean_of_minus_ln_of_the_actual_class():
    expected = -(math.log(0.75) + math.log(0.5) + math.log(0.25) + math.log(1)) / 4
    assert scores()["log_loss"] == pytest.approx(expected, abs=1e-15)
    impossible = scores(np.array([1]), np.array([[1.0, 0.0]]))["log_loss"]
    assert impossible == pytest.approx(52 * math.log(2), abs=1e-12)  # epsilon is 2 ** -52
    certain = score_terms(np.array([0]), np.array([[1.0, 0.0]]), top_k=1)
    assert str(float(certain[0, 3])) == "0.0"  # not -0.0


def test_calibration_error_is_the_weighted_mean_gap_of_the_bins():
    # Four bins, upper ends included. (0.25, 0.5]: videos 1 and 2, one of two correct at 0.5: no
    # gap. (0.5, 0.75]: video 0, correct at 0.75: gap 0.25. (0.75, 1]: video 3, correct at 1.
    assert scores()["calibration_error"] == 0.25 / 4
    # Correct at 0.6 (gap +0.4), wrong at 0.8 (gap -0.8): they cancel within one bin only.
    labels, probabilities = np.array([0, 1]), np.array([[0.6, 0.4], [0.8, 0.2]])
    one_bin = scores(labels, probabilities, bins=1)["calibration_error"]
    assert one_bin == pytest.approx(abs(0.4 - 0.8) / 2, abs=1e-15)
    ten_bins = scores(labels, probabilities, bins=10)["calibration_error"]
    assert ten_bins == pytest.approx((0.4 + 0.8) / 2, abs=1e-15)


def test_a_calibration_bin_includes_its_upper_end():
    confidence = np.array([0.1, 0.3, 0.7, 0.7001, 1.0, 1.0000001])
    assert calibration_bin(confidence, 10).tolist() == [0, 2, 6, 7, 9, 9]


def test_top_k_counts_the_classes_that_rank_before_the_actual_one():
    # For video 2 class 1 ties with class 2 behind class 0, and ranks before it.
    assert in_top_k(LABELS, PROBABILITIES, 1).tolist() == [True, True, False, True]
    assert in_top_k(LABELS, PROBABILITIES, 2).tolist() == [True, True, True, True]
    ties = np.full((3, 3), 1 / 3)
    assert in_top_k(np.array([0, 1, 2]), ties, 1).tolist() == [True, False, False]
    assert in_top_k(np.array([0, 1, 2]), ties, 2).tolist() == [True, True, False]
    assert scores(top_k=5)["top_k_accuracy"] == 1


@pytest.mark.parametrize(("n_videos", "n_classes"), [(1, 2), (40, 2), (300, 6), (50, 30)])
def test_scores_agree_with_scikit_learn(n_videos, n_classes):
    labels, probabilities = random_predictions(n_videos, n_classes)
    predicted, classes = probabilities.argmax(axis=1), list(range(n_classes))
    expected = {
        "accuracy": sklearn_metrics.accuracy_score(labels, predicted),
        "macro_f1": sklearn_metrics.f1_score(
            labels, predicted, labels=classes, average="macro", zero_division=np.nan
        ),
        "balanced_accuracy": sklearn_metrics.recall_score(
            labels, predicted, labels=np.unique(labels), average="macro", zero_division=0
        ),
        "log_loss": sklearn_metrics.log_loss(labels, probabilities, labels=classes),
    }
    if n_classes > 2:
        expected["top_k_accuracy"] = sklearn_metrics.top_k_accuracy_score(
            labels, probabilities, k=2, labels=classes
        )
    found = scores(labels, probabilities)
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-12)


def test_calibration_error_agrees_with_a_loop_over_bins():
    labels, probabilities = random_predictions(500, 4)
    confidence = probabilities.max(axis=1)
    is_correct = probabilities.argmax(axis=1) == labels
    expected = 0.0
    for number in range(15):
        inside = (confidence > number / 15) & (confidence <= (number + 1) / 15)
        if inside.any():
            expected += inside.mean() * abs(is_correct[inside].mean() - confidence[inside].mean())
    found = scores(labels, probabilities, bins=15)["calibration_error"]
    assert found == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("n_labels", [0, 3])
def test_scores_need_one_label_for_each_video_and_a_video(n_labels):
    with pytest.raises(ValueError, match="expected labels"):
        score_terms(LABELS[:n_labels], PROBABILITIES[: n_labels and 4], top_k=1)


def test_confusion_matrix_has_actual_rows_and_predicted_columns_and_every_class():
    matrix = confusion_matrix(LABELS, PROBABILITIES.argmax(axis=1), 4)
    assert matrix.dtype == np.int64
    assert matrix.tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]


def test_average_precision_sums_precision_over_the_recall_it_gains():
    # Class 1: ranked 0.5 (class 1), then 0.25 twice (one threshold), then 0. The first gains half
    # of the recall at precision 1, the second the other half at 2 / 3.
    expected = [1.0, pytest.approx(0.5 * 1 + 0.5 * 2 / 3), 1.0]
    assert average_precisions(one_hot(LABELS, 3), PROBABILITIES).tolist() == expected
    assert np.isnan(average_precisions(one_hot(LABELS, 4), FOUR_CLASSES)[3])


def test_a_resampled_average_precision_is_that_of_the_repeated_videos():
    generator = np.random.default_rng(0)
    # Twentieths, so that many probabilities are equal.
    probabilities = generator.multinomial(20, generator.dirichlet([0.4] * 4, size=90)) / 20
    labels = generator.integers(4, size=90)
    groups = [f"group {index % 30:02}" for index in range(90)]
    one_sample = resampling(samples=1, seed=3, groups=groups)
    (counts,) = next(one_sample.video_counts())
    videos = np.repeat(np.arange(90), counts)
    expected = average_precisions(one_hot(labels[videos], 4), probabilities[videos])
    (found,) = resampled_average_precisions(one_hot(labels, 4), probabilities, one_sample)
    assert found == pytest.approx(expected, abs=1e-6)


@pytest.mark.filterwarnings("error")
def test_a_class_without_videos_scores_0_and_has_no_intervals():
    found = scores_by_class(LABELS, FOUR_CLASSES, resampling())
    # Class 0: predicted twice, once correct. Class 1: two actual, one correct.
    assert [score.value for score in found["precision"]] == [0.5, 1.0, 1.0, 0]
    assert [score.value for score in found["recall"]] == [1.0, 0.5, 1.0, 0]
    assert [score.value for score in found["f1"]] == [pytest.approx(2 / 3)] * 2 + [1.0, 0]
    assert {by_class[3].interval for by_class in found.values()} == {None}


def test_class_scores_agree_with_the_scores_of_all_videos():
    labels, probabilities = random_predictions(300, 6)
    found = scores_by_class(labels, probabilities, resampling(300))
    all_videos = scores(labels, probabilities)
    mean_f1 = np.mean([score.value for score in found["f1"]])
    assert mean_f1 == pytest.approx(all_videos["macro_f1"], abs=1e-12)
    for by_class in found.values():
        for score in by_class:
            low, high = score.interval
            assert low < score.value < high


def test_class_scores_are_those_of_scikit_learn():
    labels, probabilities = random_predictions(60, 3)
    found = scores_by_class(labels, probabilities, resampling(60))
    expected = sklearn_metrics.precision_recall_fscore_support(labels, probabilities.argmax(axis=1))
    for name, values in zip(("precision", "recall", "f1"), expected, strict=False):
        assert [score.value for score in found[name]] == pytest.approx(values.tolist())


def test_perfect_scores_of_a_class_with_one_video_show_next_to_nothing():
    labels = np.array([0] * 9 + [1])
    found = scores_by_class(labels, np.eye(2)[labels], resampling(10))
    for by_class in found.values():
        assert by_class[1].interval == (pytest.approx(0.025), 1)


def calibration(n_videos, *, confidence, accuracy, videos_in_group=1):
    """The calibration interval of one confidence for all videos."""
    is_correct = np.arange(n_videos) < round(accuracy * n_videos)
    labels = np.where(is_correct, 0, 1)
    groups = [f"group {index // videos_in_group:03}" for index in range(n_videos)]
    probabilities = np.tile([confidence, 1 - confidence], (n_videos, 1))
    return calibration_interval(labels, probabilities, resampling(groups=groups))


def test_a_calibration_error_that_a_calibrated_model_has_too_may_be_0():
    generator = np.random.default_rng(0)
    confidence = 0.5 + generator.random(20) / 2
    labels = (generator.random(20) > confidence).astype(np.int64)  # 1: a mistake
    probabilities = np.stack([confidence, 1 - confidence], axis=1)
    value = scores(labels, probabilities)["calibration_error"]
    assert value > 0.1
    low, high = calibration_interval(labels, probabilities, resampling(20))
    assert low == 0
    assert high > value
    assert calibration(94, confidence=0.97, accuracy=1) == (0, pytest.approx(0.038, abs=1e-3))


def test_a_large_calibration_error_of_many_videos_is_certain():
    low, high = calibration(500, confidence=0.9, accuracy=0.6)
    assert 0.2 < low < 0.3 < high < 0.4
    # The same in ten groups, right or wrong together, is no evidence of so much.
    low, _ = calibration(500, confidence=0.9, accuracy=0.6, videos_in_group=50)
    assert low < 0.05


def test_the_class_table_has_six_decimals_and_empty_cells_without_an_interval():
    classes = one_hots(LABELS, FOUR_CLASSES)
    rows = class_table(*classes, FOUR_CLASSES, "abcd", resampling()).rows
    assert (rows[0]["class"], rows[0]["precision"], rows[1]["support"]) == ("a", "0.500000", "2")
    assert rows[1]["average_precision"] == "0.833333"
    assert (rows[2]["recall_low"], rows[2]["recall_high"]) == ("0.025000", "1.000000")
    assert (rows[3]["f1_low"], rows[3]["average_precision_high"]) == ("", "")


def test_the_confusion_table_has_the_most_frequent_first():
    labels = np.array([0, 0, 0, 1, 2])
    probabilities = np.eye(3)[[0, 2, 2, 0, 2]]
    assert confusion_table(labels, probabilities, "abc").rows == [
        {"actual": "a", "predicted": "c", "videos": "2"},
        {"actual": "b", "predicted": "a", "videos": "1"},
    ]


def test_the_confusion_table_has_every_confusion_and_reports_show_ten():
    labels = np.repeat(np.arange(30), 30)
    probabilities = np.eye(30)[np.tile(np.arange(30), 30)]
    table = confusion_table(labels, probabilities, [str(index) for index in range(30)])
    assert (len(table.rows), table.shown) == (30 * 29, 10)


def test_of_many_classes_the_worst_are_first_in_the_class_table():
    labels = np.repeat(np.arange(101), 2)
    predicted = labels.copy()
    predicted[labels == 70] = 3
    names = [str(index) for index in range(101)]
    probabilities = np.eye(101)[predicted]
    classes = one_hots(labels, probabilities)
    table = class_table(*classes, probabilities, names, resampling(202, samples=20))
    assert [row["class"] for row in table.rows[:3]] == ["70", "3", "0"]
    assert table.shown == 100

from dataclasses import replace

import numpy as np
import pytest

from pipeline.common.bootstrap import Score
from pipeline.common.errors import PipelineError
from pipeline.common.files import read_json
from pipeline.evaluation.predictions import Predictions
from pipeline.evaluation.scores import (
    paired_differences,
    score_predictions,
    uncalibrated_scores,
    write_scores,
)
from pipeline.evaluation.settings import EvaluateSection
from pipeline.tasks.classification import Classification
from pipeline.tasks.regression import Regression
from tests.other_task import Brightness

SECTION = EvaluateSection(bootstrap_samples=400)
TASK = Classification(("x", "y"), target_accuracy=0.9)


def predictions(is_correct, *, videos=None, groups=None, probability=0.8, task=TASK):
    """Two classes: the target is always x, with ``probability`` when correct."""
    of_x = np.where(is_correct, probability, 1 - np.asarray(probability))
    return Predictions(
        videos=tuple(videos or (f"{index}.mp4" for index in range(len(of_x)))),
        groups=tuple(groups or [""] * len(of_x)),
        targets=("x",) * len(of_x),
        outputs=np.stack([of_x, 1 - of_x], axis=1),
        task=task,
    )


def mostly_correct(n_videos, n_classes=4, *, seed=0):
    """About nine of ten correct, with varying confidence; groups of five videos."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(n_classes, size=n_videos)
    logits = generator.normal(size=(n_videos, n_classes))
    logits[np.arange(n_videos), labels] += 2.5
    return Predictions(
        videos=tuple(f"{index}.mp4" for index in range(n_videos)),
        groups=tuple(f"g{index % (n_videos // 5):02}" for index in range(n_videos)),
        targets=tuple("abcdefgh"[label] for label in labels),
        outputs=np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True),
        task=Classification(tuple("abcdefgh"[:n_classes]), target_accuracy=0.9),
    )


# Twelve videos: six correct at 0.9, three correct at 0.6, three wrong at 0.6.
TWELVE = predictions([1] * 9 + [0] * 3, probability=np.array([0.9] * 6 + [0.6] * 6))


def test_every_score_is_inside_its_interval():
    scores = score_predictions(mostly_correct(200), SECTION)
    assert list(scores) == [
        "accuracy",
        "balanced_accuracy",
        "macro_f1",
        "top_k_accuracy",
        "log_loss",
        "calibration_error",
        "mean_average_precision",
    ]
    for name, score in scores.items():
        assert score.interval[0] < score.value < score.interval[1], name


def test_without_a_mistake_the_intervals_are_as_wide_as_few_videos_are():
    # 15 of 15 right: exactly, the accuracy may be 0.025 ** (1 / 15).
    labels = np.arange(5).repeat(3)
    perfect = Predictions(
        videos=tuple(map(str, range(15))),
        groups=("",) * 15,
        targets=tuple("abcde"[label] for label in labels),
        outputs=np.eye(5)[labels],
        task=Classification(tuple("abcde"), target_accuracy=0.9),
    )
    scores = score_predictions(perfect, SECTION)
    for name in ("accuracy", "macro_f1", "top_k_accuracy", "mean_average_precision"):
        assert scores[name].interval == pytest.approx((0.025 ** (1 / 15), 1))
    assert scores["log_loss"].interval == (0, 0)
    assert scores["calibration_error"].interval == (0, pytest.approx(1 - 0.025 ** (1 / 15)))


def test_a_mean_over_classes_rests_on_the_class_with_the_fewest_videos():
    labels = [0] * 99 + [1]
    scores = score_predictions(
        Predictions(
            videos=tuple(map(str, range(100))),
            groups=("",) * 100,
            targets=tuple("ab"[label] for label in labels),
            outputs=np.eye(2)[labels],
            task=Classification(tuple("ab")),
        ),
        SECTION,
    )
    assert scores["accuracy"].interval[0] > 0.96
    # The recall of b is known from one video only.
    assert scores["balanced_accuracy"].interval[0] < 0.5


def test_a_resampled_test_set_scores_as_the_videos_that_it_repeats():
    whole = mostly_correct(60)
    drawn_groups = np.random.default_rng(0).integers(12, size=12)
    drawn = whole.rows(
        [row for group in drawn_groups for row in range(60) if whole.groups[row] == f"g{group:02}"]
    )
    one_sample = EvaluateSection(bootstrap_samples=1).resampling(whole.resampling_groups)
    sums = one_sample.sums(whole.task.terms(whole.targets, whole.outputs))
    expected = score_predictions(drawn, SECTION)
    for name, (value,) in whole.task.scores(sums).items():
        assert value == pytest.approx(expected[name].value), name


def test_abstention_keeps_the_confident_videos():
    task = replace(TASK, abstain_below=0.9)
    scores = score_predictions(replace(TWELVE, task=task), SECTION)
    assert scores["coverage"].value == 0.5
    assert scores["coverage"].interval == pytest.approx((3 / 12, 9 / 12), abs=1 / 12)
    assert scores["accuracy_covered"] == Score(1.0, (pytest.approx(0.025 ** (1 / 6)), 1.0))
    scores = score_predictions(replace(TWELVE, task=replace(task, abstain_below=0.5)), SECTION)
    assert (scores["coverage"].value, scores["accuracy_covered"].value) == (1, 0.75)


def test_without_a_confident_video_there_is_no_accuracy_of_them():
    unsure = replace(TWELVE, task=replace(TASK, abstain_below=0.95))
    scores = score_predictions(unsure, SECTION)
    assert scores["coverage"].value == 0
    assert "accuracy_covered" not in scores
    assert "coverage" not in score_predictions(TWELVE, SECTION)


def test_scores_of_the_uncalibrated_model_have_their_own_names():
    scores = score_predictions(TWELVE, SECTION)
    assert uncalibrated_scores(TWELVE, SECTION) == {
        "log_loss_uncalibrated": scores["log_loss"],
        "calibration_error_uncalibrated": scores["calibration_error"],
    }


def test_scores_without_an_interval_are_not_among_the_intervals(tmp_path):
    paths = tmp_path / "metrics.json", tmp_path / "intervals.json"
    write_scores(*paths, {"accuracy": Score(0.5, (0.4, 0.6)), "videos": Score(12)})
    assert read_json(paths[0]) == {"accuracy": 0.5, "videos": 12}
    assert read_json(paths[1]) == {"accuracy": [0.4, 0.6]}


def test_few_groups_are_warned_about(caplog):
    score_predictions(predictions([1, 0]), SECTION)
    assert "Only 2 groups of test videos" in caplog.text


def test_the_difference_is_b_minus_a():
    differences = paired_differences(predictions([1, 0, 0, 1]), predictions([1, 1, 1, 0]), SECTION)
    assert list(differences) == ["macro_f1", "accuracy", "balanced_accuracy", "log_loss"]
    accuracy = differences["accuracy"]
    assert (accuracy.value_a, accuracy.value_b, accuracy.difference) == (0.5, 0.75, 0.25)
    assert accuracy.videos == 4
    assert accuracy.low < 0.25 < accuracy.high


def test_log_loss_is_compared_too():
    a, b = predictions([1, 1]), predictions([1, 1], probability=0.9)
    difference = paired_differences(a, b, SECTION, metrics=["log_loss"])["log_loss"]
    # Every video gains the same, so every sample does.
    expected = np.log(0.8) - np.log(0.9)
    assert (difference.difference, difference.low, difference.high) == pytest.approx(
        (expected,) * 3
    )


def test_the_interval_of_a_difference_is_that_of_agresti_and_min():
    # B is correct on 20 videos of 100 more than A, and they differ nowhere else. With half a
    # video in each of the four cells: (20.5 - 0.5) / 102, variance (21 - 20 ** 2 / 102) / 102 ** 2.
    section = EvaluateSection(bootstrap_samples=20_000)
    difference = paired_differences(
        predictions([0] * 60 + [1] * 40), predictions([0] * 40 + [1] * 60), section
    )["accuracy"]
    half = 1.984 * (21 - 20**2 / 102) ** 0.5 / 102
    expected = (20 / 102 - half, 20 / 102 + half)
    assert (difference.low, difference.high) == pytest.approx(expected, abs=0.003)


def test_models_with_equal_answers_may_still_differ():
    # 94 videos, the same right; a loss of 1 in 50 cannot be excluded.
    a, b = (predictions([1] * 94, probability=value) for value in (0.8, 0.9))
    accuracy = paired_differences(a, b, SECTION)["accuracy"]
    assert accuracy.difference == 0
    assert (accuracy.low, accuracy.high) == pytest.approx((-1.986 / 96, 1.986 / 96), abs=1e-4)


def test_equal_models_differ_by_nothing_however_few_the_videos():
    same = predictions([1, 0, 1])
    for difference in paired_differences(same, same, SECTION).values():
        assert (difference.difference, difference.low, difference.high) == (0, 0, 0)


def test_groups_widen_the_interval_of_a_difference():
    # 20 groups of 10 equal videos are worth 20 videos: wider by about the root of 10.
    is_correct = np.repeat([1] * 12 + [0] * 8, 10)
    groups = np.repeat([f"g{index}" for index in range(20)], 10).tolist()

    def width(**more):
        difference = paired_differences(
            predictions(np.zeros(200), **more), predictions(is_correct, **more), EvaluateSection()
        )["accuracy"]
        return difference.high - difference.low

    assert width(groups=groups) / width() == pytest.approx(10**0.5, rel=0.15)


def test_only_common_videos_are_compared():
    a = predictions([1, 1, 0], videos=["one", "two", "three"])
    b = predictions([0, 1, 1], videos=["three", "four", "one"])
    accuracy = paired_differences(a, b, SECTION)["accuracy"]
    assert (accuracy.value_a, accuracy.value_b, accuracy.videos) == (0.5, 0.5, 2)
    with pytest.raises(PipelineError, match="no video is in both"):
        paired_differences(a, predictions([1], videos=["other"]), SECTION)


def test_another_task_is_scored_and_compared_by_its_own_metrics():
    targets = tuple(str(value) for value in np.linspace(0, 1, 12))
    better = Predictions(
        tuple(map(str, range(12))), ("",) * 12, targets, np.full((12, 1), 0.0), Brightness(0.5)
    )
    worse = replace(better, outputs=np.full((12, 1), 1.0), task=Brightness(0.0))
    scores = score_predictions(better, SECTION)
    assert list(scores) == ["mean_squared_error", "closeness"]
    assert scores["mean_squared_error"].value == pytest.approx(np.linspace(-0.5, 0.5, 12).var())
    differences = paired_differences(worse, better, SECTION)
    # On average the squared error of 1 is 0.25 more than that of 0.5.
    assert differences["mean_squared_error"].difference == pytest.approx(-0.25)
    assert uncalibrated_scores(better, SECTION) == {}


def test_a_score_that_the_test_videos_do_not_determine_is_left_out():
    constant = Predictions(
        videos=("a", "b", "c"),
        groups=("", "", ""),
        targets=("2", "2", "2"),
        outputs=np.full((3, 1), 1.0),
        task=Regression(mean=1.0, deviation=1.0),
    )
    scores = score_predictions(constant, SECTION)
    assert scores["mae"].value == 1
    assert {"r2", "spearman"}.isdisjoint(scores)

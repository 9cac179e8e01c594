import math
from dataclasses import replace

import numpy as np
import pytest

from pipeline.common.bootstrap import Resampling
from pipeline.common.errors import PipelineError
from pipeline.evaluation.predictions import Predictions, on_same_videos, pool, without
from pipeline.tasks.classification import Classification
from pipeline.tasks.regression import Regression
from tests.other_task import Brightness, register_brightness


def predictions(**changes):
    fields = {
        "videos": ("a.mp4", "b, two.mp4", "c.mp4"),
        "groups": ("g1", "", "g1"),
        "targets": ("jump", "run", "run"),
        "outputs": np.array([[0.75, 0.25], [0.5, 0.5], [1e-9, 1 - 1e-9]]),
        "task": Classification(("jump", "run"), target_accuracy=0.9),
    }
    return Predictions(**(fields | changes))


def answers(is_correct, *, videos=None):
    """Two classes: the target is always x, with probability 0.8 when correct."""
    of_x = np.where(is_correct, 0.8, 0.2)
    return Predictions(
        videos=tuple(videos or (f"{index}.mp4" for index in range(len(of_x)))),
        groups=("",) * len(of_x),
        targets=("x",) * len(of_x),
        outputs=np.stack([of_x, 1 - of_x], axis=1),
        task=Classification(("x", "y"), target_accuracy=0.9),
    )


def test_a_table_about_single_videos_names_them():
    numbers = predictions(
        targets=("1", "2", "9"), outputs=np.array([[1.0], [5.0], [8.0]]), task=Regression(4.0, 2.0)
    )
    resampling = Resampling(numbers.resampling_groups, samples=1, confidence=0.5, seed=0)
    (residuals,) = numbers.tables(resampling)
    assert residuals.columns == ("video", "actual", "predicted", "error")
    assert [row["video"] for row in residuals.rows] == ["b, two.mp4", "c.mp4", "a.mp4"]
    (per_class, *_) = predictions().tables(resampling)
    assert "video" not in per_class.columns


def test_of_equally_probable_classes_the_first_is_predicted():
    assert predictions().video_scores.tolist() == [1, 0, 1]


def test_a_video_without_a_group_is_its_own_resampling_group():
    assert predictions().resampling_groups == ("group g1", "video b, two.mp4", "group g1")
    groups = predictions(videos=("x", "y", "z"), groups=("y", "", "")).resampling_groups
    assert len(set(groups)) == 3  # group y is not video y


def test_outputs_are_a_read_only_copy():
    outputs = np.array([[0.75, 0.25], [0.5, 0.5], [0.5, 0.5]])
    kept = predictions(outputs=outputs)
    outputs[0] = 1
    assert kept.outputs[0, 0] == 0.75
    with pytest.raises(ValueError, match="read-only"):
        kept.outputs[0] = 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"videos": (), "groups": (), "targets": (), "outputs": np.zeros((0, 2))},
            r"videos: expected at least one\. Received: none",
        ),
        ({"groups": ("g1",)}, r"groups: expected 3, one for each video\. Received: 1"),
        ({"targets": ("run", "jump")}, r"targets: expected 3, one for each video\. Received: 2"),
        ({"outputs": np.ones((2, 2)) / 2}, r"outputs: expected 3, one for each video"),
    ],
)
def test_fields_of_different_lengths_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        predictions(**changes)


def test_an_unknown_target_is_refused():
    with pytest.raises(PipelineError, match=r"'walk' is unknown .* Expected one of jump, run"):
        predictions(targets=("jump", "run", "walk"))


@pytest.mark.parametrize(
    "row",
    [[math.nan, math.nan], [1.5, -0.5], [1.00005, -0.00005], [0.5, 0.4], [math.inf, 0.0]],
)
def test_invalid_probabilities_name_their_video(row):
    with pytest.raises(PipelineError, match=r"^b, two\.mp4: expected probabilities between 0"):
        predictions(outputs=np.array([[0.5, 0.5], row, row]))


def test_the_csv_file_has_one_row_for_each_video(tmp_path):
    path = tmp_path / "eval" / "predictions.csv"
    predictions().write_csv(path)
    assert path.read_bytes().decode() == (
        "video,group,label,predicted,probability,correct,p_jump,p_run\n"
        "a.mp4,g1,jump,jump,0.75,true,0.75,0.25\n"
        '"b, two.mp4",,run,jump,0.5,false,0.5,0.5\n'
        "c.mp4,g1,run,run,0.999999999,true,1e-09,0.999999999\n"
    )


def test_the_csv_file_keeps_float32_outputs(tmp_path):
    generator = np.random.default_rng(0)
    logits = generator.normal(scale=8, size=(200, 7)).astype(np.float32)
    softmax = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    written = Predictions(
        videos=tuple(f"{index}.mp4" for index in range(200)),
        groups=tuple("" if index % 2 else f"g{index % 5}" for index in range(200)),
        targets=tuple("abcdefg"[index] for index in generator.integers(7, size=200)),
        outputs=softmax,
        task=Classification(tuple("abcdefg"), target_accuracy=0.95),
    )
    written.write_csv(tmp_path / "predictions.csv")
    read = Predictions.read_csv(tmp_path / "predictions.csv", task_type="classification")
    assert (read.videos, read.groups, read.targets, read.task) == (
        written.videos,
        written.groups,
        written.targets,
        written.task,
    )
    np.testing.assert_array_equal(read.outputs.astype(np.float32), softmax)
    log_losses = [
        side.task.scores(side.task.terms(side.targets, side.outputs).sum(axis=0))["log_loss"]
        for side in (read, written)
    ]
    assert log_losses[0] == pytest.approx(log_losses[1], abs=1e-8)


def test_the_csv_file_keeps_names_that_look_like_formulas(tmp_path):
    path = tmp_path / "predictions.csv"
    written = predictions(
        videos=("=cmd|' /C calc'!A0.mp4", "-1", "'=1"),
        groups=("@g", "", "-0.5"),
        targets=("+1", "+1", "=x"),
        task=Classification(("+1", "=x"), target_accuracy=0.95),
    )
    written.write_csv(path)
    assert path.read_text().splitlines()[1].startswith("'=cmd|' /C calc'!A0.mp4,'@g,'+1,'+1,0.75")
    read = Predictions.read_csv(path, task_type="classification")
    assert (read.videos, read.groups, read.targets) == (
        written.videos,
        written.groups,
        written.targets,
    )
    assert read.task.class_names == ("+1", "=x")


HEADER = "video,group,label,predicted,probability,correct,p_jump,p_run\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "expected at least one row of predictions"),
        (HEADER, "expected at least one row of predictions"),
        ("video,label,p_run\na,run,1\n", "expected the columns video, group"),
        ("video,group,label,p_run\na,,run,1\n", "expected the columns predicted, probability"),
        (
            "video,group,label,predicted,probability,correct\na,,run,run,1,true\n",
            r"expected a column p_<class> for every class after correct\. Received: none",
        ),
        (HEADER + "a,,run,run,1,true,0,1\na,,walk,run,1,true,0,1\n", "line 3: label must be one "),
        (HEADER + "a,,run,run,1,true,0\n", "line 2: expected 8 cells"),
        (HEADER + "a,,run,run,1,true,0,1,1\n", "line 2: expected 8 cells"),
        (HEADER + "a,,run,run,1,true,0,one\n", "line 2: expected numbers .* 'one'"),
        (HEADER + "a,,run,run,1,true,0,0.5\n", r"a: expected probabilities .* \(sum 0\.5\)"),
    ],
)
def test_a_file_that_is_not_a_table_of_predictions_is_refused(tmp_path, content, message):
    path = tmp_path / "predictions.csv"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(PipelineError, match=message) as raised:
        Predictions.read_csv(path, task_type="classification")
    assert str(raised.value).startswith(str(path))


def test_a_missing_file_is_an_error_with_a_remedy(tmp_path):
    with pytest.raises(PipelineError, match=r"no such file\. Run: dvc repro evaluate"):
        Predictions.read_csv(tmp_path / "predictions.csv", task_type="classification")


def test_predictions_of_another_task_have_its_columns(tmp_path):
    register_brightness()
    path = tmp_path / "predictions.csv"
    written = Predictions(("a", "b"), ("", ""), ("0.25", "0.5"), np.zeros((2, 1)), Brightness(0.5))
    written.write_csv(path)
    assert path.read_text().splitlines()[:2] == ["video,group,value,predicted", "a,,0.25,0.5"]
    read = Predictions.read_csv(path, task_type="brightness")
    assert (read.targets, read.video_scores.tolist()) == (("0.25", "0.5"), [0.8, 1])
    with pytest.raises(PipelineError, match="a: expected finite numbers"):
        replace(written, outputs=np.array([[math.nan], [0.0]]))


def test_pooled_predictions_are_sorted_by_video():
    pooled = pool([answers([1, 0], videos=["c", "a"]), answers([1], videos=["b"])])
    assert pooled.videos == ("a", "b", "c")
    assert pooled.video_scores.tolist() == [0, 1, 1]


def test_pooled_predictions_of_models_with_different_thresholds_have_none():
    one, other = answers([1], videos=["a"]), answers([1], videos=["b"])
    calibrated = replace(one, task=replace(one.task, abstain_below=0.7))
    assert pool([calibrated, other]).task.abstain_below is None
    assert pool([calibrated, replace(other, task=calibrated.task)]).task.abstain_below == 0.7


def test_videos_are_left_out_by_name():
    assert without(answers([1, 0], videos=["a", "b"]), {"a"}).videos == ("b",)
    assert without(answers([1], videos=["a"]), {"a"}) is None
    assert without(None, {"a"}) is None


def test_common_videos_are_paired_in_the_order_of_the_second():
    a = answers([1, 1, 0], videos=["one", "two", "three"])
    b = answers([0, 1, 1], videos=["three", "four", "one"])
    common_a, common_b = on_same_videos(a, b)
    assert common_a.videos == common_b.videos == ("three", "one")
    assert common_a.video_scores.tolist() == [0, 1]
    assert common_b.video_scores.tolist() == [0, 1]


def test_without_a_common_video_there_is_nothing_to_compare():
    with pytest.raises(PipelineError, match="1 videos such as one, and 1 such as two"):
        on_same_videos(answers([1], videos=["one"]), answers([1], videos=["two"]))


def test_equal_names_are_paired_in_order_and_left_out_when_their_number_differs():
    a = answers([1, 0, 1, 1], videos=["cut", "cut", "recut", "whole"])
    b = answers([0, 1, 1, 0, 0], videos=["recut", "cut", "cut", "recut", "whole"])
    common_a, common_b = on_same_videos(a, b)
    assert common_b.videos == ("cut", "cut", "whole")
    assert common_a.video_scores.tolist() == [1, 0, 1]
    assert common_b.video_scores.tolist() == [1, 1, 0]


def test_targets_are_those_of_the_second_and_unknown_classes_have_probability_0():
    task = Classification(("old", "run"), target_accuracy=0.9)
    a = Predictions(
        ("one", "two"), ("", ""), ("old", "old"), np.array([[0.9, 0.1], [0.4, 0.6]]), task
    )
    b = Predictions(
        ("one", "two"),
        ("", "g"),
        ("run", "walk"),
        np.array([[0.7, 0.3], [0.2, 0.8]]),
        replace(task, class_names=("run", "walk")),
    )
    common_a, common_b = on_same_videos(a, b)
    assert common_a.task == common_b.task == replace(task, class_names=("run", "walk", "old"))
    assert common_a.targets == ("run", "walk")
    assert common_a.groups == ("", "g")
    assert common_a.outputs.tolist() == [[0.1, 0, 0.9], [0.6, 0, 0.4]]
    assert common_b.outputs.tolist() == [[0.7, 0.3, 0], [0.2, 0.8, 0]]

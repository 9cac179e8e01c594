import math

import numpy as np
import pytest

from pipeline.base.errors import PipelineError
from pipeline.evaluation.metrics import score
from pipeline.evaluation.predictions import Predictions


def predictions(**changes):
    fields = {
        "videos": ("a.mp4", "b, two.mp4", "c.mp4"),
        "groups": ("g1", "", "g1"),
        "labels": np.array([0, 1, 1]),
        "probabilities": np.array([[0.75, 0.25], [0.5, 0.5], [1e-9, 1 - 1e-9]]),
        "class_names": ("jump", "run"),
    }
    return Predictions(**(fields | changes))


def test_of_equally_probable_classes_the_first_is_predicted():
    assert predictions().predicted.tolist() == [0, 0, 1]


def test_a_video_without_a_group_is_its_own_unit():
    assert predictions().units == ("group g1", "video b, two.mp4", "group g1")


def test_a_group_never_merges_with_a_video_of_the_same_name():
    units = predictions(videos=("x", "y", "z"), groups=("y", "", "")).units
    assert len(set(units)) == 3


def test_arrays_are_read_only_copies():
    labels = np.array([0, 1, 1])
    kept = predictions(labels=labels)
    labels[0] = 1
    assert kept.labels[0] == 0
    for array in (kept.labels, kept.probabilities):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"videos": (), "groups": (), "labels": np.zeros(0, int)},
            "videos: expected at least one, got none",
        ),
        ({"groups": ("g1",)}, "groups: expected 3, one a video, got 1"),
        ({"labels": np.array([0, 1])}, r"labels: expected shape \(3,\), got \(2,\)"),
        ({"labels": np.array([0.0, 1.0, 1.0])}, "labels: expected integers, got float64"),
        ({"labels": np.array([0, 1, 2])}, "labels: expected 0 to 1, got 2"),
        ({"labels": np.array([0, -1, 1])}, "labels: expected 0 to 1, got -1"),
        (
            {"probabilities": np.ones((3, 1))},
            r"probabilities: expected shape \(3, 2\), one row a video and one column a class, "
            r"got \(3, 1\)",
        ),
        ({"class_names": ("run", "run")}, "class_names: expected no name twice"),
    ],
)
def test_fields_that_do_not_fit_together_are_a_mistake_of_the_caller(changes, message):
    with pytest.raises(ValueError, match=message):
        predictions(**changes)


@pytest.mark.parametrize(
    "row",
    [[math.nan, math.nan], [1.5, -0.5], [1.00005, -0.00005], [0.5, 0.4], [math.inf, 0.0]],
)
def test_numbers_that_are_no_probabilities_name_their_video(row):
    bad = np.array([[0.5, 0.5], row, row])
    with pytest.raises(PipelineError, match=r"^b, two\.mp4: expected probabilities between 0"):
        predictions(probabilities=bad)


def test_the_csv_says_everything_about_a_video_on_one_line(tmp_path):
    path = tmp_path / "eval" / "predictions.csv"
    predictions().write_csv(path)
    assert path.read_bytes().decode() == (
        "video,group,label,predicted,probability,correct,p_jump,p_run\n"
        "a.mp4,g1,jump,jump,0.75,true,0.75,0.25\n"
        '"b, two.mp4",,run,jump,0.5,false,0.5,0.5\n'
        "c.mp4,g1,run,run,0.999999999,true,1e-09,0.999999999\n"
    )


def test_the_csv_gives_back_what_a_float32_model_said(tmp_path):
    generator = np.random.default_rng(0)
    logits = generator.normal(scale=8, size=(200, 7)).astype(np.float32)
    softmax = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    written = Predictions(
        videos=tuple(f"{index}.mp4" for index in range(200)),
        groups=tuple("" if index % 2 else f"g{index % 5}" for index in range(200)),
        labels=generator.integers(7, size=200),
        probabilities=softmax,
        class_names=tuple("abcdefg"),
    )
    written.write_csv(tmp_path / "predictions.csv")
    read = Predictions.read_csv(tmp_path / "predictions.csv")
    assert (read.videos, read.groups, read.class_names) == (
        written.videos,
        written.groups,
        written.class_names,
    )
    np.testing.assert_array_equal(read.labels, written.labels)
    np.testing.assert_array_equal(read.predicted, written.predicted)
    np.testing.assert_array_equal(read.probabilities.astype(np.float32), softmax)
    settings = {"top_k": 2, "calibration_bins": 10}
    assert score(read.labels, read.probabilities, **settings).log_loss == pytest.approx(
        score(written.labels, written.probabilities, **settings).log_loss, abs=1e-8
    )


HEADER = "video,group,label,predicted,probability,correct,p_jump,p_run\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "expected at least one line of predictions, found none"),
        (HEADER, "expected at least one line of predictions, found none"),
        ("video,label,p_run\na,run,1\n", "expected the columns group, predicted, probability"),
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
def test_a_file_that_is_no_table_of_predictions_is_refused(tmp_path, content, message):
    path = tmp_path / "predictions.csv"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(PipelineError, match=message) as raised:
        Predictions.read_csv(path)
    assert str(raised.value).startswith(str(path))


def test_a_missing_file_is_an_error_with_a_remedy(tmp_path):
    with pytest.raises(PipelineError, match=r"no such file\. Run dvc repro evaluate\."):
        Predictions.read_csv(tmp_path / "predictions.csv")

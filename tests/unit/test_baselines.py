"""Baselines learn from training clips only, and are scored like the model."""

import numpy as np
import pytest

from pipeline.evaluation.baselines import predict_baselines, score_baselines
from pipeline.evaluation.settings import EvaluateSection
from pipeline.tasks.settings import TaskSection
from pipeline.tasks.task import BaselineClips, Task, task_class
from tests.architectures import ARCHITECTURES, TASK, build, frame_shape, noise_clips, stored_clips


def baseline_outputs(task_type: str, train: list[str], test: list[str]):
    task = task_class(task_type).learn(train, TaskSection(type=task_type))

    def clips(targets):
        two_of_first = [*targets[:1], *targets]
        mask = np.ones((len(two_of_first), 2), bool)
        return BaselineClips(two_of_first, mask, lambda: np.zeros((0,)), targets)

    outputs = task.baseline_outputs(clips(train), clips(test))
    assert list(outputs) == list(task.baselines)
    return outputs


# The first video of both sides has two clips, and counts once in training.


def test_the_most_frequent_class_of_the_training_videos_is_predicted():
    outputs = baseline_outputs("classification", ["a", "b", "b", "b"], ["a", "a"])
    assert outputs["most_frequent"].tolist() == [[0.25, 0.75]] * 3


def test_the_prevalence_of_the_labels_in_training_is_predicted():
    outputs = baseline_outputs("multilabel", ["a", "a|b", "", "a"], ["b"])
    assert outputs["prevalence"].tolist() == [[0.75, 0.25]] * 2


def test_mean_and_median_of_the_training_values_are_predicted():
    outputs = baseline_outputs("regression", ["1", "2", "6"], ["9", "9"])
    assert outputs["mean"].tolist() == [[3]] * 3
    assert outputs["median"].tolist() == [[2]] * 3


class ReadsFeatures(type(TASK)):
    """A classification whose only baseline tells clips apart by their frame features."""

    baselines = {"features": "by the first frame feature"}  # noqa: RUF012

    def baseline_outputs(self, train, test):
        assert train.features().shape[:2] == train.mask.shape
        features = test.features()
        assert (features[~test.mask] == 0).all()
        likeness = np.abs(features[:, :1, 0] - train.features()[None, :3, 0, 0])
        return {"features": np.eye(3)[likeness.argmin(axis=1)]}


@pytest.mark.parametrize("name", ["lstm", "average", "convlstm2d"])
def test_a_baseline_reads_the_frame_features_of_the_trained_model(tmp_path, name):
    model = build(ARCHITECTURES[name])
    frames, mask = noise_clips([2, 4, 3], 4, 0, frame_shape(ARCHITECTURES[name]))
    train = stored_clips(tmp_path / "train", frames, mask, ["a", "b", "c"])
    test = stored_clips(tmp_path / "test", frames[::-1], mask[::-1], ["c", "b", "a"])
    task: Task = ReadsFeatures(TASK.class_names, 0.95)
    baselines = predict_baselines(model, task, train, test)
    assert baselines["features"].outputs.argmax(axis=1).tolist() == [2, 1, 0]
    scores = score_baselines(baselines, EvaluateSection(bootstrap_samples=20))
    assert scores["accuracy_features"].value == 1
    assert {f"{name}_features" for name in task.headline_metrics} <= scores.keys()

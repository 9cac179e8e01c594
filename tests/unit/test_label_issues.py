import numpy as np
import pytest

from pipeline.evaluation.label_issues import (
    LabelIssue,
    label_issues,
    labels_audit,
    write_label_issues_csv,
)
from pipeline.evaluation.predictions import Predictions


def predictions(labels, probabilities):
    n_videos = len(labels)
    return Predictions(
        videos=tuple(f"{index:02}.mp4" for index in range(n_videos)),
        groups=("",) * n_videos,
        labels=np.array(labels),
        probabilities=np.array(probabilities),
        class_names=("cat", "dog"),
    )


# Twenty sure cats and twenty sure dogs, then a cat that is surely called a dog (5 %), one more
# surely (2 %), and one of which the model knows little.
LABELS = [0] * 20 + [1] * 20 + [0, 0, 0]
PROBABILITIES = [[0.9, 0.1]] * 20 + [[0.1, 0.9]] * 20 + [[0.05, 0.95], [0.02, 0.98], [0.48, 0.52]]
HELD_OUT = predictions(LABELS, PROBABILITIES)
SPLITS = dict.fromkeys(HELD_OUT.videos, "train") | {"41.mp4": "val"}


def test_labels_that_are_surely_contradicted_are_issues_the_surest_first():
    assert label_issues(HELD_OUT, SPLITS) == [
        LabelIssue("41.mp4", "val", "cat", "dog", pytest.approx(0.02)),
        LabelIssue("40.mp4", "train", "cat", "dog", pytest.approx(0.05)),
    ]


def test_a_model_that_agrees_has_none():
    held_out = predictions(LABELS[:40], PROBABILITIES[:40])
    assert label_issues(held_out, SPLITS) == []


@pytest.mark.parametrize(("max_share", "ok"), [(0.05, True), (0.04, False)])
def test_more_issues_than_asked_are_not_ok(max_share, ok):
    issues = label_issues(HELD_OUT, SPLITS)
    found = labels_audit(issues, HELD_OUT, source="the model", max_share=max_share)
    assert (found.value, found.threshold, found.ok) == (2 / 43, max_share, ok)
    assert found.sentence == (
        "2 of 43 labels (4.7%) are surely contradicted by the model, which are right for 93.0% "
        "of these videos. Look at them (eval/label_issues.csv)."
    )
    assert found.details["accuracy"] == 40 / 43


def test_a_weak_model_is_said_to_be():
    held_out = predictions([0, 1, 0, 1], [[0.6, 0.4], [0.6, 0.4], [0.4, 0.6], [0.4, 0.6]])
    found = labels_audit([], held_out, source="the model", max_share=0.05)
    assert found.sentence == (
        "0 of 4 labels (0.0%) are surely contradicted by the model, which are right for 50.0% of "
        "these videos. A model so weak says more about itself than about labels."
    )


def test_the_table(tmp_path):
    path = tmp_path / "label_issues.csv"
    write_label_issues_csv(path, label_issues(HELD_OUT, SPLITS))
    assert path.read_text().splitlines()[:2] == [
        "video,split,label,suggested,quality",
        "41.mp4,val,cat,dog,0.020000",
    ]

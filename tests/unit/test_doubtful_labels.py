"""Labels that a model contradicts, and their audit."""

import numpy as np
import pytest

from pipeline.evaluation.doubtful_labels import (
    DoubtfulLabel,
    find_doubtful_labels,
    labels_audit,
    write_doubtful_labels_csv,
)
from pipeline.evaluation.predictions import Predictions
from pipeline.tasks.classification import Classification
from tests.other_task import Brightness

TASK = Classification(("cat", "dog"), target_accuracy=0.9)


def predictions(labels, probabilities):
    return Predictions(
        videos=tuple(f"{index:02}.mp4" for index in range(len(labels))),
        groups=("",) * len(labels),
        targets=tuple(("cat", "dog")[label] for label in labels),
        outputs=np.array(probabilities),
        task=TASK,
    )


# Twenty certain cats and twenty certain dogs, then a cat that is called a dog with certainty
# (5 %), another one (2 %), and one that the model is unsure about.
HELD_OUT = predictions(
    [0] * 20 + [1] * 20 + [0, 0, 0],
    [[0.9, 0.1]] * 20 + [[0.1, 0.9]] * 20 + [[0.05, 0.95], [0.02, 0.98], [0.48, 0.52]],
)
SPLITS = dict.fromkeys(HELD_OUT.videos, "test") | {"41.mp4": "val"}


def test_contradicted_labels_are_doubtful_the_most_certain_first():
    assert find_doubtful_labels(HELD_OUT, SPLITS) == [
        DoubtfulLabel("41.mp4", "val", "cat", "dog", pytest.approx(0.02)),
        DoubtfulLabel("40.mp4", "test", "cat", "dog", pytest.approx(0.05)),
    ]


def test_a_model_that_agrees_doubts_no_label():
    assert find_doubtful_labels(HELD_OUT.rows(range(40)), SPLITS) == []


def test_a_task_may_have_no_check_of_labels():
    numbers = Predictions(("a",), ("",), ("0.5",), np.zeros((1, 1)), Brightness(0.5))
    assert find_doubtful_labels(numbers, {"a": "test"}) is None


def test_up_to_five_percent_of_doubtful_labels_are_ok():
    doubtful = find_doubtful_labels(HELD_OUT, SPLITS)
    finding = labels_audit(doubtful, HELD_OUT, source="predictions of test videos")
    assert (finding.value, finding.threshold, finding.status) == (2 / 43, 0.05, "ok")
    assert finding.sentence == (
        "2 of 43 labels (4.7%) are contradicted by predictions of test videos, whose accuracy is "
        "0.930. Look at them (eval/tables/label_issues.csv)."
    )
    assert finding.details["accuracy"] == 40 / 43
    fewer = HELD_OUT.rows(range(10, 43))
    assert labels_audit(doubtful, fewer, source="predictions").status == "warn"


def test_a_weak_model_is_mentioned():
    unsure = predictions([0, 1, 0, 1], [[0.6, 0.4], [0.6, 0.4], [0.4, 0.6], [0.4, 0.6]])
    finding = labels_audit([], unsure, source="predictions of test videos")
    assert finding.sentence == (
        "0 of 4 labels (0.0%) are contradicted by predictions of test videos, whose accuracy is "
        "0.500. With such a weak model, these may be errors of the model."
    )


def test_the_table_of_doubtful_labels(tmp_path):
    path = tmp_path / "label_issues.csv"
    write_doubtful_labels_csv(path, find_doubtful_labels(HELD_OUT, SPLITS))
    assert path.read_text().splitlines()[:2] == [
        "video,split,target,suggested,quality",
        "41.mp4,val,cat,dog,0.020000",
    ]

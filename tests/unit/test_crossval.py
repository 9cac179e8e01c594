"""Folds and their summary; tests/pipeline/test_crossval.py runs the whole command."""

import re

import numpy as np
import pytest

from pipeline.common.bootstrap import Score
from pipeline.common.errors import PipelineError
from pipeline.evaluation.predictions import Predictions, pool
from pipeline.evaluation.scores import score_predictions
from pipeline.evaluation.settings import EvaluateSection
from pipeline.retraining.crossval import summarise
from pipeline.retraining.crossval_folds import FoldResult
from pipeline.retraining.folds import make_folds
from pipeline.tasks.classification import Classification
from pipeline.tasks.targets import targets_of

EVALUATE = EvaluateSection(bootstrap_samples=200, confidence=0.9)

# 24 groups of 1 to 4 clips; groups 0 to 19 have both classes, 20 to 23 one.
SIZES = [4, 2, 2, 2, 4, 2, 2, 2, 2, 4, 2, 2, 2, 2, 4, 2, 2, 2, 2, 2, 1, 1, 3, 3]
GROUPS = [f"g{group}" for group, size in enumerate(SIZES) for _ in range(size)]
LABELS = [
    ("cat", "dog")[clip % 2 if group < 20 else group % 2]
    for group, size in enumerate(SIZES)
    for clip in range(size)
]


def folds_of(labels=LABELS, groups=GROUPS, *, n_folds=3, val_share=0.2, seed=0):
    required = [(label,) for label in labels]
    return make_folds(labels, required, groups, n_folds=n_folds, val_share=val_share, seed=seed)


@pytest.mark.parametrize("n_folds", [2, 3, 5])
@pytest.mark.parametrize("seed", range(5))
def test_every_clip_is_tested_once(n_folds, seed):
    tested = [index for fold in folds_of(n_folds=n_folds, seed=seed) for index in fold.test]
    assert sorted(tested) == list(range(len(LABELS)))


@pytest.mark.parametrize("n_folds", [2, 3, 5])
@pytest.mark.parametrize("seed", range(5))
def test_the_parts_of_a_fold_have_all_clips_and_no_common_group(n_folds, seed):
    for fold in folds_of(n_folds=n_folds, seed=seed):
        assert sorted(fold.train + fold.val + fold.test) == list(range(len(LABELS)))
        train, val, test = (
            {GROUPS[index] for index in part} for part in (fold.train, fold.val, fold.test)
        )
        assert not train & val
        assert not train & test
        assert not val & test


def test_folds_and_validation_have_their_shares():
    """With 100 groups of one clip, the shares are exact."""
    labels = ["cat", "dog"] * 50
    groups = [f"g{number}" for number in range(100)]
    for fold in folds_of(labels, groups, n_folds=5, val_share=0.1):
        assert (len(fold.train), len(fold.val), len(fold.test)) == (70, 10, 20)
        assert sum(labels[index] == "cat" for index in fold.test) == 10


def test_a_validation_part_of_another_size_than_wanted_is_logged(caplog):
    """Of three groups of emus, two are left for training and validation: halves."""
    labels = ["cat"] * 40 + ["dog"] * 40 + ["emu"] * 3
    groups = [f"g{number}" for number in range(83)]
    folds_of(labels, groups, n_folds=3, val_share=0.1)
    assert caplog.messages[0].startswith("Fold 1: validation has 33 % of the clips instead of 10 %")


def test_the_same_seed_draws_the_same_folds_and_another_seed_others():
    assert folds_of(seed=1) == folds_of(seed=1)
    assert folds_of(seed=1) != folds_of(seed=2)


def test_fewer_groups_than_folds_are_refused():
    message = (
        r"'cat': expected clips of at least 23 groups for 23 folds, because clips of one group "
        r"stay together\. Received: 22 groups\. Add videos of other groups, or use fewer --folds"
    )
    with pytest.raises(PipelineError, match=message):
        folds_of(n_folds=23)


def test_two_folds_need_a_third_group_for_validation():
    labels, groups = ["cat", "dog"] * 2, ["a", "a", "b", "b"]
    with pytest.raises(PipelineError, match=r"at least 3 groups for 2 folds.*Received: 2 groups"):
        folds_of(labels, groups, n_folds=2)


def test_a_class_that_runs_out_of_groups_is_refused():
    """Of three groups of cats, the larger fold tests two, and one is left for two parts."""
    labels = ["cat", "cat", "cat", "dog", "dog", "dog", "dog"]
    groups = list("abcdefg")
    message = "'cat': a fold leaves 1 group for training and validation. Expected at least 2"
    with pytest.raises(PipelineError, match=message):
        folds_of(labels, groups, n_folds=2)


def test_a_fold_without_a_class_is_refused():
    """With 10 groups of each class, two of them big, some seeds give such a fold."""
    sizes = [4, 2, 2, 2, 4, 2, 2, 2, 1, 1, 3, 3]
    groups = [f"g{group}" for group, size in enumerate(sizes) for _ in range(size)]
    labels = [
        ("cat", "dog")[clip % 2 if group < 8 else group % 2]
        for group, size in enumerate(sizes)
        for clip in range(size)
    ]
    refusals = set()
    for seed in range(10):
        try:
            folds_of(labels, groups, n_folds=5, seed=seed)
        except PipelineError as error:
            refusals.add(str(error))
    assert refusals
    for refusal in refusals:
        assert re.fullmatch(
            r"Fold \d of 5: no (train|val|test) clip of '(cat|dog)', because the groups are "
            r"few or uneven\. Try another --seed or fewer --folds\.",
            refusal,
        )


def test_a_rare_combination_of_labels_does_not_limit_the_folds():
    """Every label is in every part, although one video alone has all three."""
    targets = ["a|b|c", *(["a", "b|c", "b", "a|c", "c"] * 8)]
    text = targets_of("multilabel")
    folds = make_folds(
        text.strata(targets),
        text.required_strata(targets),
        [str(number) for number in range(len(targets))],
        n_folds=5,
        val_share=0.1,
        seed=0,
    )
    for part in (part for fold in folds for part in (fold.train, fold.val, fold.test)):
        assert {label for index in part for label in targets[index].split("|")} == {"a", "b", "c"}


def predictions(videos, groups, targets, of_dog) -> Predictions:
    return Predictions(
        videos=tuple(videos),
        groups=tuple(groups),
        targets=tuple(targets),
        outputs=np.stack([1 - np.array(of_dog), np.array(of_dog)], axis=1),
        task=Classification(("cat", "dog"), 1, 0.9),
    )


def fold(number, predicted, scores, epochs, kept_epoch, seconds) -> FoldResult:
    names = ("accuracy", "macro_f1", "val_accuracy")
    return FoldResult(
        number, predicted, {}, dict(zip(names, scores, strict=True)), epochs, kept_epoch, seconds
    )


# Fold 1 is right in 3 of 4, fold 2 in 1 of 2: 4 of 6 together.
FOLDS = [
    fold(
        1,
        predictions("dacb", "xxyy", ["cat", "cat", "dog", "dog"], [0.1, 0.2, 0.9, 0.4]),
        (0.75, 0.7, 0.8),
        6,
        3,
        1.25,
    ),
    fold(2, predictions("fe", ["z", ""], ["cat", "dog"], [0.3, 0.3]), (0.5, 0.3, 0.6), 4, 4, 2.5),
]
POOLED = pool([result.predictions for result in FOLDS])


def test_pooled_predictions_are_sorted_by_video():
    assert POOLED.videos == ("a", "b", "c", "d", "e", "f")
    assert POOLED.groups == ("x", "y", "y", "x", "", "z")
    assert POOLED.targets == ("cat", "dog", "dog", "cat", "dog", "cat")
    assert POOLED.outputs[:, 1].tolist() == [0.2, 0.4, 0.9, 0.1, 0.3, 0.3]


def test_the_summary_weights_folds_in_the_mean_and_videos_in_the_pool():
    summary = summarise(FOLDS, POOLED, score_predictions(POOLED, EVALUATE), confidence=0.9)
    assert summary["mean"] == pytest.approx(
        {"accuracy": 0.625, "macro_f1": 0.5, "val_accuracy": 0.7}
    )
    # Of 0.75 and 0.5: sqrt((0.125^2 + 0.125^2) / 1). Of 0.7 and 0.3: sqrt(2 * 0.2^2).
    assert summary["spread"]["accuracy"] == pytest.approx(0.1767767)
    assert summary["spread"]["macro_f1"] == pytest.approx(0.2828427)
    assert summary["pooled"]["accuracy"] == pytest.approx(4 / 6)
    # cat: 3 actual, 5 predicted, 3 both: F1 6/8. dog: 3 actual, 1 predicted, 1 both: 2/4.
    assert summary["pooled"]["macro_f1"] == pytest.approx((6 / 8 + 2 / 4) / 2)
    assert (summary["folds"], summary["videos"], summary["groups"]) == (2, 6, 4)
    assert summary["seconds"] == 3.75
    assert summary["confidence"] == 0.9


def test_a_score_without_an_interval_has_none_in_the_summary():
    summary = summarise(FOLDS, POOLED, {"coverage": Score(0.5)}, confidence=0.9)
    assert summary["pooled"] == {"coverage": 0.5}
    assert summary["interval"] == {}


def test_the_interval_resamples_groups():
    """One group all right, one all wrong: two groups and not four videos."""
    pooled = predictions("abcd", "xxyy", ["cat"] * 4, [0.1, 0.1, 0.9, 0.9])
    summary = summarise(FOLDS, pooled, score_predictions(pooled, EVALUATE), confidence=0.9)
    low, high = summary["interval"]["accuracy"]
    assert low < 0.03 < 0.97 < high


def test_the_row_of_a_fold_has_its_scores_and_epochs():
    assert FOLDS[1].cells() == {
        "fold": "2",
        "videos": "2",
        "accuracy": "0.500000",
        "macro_f1": "0.300000",
        "val_accuracy": "0.600000",
        "epochs": "4",
        "kept_epoch": "4",
        "seconds": "2.5",
    }

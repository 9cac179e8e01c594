"""The decision on hand-made predictions: twenty videos of two classes, ten each."""

from dataclasses import replace

import numpy as np
import pytest

from pipeline.common.errors import PipelineError
from pipeline.evaluation.predictions import Predictions
from pipeline.evaluation.settings import EvaluateSection
from pipeline.registry.contenders import Contender
from pipeline.registry.gate import (
    Decision,
    GateRules,
    check_gate_settings,
    decide,
)
from pipeline.registry.settings import PromoteSection
from pipeline.tasks.classification import Classification

VIDEOS = tuple(f"{number:02d}.mp4" for number in range(20))
LABELS = np.repeat([0, 1], 10)
CLASSES = ("left", "right")


def gate_rules(*, recall: float = 0.5, error: float = 0.3, **changes) -> GateRules:
    section = {
        "metric": "accuracy",
        "min_gain": 0,
        "limits": {"class_recall": recall, "calibration_error": error},
        "max_latency_ms": 100,
        "min_groups": 10,
    }
    max_bad_fraction = changes.pop("max_bad_fraction", 0.1)
    evaluate = EvaluateSection(bootstrap_samples=200)
    return GateRules(PromoteSection(**section | changes), evaluate, max_bad_fraction)


RULES = gate_rules()


def predictions_of(probabilities, labels=LABELS, classes=CLASSES) -> Predictions:
    task = Classification(classes, target_accuracy=0.9)
    targets = tuple(classes[label] for label in labels)
    return Predictions(VIDEOS[: len(targets)], ("",) * len(targets), targets, probabilities, task)


def predictions(*wrong: int, sure: float = 0.9) -> Predictions:
    """All right with probability ``sure``, but for the videos with these numbers."""
    predicted = LABELS.copy()
    predicted[list(wrong)] = 1 - predicted[list(wrong)]
    return predictions_of(np.where(np.eye(2)[predicted] == 1, sure, 1 - sure))


def contender(*wrong: int, version: int = 2, **changes) -> Contender:
    base = Contender(version, predictions(*wrong), np.array([10.0, 20.0, 90.0]))
    return replace(base, **changes)


def names(*numbers: int) -> frozenset[str]:
    return frozenset(VIDEOS[number] for number in numbers)


def failed(decision: Decision) -> list[str]:
    return [finding.name for finding in decision.findings if finding.status == "fail"]


def sentence_of(decision: Decision, name: str) -> str:
    return next(finding.sentence for finding in decision.findings if finding.name == name)


def statuses(decision: Decision) -> dict[str, str]:
    return {finding.name: finding.status for finding in decision.findings}


def test_a_better_challenger_is_promoted():
    decision = decide(contender(*range(8), version=1), contender(0), RULES)
    assert (decision.outcome, decision.reasons) == ("promoted", ())
    gain = decision.gain
    assert (gain.champion, gain.challenger, gain.videos) == (0.6, 0.95, 20)
    assert gain.gain == pytest.approx(0.35)
    assert 0 < gain.low < 0.35 < gain.high
    assert gain.fixed == VIDEOS[1:8]
    assert gain.broken == ()


def test_equal_answers_gain_exactly_nothing_and_pass():
    decision = decide(contender(0, 1), contender(0, 1), RULES)
    assert decision.outcome == "promoted"
    assert (decision.gain.low, decision.gain.high) == (0, 0)


def retrained(*wrong: int, sure: float) -> Contender:
    """A model of 94 test videos, each a group of its own, that is nearly always right."""
    labels = np.arange(94) % 2
    predicted = labels.copy()
    predicted[list(wrong)] = 1 - predicted[list(wrong)]
    probabilities = np.where(np.eye(2)[predicted] == 1, sure, 1 - sure)
    targets = tuple(CLASSES[label] for label in labels)
    videos = tuple(f"{number:02d}.mp4" for number in range(94))
    task = Classification(CLASSES, target_accuracy=0.9)
    predictions = Predictions(videos, ("",) * 94, targets, probabilities, task)
    return Contender(2, predictions, np.ones(94))


@pytest.mark.parametrize(("wrong_before", "min_gain"), [((), -0.02), ((3,), 0)])
def test_a_retrained_model_that_loses_no_video_passes(wrong_before, min_gain):
    """The interval of no difference on 94 videos reaches beyond -0.02."""
    champion, challenger = retrained(*wrong_before, sure=0.9), retrained(sure=0.95)
    decision = decide(champion, challenger, gate_rules(min_gain=min_gain))
    assert decision.outcome == "promoted"
    assert decision.gain.low < min_gain
    assert "the challenger is right on every test video on which the champion is right" in (
        sentence_of(decision, "gain")
    )
    assert failed(decide(champion, challenger, gate_rules(min_gain=0.001))) == ["gain"]


def test_a_retrained_model_that_loses_a_video_needs_its_interval():
    champion, challenger = retrained(3, sure=0.9), retrained(4, sure=0.95)
    decision = decide(champion, challenger, gate_rules(min_gain=-0.02))
    assert decision.gain.gain == 0
    assert failed(decision) == ["gain"]


def test_an_uncertain_gain_is_refused_unless_a_loss_is_allowed():
    champion, challenger = contender(0, 1, version=1), contender(19)
    decision = decide(champion, challenger, RULES)
    assert decision.gain.gain == pytest.approx(0.05)
    assert -0.3 < decision.gain.low < 0
    assert decision.gain.broken == ("19.mp4",)
    assert failed(decision) == ["gain"]
    assert decision.reasons[0].startswith(
        "accuracy: 0.900 (champion), 0.950 (challenger) on 20 videos, a gain of +0.050 [-"
    )
    assert decision.reasons[0].endswith(
        "at 95%; its lower end must be +0 or more (promote.min_gain)."
    )
    assert decide(champion, challenger, gate_rules(min_gain=-0.3)).outcome == "promoted"


def test_a_lower_log_loss_is_a_gain():
    rules = gate_rules(metric="log_loss")
    champion = contender(version=1, predictions=predictions(sure=0.75))
    gain = decide(champion, contender(), rules).gain
    assert (gain.champion, gain.challenger) == pytest.approx((-np.log(0.75), -np.log(0.9)))
    assert (gain.gain, gain.low, gain.high) == pytest.approx([np.log(0.9 / 0.75)] * 3)
    worse = decide(contender(), champion, rules)
    assert worse.gain.gain == pytest.approx(-np.log(0.9 / 0.75))
    assert failed(worse) == ["gain"]


def test_a_refusal_has_every_reason():
    champion = contender(version=1)
    challenger = contender(*range(10), milliseconds=np.array([101.0]), seen=None)
    decision = decide(champion, challenger, gate_rules(error=0.1))
    assert decision.outcome == "refused"
    assert failed(decision) == ["lineage", "class_recall", "calibration_error", "latency", "gain"]
    assert "its run has no catalog" in decision.reasons[0]
    assert "recall of left 0.000 [0.000, 0.308] on 10 videos" in decision.reasons[1]
    assert "The lowest allowed is 0.5 (promote.limits.class_recall)." in decision.reasons[1]
    # 0.5 are right, with a probability of 0.9.
    assert "calibration error 0.400 [" in decision.reasons[2]
    assert "The highest allowed is 0.1 (promote" in decision.reasons[2]
    assert "latency of a video is 101 ms. The highest allowed is 100 ms" in decision.reasons[3]


def test_latency_is_the_median():
    assert decide(None, contender(), gate_rules(max_latency_ms=20)).outcome == "first champion"
    assert failed(decide(None, contender(), gate_rules(max_latency_ms=19))) == ["latency"]


def test_absolute_checks_hold_for_a_first_champion():
    assert decide(None, contender(), RULES).outcome == "first champion"
    refused = decide(None, contender(*range(10)), RULES)
    assert (refused.outcome, failed(refused)) == ("refused", ["class_recall"])
    assert refused.gain is None


def test_training_videos_of_the_champion_are_left_out_of_the_comparison_only():
    champion = contender(version=1, seen=names(*range(8)))
    decision = decide(champion, contender(*range(4)), RULES)
    assert decision.gain.videos == 12
    assert (decision.gain.champion, decision.gain.challenger) == (1, 1)
    assert decision.outcome == "promoted"
    assert decision.notes == (
        "The champion was trained on 8 of 20 test videos, or on others of their group (training "
        "or validation set). They are left out.",
    )
    recall = next(finding for finding in decision.findings if finding.name == "class_recall")
    assert recall.value == 0.6  # 4 of the 10 videos of left are wrong


def test_training_videos_of_the_challenger_do_not_count_for_it():
    challenger = contender(0, 1, 2, 3, 4, seen=names(*range(5, 10)))
    decision = decide(contender(version=1), challenger, RULES)
    assert "recall of left 0.000 [0.000, 0.522] on 5 videos" in sentence_of(
        decision, "class_recall"
    )
    assert decision.gain.videos == 15


def test_nothing_left_to_compare_is_a_refusal():
    champion = contender(version=1, seen=frozenset(VIDEOS))
    decision = decide(champion, contender(), RULES)
    assert failed(decision) == ["gain"]
    assert "No test video is left that neither version was trained on" in decision.reasons[0]


def test_nothing_left_to_judge_is_a_refusal():
    decision = decide(None, contender(seen=frozenset(VIDEOS)), RULES)
    assert decision.reasons == ("No test video is left to judge the challenger.",)


def test_a_champion_with_unknown_training_videos_is_compared_on_everything():
    decision = decide(contender(version=1, seen=None), contender(), RULES)
    assert decision.outcome == "promoted"
    assert decision.gain.videos == 20
    assert "The training videos of the champion are unknown" in decision.notes[0]


def readable_but(*numbers: int) -> dict:
    """Fields of a contender that cannot read these videos."""
    rest = [index for index in range(20) if index not in numbers]
    return {
        "predictions": predictions().rows(rest),
        "unreadable": {VIDEOS[number]: "not a video" for number in numbers},
    }


def test_one_video_with_equal_answers_is_not_enough():
    """Its interval is [0, 0], like that of many."""
    one = readable_but(*range(1, 20)) | {"unreadable": {}}
    rules = gate_rules(recall=0)
    decision = decide(contender(version=1, **one), contender(**one), rules)
    assert (decision.gain.low, decision.gain.high, decision.gain.groups) == (0, 0, 1)
    assert decision.reasons == (
        "Number of groups of test videos: 1. The lowest allowed is 10 (promote.min_groups; a video "
        "without a group counts as one).",
    )
    assert failed(decide(None, contender(**one), rules)) == ["groups"]
    assert decide(None, contender(**one), gate_rules(recall=0, min_groups=1)).reasons == ()


@pytest.mark.parametrize(("size", "refused"), [(2, []), (3, ["groups"])])
def test_videos_of_one_group_count_once(size, refused):
    groups = tuple(f"scene {number // size}" for number in range(20))
    grouped = replace(predictions(), groups=groups)
    champion = contender(version=1, predictions=grouped)
    for one in (None, champion):
        assert failed(decide(one, contender(predictions=grouped), RULES)) == refused


def test_a_first_champion_must_read_the_videos():
    decision = decide(None, contender(**readable_but(3, 4, 5)), RULES)
    assert decision.reasons == (
        "The challenger cannot read 3 of 20 test videos; the largest fraction allowed is 0.1 "
        "(decode.max_bad_fraction). The first is 03.mp4: not a video",
    )
    assert decide(None, contender(**readable_but(3, 4)), RULES).outcome == "first champion"
    nothing = contender(**readable_but(*range(19)) | {"predictions": None})
    assert failed(decide(None, nothing, RULES)) == ["videos", "reading"]


def test_a_video_that_only_the_champion_reads_is_a_reason_to_refuse():
    decision = decide(contender(version=1), contender(**readable_but(3, 4)), RULES)
    assert decision.reasons == (
        "The challenger cannot read 2 test videos that the champion reads. The first is 03.mp4: "
        "not a video",
    )


def test_a_video_that_the_champion_cannot_read_is_left_out():
    champion = contender(version=1, **readable_but(3))
    for challenger in (contender(), contender(**readable_but(3))):
        decision = decide(champion, challenger, RULES)
        assert decision.outcome == "promoted"
        assert decision.gain.videos == 19
        assert decision.notes == (
            "The champion cannot read 1 of 20 test videos. They are left out. The first is "
            "03.mp4: not a video",
        )


def test_a_champion_that_reads_nothing_cannot_be_compared_with():
    champion = contender(version=1, **{**readable_but(*range(19)), "predictions": None})
    assert failed(decide(champion, contender(), RULES)) == ["gain"]


def test_a_class_that_the_champion_does_not_know_is_its_mistake():
    labels = np.where(np.arange(20) >= 16, 2, LABELS)
    new = np.eye(3)[labels] * 0.8 + 0.1 * (1 - np.eye(3)[labels])
    old = np.hstack([predictions().outputs, np.zeros((20, 1))])
    champion, challenger = (
        predictions_of(outputs, labels, ("left", "right", "up")) for outputs in (old, new)
    )
    decision = decide(
        contender(version=1, predictions=champion), contender(predictions=challenger), RULES
    )
    assert decision.gain.fixed == VIDEOS[16:]
    assert (decision.gain.champion, decision.gain.challenger) == (0.8, 1)


# Limits


def first_champion(labels, *wrong: int, sure: float = 0.9, **changes) -> Decision:
    """Judge a first champion on videos with these labels, all right but for some."""
    predicted = np.array(labels)
    predicted[list(wrong)] = 1 - predicted[list(wrong)]
    probabilities = np.where(np.eye(2)[predicted] == 1, sure, 1 - sure)
    one = contender(predictions=predictions_of(probabilities, labels))
    return decide(None, one, gate_rules(**changes))


def test_a_class_with_one_test_video_is_too_few_to_judge():
    """Its recall was 0.000, and a good first champion was refused."""
    labels = [0] * 19 + [1]
    decision = first_champion(labels, 19)
    assert decision.outcome == "first champion"
    assert statuses(decision)["class_recall"] == "ok"
    assert statuses(decision)["too_few_videos"] == "warn"
    assert sentence_of(decision, "too_few_videos") == (
        "Too few test videos to judge: recall of right (1); at least 5 "
        "(promote.too_few_videos: warn)."
    )
    refused = first_champion(labels, 19, too_few_videos="refuse")
    assert failed(refused) == ["too_few_videos"]
    assert first_champion([0] * 15 + [1] * 5, too_few_videos="refuse").reasons == ()


def test_a_class_without_test_videos_is_too_few_to_judge():
    decision = first_champion([0] * 20, too_few_videos="refuse")
    assert failed(decision) == ["too_few_videos"]
    assert "recall of right (0)" in decision.reasons[0]
    assert first_champion([0] * 20, too_few_videos="refuse", recall=0).reasons == ()


def test_a_calibration_error_that_a_calibrated_model_has_too_is_not_refused():
    """20 videos in 10 bins give a calibrated model an error of about 0.2."""
    confidences = np.linspace(0.52, 0.98, 20)
    is_right = np.random.default_rng(5).random(20) < confidences
    probabilities = np.where(is_right == (LABELS == 0), confidences, 1 - confidences)
    one = contender(predictions=predictions_of(np.stack([probabilities, 1 - probabilities], 1)))
    decision = decide(None, one, gate_rules(error=0.15))
    error = next(one for one in decision.findings if one.name == "calibration_error")
    assert error.value > 0.15
    assert (decision.outcome, error.status) == ("first champion", "warn")
    assert (
        "The interval reaches the limit, so these test videos are too few to decide."
        in error.sentence
    )


@pytest.mark.parametrize(
    ("wrong", "status"),
    [
        (5, "ok"),  # recall 0.5 [0.187, 0.813]
        (8, "warn"),  # 0.2 [0.025, 0.556]
        (9, "fail"),  # 0.1 [0.003, 0.445]
    ],
)
def test_a_recall_is_refused_when_its_whole_interval_is_below_the_limit(wrong, status):
    assert statuses(first_champion(LABELS, *range(wrong)))["class_recall"] == status


# The best champion of the line


def test_the_best_champion_of_the_line_must_not_be_far_better():
    best, champion, challenger = contender(), contender(*range(4)), contender(*range(7))
    rules = gate_rules(min_gain=-0.45, recall=0)
    assert decide(champion, challenger, rules).outcome == "promoted"
    decision = decide(champion, challenger, rules, best=replace(best, version=1))
    assert failed(decision) == ["gain_over_best"]
    assert decision.reasons[0].startswith(
        "accuracy: 1.000 (version 1, the best of its line), 0.650 (challenger) on 20 videos, a "
        "gain of -0.350 ["
    )
    assert decision.gain_over_best.version == 1


def test_a_best_champion_that_was_trained_on_all_test_videos_is_a_warning():
    best = contender(version=1, seen=frozenset(VIDEOS))
    decision = decide(contender(0), contender(0), RULES, best=best)
    assert (decision.outcome, statuses(decision)["gain_over_best"]) == ("promoted", "warn")
    assert decision.notes[0].startswith("The best champion was trained on 20 of 20 test videos")


# Rules


def test_the_digest_of_the_rules_changes_with_every_rule():
    rules = [RULES, gate_rules(recall=0.1), gate_rules(max_bad_fraction=0.2)]
    rules.append(replace(RULES, evaluate=EvaluateSection(bootstrap_samples=201)))
    assert len({one.digest for one in rules}) == len(rules)
    assert gate_rules().digest == RULES.digest
    assert len(RULES.digest) == 16


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (
            {"metric": "top_speed"},
            r"promote\.metric must be primary or one of macro_f1, .* Received: top_s",
        ),
        ({"limits": {"height": 1}}, r"promote\.limits\.height: .* Expected: class_recall, calib"),
    ],
)
def test_rules_that_the_task_does_not_have_are_refused(section, message):
    with pytest.raises(PipelineError, match=message):
        check_gate_settings(PromoteSection(**section), Classification)
    with pytest.raises(PipelineError, match=message):
        decide(contender(version=1), contender(), gate_rules(**section))
    check_gate_settings(PromoteSection(), Classification)

"""The decision on hand-made predictions: twenty videos of two classes, ten each."""

from dataclasses import replace

import numpy as np
import pytest

from pipeline.evaluation.predictions import Predictions
from pipeline.promotion.contender import Contender
from pipeline.promotion.decision import Rules
from pipeline.promotion.gate import decide, refuse_rolled_back

VIDEOS = tuple(f"{number:02d}.mp4" for number in range(20))
LABELS = np.repeat([0, 1], 10)
RULES = Rules(
    metric="accuracy",
    min_gain=0,
    confidence=0.95,
    class_floor=0.5,
    max_calibration_error=0.3,
    max_latency_ms=100,
    min_groups=10,
    max_unreadable=0.1,
    bootstrap_samples=200,
    calibration_bins=10,
    seed=0,
)


def predictions(*wrong: int, sure: float = 0.9) -> Predictions:
    """All right with probability ``sure``, but for the videos of these numbers."""
    guessed = LABELS.copy()
    guessed[list(wrong)] = 1 - guessed[list(wrong)]
    probabilities = np.where(np.eye(2)[guessed] == 1, sure, 1 - sure)
    return Predictions(VIDEOS, ("",) * 20, LABELS, probabilities, ("left", "right"))


def contender(*wrong: int, version: int = 2, **changes) -> Contender:
    known = Contender(version, predictions(*wrong), np.array([10.0, 20.0, 90.0]))
    return replace(known, **changes)


def names(*numbers: int) -> frozenset[str]:
    return frozenset(VIDEOS[number] for number in numbers)


def failed(decision) -> list[str]:
    return [check.name for check in decision.checks if not check.ok]


def test_a_better_challenger_is_promoted():
    decision = decide(contender(*range(8), version=1), contender(0), RULES)
    assert (decision.outcome, decision.reasons) == ("promoted", ())
    gain = decision.gain
    assert (gain.champion, gain.challenger, gain.videos) == (0.6, 0.95, 20)
    assert gain.gain == pytest.approx(0.35)
    assert 0 < gain.low < 0.35 < gain.high
    assert gain.fixed == VIDEOS[1:8]
    assert gain.broken == ()


def test_the_same_answers_gain_exactly_nothing_and_pass():
    decision = decide(contender(0, 1), contender(0, 1), RULES)
    assert decision.outcome == "promoted"
    assert (decision.gain.low, decision.gain.high) == (0, 0)


def test_a_gain_that_is_not_sure_is_refused_unless_a_loss_is_allowed():
    champion, challenger = contender(0, 1, version=1), contender(19)
    decision = decide(champion, challenger, RULES)
    assert decision.gain.gain == pytest.approx(0.05)
    assert -0.3 < decision.gain.low < 0
    assert decision.gain.broken == ("19.mp4",)
    assert failed(decision) == ["gain"]
    assert decision.reasons[0].startswith(
        "Accuracy: 0.900 of the champion, 0.950 of the challenger on 20 videos, a gain of +0.050 [-"
    )
    assert decision.reasons[0].endswith("at 95%; its lower end must reach +0.")
    assert decide(champion, challenger, replace(RULES, min_gain=-0.3)).outcome == "promoted"


def test_of_a_log_loss_less_is_a_gain():
    rules = replace(RULES, metric="log_loss")
    champion = contender(version=1, predictions=predictions(sure=0.75))
    gain = decide(champion, contender(), rules).gain
    assert (gain.champion, gain.challenger) == pytest.approx((-np.log(0.75), -np.log(0.9)))
    assert (gain.gain, gain.low, gain.high) == pytest.approx([np.log(0.9 / 0.75)] * 3)
    worse = decide(contender(), champion, rules)
    assert worse.gain.gain == pytest.approx(-np.log(0.9 / 0.75))
    assert failed(worse) == ["gain"]


def test_all_reasons_are_given():
    champion = contender(version=1)
    challenger = contender(*range(6), milliseconds=np.array([101.0]), seen=None)
    rules = replace(RULES, max_calibration_error=0.1)
    decision = decide(champion, challenger, rules)
    assert decision.outcome == "refused"
    assert failed(decision) == ["lineage", "class floor", "calibration error", "latency", "gain"]
    assert decision.reasons[1:4] == (
        "Recall is below 0.5 for left 0.400.",
        # 0.7 are right, said with 0.9.
        "The calibration error is 0.200, the most allowed is 0.1.",
        "A video takes 101 ms (median), the most allowed is 100 ms.",
    )
    assert "its run has no catalog" in decision.reasons[0]


def test_the_latency_is_the_median():
    assert decide(None, contender(), replace(RULES, max_latency_ms=20)).outcome == "first champion"
    assert failed(decide(None, contender(), replace(RULES, max_latency_ms=19))) == ["latency"]


def test_a_first_champion_has_to_pass_the_floors_too():
    assert decide(None, contender(), RULES).outcome == "first champion"
    refused = decide(None, contender(*range(6)), RULES)
    assert (refused.outcome, failed(refused)) == ("refused", ["class floor"])
    assert refused.gain is None


def test_what_the_champion_has_seen_is_left_out_of_the_comparison_only():
    champion = contender(version=1, seen=names(*range(8)))
    decision = decide(champion, contender(*range(4)), RULES)
    assert decision.gain.videos == 12
    assert (decision.gain.champion, decision.gain.challenger) == (1, 1)
    assert decision.outcome == "promoted"
    assert decision.notes == (
        "8 test videos are left out: the champion had them in its training or validation set.",
    )
    floor = next(check for check in decision.checks if check.name == "class floor")
    assert floor.value == 0.6  # 4 of the 10 videos of left are wrong


def test_what_the_challenger_has_seen_does_not_count_for_it():
    challenger = contender(0, 1, 2, 3, 4, seen=names(*range(5, 10)))
    decision = decide(contender(version=1), challenger, RULES)
    assert decision.reasons[0] == "Recall is below 0.5 for left 0.000."
    assert decision.gain.videos == 15


def test_nothing_left_to_compare_on_is_a_refusal():
    champion = contender(version=1, seen=frozenset(VIDEOS))
    decision = decide(champion, contender(), RULES)
    assert failed(decision) == ["gain"]
    assert "No test video is left that neither has seen" in decision.reasons[0]


def test_nothing_left_to_judge_the_challenger_by_is_a_refusal():
    decision = decide(None, contender(seen=frozenset(VIDEOS)), RULES)
    assert decision.reasons == ("No test video is left to judge the challenger.",)


def test_a_champion_of_which_nothing_is_recorded_is_compared_on_everything():
    decision = decide(contender(version=1, seen=None), contender(), RULES)
    assert decision.outcome == "promoted"
    assert decision.gain.videos == 20
    assert "It is not known what the champion has seen" in decision.notes[0]


def readable_but(*numbers: int) -> dict:
    """What a contender says when these videos cannot be read."""
    rest = [index for index in range(20) if index not in numbers]
    known = predictions()
    return {
        "predictions": Predictions(
            tuple(VIDEOS[index] for index in rest),
            ("",) * len(rest),
            known.labels[rest],
            known.probabilities[rest],
            known.class_names,
        ),
        "unreadable": {VIDEOS[number]: "not a video" for number in numbers},
    }


def test_one_video_on_which_both_agree_shows_too_little():
    """Its interval is [0, 0], as that of many would be."""
    one = readable_but(*range(1, 20)) | {"unreadable": {}}
    rules = replace(RULES, class_floor=0)
    decision = decide(contender(version=1, **one), contender(**one), rules)
    assert (decision.gain.low, decision.gain.high, decision.gain.groups) == (0, 0, 1)
    assert decision.reasons == (
        "Groups of test videos to judge by: 1, the fewest allowed are 10 (a video without a "
        "group is one).",
    )
    assert failed(decide(None, contender(**one), rules)) == ["groups"]
    assert decide(None, contender(**one), replace(rules, min_groups=1)).reasons == ()


@pytest.mark.parametrize(("size", "refused"), [(2, []), (3, ["groups"])])
def test_videos_of_one_group_count_once(size, refused):
    groups = tuple(f"scene {number // size}" for number in range(20))
    of_groups = replace(predictions(), groups=groups)
    champion = contender(version=1, predictions=of_groups)
    for one in (None, champion):
        assert failed(decide(one, contender(predictions=of_groups), RULES)) == refused


def test_a_first_champion_has_to_read_the_videos():
    decision = decide(None, contender(**readable_but(3, 4, 5)), RULES)
    assert decision.reasons == (
        "It cannot read 3 of 20 test videos, the most allowed is a share of 0.1 "
        "(decode.max_bad_fraction), such as 03.mp4: not a video",
    )
    assert decide(None, contender(**readable_but(3, 4)), RULES).outcome == "first champion"
    reading = next(one for one in decide(None, contender(), RULES).checks if one.name == "reading")
    assert reading.sentence.startswith("It cannot read 0 of 20 test videos, the most allowed is a")
    assert reading.sentence.endswith("(decode.max_bad_fraction).")
    nothing = contender(**readable_but(*range(19)) | {"predictions": None})
    assert failed(decide(None, nothing, RULES)) == ["videos", "reading"]


def test_a_class_that_no_video_shows_reaches_no_floor():
    left = contender(**readable_but(*range(10, 20)))
    rules = replace(RULES, max_unreadable=1)
    assert decide(None, left, rules).reasons == (
        "The lowest recall is 1.000 (left), the least allowed is 0.5. No test video shows the "
        "recall of right.",
    )
    assert decide(None, left, replace(rules, class_floor=0)).outcome == "first champion"


def test_a_video_that_only_the_champion_reads_is_a_reason_to_refuse():
    decision = decide(contender(version=1), contender(**readable_but(3, 4)), RULES)
    assert decision.reasons == (
        "It cannot read 2 of the test videos that the champion reads, such as 03.mp4: not a video",
    )


def test_a_video_that_the_champion_cannot_read_is_left_out():
    champion = contender(version=1, **readable_but(3))
    for challenger in (contender(), contender(**readable_but(3))):
        decision = decide(champion, challenger, RULES)
        assert decision.outcome == "promoted"
        assert decision.gain.videos == 19
        assert decision.notes == (
            "1 test video is left out: the champion cannot read them, such as 03.mp4: not a video",
        )


def test_a_champion_that_reads_nothing_cannot_be_compared_with():
    champion = contender(version=1, **{**readable_but(*range(19)), "predictions": None})
    assert failed(decide(champion, contender(), RULES)) == ["gain"]


def test_a_version_that_was_rolled_back_does_not_come_back_by_itself():
    decision = refuse_rolled_back(2, "on 2026-01-02: it was slow")
    assert decision.outcome == "refused"
    assert decision.reasons == (
        "Version 2 was champion and was rolled back on 2026-01-02: it was slow. To judge it "
        "all the same: make promote AGAIN=yes VERSION=2",
    )


def test_a_class_that_the_champion_does_not_know_is_its_mistake():
    known = predictions()
    three = ("left", "right", "up")
    labels = np.where(np.arange(20) >= 16, 2, known.labels)
    new = np.eye(3)[labels] * 0.8 + 0.1 * (1 - np.eye(3)[labels])
    old = np.hstack([known.probabilities, np.zeros((20, 1))])
    as_seen = [
        Predictions(VIDEOS, ("",) * 20, labels, probabilities, three)
        for probabilities in (old, new)
    ]
    decision = decide(
        contender(version=1, predictions=as_seen[0]), contender(predictions=as_seen[1]), RULES
    )
    assert decision.gain.fixed == VIDEOS[16:]
    assert (decision.gain.champion, decision.gain.challenger) == (0.8, 1)

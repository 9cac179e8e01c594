import numpy as np
import pytest

from pipeline.evaluation.intervals import Resampling
from pipeline.evaluation.lengths import LabelledLengths, length_audit, length_hits

RESAMPLING = Resampling(samples=300, confidence=0.95, seed=0)


def lengths(*clips, groups=None):
    frames, labels = zip(*clips, strict=True)
    groups = groups or [f"group {index:03}" for index in range(len(clips))]
    return LabelledLengths(np.array(frames), np.array(labels), groups)


# Class 0 is short and class 1 is long: every fold of the others cuts between 7 and 15 frames.
TELLING = lengths(*[(3 + index % 5, 0) for index in range(20)], *[(15, 1)] * 20)
# All have one length: the tree knows only that class 1 is the most frequent.
SILENT = lengths(*[(8, 1)] * 30, *[(8, 0)] * 10)


def audit(clips, *, accuracy, margin=0.1):
    return length_audit(
        length_hits(clips), clips, accuracy=accuracy, margin=margin, resampling=RESAMPLING
    )


def test_lengths_that_tell_the_class_are_right_about_every_clip():
    assert length_hits(TELLING).all()


def test_lengths_that_say_nothing_name_the_most_frequent_class():
    assert length_hits(SILENT).tolist() == [True] * 30 + [False] * 10


def test_one_odd_clip_makes_no_rule():
    # The rules of a tree that sees the two odd clips have three clips at least.
    odd = lengths(*[(4 + index % 3, 0) for index in range(20)], *[(5, 1)] * 20, (30, 1), (31, 1))
    assert not length_hits(odd)[-2:].any()


def test_a_clip_is_not_told_by_its_own_group():
    # Each group has a length of its own and one class, so a tree that saw another clip of the
    # group would be right. The lengths around it are of the other class.
    clips = [(3 * group, group % 2) for group in range(40) for _ in range(8)]
    groups = [f"group {group}" for group in range(40) for _ in range(8)]
    assert length_hits(lengths(*clips, groups=groups)).mean() < 0.5
    assert length_hits(lengths(*clips)).mean() > 0.9


def test_lengths_close_to_the_model_are_not_ok():
    found = audit(TELLING, accuracy=0.95)
    assert (found.value, found.threshold, found.ok) == (pytest.approx(-0.05), 0.1, False)
    assert found.sentence == (
        "The number of real frames alone is right for 100.0% of all clips (cross-validated; the "
        "most frequent class: 50.0%), the model for 95.0% of the test videos. Length tells the "
        "class, so the model may look at nothing else. Give all clips the same length: a smaller "
        "extract.frames, or videos of like length."
    )


def test_lengths_far_below_the_model_are_ok():
    # Ten of fifty clips have the length of the other class.
    clips = lengths(*[(4, 0)] * 20, *[(15, 0)] * 5, *[(15, 1)] * 20, *[(4, 1)] * 5)
    found = audit(clips, accuracy=0.95)
    assert found.ok
    assert found.value == pytest.approx(0.95 - 0.8)
    assert found.details["accuracy_length_only"] == 0.8
    assert found.details["low"] < 0.8 < found.details["high"]
    assert found.sentence.endswith("Length is no shortcut here.")


def test_a_weak_model_is_not_the_fault_of_lengths():
    assert audit(SILENT, accuracy=0.7).ok

import logging

import numpy as np
import pytest

from pipeline.evaluation.lengths import (
    LabelledLengths,
    accuracy_length_only,
    most_frequent_accuracy,
    warn_if_length_tells,
)


def lengths(*clips):
    frames, labels = zip(*clips, strict=True)
    return LabelledLengths(np.array(frames), np.array(labels))


# Class 0 is short and class 1 is long: the tree cuts between 5 and 15 frames.
TELLING = lengths((4, 0), (5, 0), (5, 0), (15, 1), (16, 1), (16, 1))
# All have one length: the tree knows only that class 1 is the most frequent.
SILENT = lengths((8, 1), (8, 1), (8, 1), (8, 0))


@pytest.mark.parametrize(
    ("test", "expected"),
    [
        (lengths((3, 0), (20, 1)), 1.0),
        (lengths((3, 0), (20, 1), (20, 0), (4, 0)), 0.75),  # the third is long but of class 0
        (lengths((3, 1), (20, 0)), 0.0),
    ],
)
def test_accuracy_of_a_cut_between_short_and_long(test, expected):
    assert accuracy_length_only(TELLING, test) == expected


def test_lengths_that_say_nothing_name_the_most_frequent_class():
    test = lengths((8, 0), (8, 1), (3, 1), (99, 0), (8, 0))
    assert accuracy_length_only(SILENT, test) == 0.4
    assert most_frequent_accuracy(SILENT, test) == 0.4


def test_one_odd_clip_makes_no_rule():
    odd = lengths((4, 0), (5, 0), (6, 0), (20, 1))
    assert accuracy_length_only(odd, lengths((20, 1))) == 0.0


def warnings_of(caplog, train, test, *, accuracy, margin):
    with caplog.at_level(logging.WARNING):
        warn_if_length_tells(train, test, accuracy=accuracy, margin=margin)
    return [record.getMessage() for record in caplog.records]


def test_lengths_close_to_the_model_are_a_warning(caplog):
    test = lengths((3, 0), (20, 1), (20, 0), (17, 1))
    (message,) = warnings_of(caplog, TELLING, test, accuracy=0.8, margin=0.1)
    assert message.startswith(
        "Length tells the class: the number of real frames alone has accuracy 0.750, the model "
        "0.800 (evaluate.length_margin: 0.1)."
    )


def test_lengths_far_below_the_model_are_none(caplog):
    test = lengths((3, 0), (20, 1), (20, 0), (17, 1))
    assert warnings_of(caplog, TELLING, test, accuracy=0.9, margin=0.1) == []


def test_a_weak_model_is_not_the_fault_of_lengths(caplog):
    test = lengths((8, 1), (8, 0))
    assert warnings_of(caplog, SILENT, test, accuracy=0.5, margin=0.1) == []

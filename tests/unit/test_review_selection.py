import numpy as np
import pytest

from pipeline.evaluation.predictions import Predictions
from pipeline.review.selection import choose, margins

# actual, P(class 0), P(class 1), P(class 2)
ROWS = [
    (0, 0.90, 0.05, 0.05),  # 0 right
    (1, 0.80, 0.10, 0.10),  # 1 wrong, sure
    (1, 0.95, 0.03, 0.02),  # 2 wrong, surer
    (2, 0.40, 0.35, 0.25),  # 3 wrong, unsure
    (1, 0.30, 0.36, 0.34),  # 4 right, least sure
    (1, 0.10, 0.70, 0.20),  # 5 right
    (0, 0.70, 0.20, 0.10),  # 6 right
    (0, 0.60, 0.20, 0.20),  # 7 right
]


def predictions(rows=ROWS) -> Predictions:
    return Predictions(
        videos=tuple(f"{index}.mp4" for index in range(len(rows))),
        groups=("",) * len(rows),
        labels=np.array([row[0] for row in rows]),
        probabilities=np.array([row[1:] for row in rows]),
        class_names=("a", "b", "c"),
    )


def chosen(each, rows=ROWS):
    return {choice.kind: list(choice.rows) for choice in choose(predictions(rows), each=each)}


def test_the_surest_mistakes_come_first():
    assert chosen(2)["mistakes"] == [2, 1]


def test_least_sure_by_the_margin_without_the_mistakes_shown():
    assert chosen(2)["least_sure"] == [4, 3]
    assert chosen(3)["mistakes"] == [2, 1, 3]
    assert chosen(3)["least_sure"] == [4, 7, 5]


def test_right_ones_take_the_middle_of_each_class_in_turn():
    # Left are 0, 6 and 7 of class a (0.9, 0.7, 0.6; median 0.7) and 5 of b.
    assert chosen(2)["right"] == [6, 5]
    # With one of each: 4 is least sure; then the middle of a.
    assert chosen(1)["right"] == [6]


def test_no_mistakes_is_said():
    right = [(0, 0.9, 0.1, 0.0), (1, 0.2, 0.8, 0.0)]
    first = choose(predictions(right), each=3)[0]
    assert first.rows == []
    assert first.explanation.startswith("0 of 2 test videos are predicted wrong")


def test_margin_of_the_two_most_probable():
    np.testing.assert_allclose(margins(predictions().probabilities)[:4], [0.85, 0.7, 0.92, 0.05])


def test_the_margin_of_a_single_class_is_its_probability():
    assert margins(np.ones((2, 1))).tolist() == pytest.approx([1, 1])

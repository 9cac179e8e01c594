import numpy as np
from PIL import Image

from pipeline.evaluation.predictions import Predictions
from pipeline.review.film_strips import SeenClip
from pipeline.review.selection import draw_selections, select_videos
from pipeline.tasks.classification import Classification

TASK = Classification(class_names=("a", "b", "c"), target_accuracy=0.95)

# actual, P(class 0), P(class 1), P(class 2)
ROWS = [
    (0, 0.90, 0.05, 0.05),  # 0 right
    (1, 0.80, 0.10, 0.10),  # 1 wrong, confident
    (1, 0.95, 0.03, 0.02),  # 2 wrong, more confident
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
        targets=tuple(TASK.class_names[row[0]] for row in rows),
        outputs=np.array([row[1:] for row in rows]),
        task=TASK,
    )


def selected(each, rows=ROWS):
    selections = select_videos(predictions(rows), each=each)
    return {selection.kind: list(selection.rows) for selection in selections}


def test_the_most_confident_mistakes_come_first():
    assert selected(2)["mistakes"] == [2, 1]


def test_least_sure_videos_have_the_smallest_margin_and_are_not_shown_mistakes():
    assert selected(2)["least_sure"] == [4, 3]
    assert selected(3)["mistakes"] == [2, 1, 3]
    assert selected(3)["least_sure"] == [4, 7, 5]


def test_right_videos_are_those_of_median_confidence_of_each_class_in_turn():
    # Class a has 0, 6 and 7 left (0.9, 0.7, 0.6; median 0.7), class b has 5.
    assert selected(2)["right"] == [6, 5]
    # With one of each kind, 4 is the least sure, then the median of class a.
    assert selected(1)["right"] == [6]


def test_four_videos_of_each_kind_are_selected():
    rows = [(index % 2, 0.9 - index / 100, 0.1 + index / 100, 0.0) for index in range(40)]
    assert [len(selection.rows) for selection in select_videos(predictions(rows))] == [4, 4, 4]


def test_without_mistakes_the_explanation_counts_none():
    right = [(0, 0.9, 0.1, 0.0), (1, 0.2, 0.8, 0.0)]
    mistakes = select_videos(predictions(right))[0]
    assert mistakes.rows == []
    assert mistakes.explanation.startswith("0 of 2 test videos are predicted wrong")


def test_a_shown_video_has_its_target_its_guesses_and_a_heading():
    frames, mask = np.zeros((2, 8, 8, 3), np.uint8), np.array([True, False])
    clip = SeenClip(frames, mask, side_inputs={"age": "34"})
    tested = predictions()
    shown = draw_selections(
        tested, select_videos(tested, each=1), lambda rows: [clip] * len(rows), fps=10
    )
    (mistake,) = shown[0].videos
    assert mistake.heading == "2.mp4: b, predicted a 0.950"
    assert not mistake.is_right
    assert mistake.side_inputs == {"age": "34"}
    assert [(guess.text, guess.is_target) for guess in mistake.guesses][:2] == [
        ("a", False),
        ("b", True),
    ]
    assert shown[2].videos[0].is_right
    assert isinstance(shown[0].sheet(), Image.Image)

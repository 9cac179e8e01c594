import csv

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, precision_score

from pipeline.evaluation.classes import (
    average_precisions,
    drawn_average_precisions,
    per_class,
    write_per_class_csv,
)
from pipeline.evaluation.intervals import Resampling, drawn_counts
from pipeline.evaluation.metrics import score
from pipeline.evaluation.predictions import Predictions

# Four videos, three classes. The most probable class is 0, 1, 0, 2: right, right, wrong, right.
LABELS = np.array([0, 1, 1, 2])
PROBABILITIES = np.array(
    [
        [0.75, 0.25, 0.00],
        [0.25, 0.50, 0.25],
        [0.50, 0.25, 0.25],
        [0.00, 0.00, 1.00],
    ]
)
RESAMPLING = Resampling(samples=200, confidence=0.95, seed=0)


def predictions_of(labels, probabilities, *, groups=None):
    n_videos, n_classes = probabilities.shape
    return Predictions(
        videos=tuple(f"{index}.mp4" for index in range(n_videos)),
        groups=tuple(groups or [""] * n_videos),
        labels=labels,
        probabilities=probabilities,
        class_names=tuple("abcdefgh"[:n_classes]),
    )


def random_predictions(n_videos, n_classes, *, groups=None):
    generator = np.random.default_rng(0)
    # Parts of twenty, so that many probabilities are equal.
    weights = generator.dirichlet(np.full(n_classes, 0.4), size=n_videos)
    probabilities = generator.multinomial(20, weights) / 20
    labels = generator.integers(n_classes, size=n_videos)
    return predictions_of(labels, probabilities, groups=groups)


def test_rows_are_in_the_order_of_the_classes():
    rows = per_class(predictions_of(LABELS, PROBABILITIES), RESAMPLING).rows
    found = [(row.class_name, row.precision, row.recall, row.f1, row.support) for row in rows]
    # a: predicted twice, right once. b: two actual, one found.
    assert found == [
        ("a", 0.5, 1.0, pytest.approx(2 / 3), 1),
        ("b", 1.0, 0.5, pytest.approx(2 / 3), 2),
        ("c", 1.0, 1.0, 1.0, 1),
    ]


def test_average_precision_sums_precision_over_the_recall_it_gains():
    # b: ranked 0.5 (b), then 0.25 twice (a and b, one threshold), then 0 (c). The first gains
    # half of the recall at precision 1, the second the other half at 2 / 3.
    assert average_precisions(LABELS, PROBABILITIES).tolist() == [
        1.0,
        pytest.approx(0.5 * 1 + 0.5 * 2 / 3),
        1.0,
    ]
    report = per_class(predictions_of(LABELS, PROBABILITIES), RESAMPLING)
    assert report.mean_average_precision == pytest.approx((1 + 5 / 6 + 1) / 3)


@pytest.mark.filterwarnings("error")
def test_a_class_without_videos_has_a_row_of_zeros_no_intervals_and_no_warning():
    four_classes = np.pad(PROBABILITIES, ((0, 0), (0, 1)))
    report = per_class(predictions_of(LABELS, four_classes), RESAMPLING)
    row = report.rows[3]
    assert (row.precision, row.recall, row.f1, row.average_precision, row.support) == (0,) * 5
    assert set(row.intervals.values()) == {None}
    assert report.mean_average_precision == pytest.approx((1 + 5 / 6 + 1) / 3)


def test_macro_f1_is_the_mean_of_the_rows_where_every_class_occurs():
    predictions = random_predictions(300, 6)
    rows = per_class(predictions, RESAMPLING).rows
    scores = score(predictions.labels, predictions.probabilities, top_k=1, calibration_bins=10)
    assert scores.macro_f1 == pytest.approx(sum(row.f1 for row in rows) / 6, abs=1e-12)


def test_a_drawn_average_precision_is_that_of_the_videos_it_repeats():
    groups = [f"group {index % 30:02}" for index in range(90)]
    predictions = random_predictions(90, 4, groups=groups)
    one_draw = Resampling(samples=1, confidence=0.95, seed=3)
    (counts,) = next(drawn_counts(30, samples=1, seed=3))
    videos = np.repeat(np.arange(90), counts[np.arange(90) % 30])
    expected = [
        average_precision_score(
            predictions.labels[videos] == index, predictions.probabilities[videos, index]
        )
        for index in range(4)
    ]
    (drawn,) = drawn_average_precisions(predictions, one_draw)
    assert drawn == pytest.approx(expected, abs=1e-6)


def test_a_drawn_precision_is_that_of_the_videos_it_repeats():
    predictions = random_predictions(60, 3)
    (counts,) = next(drawn_counts(60, samples=1, seed=3))
    # Units are sorted by name: "video 0.mp4", "video 1.mp4", "video 10.mp4", ...
    order = sorted(range(60), key=lambda index: predictions.units[index])
    videos = np.repeat(order, counts)
    expected = precision_score(
        predictions.labels[videos], predictions.predicted[videos], average=None
    )
    rows = per_class(predictions, Resampling(samples=1, confidence=0.95, seed=3)).rows
    found = [row.intervals["precision"] for row in rows]
    assert found == [pytest.approx((value, value)) for value in expected]


def test_draws_without_a_class_say_nothing_of_it():
    # Class b has one video, found: where it is drawn at all, its recall is 1.
    labels = np.array([0] * 9 + [1])
    rows = per_class(predictions_of(labels, np.eye(2)[labels]), RESAMPLING).rows
    assert rows[1].intervals["recall"] == (1.0, 1.0)


def test_intervals_hold_the_scores_and_have_width():
    rows = per_class(random_predictions(200, 3), RESAMPLING).rows
    for row in rows:
        for name, interval in row.intervals.items():
            low, high = interval
            assert low < getattr(row, name) < high


def test_the_table_has_six_decimals_and_empty_cells_where_there_is_no_interval(tmp_path):
    path = tmp_path / "eval" / "per_class.csv"
    four_classes = np.pad(PROBABILITIES, ((0, 0), (0, 1)))
    write_per_class_csv(path, per_class(predictions_of(LABELS, four_classes), RESAMPLING).rows)
    rows = list(csv.DictReader(path.open()))
    assert rows[0]["class"] == "a"
    assert rows[0]["precision"] == "0.500000"
    assert rows[1]["average_precision"] == "0.833333"
    assert (rows[2]["recall_low"], rows[2]["recall_high"]) == ("1.000000", "1.000000")
    assert (rows[3]["f1_low"], rows[3]["average_precision_high"]) == ("", "")

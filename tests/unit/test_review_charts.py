import numpy as np
import pytest

from pipeline.evaluation.data_summary import DescribedVideo
from pipeline.evaluation.predictions import Predictions
from pipeline.evaluation.slices import Slice
from pipeline.review.curves import precision_recall_chart, reliability_bins, reliability_chart
from pipeline.review.findings import Estimate
from pipeline.review.slices_chart import slices_chart
from pipeline.review.splits_chart import class_shares, splits_chart
from tests.unit.test_review_selection import predictions

ALL = Estimate(0.8)


def described(label, split, seconds, status="ok"):
    return DescribedVideo(
        label=label,
        split=split,
        status=status,
        frames=10,
        codec="h264",
        size=(64, 64),
        fps=10.0,
        is_variable_rate=False,
        seconds=seconds,
    )


def test_bins_of_reliability_hold_hits_and_confidence():
    # Top probabilities: .9 .8 .95 .4 .36 .7 .7 .6; wrong are .8, .95 and .4.
    bins = reliability_bins(predictions(), 2)
    assert [(one.low, one.high, one.videos) for one in bins] == [(0, 0.5, 2), (0.5, 1, 6)]
    assert [one.accuracy for one in bins] == pytest.approx([1 / 2, 4 / 6])
    assert [one.confidence for one in bins] == pytest.approx([0.38, 4.65 / 6])


def test_the_alt_text_names_the_gap_that_weighs_most():
    # Gaps: 2 videos * 0.12, 6 videos * 0.108.
    alt = reliability_chart(predictions(), bins=2).alt
    assert "at confidence 0.78 (6 videos), accuracy is 0.108 lower than confidence" in alt


def test_precision_and_recall_name_the_worst_class():
    # Precision at each hit, down the ranking: c 1/2; a 1/2, 2/4, 3/5; b 1/1, 2/2, 3/6, 4/8.
    chart = precision_recall_chart(predictions())
    assert chart.alt.endswith("Average precision goes from 0.500 (c) to 0.750 (b).")
    legend = chart.figure().axes[0].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == [
        "c: AP 0.500",
        "a: AP 0.533",
        "b: AP 0.750",
    ]


def test_of_many_classes_six_are_named():
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(9), 50)
    many = Predictions(
        videos=tuple(map(str, range(50))),
        groups=("",) * 50,
        labels=np.arange(50) % 9,
        probabilities=probabilities,
        class_names=tuple("abcdefghi"),
    )
    chart = precision_recall_chart(many)
    axes = chart.figure().axes[0]
    assert len(axes.lines) == 9
    assert len(axes.get_legend().get_texts()) == 6
    assert "six worst are named" in chart.caption


def test_a_class_without_test_videos_has_no_curve():
    none_of_c = predictions([(0, 0.5, 0.3, 0.2), (1, 0.1, 0.6, 0.3)])
    assert len(precision_recall_chart(none_of_c).figure().axes[0].lines) == 2


def test_slices_are_drawn_in_their_order_with_intervals():
    slices = [Slice("source_fps", "25", 3, 0.4, 0.2, 0.6), Slice("codec", "$x^$", 1, 0.9, 0.9, 0.9)]
    chart = slices_chart(slices, overall=ALL)
    assert "The worst is source fps 25: 0.400 of 3 videos; all test videos: 0.800." in chart.alt
    axes = chart.figure().axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "source fps: 25",
        "codec: $x^$",
    ]
    assert axes.lines[0].get_xdata().tolist() == [0.2, 0.6]


def test_of_many_slices_the_worst_are_drawn():
    slices = [Slice("codec", str(index), 3, 0.5, 0.4, 0.6) for index in range(30)]
    chart = slices_chart(slices, overall=ALL)
    assert "the worst 24 of 30" in chart.caption
    assert len(chart.figure().axes[0].get_yticks()) == 24


def test_shares_are_of_a_split_and_leave_out_what_was_quarantined():
    videos = [
        described("a", "train", 1.0),
        described("b", "train", 3.0),
        described("b", "train", 5.0),
        described("a", "test", 2.0),
        described("b", "val", 7.0, status="quarantined"),
    ]
    assert class_shares(videos[:4]) == {
        "a": {"train": 1 / 3, "test": 1.0},
        "b": {"train": 2 / 3, "test": 0.0},
    }
    alt = splits_chart(videos).alt
    assert "train 3, val 0, test 1 videos of 2 classes" in alt
    assert "Median duration: train 3 s, test 2 s" in alt


def test_no_usable_video_is_an_error():
    with pytest.raises(ValueError, match="not quarantined"):
        splits_chart([described("a", "train", 1.0, status="quarantined")])


def test_a_chart_is_drawn_on_nothing_in_readable_ink():
    chart = reliability_chart(predictions(), bins=5)
    light, dark = (np.asarray(chart.image(scheme)) for scheme in ("light", "dark"))
    assert light.shape == dark.shape
    for image in (light, dark):
        assert image[0, 0, 3] == 0, "the page shines through"
    drawn = light[..., 3] == 255
    assert light[drawn][:, :3].min() < 40, "dark letters for light pages"
    assert dark[drawn][:, :3].min(axis=1).max() > 220, "light letters for dark pages"

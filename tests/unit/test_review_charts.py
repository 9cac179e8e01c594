from pipeline.common.bootstrap import Score
from pipeline.common.charts import png_bytes
from pipeline.common.records import DecodeFacts, VideoRecord
from pipeline.evaluation.slices import Slice
from pipeline.review.charts import slices_chart, splits_chart, stratum_shares


def record(target, split, seconds):
    facts = DecodeFacts(key="", frames=10, source_seconds=seconds)
    return VideoRecord(f"{target}.mp4", target, split=split, facts=facts)


RECORDS = [
    record("a", "train", 1.0),
    record("b", "train", 3.0),
    record("b", "train", 5.0),
    record("a", "test", 2.0),
]
CLASSES = ["a", "b", "b", "a"]


def chart_of(slices):
    return slices_chart(slices, overall=Score(0.8), score_name="accuracy")


def test_slices_are_drawn_in_their_order_with_intervals():
    chart = chart_of(
        [Slice("source_fps", "25", 3, 0.4, 0.2, 0.6), Slice("codec", "$x^$", 1, 0.9, 0.9, 0.9)]
    )
    assert "The worst is source fps 25: 0.400 of 3 videos." in chart.alt
    axes = chart.draw().axes[0]
    assert axes.get_xlabel() == "Accuracy"
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "source fps: 25",
        "codec: $x^$",
    ]
    assert axes.lines[0].get_xdata().tolist() == [0.2, 0.6]


def test_of_many_slices_the_worst_are_drawn():
    chart = chart_of([Slice("codec", str(index), 3, 0.5, 0.4, 0.6) for index in range(30)])
    assert "worst 24 of 30" in chart.caption
    assert len(chart.draw().axes[0].get_yticks()) == 24


def test_without_slices_there_is_no_chart():
    assert chart_of([]) is None


def test_shares_are_fractions_of_each_split_that_has_videos():
    assert stratum_shares(RECORDS, CLASSES) == {
        "a": {"train": 1 / 3, "test": 1.0},
        "b": {"train": 2 / 3, "test": 0.0},
    }


def test_splits_are_counted_and_drawn_with_balance_and_durations():
    chart = splits_chart(RECORDS, CLASSES)
    assert "train 3, val 0, test 1 videos" in chart.alt
    balance, durations = chart.draw().axes
    assert [label.get_text() for label in balance.get_yticklabels()] == ["a", "b"]
    assert len(durations.lines) == 2, "val has no video"


def test_of_a_thousand_strata_the_most_uneven_are_drawn():
    strata = [f"class {index // 2}" for index in range(2000)]
    records = [
        record(stratum, ("train", "test")[index % 2], 1.0) for index, stratum in enumerate(strata)
    ]
    figure = splits_chart(records, strata).draw()
    assert "The 40 most uneven of 1000" in figure.axes[0].get_title()
    assert figure.get_figheight() <= 14


def test_a_task_with_one_stratum_has_durations_only():
    assert len(splits_chart(RECORDS, ["all"] * 4).draw().axes) == 1


def test_equal_charts_are_equal_bytes():
    assert png_bytes(splits_chart(RECORDS, CLASSES).draw()) == png_bytes(
        splits_chart(RECORDS, CLASSES).draw()
    )

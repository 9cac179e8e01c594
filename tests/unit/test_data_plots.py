import dataclasses
from collections import Counter

import pytest

from pipeline.evaluation.data_plots import videos_picture
from pipeline.evaluation.data_summary import (
    DescribedVideo,
    SplitSummary,
    summarise,
    write_summary_csv,
)
from pipeline.evaluation.plots import save_png

SPLITS = ("train", "val", "test")
KNOWN = DescribedVideo("cat", "train", "ok", 10, "h264", (64, 48), 25.0, False, 4.0)
UNKNOWN = DescribedVideo("cat", "train", "quarantined", 0)


def video(**changes):
    return dataclasses.replace(KNOWN, **changes)


MIXED = [
    video(),
    video(split="val", seconds=1.5, fps=30.0, is_variable_rate=True, codec="vp9"),
    video(split="test", status="damaged", frames=3, seconds=2.25, size=(48, 64)),
    video(split="test", status="quarantined", frames=0, seconds=8.0, fps=50.0),
    UNKNOWN,
    video(label="dog", split="val", seconds=None, fps=None, is_variable_rate=None),
    video(label="dog", fps=29.97, is_variable_rate=None),
]


def picture(videos, bins=4):
    return videos_picture(videos, summarise(videos, splits=SPLITS), bins=bins)


def panels(videos, bins=4):
    """The four panels: durations, rates, sizes, balance."""
    return picture(videos, bins).get_axes()


def bars(axes):
    """Bars by the label of their series, in the order in which they are stacked."""
    return {container.get_label(): list(container) for container in axes.containers}


def heights(axes):
    return {label: [bar.get_height() for bar in row] for label, row in bars(axes).items()}


def widths(axes):
    return {label: [bar.get_width() for bar in row] for label, row in bars(axes).items()}


def names(axes):
    return [label.get_text() for label in axes.get_yticklabels()]


def test_the_summary_counts_by_class_and_split():
    assert summarise(MIXED, splits=SPLITS) == [
        SplitSummary("cat", "train", videos=2, quarantined=1, damaged=0, seconds=4.0, frames=10),
        SplitSummary("cat", "val", videos=1, quarantined=0, damaged=0, seconds=1.5, frames=10),
        SplitSummary("cat", "test", videos=2, quarantined=1, damaged=1, seconds=2.25, frames=3),
        SplitSummary("dog", "train", videos=1, quarantined=0, damaged=0, seconds=4.0, frames=10),
        SplitSummary("dog", "val", videos=1, quarantined=0, damaged=0, seconds=0.0, frames=10),
        SplitSummary("dog", "test", videos=0, quarantined=0, damaged=0, seconds=0.0, frames=0),
    ]


def test_the_summary_is_written_as_a_table(tmp_path):
    write_summary_csv(tmp_path / "summary.csv", summarise(MIXED, splits=SPLITS)[:3])
    assert (tmp_path / "summary.csv").read_text().splitlines() == [
        "class,split,videos,quarantined,damaged,seconds,frames",
        "cat,train,2,1,0,4.000,10",
        "cat,val,1,0,0,1.500,10",
        "cat,test,2,1,1,2.250,3",
    ]


def test_durations_are_counted_and_those_of_quarantined_videos_stand_apart():
    durations = panels([video(seconds=s) for s in (1, 1.5, 2, 5)] + MIXED[3:5])[0]
    # Four bins from 1 to 8 s: edges 1, 2.75, 4.5, 6.25 and 8.
    assert heights(durations) == {"used": [3, 0, 1, 0], "quarantined": [0, 0, 0, 1]}
    assert bars(durations)["quarantined"][3].get_x() == 6.25
    assert durations.get_xlabel() == "Seconds"
    assert durations.get_title() == "Duration\nmedian 2 s; 1 not known"
    assert durations.get_xscale() == "linear"


def test_durations_of_a_large_range_are_on_a_logarithmic_axis():
    durations = panels([video(seconds=s) for s in (0, 1, 50, 5000, 10_000)])[0]
    assert durations.get_xscale() == "log"
    # Edges 1, 10, 100, 1000 and 10 000 s; the video of 0 s is in the first bin.
    assert heights(durations) == {"used": [2, 1, 0, 2]}
    edges = [bar.get_x() for bar in bars(durations)["used"]]
    assert edges == pytest.approx([1, 10, 100, 1000])


def test_equal_durations_are_one_bar_around_them():
    durations = panels([video(seconds=3.0)] * 5)[0]
    assert heights(durations) == {"used": [5]}
    assert [label.get_text() for label in durations.get_xticklabels()] == ["3"]


def test_videos_of_variable_rate_are_stacked_apart():
    rates = panels(MIXED, bins=5)[1]
    # 25, 25 and 50 constant, 30 variable, 29.97 not known which; bins of 5 from 25 to 50.
    assert heights(rates) == {
        "constant": [2, 0, 0, 0, 1],
        "variable": [0, 1, 0, 0, 0],
        "not known which": [1, 0, 0, 0, 0],
    }
    assert bars(rates)["not known which"][0].get_y() == 2
    assert rates.get_title() == "Source fps\n25 (2), 29.97 (1), 30 (1); 2 not known"
    assert [text.get_text() for text in rates.get_legend().get_texts()] == list(heights(rates))


def test_the_most_common_sizes_are_named():
    sizes = panels(MIXED)[2]
    assert names(sizes) == ["64x48", "48x64"]
    assert [bar.get_width() for bar in sizes.containers[0]] == [5, 1]
    assert [text.get_text() for text in sizes.texts] == ["5", "1"]
    assert sizes.get_title() == "Picture size, upright\n48x64 to 64x48; 1 not known"


def test_rare_sizes_are_counted_together():
    sizes = panels([video(size=(side, 10)) for side in range(100, 1300, 100)] + [video()])[2]
    assert names(sizes)[-1] == "5 other sizes"
    assert [bar.get_width() for bar in sizes.containers[0]] == [1] * 8 + [5]
    assert sizes.get_title() == "Picture size, upright\n100x10 to 1200x10"


def test_a_class_is_one_bar_of_splits_damaged_and_quarantined_videos():
    balance = panels(MIXED)[3]
    assert names(balance) == ["cat", "dog"]
    assert widths(balance) == {
        "train": [1, 1],
        "val": [1, 1],
        "test, damaged": [1, 0],
        "quarantined": [2, 0],
    }
    assert [bar.get_x() for bar in bars(balance)["quarantined"]] == [3, 2]
    beside = [text.get_text() for text in balance.texts]
    assert beside == ["5, 1 damaged, 2 quarantined", "2"]
    (hatch,) = {bar.get_hatch() for bar in bars(balance)["test, damaged"]}
    assert hatch
    assert bars(balance)["train"][0].get_hatch() is None


def test_the_class_with_the_most_videos_is_on_top():
    labels = Counter({"b": 2, "a": 2, "c": 5})
    balance = panels([video(label=label) for label in labels.elements()])[3]
    assert names(balance) == ["c", "a", "b"]
    assert balance.yaxis.get_inverted()


def test_the_headline_and_the_codecs():
    figure = picture(MIXED)
    assert figure.get_suptitle() == (
        "7 videos of 2 classes: 4 intact, 1 damaged but kept, 2 quarantined"
    )
    above = figure.subfigs[0]
    assert above.get_suptitle() == "Videos by codec: h264 5, vp9 1, not known 1"


def test_rare_codecs_are_counted_together():
    videos = [video(codec=f"codec{number}") for number in range(10)] + [video()] * 2
    above = picture(videos).subfigs[0]
    assert above.get_suptitle().startswith("Videos by codec: h264 2, codec0 1, codec1 1,")
    assert above.get_suptitle().endswith("codec6 1, 3 others 3")


@pytest.mark.parametrize(
    "videos", [[UNKNOWN], [UNKNOWN, video(fps=None, seconds=0.0)]], ids=["none", "all but one"]
)
def test_videos_of_which_nothing_is_known_are_drawn(tmp_path, videos):
    figure = picture(videos)
    save_png(figure, tmp_path / "videos.png")
    rates = figure.get_axes()[1]
    assert not rates.containers
    assert rates.get_title() == f"Source fps\n{len(videos)} not known"
    assert widths(figure.get_axes()[3])["quarantined"] == [1]


def test_a_picture_needs_a_video():
    with pytest.raises(ValueError, match="videos: expected at least one, got none"):
        videos_picture([], [], bins=4)


def test_of_very_many_classes_the_largest_and_the_smallest_are_drawn():
    videos = [video(label=f"{number:03d}") for number in range(300)] + [video(label="299")]
    figure = picture(videos)
    shown = names(figure.get_axes()[3])
    assert shown[:2] == ["299", "000"]
    assert shown[99:101] == ["098", "199"]
    assert len(shown) == 200
    assert figure.subfigs[1].get_suptitle() == (
        "Videos by class and split: the 100 largest and the 100 smallest of 300 classes"
    )


def overlapping(boxes):
    return [
        (first, second)
        for index, first in enumerate(boxes)
        for second in boxes[index + 1 :]
        if first.overlaps(second)
    ]


@pytest.mark.parametrize("n_classes", [1, 2, 30, 100])
def test_nothing_overlaps_or_leaves_the_picture(n_classes):
    videos = [
        dataclasses.replace(row, label=f"SomeClassOfVideos{number}")
        for number in range(n_classes)
        for row in MIXED
    ]
    figure = picture(videos, bins=20)
    figure.draw_without_rendering()
    duration, rate, size, balance = figure.get_axes()
    labels = [text.get_window_extent() for text in balance.get_yticklabels()]
    beside = [text.get_window_extent() for text in balance.texts]
    titles = [axes.title.get_window_extent() for axes in (duration, rate, size)]
    headings = [*titles, balance.get_legend().get_window_extent()]
    assert not overlapping(labels)
    assert not overlapping(beside)
    assert not overlapping(headings)
    for box in (*labels, *beside, *headings):
        assert box.x0 >= figure.bbox.x0
        assert box.x1 <= figure.bbox.x1
        assert box.y0 >= figure.bbox.y0


def test_class_names_are_no_formulas(tmp_path):
    save_png(picture([video(label="$x^$")]), tmp_path / "videos.png")
    assert (tmp_path / "videos.png").stat().st_size > 0


def test_the_same_videos_give_the_same_bytes(tmp_path):
    for name, videos in (("a.png", MIXED), ("b.png", MIXED[::-1])):
        save_png(picture(videos), tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()

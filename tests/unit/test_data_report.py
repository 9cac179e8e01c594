"""The data report: the table, the picture and the stage."""

import dataclasses
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.common.charts import save_png
from pipeline.common.paths import (
    CATALOG,
    DATA_PICTURE,
    DATA_REPORT,
    DATA_SUMMARY,
    DECODE_INDEX,
    FRAMES,
)
from pipeline.common.records import DecodeFacts, VideoRecord, write_catalog, write_decode_index
from pipeline.data_report.picture import BINS, data_picture
from pipeline.data_report.summary import SplitSummary, summarise, write_summary_csv
from pipeline.stages import report
from pipeline.video.settings import DecodeSection
from pipeline.video.store import stored_path, write_frame_settings, write_frames

FACTS = DecodeFacts(
    key="key",
    frames=10,
    codec="h264",
    width=64,
    height=48,
    source_fps=25.0,
    is_variable_rate=False,
    source_seconds=4.0,
)
UNKNOWN = VideoRecord("a.mp4", "cat", "train", facts=DecodeFacts(key="key", reason="damaged"))


def video(target="cat", split="train", **facts):
    return VideoRecord("a.mp4", target, split, facts=dataclasses.replace(FACTS, **facts))


MIXED = [
    video(),
    video(split="val", source_seconds=1.5, source_fps=30.0, is_variable_rate=True, codec="vp9"),
    video(split="test", frames=3, reason="truncated", source_seconds=2.25, rotation=90),
    video(split="test", frames=0, reason="too long", source_seconds=8.0, source_fps=50.0),
    UNKNOWN,
    video("dog", "val", source_seconds=None, source_fps=None, is_variable_rate=None),
    video("dog", source_fps=29.97, is_variable_rate=None),
]


def picture(records):
    return data_picture(
        records, summarise(records, [record.target for record in records]), noun="class"
    )


def panels(records):
    """The four panels: durations, rates, sizes, balance."""
    return picture(records).get_axes()


def bars(axes):
    """Bars by the label of their series, in the order in which they are stacked."""
    return {container.get_label(): list(container) for container in axes.containers}


def counts(axes):
    """Heights of the histogram's bars that are not 0, by series and bin."""
    return {
        label: {bin_: bar.get_height() for bin_, bar in enumerate(row) if bar.get_height()}
        for label, row in bars(axes).items()
    }


def widths(axes):
    return {label: [bar.get_width() for bar in row] for label, row in bars(axes).items()}


def names(axes):
    return [label.get_text() for label in axes.get_yticklabels()]


def test_the_summary_counts_by_target_and_split():
    assert summarise(MIXED, [record.target for record in MIXED]) == [
        SplitSummary("cat", "train", videos=2, quarantined=1, damaged=0, seconds=4.0, frames=10),
        SplitSummary("cat", "val", videos=1, quarantined=0, damaged=0, seconds=1.5, frames=10),
        SplitSummary("cat", "test", videos=2, quarantined=1, damaged=1, seconds=2.25, frames=3),
        SplitSummary("dog", "train", videos=1, quarantined=0, damaged=0, seconds=4.0, frames=10),
        SplitSummary("dog", "val", videos=1, quarantined=0, damaged=0, seconds=0.0, frames=10),
        SplitSummary("dog", "test", videos=0, quarantined=0, damaged=0, seconds=0.0, frames=0),
    ]


def test_the_summary_is_written_as_a_table(tmp_path):
    write_summary_csv(
        tmp_path / "summary.csv", summarise(MIXED, [record.target for record in MIXED])[:3]
    )
    assert (tmp_path / "summary.csv").read_text().splitlines() == [
        "target,split,videos,quarantined,damaged,seconds,frames",
        "cat,train,2,1,0,4.000,10",
        "cat,val,1,0,0,1.500,10",
        "cat,test,2,1,1,2.250,3",
    ]


def test_durations_of_quarantined_videos_are_a_series_of_their_own():
    seconds = (1, 1.1, 2, 5)
    durations = panels([video(source_seconds=s) for s in seconds] + MIXED[3:5])[0]
    # Twenty bins from 1 to 8 s, 0.35 s each: 1 and 1.1 are in bin 0, 2 in bin 2, 5 in bin 11.
    assert BINS == 20
    assert counts(durations) == {"used": {0: 2, 2: 1, 11: 1}, "quarantined": {19: 1}}
    assert bars(durations)["quarantined"][19].get_x() == pytest.approx(7.65)
    assert durations.get_xlabel() == "Seconds"
    assert durations.get_title() == "Duration\nmedian 2.0 s; 1 unknown"
    assert durations.get_xscale() == "linear"


def test_durations_of_a_large_range_are_on_a_logarithmic_axis():
    durations = panels([video(source_seconds=s) for s in (0, 1, 50, 5000, 10_000)])[0]
    assert durations.get_xscale() == "log"
    # Five bins a decade from 1 to 10,000 s: 50 is 10**1.70, 5000 is 10**3.70; 0 is in bin 0.
    assert counts(durations) == {"used": {0: 2, 8: 1, 18: 1, 19: 1}}
    edges = [bar.get_x() for bar in bars(durations)["used"]]
    assert edges[::5] == pytest.approx([1, 10, 100, 1000])


def test_equal_durations_are_one_bar_around_them():
    durations = panels([video(source_seconds=3.0)] * 5)[0]
    assert counts(durations) == {"used": {0: 5}}
    assert [label.get_text() for label in durations.get_xticklabels()] == ["3"]


def test_videos_of_variable_rate_are_a_series_of_their_own():
    rates = panels(MIXED)[1]
    # Bins of 1.25 from 25 to 50: 29.97 is in bin 3, 30 in bin 4.
    assert counts(rates) == {
        "constant": {0: 2, 19: 1},
        "variable": {4: 1},
        "unknown which": {3: 1},
    }
    assert bars(rates)["variable"][0].get_y() == 2
    assert rates.get_title() == (
        "Source fps\nmost common: 25 (2 videos), 29.97 (1 video), 30 (1 video); 2 unknown"
    )
    assert [text.get_text() for text in rates.get_legend().get_texts()] == list(counts(rates))


def test_the_most_common_sizes_are_named():
    sizes = panels(MIXED)[2]
    assert names(sizes) == ["64x48", "48x64"]
    assert [bar.get_width() for bar in sizes.containers[0]] == [5, 1]
    assert [text.get_text() for text in sizes.texts] == ["5", "1"]
    assert sizes.get_title() == "Picture size, upright\n48x64 to 64x48; 1 unknown"


def test_rare_sizes_are_counted_together():
    sides = range(100, 1300, 100)
    sizes = panels([video(width=side, height=10) for side in sides] + [video()])[2]
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
    balance = panels([video(label) for label in labels.elements()])[3]
    assert names(balance) == ["c", "a", "b"]
    assert balance.yaxis.get_inverted()


def test_the_headline_and_the_codecs():
    figure = picture(MIXED)
    assert figure.get_suptitle() == (
        "7 videos of 2 classes: 4 intact, 1 damaged but kept, 2 quarantined"
    )
    assert figure.subfigs[0].get_suptitle() == "Videos by codec: h264 5, vp9 1, unknown 1"


def test_rare_codecs_are_counted_together():
    title = picture([video(codec=f"codec{n}") for n in range(10)] + [video()] * 2).subfigs[0]
    assert title.get_suptitle().startswith("Videos by codec: h264 2, codec0 1, codec1 1,")
    assert title.get_suptitle().endswith("codec6 1, 3 others 3")


@pytest.mark.parametrize(
    "records",
    [[UNKNOWN], [UNKNOWN, video(source_fps=None, source_seconds=0.0)]],
    ids=["none", "all but one"],
)
def test_videos_without_facts_are_drawn(tmp_path, records):
    figure = picture(records)
    save_png(figure, tmp_path / "videos.png")
    rates = figure.get_axes()[1]
    assert not rates.containers
    assert rates.get_title() == f"Source fps\n{len(records)} unknown"
    assert widths(figure.get_axes()[3])["quarantined"] == [1]


def test_a_picture_needs_a_video():
    with pytest.raises(ValueError, match="records: expected at least one"):
        data_picture([], [], noun="class")


def test_of_very_many_classes_the_largest_and_the_smallest_are_drawn():
    figure = picture([video(f"{number:03d}") for number in range(300)] + [video("299")])
    shown = names(figure.get_axes()[3])
    assert shown[:2] == ["299", "000"]
    assert shown[99:101] == ["098", "199"]
    assert len(shown) == 200
    assert figure.subfigs[1].get_suptitle() == (
        "Videos by class and split: the 100 largest and the 100 smallest of 300 classes"
    )


def test_the_picture_of_a_thousand_classes_has_a_moderate_size(tmp_path):
    save_png(picture([video(f"class {number}") for number in range(1000)]), tmp_path / "out.png")
    assert max(Image.open(tmp_path / "out.png").size) < 6000


def overlapping(boxes):
    return [
        (first, second)
        for index, first in enumerate(boxes)
        for second in boxes[index + 1 :]
        if first.overlaps(second)
    ]


@pytest.mark.parametrize("n_classes", [1, 30, 100])
def test_nothing_overlaps_or_leaves_the_picture(n_classes):
    figure = picture(
        [
            dataclasses.replace(row, target=f"SomeClassOfVideos{number}")
            for number in range(n_classes)
            for row in MIXED
        ]
    )
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


def test_class_names_are_not_formulas(tmp_path):
    save_png(picture([video("$x^$")]), tmp_path / "videos.png")
    assert (tmp_path / "videos.png").stat().st_size > 0


def test_the_same_videos_give_the_same_bytes(tmp_path):
    for name, records in (("a.png", MIXED), ("b.png", MIXED[::-1])):
        save_png(picture(records), tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_the_stage_writes_a_picture_a_table_and_a_page(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    decode = DecodeSection(width=64, height=48)
    facts = write_frames(
        stored_path(FRAMES, "key"), np.zeros((10, 48, 64, 3), np.uint8), lambda: FACTS, key="key"
    )
    records = [
        VideoRecord("a.mp4", "cat", "train", facts=facts),
        dataclasses.replace(UNKNOWN, video="b.mp4", split="test"),
    ]
    (tmp_path / "params.yaml").write_text("data: {videos: videos}\n")
    write_catalog(CATALOG, records)
    write_frame_settings(FRAMES, decode)
    write_decode_index(DECODE_INDEX, records)
    with caplog.at_level("INFO"):
        report.main()
    assert "Wrote data/report/report.html" in caplog.messages[-1]
    assert DATA_SUMMARY.read_text().splitlines()[1:] == [
        "cat,train,1,0,0,4.000,10",
        "cat,val,0,0,0,0.000,0",
        "cat,test,1,1,0,0.000,0",
    ]
    assert DATA_PICTURE.read_bytes().startswith(b"\x89PNG")
    assert "2 videos of 1 class" in DATA_REPORT.read_text()
    assert sorted(path.name for path in Path("data/report").iterdir()) == [
        "report.html",
        "summary.csv",
        "videos.png",
    ]


def test_the_stage_does_not_import_tensorflow():
    code = "import sys, pipeline.stages.report; print('tensorflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"

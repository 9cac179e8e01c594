import numpy as np
import pytest

from pipeline.common.records import DecodeFacts, VideoRecord
from pipeline.evaluation.predictions import Predictions
from pipeline.evaluation.settings import EvaluateSection
from pipeline.evaluation.slices import (
    Slice,
    find_slices,
    score_slices,
    slice_names,
    video_properties,
    write_slices_csv,
)
from pipeline.tasks.classification import Classification

SECTION = EvaluateSection(bootstrap_samples=500)


def predictions(is_correct, groups=None):
    of_x = np.where(is_correct, 0.8, 0.2)
    return Predictions(
        videos=tuple(f"{index:03}.mp4" for index in range(len(of_x))),
        groups=tuple(groups or [""] * len(of_x)),
        targets=("x",) * len(of_x),
        outputs=np.stack([of_x, 1 - of_x], axis=1),
        task=Classification(("x", "y"), target_accuracy=0.9),
    )


def sliced(is_correct, properties, *, min_videos=2, groups=None, section=SECTION):
    return score_slices(predictions(is_correct, groups), properties, section, min_videos=min_videos)


def record(name="a.mp4", extra=None, **facts):
    return VideoRecord(name, "x", extra=extra or {}, facts=DecodeFacts("key", frames=7, **facts))


def properties_of(*records, masks=None):
    masks = np.ones((len(records), 4), bool) if masks is None else masks
    return video_properties(records, masks)


@pytest.mark.parametrize(
    ("values", "min_videos", "expected"),
    [
        # Up to eight different numbers are slices...
        ([1, 1, 2, 2], 2, ["1", "1", "2", "2"]),
        # ...unless few videos have them: they are merged with the next, the last with those before.
        ([1, 2, 2, 3, 3], 2, ["1 to 2", "1 to 2", "1 to 2", "3", "3"]),
        ([1, 1, 2, 2, 3], 2, ["1", "1", "2 to 3", "2 to 3", "2 to 3"]),
        ([29.97, 29.97, None, 25, 25], 2, ["29.97", "29.97", "not known", "25", "25"]),
        ([1, 2], 5, ["1 to 2", "1 to 2"]),
        ([None, None], 1, ["not known", "not known"]),
        (["a", "a", "b", "c", None], 2, ["a", "a", *["others (2 values)"] * 2, "not known"]),
        (["a", "a", "b"], 2, ["a", "a", "b"]),  # one value alone keeps its name
    ],
)
def test_values_of_few_videos_are_merged(values, min_videos, expected):
    assert slice_names(values, min_videos=min_videos) == expected


def test_many_numbers_are_cut_into_four_ranges_of_equal_size():
    names = slice_names(list(range(12)), min_videos=1)
    expected = ["0 to 2", "3 to 5", "6 to 8", "9 to 11"]
    assert names == [name for name in expected for _ in range(3)]
    assert set(slice_names(list(range(12)), min_videos=5)) == {"0 to 4", "5 to 11"}


def test_a_slice_is_scored_on_its_own_videos():
    # vp9: one of four correct; h264: three of four.
    slices = sliced([1, 0, 0, 0, 1, 1, 1, 0], {"codec": ["vp9"] * 4 + ["h264"] * 4})
    assert [(part.slice_by, part.slice, part.videos, part.score) for part in slices] == [
        ("codec", "vp9", 4, 0.25),
        ("codec", "h264", 4, 0.75),
    ]
    for part in slices:
        assert 0 <= part.low < part.score < part.high <= 1


def test_the_interval_of_a_slice_of_all_but_one_video_is_about_that_of_all():
    is_correct = np.arange(200) % 4 > 0
    codecs = ["h264"] * 199 + ["vp9"]
    (h264,) = (
        part for part in sliced(is_correct, {"codec": codecs}, min_videos=1) if part.slice == "h264"
    )
    whole = predictions(is_correct)
    of_all = SECTION.resampling(whole.resampling_groups).mean_score(whole.video_scores)
    assert (h264.low, h264.high) == pytest.approx(of_all.interval, abs=0.01)


def test_the_worst_is_the_one_whose_interval_ends_lowest():
    # long: 10 of 20 correct, its interval ends near 0.7. dark: 1 of 3, a lower score, but its
    # interval reaches 1. bright: 27 of 37.
    is_correct = [1, 0] * 10 + [1] * 20
    light = ["bright"] * 17 + ["dark"] * 3 + ["bright"] * 20
    length = ["long"] * 20 + ["short"] * 20
    slices = sliced(is_correct, {"light": light, "length": length})
    assert [part.slice for part in slices][:2] == ["long", "bright"]
    assert slices[-2].slice == "dark"
    assert slices[-2].score < slices[0].score


def test_slices_that_are_too_small_are_last():
    # Every video of b is wrong, but there are two, and the minimum is three.
    slices = sliced([0, 1, 1, 1, 0, 0], {"codec": ["a"] * 4 + ["b"] * 2}, min_videos=3)
    assert [(part.slice, part.videos) for part in slices] == [("a", 4), ("b", 2)]


def test_a_property_with_one_value_gives_no_slice():
    assert sliced([1, 0], {"codec": ["h264", "h264"]}) == []


def test_groups_are_resampled_and_not_videos():
    (h264,) = (
        part
        for part in sliced(
            [1] * 10 + [0] * 10 + [1] * 2,
            {"codec": ["h264"] * 20 + ["vp9"] * 2},
            min_videos=1,
            groups=["a"] * 10 + ["b"] * 10 + ["c"] * 2,
        )
        if part.slice == "h264"
    )
    # Two groups, one right and one wrong, are two videos and not 20.
    assert h264.low < 0.05 < 0.95 < h264.high


def test_a_slice_of_one_video_has_a_wide_interval():
    slices = sliced([1] * 30, {"codec": [f"codec {index:02}" for index in range(30)]}, min_videos=1)
    assert {(round(part.low, 6), part.high) for part in slices} == {(0.025, 1.0)}


def test_known_properties_of_a_video():
    known = record(
        codec="h264",
        width=64,
        height=48,
        rotation=90,
        source_fps=29.97,
        source_seconds=5.0,
        extra={"camera": "left"},
    )
    assert properties_of(known) == {
        "clip_frames": [4.0],
        "padding_share": ["none"],
        "source_fps": [29.97],
        "resolution": ["48x64"],
        "duration_seconds": [5.0],
        "codec": ["h264"],
        "extra.camera": ["left"],
    }


def test_unknown_properties_are_none():
    properties = properties_of(record(extra={"camera": ""}))
    unknown = ("source_fps", "resolution", "duration_seconds", "codec", "extra.camera")
    assert [properties[name] for name in unknown] == [[None]] * 5


def test_clips_by_their_frames_and_their_padding():
    masks = np.array([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]], bool)
    properties = properties_of(record(), record(), record(), masks=masks)
    assert properties["clip_frames"] == [4, 2, 1]
    assert properties["padding_share"] == ["none", "up to half", "more than half"]


def test_many_picture_sizes_become_numbers_of_pixels():
    records = [record(width=10 * side, height=10) for side in range(1, 10)]
    assert properties_of(*records, record())["resolution"] == [
        *(100.0 * side for side in range(1, 10)),
        None,
    ]


def test_a_column_is_numbers_when_all_of_its_cells_are():
    rows = [{"light": "1e3", "take": "1", "gain": "nan"}, {"light": "", "take": "b", "gain": "2"}]
    properties = properties_of(*(record(extra=row) for row in rows))
    assert properties["extra.light"] == [1000.0, None]
    assert properties["extra.take"] == ["1", "b"]
    assert properties["extra.gain"] == ["nan", "2"]


def test_records_are_found_by_name_whatever_their_order():
    whole = predictions([1] * 10 + [0] * 10)
    records = [record(name, codec="h264") for name in reversed(whole.videos)]
    records[:10] = [record(name, codec="vp9") for name in reversed(whole.videos[10:])]
    slices = find_slices(whole, records, np.ones((20, 4), bool), SECTION)
    assert [(part.slice, part.score) for part in slices] == [("vp9", 0), ("h264", 1)]


def test_the_csv_file_has_six_decimals(tmp_path):
    write_slices_csv(tmp_path / "slices.csv", [Slice("codec", "vp9", 3, 1 / 3, 0, 1)])
    assert (tmp_path / "slices.csv").read_text() == (
        "slice_by,slice,videos,score,low,high\ncodec,vp9,3,0.333333,0.000000,1.000000\n"
    )

import numpy as np
import pytest

from pipeline.evaluation.intervals import Resampling, mean_interval
from pipeline.evaluation.slices import Slice, slice_names, slices, write_slices_csv

RESAMPLING = Resampling(samples=500, confidence=0.95, seed=0)


def units(n_videos):
    return [f"video {index:03}" for index in range(n_videos)]


def sliced(hits, facts, *, min_videos=2):
    hits = np.array(hits, bool)
    return slices(hits, facts, units=units(len(hits)), min_videos=min_videos, resampling=RESAMPLING)


@pytest.mark.parametrize(
    ("values", "min_videos", "expected"),
    [
        # Up to eight different numbers stand for themselves...
        ([1, 1, 2, 2], 2, ["1", "1", "2", "2"]),
        # ...unless few videos have them: they go up to the next, the last ones down.
        ([1, 2, 2, 3, 3], 2, ["1 to 2", "1 to 2", "1 to 2", "3", "3"]),
        ([1, 1, 2, 2, 3], 2, ["1", "1", "2 to 3", "2 to 3", "2 to 3"]),
        ([29.97, 29.97, None, 25, 25], 2, ["29.97", "29.97", "not known", "25", "25"]),
        ([1, 2], 5, ["1 to 2", "1 to 2"]),
        ([None, None], 1, ["not known", "not known"]),
        (["a", "a", "b", "c", None], 2, ["a", "a", *["others (2 values)"] * 2, "not known"]),
        (["a", "a", "b"], 2, ["a", "a", "b"]),  # one value alone keeps its name
    ],
)
def test_what_few_videos_have_is_put_together(values, min_videos, expected):
    assert slice_names(values, min_videos=min_videos) == expected


def test_many_numbers_are_cut_into_four_ranges_of_equal_size():
    names = slice_names(list(range(12)), min_videos=1)
    expected = ["0 to 2", "3 to 5", "6 to 8", "9 to 11"]
    assert names == [name for name in expected for _ in range(3)]


def test_ranges_are_as_large_as_asked():
    assert set(slice_names(list(range(12)), min_videos=5)) == {"0 to 4", "5 to 11"}


def test_a_slice_is_scored_on_its_own_videos():
    # vp9: one of four right; h264: three of four.
    found = sliced([1, 0, 0, 0, 1, 1, 1, 0], {"codec": ["vp9"] * 4 + ["h264"] * 4})
    assert [(part.slice_by, part.slice, part.videos, part.accuracy) for part in found] == [
        ("codec", "vp9", 4, 0.25),
        ("codec", "h264", 4, 0.75),
    ]
    for part in found:
        assert 0 <= part.low < part.accuracy < part.high <= 1


def test_the_interval_of_a_slice_of_all_but_one_video_is_about_that_of_all():
    hits = np.arange(200) % 4 > 0
    found = slices(
        hits,
        {"codec": ["h264"] * 199 + ["vp9"]},
        units=units(200),
        min_videos=1,
        resampling=RESAMPLING,
    )
    (h264,) = (part for part in found if part.slice == "h264")
    everything = mean_interval(hits, units=units(200), resampling=RESAMPLING)
    assert (h264.low, h264.high) == pytest.approx(everything, abs=0.01)


def test_the_worst_is_the_one_whose_interval_ends_lowest():
    # long: 10 of 20 right, its interval ends near 0.7. dark: 1 of 3, which is a lower share,
    # but its interval reaches 1. bright: 27 of 37.
    hits = [1, 0] * 10 + [1] * 20
    light = ["bright"] * 17 + ["dark"] * 3 + ["bright"] * 20
    length = ["long"] * 20 + ["short"] * 20
    found = sliced(hits, {"light": light, "length": length})
    assert [part.slice for part in found][:2] == ["long", "bright"]
    assert found[-2].slice == "dark"
    assert found[-2].accuracy < found[0].accuracy


def test_slices_that_are_too_small_stand_last():
    # Every video of b is wrong, but there are two, and three were asked for.
    found = sliced([0, 1, 1, 1, 0, 0], {"codec": ["a"] * 4 + ["b"] * 2}, min_videos=3)
    assert [(part.slice, part.videos) for part in found] == [("a", 4), ("b", 2)]


def test_a_fact_that_all_videos_share_makes_no_slice():
    assert sliced([1, 0], {"codec": ["h264", "h264"]}) == []


def test_groups_are_drawn_and_not_videos():
    hits = np.array([True] * 10 + [False] * 10 + [True] * 2)
    facts = {"codec": ["h264"] * 20 + ["vp9"] * 2}
    groups = ["a"] * 10 + ["b"] * 10 + ["c"] * 2
    (h264,) = (
        part
        for part in slices(hits, facts, units=groups, min_videos=1, resampling=RESAMPLING)
        if part.slice == "h264"
    )
    # A draw holds only a or only b often enough: all right, or all wrong.
    assert (h264.low, h264.high) == (0, 1)


def test_a_slice_that_no_draw_holds_may_be_anything():
    one_draw = Resampling(samples=1, confidence=0.95, seed=0)
    hits = np.ones(30, bool)
    facts = {"codec": [f"codec {index:02}" for index in range(30)]}
    found = slices(hits, facts, units=units(30), min_videos=1, resampling=one_draw)
    assert {(part.low, part.high) for part in found} == {(1.0, 1.0), (0.0, 1.0)}


def test_the_table(tmp_path):
    write_slices_csv(tmp_path / "slices.csv", [Slice("codec", "vp9", 3, 1 / 3, 0, 1)])
    assert (tmp_path / "slices.csv").read_text() == (
        "slice_by,slice,videos,accuracy,low,high\ncodec,vp9,3,0.333333,0.000000,1.000000\n"
    )

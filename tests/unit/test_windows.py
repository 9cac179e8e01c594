import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.clips.sampling import ClipSpec, make_clip
from pipeline.clips.windows import (
    frames_spanned,
    make_clips,
    number_of_clips,
    windows,
    windows_over_time,
)
from tests.conftest import numbered_frames, numbers_in


@pytest.mark.parametrize(
    ("n_frames", "shortest", "count", "expected"),
    [
        (10, 4, 1, [(0, 10)]),
        (10, 4, 2, [(0, 5), (5, 10)]),
        # Eleven frames in two parts of six: they share one.
        (11, 4, 2, [(0, 6), (5, 11)]),
        # Three parts of four frames do not fit: they overlap.
        (10, 4, 3, [(0, 4), (3, 7), (6, 10)]),
        (10, 4, 4, [(0, 4), (2, 6), (4, 8), (6, 10)]),
        # Only two windows of four differ among five frames.
        (5, 4, 9, [(0, 4), (1, 5)]),
        (4, 4, 9, [(0, 4)]),
        (3, 4, 9, [(0, 3)]),
        (1, 4, 1, [(0, 1)]),
    ],
)
def test_windows(n_frames, shortest, count, expected):
    assert windows(n_frames, shortest=shortest, count=count) == expected


@given(st.integers(1, 200), st.integers(1, 50), st.integers(1, 20))
def test_windows_differ_are_alike_and_leave_nothing_out(n_frames, shortest, count):
    found = windows(n_frames, shortest=shortest, count=count)
    assert 1 <= len(found) <= count
    assert len(set(found)) == len(found)
    lengths = {stop - start for start, stop in found}
    assert lengths == {min(n_frames, max(shortest, -(-n_frames // count)))}
    assert found[0].start == 0
    assert found[-1].stop == n_frames
    if len(found) * shortest >= n_frames:
        assert {frame for window in found for frame in range(*window)} == set(range(n_frames))


@pytest.mark.parametrize(
    ("n_frames", "expected"),
    [(3, [(0, 3)]), (4, [(0, 4)]), (8, [(0, 4), (4, 8)]), (9, [(0, 4), (2, 6), (5, 9)])],
)
def test_as_few_windows_over_time_as_cover_the_video(n_frames, expected):
    assert windows_over_time(n_frames, shortest=4) == expected


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (ClipSpec(4, "head", stride=3), 4),
        (ClipSpec(4, "uniform"), 4),
        (ClipSpec(4, "stride", stride=1), 4),
        (ClipSpec(4, "stride", stride=3), 10),
    ],
)
def test_a_clip_of_the_frames_that_it_spans_is_not_padded(spec, expected):
    assert frames_spanned(spec) == expected
    assert make_clip(np.zeros((expected, 2, 2, 3), np.uint8), spec).mask.all()
    assert not make_clip(np.zeros((expected - 1, 2, 2, 3), np.uint8), spec).mask.all()


@pytest.mark.parametrize(
    ("n_frames", "spec", "expected"),
    [
        (9, ClipSpec(3, "uniform"), [[1, 4, 7]]),
        (9, ClipSpec(3, "uniform", clips_per_video=3), [[0, 1, 2], [3, 4, 5], [6, 7, 8]]),
        (12, ClipSpec(3, "uniform", clips_per_video=2), [[1, 3, 5], [7, 9, 11]]),
        (9, ClipSpec(3, "head", clips_per_video=2), [[0, 1, 2], [4, 5, 6]]),
        (9, ClipSpec(3, "stride", stride=2, clips_per_video=2), [[0, 2, 4], [4, 6, 8]]),
        (3, ClipSpec(3, "uniform", clips_per_video=2), [[0, 1, 2]]),
        (4, ClipSpec(3, "uniform", clips_per_video=9), [[0, 1, 2], [1, 2, 3]]),
    ],
)
def test_a_clip_of_each_window(n_frames, spec, expected):
    clips = make_clips(numbered_frames(n_frames, height=2, width=2), spec)
    assert [numbers_in(clip.frames) for clip in clips] == expected
    assert number_of_clips(n_frames, spec) == len(expected)


def test_a_video_that_a_clip_holds_is_padded_as_ever():
    (clip,) = make_clips(numbered_frames(2), ClipSpec(3, "uniform", clips_per_video=4))
    assert clip.mask.tolist() == [True, True, False]


def test_no_frame_makes_no_clip():
    with pytest.raises(ValueError, match="at least one real frame"):
        make_clips(numbered_frames(1)[:0], ClipSpec(3, "uniform", clips_per_video=2))

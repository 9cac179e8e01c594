import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.clips.sampling import (
    clip_windows,
    frame_indices,
    make_clip,
    make_clips,
    used_frames,
    windows_over_time,
)
from pipeline.clips.settings import ExtractSection
from tests.conftest import numbered_frames, numbers_in


def settings(frames, sampling="uniform", stride=1, clips_per_video=1):
    return ExtractSection(
        frames=frames, sampling=sampling, stride=stride, clips_per_video=clips_per_video
    )


@pytest.mark.parametrize(
    ("n", "extract", "indices"),
    [
        (3, settings(5, "head"), [0, 1, 2]),
        (9, settings(5, "head"), [0, 1, 2, 3, 4]),
        (9, settings(5, "stride", stride=2), [0, 2, 4, 6, 8]),
        (9, settings(3, "stride", stride=2), [0, 2, 4]),
        (4, settings(5, "stride", stride=3), [0, 3]),
        (5, settings(5, "uniform"), [0, 1, 2, 3, 4]),
        (3, settings(5, "uniform"), [0, 1, 2]),
        # Ten frames in 5 parts of two: the later one of the two in the middle.
        (10, settings(5, "uniform"), [1, 3, 5, 7, 9]),
        # Nine frames in 3 parts of three: the middle of each.
        (9, settings(3, "uniform"), [1, 4, 7]),
        (100, settings(1, "uniform"), [50]),
    ],
)
def test_frame_indices(n, extract, indices):
    assert frame_indices(n, extract).tolist() == indices


def test_a_short_clip_is_padded_on_the_right_and_masked():
    clip = make_clip(numbered_frames(2), settings(4))
    assert clip.frames.dtype == np.uint8
    assert numbers_in(clip.frames[:2]) == [0, 1]
    assert (clip.frames[2:] == 0).all()
    assert clip.mask.dtype == np.bool_
    assert clip.mask.tolist() == [True, True, False, False]


def test_a_long_clip_has_no_padding():
    clip = make_clip(numbered_frames(9), settings(3))
    assert numbers_in(clip.frames) == [1, 4, 7]
    assert clip.mask.all()


@pytest.mark.parametrize("make", [make_clip, make_clips])
def test_a_clip_without_a_frame_is_refused(make):
    with pytest.raises(ValueError, match="at least one real frame"):
        make(numbered_frames(1)[:0], settings(3, clips_per_video=2))


@pytest.mark.parametrize(
    ("n_frames", "clip_frames", "count", "expected"),
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
def test_windows(n_frames, clip_frames, count, expected):
    assert clip_windows(n_frames, settings(clip_frames, clips_per_video=count)) == expected


@given(st.integers(1, 200), st.integers(1, 50), st.integers(1, 20))
def test_windows_differ_have_one_length_and_cover_the_video(n_frames, clip_frames, count):
    windows = clip_windows(n_frames, settings(clip_frames, clips_per_video=count))
    assert 1 <= len(windows) <= count
    assert len(set(windows)) == len(windows)
    lengths = {stop - start for start, stop in windows}
    assert lengths == {min(n_frames, max(clip_frames, -(-n_frames // count)))}
    assert windows[0].start == 0
    assert windows[-1].stop == n_frames
    if len(windows) * clip_frames >= n_frames:
        assert {frame for window in windows for frame in range(*window)} == set(range(n_frames))


@pytest.mark.parametrize(
    ("n_frames", "expected"),
    [(3, [(0, 3)]), (4, [(0, 4)]), (8, [(0, 4), (4, 8)]), (9, [(0, 4), (2, 6), (5, 9)])],
)
def test_the_fewest_windows_over_time_cover_the_video(n_frames, expected):
    assert windows_over_time(n_frames, settings(4)) == expected


@pytest.mark.parametrize(
    ("extract", "expected"),
    [
        (settings(4, "head", stride=3), 4),
        (settings(4, "uniform"), 4),
        (settings(4, "stride", stride=1), 4),
        (settings(4, "stride", stride=3), 10),
    ],
)
def test_a_window_over_time_is_as_long_as_a_clip_without_padding(extract, expected):
    start, stop = windows_over_time(100, extract)[0]
    assert stop - start == expected
    assert make_clip(np.zeros((expected, 2, 2, 3), np.uint8), extract).mask.all()
    assert not make_clip(np.zeros((expected - 1, 2, 2, 3), np.uint8), extract).mask.all()


@pytest.mark.parametrize(
    ("n_frames", "extract", "expected"),
    [
        (9, settings(3), [[1, 4, 7]]),
        (9, settings(3, clips_per_video=3), [[0, 1, 2], [3, 4, 5], [6, 7, 8]]),
        (12, settings(3, clips_per_video=2), [[1, 3, 5], [7, 9, 11]]),
        (9, settings(3, "head", clips_per_video=2), [[0, 1, 2], [4, 5, 6]]),
        (9, settings(3, "stride", stride=2, clips_per_video=2), [[0, 2, 4], [4, 6, 8]]),
        (3, settings(3, clips_per_video=2), [[0, 1, 2]]),
        (4, settings(3, clips_per_video=9), [[0, 1, 2], [1, 2, 3]]),
    ],
)
def test_each_window_gives_a_clip(n_frames, extract, expected):
    clips = make_clips(numbered_frames(n_frames, height=2, width=2), extract)
    assert [numbers_in(clip.frames) for clip in clips] == expected


@given(
    st.integers(1, 120),
    st.integers(1, 12),
    st.sampled_from(["uniform", "stride", "head"]),
    st.integers(1, 4),
    st.integers(1, 5),
    st.booleans(),
)
def test_clips_need_the_used_frames_and_no_others(
    n_frames, clip_frames, sampling, stride, count, timeline
):
    extract = settings(clip_frames, sampling, stride, count)
    used = used_frames(n_frames, extract, timeline=timeline)
    windows = clip_windows(n_frames, extract)
    windows += windows_over_time(n_frames, extract) if timeline else []
    numbers = np.arange(n_frames, dtype=np.uint8).reshape(-1, 1, 1, 1)
    clips = [make_clip(numbers[window.start : window.stop], extract) for window in windows]
    seen = {number for clip in clips for number in clip.frames[clip.mask].ravel().tolist()}
    assert used == sorted(seen)


def test_a_video_shorter_than_a_clip_gives_one_padded_clip():
    (clip,) = make_clips(numbered_frames(2), settings(3, clips_per_video=4))
    assert clip.mask.tolist() == [True, True, False]

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.clips.sampling import ClipSpec, make_clip
from pipeline.clips.windows import frames_spanned, windows, windows_over_time


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

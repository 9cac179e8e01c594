import numpy as np
import pytest

from pipeline.clips.sampling import ClipSpec, frame_indices, make_clip


def numbered(n: int):
    """n frames of 2 x 2 pixels; every pixel of frame k is k + 1, so no real frame is black."""
    return np.broadcast_to(np.arange(1, n + 1, dtype=np.uint8)[:, None, None, None], (n, 2, 2, 3))


@pytest.mark.parametrize(
    ("n", "spec", "indices"),
    [
        (3, ClipSpec(5, "head"), [0, 1, 2]),
        (9, ClipSpec(5, "head"), [0, 1, 2, 3, 4]),
        (9, ClipSpec(5, "stride", stride=2), [0, 2, 4, 6, 8]),
        (9, ClipSpec(3, "stride", stride=2), [0, 2, 4]),
        (4, ClipSpec(5, "stride", stride=3), [0, 3]),
        (5, ClipSpec(5, "uniform"), [0, 1, 2, 3, 4]),
        (3, ClipSpec(5, "uniform"), [0, 1, 2]),
        # Ten frames in 5 parts of two: the later of the two middle ones.
        (10, ClipSpec(5, "uniform"), [1, 3, 5, 7, 9]),
        # Nine frames in 3 parts of three: the middle of each.
        (9, ClipSpec(3, "uniform"), [1, 4, 7]),
        (100, ClipSpec(1, "uniform"), [50]),
    ],
)
def test_frame_indices(n, spec, indices):
    assert frame_indices(n, spec).tolist() == indices


def test_a_short_clip_is_padded_on_the_right_and_masked():
    clip = make_clip(numbered(2), ClipSpec(4, "uniform"))
    assert clip.frames.shape == (4, 2, 2, 3)
    assert clip.frames.dtype == np.uint8
    assert clip.frames[:, 0, 0, 0].tolist() == [1, 2, 0, 0]
    assert clip.mask.dtype == np.bool_
    assert clip.mask.tolist() == [True, True, False, False]


def test_a_long_clip_has_no_padding():
    clip = make_clip(numbered(9), ClipSpec(3, "uniform"))
    assert clip.frames[:, 0, 0, 0].tolist() == [2, 5, 8]
    assert clip.mask.all()


def test_a_clip_without_a_frame_is_refused():
    with pytest.raises(ValueError, match="at least one real frame"):
        make_clip(numbered(0), ClipSpec(3, "uniform"))

"""Where the clips of a long video begin and end."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.clips.sampling import Clip, ClipSpec, make_clip


class Window(NamedTuple):
    """The frames from ``start`` up to and without ``stop`` of a video, counted from 0."""

    start: int
    stop: int


def windows(n_frames: int, *, shortest: int, count: int) -> list[Window]:
    """Cut a video of ``n_frames`` into at most ``count`` windows of one length, in their order.

    They are its ``count`` equal parts, but never shorter than ``shortest``: then they overlap
    evenly, the first at the first frame and the last at the last one, or there are fewer, so
    that no two are the same. One window is the whole video, and so is that of a video of no
    more than ``shortest`` frames.

    Args:
        shortest: frames that a clip needs not to be padded, see ``frames_spanned``.

    >>> windows(10, shortest=4, count=2)
    [Window(start=0, stop=5), Window(start=5, stop=10)]
    >>> windows(10, shortest=4, count=3)
    [Window(start=0, stop=4), Window(start=3, stop=7), Window(start=6, stop=10)]
    """
    length = min(n_frames, max(shortest, -(-n_frames // count)))
    last_start = n_frames - length
    steps = min(count - 1, last_start)
    starts = [step * last_start // steps for step in range(steps + 1)] if steps else [0]
    return [Window(start, start + length) for start in starts]


def windows_over_time(n_frames: int, *, shortest: int) -> list[Window]:
    """Cover a video with as few windows of ``shortest`` frames as it takes.

    >>> windows_over_time(10, shortest=4)
    [Window(start=0, stop=4), Window(start=3, stop=7), Window(start=6, stop=10)]
    """
    return windows(n_frames, shortest=shortest, count=-(-n_frames // shortest))


def frames_spanned(spec: ClipSpec) -> int:
    """Return how many consecutive frames a clip without padding takes at least.

    >>> frames_spanned(ClipSpec(frames=4, sampling="stride", stride=3))
    10
    """
    return (spec.frames - 1) * spec.stride + 1 if spec.sampling == "stride" else spec.frames


def make_clips(frames: NDArray[np.uint8], spec: ClipSpec) -> list[Clip]:
    """Make the clips of a video: one of each of at most ``spec.clips_per_video`` windows.

    A video that one clip holds gives one.

    Args:
        frames: uint8 [N, H, W, 3], RGB.

    Raises:
        ValueError: there is no frame.
    """
    return [make_clip(part, spec) for part in parts_of_clips(frames, spec)]


def parts_of_clips(frames: NDArray[np.uint8], spec: ClipSpec) -> list[NDArray[np.uint8]]:
    """Return what ``make_clips`` makes clips of, as views of ``frames``, uint8 [N, H, W, 3]."""
    return [frames[window.start : window.stop] for window in _windows_of(len(frames), spec)]


def number_of_clips(n_frames: int, spec: ClipSpec) -> int:
    """Return how many clips ``make_clips`` makes of a video of so many frames."""
    return len(_windows_of(n_frames, spec))


def _windows_of(n_frames: int, spec: ClipSpec) -> list[Window]:
    return windows(n_frames, shortest=frames_spanned(spec), count=spec.clips_per_video)

"""Choose the windows and frames of a video's clips, and pad short clips.

A long video is cut into windows, at most ``clips_per_video``. Each window gives one clip of T
frames.
"""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.clips.settings import ExtractSection


class Clip(NamedTuple):
    """One clip of T frames.

    frames: uint8 [T, H, W, 3], RGB, zeros where the mask is False.
    mask: bool [T], True for a real frame, right-padded; mask[0] is True.
    side_inputs: [columns] by name of the model input; see common/side_inputs.py.
    """

    frames: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    side_inputs: Mapping[str, NDArray[Any]] = {}


class Window(NamedTuple):
    """The frames ``start`` to ``stop - 1`` of a video, counted from 0."""

    start: int
    stop: int


def clip_windows(n_frames: int, extract: ExtractSection) -> list[Window]:
    """Return the windows of a video's clips: at most ``clips_per_video``, in temporal order.

    The windows are equal parts of the video. If a part were shorter than a clip without padding,
    the windows have that length and overlap evenly; windows that would be equal are left out. A
    video that is not longer than one clip has one window. With sampling ``consecutive``, the
    windows are the fewest equal parts that are not longer than a clip.

    >>> clip_windows(10, ExtractSection(frames=4, clips_per_video=2))
    [Window(start=0, stop=5), Window(start=5, stop=10)]
    >>> clip_windows(10, ExtractSection(frames=4, clips_per_video=3))
    [Window(start=0, stop=4), Window(start=3, stop=7), Window(start=6, stop=10)]
    >>> clip_windows(10, ExtractSection(frames=4, sampling="consecutive"))
    [Window(start=0, stop=3), Window(start=3, stop=6), Window(start=6, stop=10)]
    """
    if extract.sampling == "consecutive":
        count = -(-n_frames // extract.frames)
        ends = [part * n_frames // count for part in range(count + 1)]
        return [Window(start, stop) for start, stop in pairwise(ends)]
    return _windows(n_frames, shortest=_frames_spanned(extract), count=extract.clips_per_video)


def windows_over_time(n_frames: int, extract: ExtractSection) -> list[Window]:
    """Return the fewest windows of the length of an unpadded clip that cover a video.

    >>> windows_over_time(10, ExtractSection(frames=4))
    [Window(start=0, stop=4), Window(start=3, stop=7), Window(start=6, stop=10)]
    """
    shortest = _frames_spanned(extract)
    return _windows(n_frames, shortest=shortest, count=-(-n_frames // shortest))


def used_frames(n_frames: int, extract: ExtractSection, *, timeline: bool = False) -> list[int]:
    """Return the indices of the frames that the clips of a video keep, ascending, each once.

    Args:
        timeline: also the frames of the clips of ``windows_over_time``.

    >>> used_frames(10, ExtractSection(frames=3, clips_per_video=2))
    [0, 2, 4, 5, 7, 9]
    """
    windows = clip_windows(n_frames, extract)
    if timeline:
        windows += windows_over_time(n_frames, extract)
    used: set[int] = set()
    for start, stop in windows:
        used.update((start + frame_indices(stop - start, extract)).tolist())
    return sorted(used)


def make_clips(frames: NDArray[np.uint8], extract: ExtractSection) -> list[Clip]:
    """Return the clips of a video, one for each of ``clip_windows``.

    Args:
        frames: uint8 [N, H, W, 3], RGB.

    Raises:
        ValueError: N is 0.
    """
    windows = clip_windows(len(frames), extract)
    return [make_clip(frames[window.start : window.stop], extract) for window in windows]


def make_clip(frames: NDArray[np.uint8], extract: ExtractSection) -> Clip:
    """Choose at most T of N frames and pad them on the right to T.

    Args:
        frames: uint8 [N, H, W, 3], RGB.

    Raises:
        ValueError: N is 0.
    """
    if len(frames) == 0:
        raise ValueError("frames: expected at least one real frame. Received: 0 frames")
    chosen = frames[frame_indices(len(frames), extract)]
    padded = np.zeros((extract.frames, *frames.shape[1:]), np.uint8)
    padded[: len(chosen)] = chosen
    return Clip(frames=padded, mask=np.arange(extract.frames) < len(chosen))


def frame_indices(n_frames: int, extract: ExtractSection) -> NDArray[np.int64]:
    """Return the indices of the frames that a clip keeps, at most T.

    ``head`` keeps the first T, ``stride`` every stride-th from the first, ``uniform`` the middle
    frame of each of T equal parts (all frames if N <= T). A window of ``consecutive`` has at most
    T frames, which are all kept.

    >>> frame_indices(10, ExtractSection(frames=4, sampling="uniform"))
    array([1, 3, 6, 8])
    >>> frame_indices(10, ExtractSection(frames=4, sampling="stride", stride=3))
    array([0, 3, 6, 9])
    """
    if extract.sampling == "stride":
        return np.arange(0, n_frames, extract.stride)[: extract.frames]
    if extract.sampling == "head" or n_frames <= extract.frames:
        return np.arange(min(n_frames, extract.frames))
    parts = np.arange(extract.frames)
    return (2 * parts + 1) * n_frames // (2 * extract.frames)


def _frames_spanned(extract: ExtractSection) -> int:
    """Return the number of consecutive frames that a clip without padding needs."""
    stride = extract.stride if extract.sampling == "stride" else 1
    return (extract.frames - 1) * stride + 1


def _windows(n_frames: int, *, shortest: int, count: int) -> list[Window]:
    length = min(n_frames, max(shortest, -(-n_frames // count)))
    last_start = n_frames - length
    steps = min(count - 1, last_start)
    starts = [step * last_start // steps for step in range(steps + 1)] if steps else [0]
    return [Window(start, start + length) for start in starts]

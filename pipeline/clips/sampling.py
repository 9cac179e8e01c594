"""Which frames of a video go into a clip, and how a short clip is padded."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Sampling = Literal["uniform", "stride", "head"]


@dataclass(frozen=True)
class ClipSpec:
    """How the N frames of a video become clips of T = ``frames`` frames."""

    frames: int
    sampling: Sampling
    stride: int = 1  # only for sampling "stride"
    clips_per_video: int = 1  # at most: see windows.make_clips


class Clip(NamedTuple):
    """One clip of T frames."""

    frames: NDArray[np.uint8]  # [T, H, W, 3], RGB, zeros where the mask is False
    mask: NDArray[np.bool_]  # [T], True for a real frame, right-padded, mask[0] is True


def make_clip(frames: NDArray[np.uint8], spec: ClipSpec) -> Clip:
    """Choose at most T of the N >= 1 frames of a video and pad them on the right to T.

    Args:
        frames: uint8 [N, H, W, 3], RGB.

    Raises:
        ValueError: there is no frame; a clip of nothing but padding has no class.
    """
    if len(frames) == 0:
        raise ValueError("A clip needs at least one real frame. Received: frames of length 0")
    chosen = frames[frame_indices(len(frames), spec)]
    padded = np.zeros((spec.frames, *frames.shape[1:]), np.uint8)
    padded[: len(chosen)] = chosen
    return Clip(frames=padded, mask=np.arange(spec.frames) < len(chosen))


def frame_indices(n_frames: int, spec: ClipSpec) -> NDArray[np.int64]:
    """Return the indices of the frames that a clip keeps, at most ``spec.frames`` of them.

    ``head`` takes the first T, ``stride`` every stride-th from the first, ``uniform`` the
    middle frame of each of T equal parts (all frames when there are no more than T).

    >>> frame_indices(10, ClipSpec(frames=4, sampling="uniform"))
    array([1, 3, 6, 8])
    >>> frame_indices(10, ClipSpec(frames=4, sampling="stride", stride=3))
    array([0, 3, 6, 9])
    """
    if spec.sampling == "stride":
        return np.arange(0, n_frames, spec.stride)[: spec.frames]
    if spec.sampling == "head" or n_frames <= spec.frames:
        return np.arange(min(n_frames, spec.frames))
    parts = np.arange(spec.frames)
    return (2 * parts + 1) * n_frames // (2 * spec.frames)

"""What test videos may have in common, for the slices of the evaluation."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.data_summary import DescribedVideo
from pipeline.evaluation.slices import Facts

_MOST_SIZES = 8  # of pictures; with more, they are told apart by their number of pixels


def video_facts(videos: Sequence[DescribedVideo], masks: NDArray[np.bool_]) -> Facts:
    """Return what is known of each video.

    Args:
        masks: bool [N, T], True for a real frame of the clip of each video.
    """
    columns = videos[0].extra if videos else {}
    return {
        "clip_frames": [float(count) for count in masks.sum(axis=1)],
        "padding_share": [_padding(float(share)) for share in 1 - masks.mean(axis=1)],
        "source_fps": [video.fps for video in videos],
        "resolution": _resolutions(videos),
        "duration_seconds": [video.seconds for video in videos],
        "codec": [video.codec or None for video in videos],
        **{
            f"extra.{column}": _numbers_or_texts([video.extra[column] for video in videos])
            for column in columns
        },
    }


def named(videos: Mapping[str, DescribedVideo], names: Sequence[str]) -> list[DescribedVideo]:
    """Return the videos of these names, in this order."""
    return [videos[name] for name in names]


def _padding(share: float) -> str:
    if share == 0:
        return "none"
    return "up to half" if share <= 0.5 else "more than half"


def _resolutions(videos: Sequence[DescribedVideo]) -> list[str | None] | list[float | None]:
    sizes = [video.size for video in videos]
    if len(set(sizes)) <= _MOST_SIZES:
        return [None if size is None else f"{size[0]}x{size[1]}" for size in sizes]
    return [None if size is None else float(size[0] * size[1]) for size in sizes]


def _numbers_or_texts(cells: Sequence[str]) -> list[str | None] | list[float | None]:
    """Read a column as numbers where all of its cells that are not empty are numbers."""
    try:
        numbers = [float(cell) if cell else None for cell in cells]
    except ValueError:
        return [cell or None for cell in cells]
    is_finite = all(number is None or math.isfinite(number) for number in numbers)
    return numbers if is_finite else [cell or None for cell in cells]

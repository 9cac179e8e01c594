"""Outputs of a model for clips on disk and in memory."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from pipeline.clips.arrays import ClipArrays
from pipeline.clips.batches import FrameOrder, evaluation_batches
from pipeline.clips.sampling import Clip
from pipeline.common.errors import PipelineError

# Frames that a model predicts at once, unless one clip has more. Memory grows with frames, not
# with clips.
MAX_BATCH_FRAMES = 256

_NAMES_SHOWN = 10
_CLIPS_WITHOUT_BAR = 500  # predicted in a few seconds


def clips_per_batch(n_frames: int) -> int:
    """Return how many clips of ``n_frames`` frames are predicted at once, at least one."""
    return max(1, MAX_BATCH_FRAMES // n_frames)


def predict_arrays(
    model: keras.Model, clips: ClipArrays, *, frame_order: FrameOrder | None = None
) -> NDArray[np.float64]:
    """Return the outputs float64 [N, ...] for the clips of a split, in their order.

    Args:
        frame_order: reorders the real frames of every clip.

    Raises:
        PipelineError: a clip has no real frame.
    """
    refuse_empty_clips(clips.masks(), clips.names)
    unused_targets = np.zeros(len(clips), np.int64)
    batch_size = clips_per_batch(len(clips.mask(0)))
    batches = evaluation_batches(
        clips, unused_targets, batch_size=batch_size, frame_order=frame_order
    )
    verbose = 1 if sys.stdout.isatty() and len(clips) > _CLIPS_WITHOUT_BAR else 0
    return np.asarray(model.predict(batches, verbose=verbose), np.float64)


def predict_clips(model: keras.Model, clips: Sequence[Clip]) -> NDArray[np.float64]:
    """Return the outputs float64 [N, ...] for clips in memory.

    Raises:
        PipelineError: a clip has no real frame.
    """
    # predict builds a data pipeline in every call: 200 ms for a clip that takes 11 ms.
    outputs = [model.predict_on_batch(clip_inputs(batch)) for batch in batches_of(clips)]
    return np.concatenate(outputs).astype(np.float64)


def batches_of(clips: Iterable[Clip]) -> Iterator[list[Clip]]:
    """Yield the clips in batches of ``clips_per_batch``; few clips are in memory at a time."""
    clips = iter(clips)
    for first in clips:
        yield [first, *islice(clips, clips_per_batch(len(first.mask)) - 1)]


def clip_inputs(clips: Sequence[Clip]) -> dict[str, NDArray[Any]]:
    """Return the inputs of a model for clips in memory.

    They are ``frames`` uint8 [N, T, H, W, C], ``mask`` bool [N, T], and side inputs [N, columns].

    Raises:
        PipelineError: a clip has no real frame.
    """
    mask = np.stack([clip.mask for clip in clips])
    refuse_empty_clips(mask, [f"clip {number}" for number in range(1, len(clips) + 1)])
    return {
        "frames": np.stack([clip.frames for clip in clips]),
        "mask": mask,
        **{
            name: np.stack([clip.side_inputs[name] for clip in clips])
            for name in clips[0].side_inputs
        },
    }


def refuse_empty_clips(masks: NDArray[np.bool_], names: Sequence[str]) -> None:
    """Refuse clips without a real frame.

    For such a clip, a mean over time is 0 / 0, and cuDNN's LSTM fails for the whole batch.

    Args:
        masks: bool [N, T], True for a real frame.
        names: names of the clips, for the message.

    Raises:
        PipelineError: a clip has no real frame.
    """
    empty = [name for name, mask in zip(names, masks, strict=True) if not mask.any()]
    if empty:
        shown = ", ".join(empty[:_NAMES_SHOWN]) + (", ..." if len(empty) > _NAMES_SHOWN else "")
        raise PipelineError(
            f"{shown}: no real frame. Expected at least one in every clip. Received: padding only. "
            "Remove the clip, or extract it again"
        )


def restore_order(
    outputs: NDArray[np.float64], masks: NDArray[np.bool_], frame_order: FrameOrder
) -> NDArray[np.float64]:
    """Return outputs [N, T, ...] of reordered frames in the order of the frames.

    Outputs of a repeated frame stay where they are.

    Args:
        masks: bool [N, T], True for a real frame.
        frame_order: as for ``predict_arrays``.
    """
    restored = outputs.copy()
    for clip, n_real in enumerate(masks.sum(axis=1).tolist()):
        places = np.argsort(frame_order(clip, n_real), kind="stable")
        restored[clip, :n_real] = outputs[clip, places]
    return restored


def shuffled_order(seed: int) -> FrameOrder:
    """Return an order that shuffles the frames of each clip, equal in every call."""

    def order(clip: int, frames: int) -> NDArray[np.int64]:
        return np.random.default_rng([seed, clip]).permutation(frames)

    return order


def reversed_order(_clip: int, frames: int) -> NDArray[np.int64]:
    """Reverse the frames of a clip."""
    return np.arange(frames)[::-1]


def one_frame_order(_clip: int, frames: int) -> NDArray[np.int64]:
    """Replace all frames of a clip by its middle frame."""
    return np.full(frames, frames // 2)

"""Probabilities from clips: the same call for evaluation and for serving."""

from collections.abc import Sequence

import keras
import numpy as np
from numpy.typing import NDArray

from pipeline.clips.dataset import FrameOrder, evaluation_dataset
from pipeline.clips.sampling import Clip
from pipeline.clips.shards import ClipArrays

_BATCH_SIZE = 32


def predict_arrays(
    model: keras.Model, clips: ClipArrays, *, frame_order: FrameOrder | None = None
) -> NDArray[np.float64]:
    """Return probabilities float64 [N, C] of the clips of a split, in their order.

    Args:
        frame_order: shows the model the real frames of every clip in another order.
    """
    unused_labels = np.zeros(len(clips), np.int64)
    dataset = evaluation_dataset(
        clips, unused_labels, batch_size=_BATCH_SIZE, frame_order=frame_order
    )
    return np.asarray(model.predict(dataset, verbose=0), np.float64)


def shuffled_order(seed: int) -> FrameOrder:
    """Return an order that shuffles the frames of each clip, the same way at every call."""

    def order(clip: int, frames: int) -> NDArray[np.int64]:
        return np.random.default_rng([seed, clip]).permutation(frames)

    return order


def predict_clips(model: keras.Model, clips: Sequence[Clip]) -> NDArray[np.float64]:
    """Return probabilities float64 [N, C] of clips in memory."""
    inputs = {
        "frames": np.stack([clip.frames for clip in clips]),
        "mask": np.stack([clip.mask for clip in clips]),
    }
    return np.asarray(model.predict(inputs, batch_size=_BATCH_SIZE, verbose=0), np.float64)

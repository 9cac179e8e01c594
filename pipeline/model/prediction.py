"""Probabilities from clips: the same call for evaluation and for serving."""

from collections.abc import Sequence

import keras
import numpy as np
from numpy.typing import NDArray

from pipeline.base.errors import PipelineError
from pipeline.clips.dataset import FrameOrder, evaluation_dataset
from pipeline.clips.sampling import Clip
from pipeline.clips.shards import ClipArrays
from pipeline.model.attention import WEIGHTS_LAYER
from pipeline.model.masking import refuse_empty_clips

_BATCH_SIZE = 32


def predict_arrays(
    model: keras.Model, clips: ClipArrays, *, frame_order: FrameOrder | None = None
) -> NDArray[np.float64]:
    """Return probabilities float64 [N, C] of the clips of a split, in their order.

    Args:
        frame_order: shows the model the real frames of every clip in another order.

    Raises:
        PipelineError: a clip has no real frame; the message has its name.
    """
    refuse_empty_clips(clips.masks(), clips.names)
    unused_labels = np.zeros(len(clips), np.int64)
    dataset = evaluation_dataset(
        clips, unused_labels, batch_size=_BATCH_SIZE, frame_order=frame_order
    )
    return np.asarray(model.predict(dataset, verbose=0), np.float64)


def mean_of_videos(of_clips: NDArray[np.float64], videos: NDArray[np.int64]) -> NDArray[np.float64]:
    """Average the probabilities of the clips of each video.

    Args:
        of_clips: float64 [N, C].
        videos: int64 [N], the number of the video of each clip: every one from 0 to V - 1.

    Returns:
        float64 [V, C]; that of a video with one clip is that clip's, bit for bit.
    """
    clips_of = np.bincount(videos)
    sums = np.zeros((len(clips_of), of_clips.shape[1]))
    np.add.at(sums, videos, of_clips)
    return sums / clips_of[:, None]


def shuffled_order(seed: int) -> FrameOrder:
    """Return an order that shuffles the frames of each clip, the same way at every call."""

    def order(clip: int, frames: int) -> NDArray[np.int64]:
        return np.random.default_rng([seed, clip]).permutation(frames)

    return order


def reversed_order(_clip: int, frames: int) -> NDArray[np.int64]:
    """Put the frames of a clip last to first."""
    return np.arange(frames)[::-1]


def one_frame_order(_clip: int, frames: int) -> NDArray[np.int64]:
    """Show the middle frame of a clip in place of all others."""
    return np.full(frames, frames // 2)


def predict_clips(model: keras.Model, clips: Sequence[Clip]) -> NDArray[np.float64]:
    """Return probabilities float64 [N, C] of clips in memory.

    Raises:
        PipelineError: a clip has no real frame.
    """
    inputs = clip_inputs(clips)
    # predict would set up a data pipeline at every call: 200 ms for a clip that takes 11.
    found = [
        model.predict_on_batch(
            {name: array[start : start + _BATCH_SIZE] for name, array in inputs.items()}
        )
        for start in range(0, len(clips), _BATCH_SIZE)
    ]
    return np.concatenate(found).astype(np.float64)


def has_attention(model: keras.Model) -> bool:
    """Whether ``attention_weights`` has something to read."""
    return WEIGHTS_LAYER in [layer.name for layer in model.layers]


def attention_weights(model: keras.Model, clips: Sequence[Clip]) -> NDArray[np.float64]:
    """Return float64 [N, T]: how much each frame counts for a model with attention over time.

    The weights of a clip sum to 1; those of padding are 0.

    Raises:
        PipelineError: the model has no attention, or a clip has no real frame.
    """
    if not has_attention(model):
        raise PipelineError(
            "Expected a model with model.temporal.summary: attention. Received one without the "
            f"layer {WEIGHTS_LAYER}."
        )
    weights = keras.Model(model.input, model.get_layer(WEIGHTS_LAYER).output)
    inputs = clip_inputs(clips)
    return np.asarray(weights.predict(inputs, batch_size=_BATCH_SIZE, verbose=0), np.float64)


def clip_inputs(clips: Sequence[Clip]) -> dict[str, NDArray[np.uint8] | NDArray[np.bool_]]:
    """Return what a classifier takes of clips in memory.

    Raises:
        PipelineError: a clip has no real frame.
    """
    mask = np.stack([clip.mask for clip in clips])
    refuse_empty_clips(mask, [f"clip {number}" for number in range(1, len(clips) + 1)])
    return {"frames": np.stack([clip.frames for clip in clips]), "mask": mask}

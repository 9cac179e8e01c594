"""Clips as a tf.data pipeline. The one module of this package that imports TensorFlow."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from pipeline.clips.shards import ClipArrays

Inputs = dict[str, tf.Tensor]
# Changes one clip: (frames uint8 [T, H, W, C], mask bool [T], label int64 [], seed int32 [2])
# -> frames, label.
Augment = Callable[[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]
# Another order for the real frames of a clip: (index of the clip, real frames) -> their indices.
FrameOrder = Callable[[int, int], NDArray[np.int64]]

_PARALLEL_READS = 2
_BATCHES_AHEAD = 2


def training_dataset(
    clips: ClipArrays,
    labels: NDArray[np.int64],
    *,
    batch_size: int,
    seed: int,
    augment: Augment | None = None,
) -> tf.data.Dataset:
    """Yield batches in a new global order at every epoch, the same orders for the same seed.

    Each batch is ``({"frames": uint8 [B, T, H, W, C], "mask": bool [B, T]}, labels int64 [B])``.
    Indices are shuffled, not clips, so the shuffle is global and costs no memory.
    """
    order = tf.data.Dataset.range(len(clips)).shuffle(
        len(clips), seed=seed, reshuffle_each_iteration=True
    )
    draws = tf.data.Dataset.random(seed=seed, rerandomize_each_iteration=True)
    read = _reader(clips)

    def example(index: tf.Tensor, draw: tf.Tensor) -> tuple[Inputs, tf.Tensor]:
        frames, mask = read(index)
        label = tf.gather(labels, index)
        if augment is not None:
            clip_seed = tf.cast(tf.stack([seed, draw]), tf.int32)
            frames, label = augment(frames, mask, label, clip_seed)
        return {"frames": frames, "mask": mask}, label

    return _batched(tf.data.Dataset.zip((order, draws)), example, batch_size)


def evaluation_dataset(
    clips: ClipArrays,
    labels: NDArray[np.int64],
    *,
    batch_size: int,
    frame_order: FrameOrder | None = None,
) -> tf.data.Dataset:
    """Yield batches like those of ``training_dataset``, in the order of the clips.

    Args:
        frame_order: puts the real frames of every clip in another order, to see whether
            the model minds.
    """
    read = _reader(clips, frame_order)

    def example(index: tf.Tensor) -> tuple[Inputs, tf.Tensor]:
        frames, mask = read(index)
        return {"frames": frames, "mask": mask}, tf.gather(labels, index)

    return _batched(tf.data.Dataset.range(len(clips)), example, batch_size)


def _batched(
    indices: tf.data.Dataset, example: Callable[..., object], batch_size: int
) -> tf.data.Dataset:
    examples = indices.map(example, num_parallel_calls=_PARALLEL_READS)
    return examples.batch(batch_size).prefetch(_BATCHES_AHEAD)


def _reader(
    clips: ClipArrays, frame_order: FrameOrder | None = None
) -> Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
    frames_shape, mask_shape = clips.frames(0).shape, clips.mask(0).shape

    def load(index: np.int64) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        frames, mask = clips.frames(int(index)), clips.mask(int(index))
        if frame_order is None:
            return frames, mask
        real = int(mask.sum())
        order = np.concatenate([frame_order(int(index), real), np.arange(real, len(mask))])
        return frames[order], mask

    def read(index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        frames, mask = tf.numpy_function(load, [index], (tf.uint8, tf.bool), stateful=False)
        return tf.ensure_shape(frames, frames_shape), tf.ensure_shape(mask, mask_shape)

    return read

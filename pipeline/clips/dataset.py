"""Clips as a tf.data pipeline. The one module of this package that imports TensorFlow."""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

Inputs = dict[str, tf.Tensor]
# Changes one clip: (frames uint8 [T, H, W, C], mask bool [T], label int64 [], seed int32 [2])
# -> frames, label.
Augment = Callable[[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]
# Another order for the real frames of a clip: (index of the clip, real frames) -> their indices.
FrameOrder = Callable[[int, int], NDArray[np.int64]]

_PARALLEL_READS = 2
_BATCHES_AHEAD = 2
_BATCHES_OF_A_BUCKET = 8


class Steps(Protocol):
    """Clips in memory or memory-mapped: ``ClipArrays``, or the features of their frames."""

    @property
    def input_name(self) -> str:
        """Of the model's input that takes them."""

    def __len__(self) -> int: ...

    def frames(self, index: int) -> NDArray[Any]:
        """Return [T, ...] of one clip."""

    def mask(self, index: int) -> NDArray[np.bool_]:
        """Return bool [T], True for a real frame, right-padded."""

    def masks(self) -> NDArray[np.bool_]:
        """Return bool [N, T]."""


def training_dataset(
    clips: Steps,
    labels: NDArray[np.int64],
    *,
    batch_size: int,
    seed: int,
    augment: Augment | None = None,
    trim: bool = False,
) -> tf.data.Dataset:
    """Yield batches in a new global order at every epoch, the same orders for the same seed.

    Each batch is ``({"frames": uint8 [B, T, H, W, C], "mask": bool [B, T]}, labels int64 [B])``;
    the first key is ``clips.input_name``. Indices are shuffled, not clips, so the shuffle is
    global and costs no memory.

    Args:
        augment: changes each clip.
        trim: makes batches of clips of like length and cuts each to the longest of its clips.
    """
    order = tf.data.Dataset.range(len(clips)).shuffle(
        len(clips), seed=seed, reshuffle_each_iteration=True
    )
    if trim:
        order = _bucketed(order, clips.masks().sum(axis=1), batch_size=batch_size, seed=seed)
    draws = tf.data.Dataset.random(seed=seed, rerandomize_each_iteration=True)
    read = _reader(clips)

    def example(index: tf.Tensor, draw: tf.Tensor) -> tuple[Inputs, tf.Tensor]:
        frames, mask = read(index)
        label = tf.gather(labels, index)
        if augment is not None:
            clip_seed = tf.cast(tf.stack([seed, draw]), tf.int32)
            frames, label = augment(frames, mask, label, clip_seed)
        return {clips.input_name: frames, "mask": mask}, label

    batches = _batched(tf.data.Dataset.zip((order, draws)), example, batch_size)
    return batches.map(_trimmed) if trim else batches


def evaluation_dataset(
    clips: Steps,
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
        return {clips.input_name: frames, "mask": mask}, tf.gather(labels, index)

    return _batched(tf.data.Dataset.range(len(clips)), example, batch_size)


def _bucketed(
    order: tf.data.Dataset, lengths: NDArray[np.int64], *, batch_size: int, seed: int
) -> tf.data.Dataset:
    """Sort each stretch of a few batches by length, then shuffle its batches.

    The last batch of an epoch may be smaller; where the shuffle moves it forward, those behind
    it share a few clips of other lengths. They are all still there, once.
    """

    def by_length(indices: tf.Tensor) -> tf.Tensor:
        return tf.gather(indices, tf.argsort(tf.gather(lengths, indices), stable=True))

    stretches = order.batch(_BATCHES_OF_A_BUCKET * batch_size).map(by_length)
    batches = stretches.unbatch().batch(batch_size)
    return batches.shuffle(_BATCHES_OF_A_BUCKET, seed=seed).unbatch()


def _trimmed(inputs: Inputs, labels: tf.Tensor) -> tuple[Inputs, tf.Tensor]:
    """Cut what is padding in all clips of a batch; masks are padded on the right."""
    longest = tf.reduce_max(tf.reduce_sum(tf.cast(inputs["mask"], tf.int32), axis=1))
    return {name: steps[:, :longest] for name, steps in inputs.items()}, labels


def _batched(
    indices: tf.data.Dataset, example: Callable[..., object], batch_size: int
) -> tf.data.Dataset:
    examples = indices.map(example, num_parallel_calls=_PARALLEL_READS)
    return examples.batch(batch_size).prefetch(_BATCHES_AHEAD)


def _reader(
    clips: Steps, frame_order: FrameOrder | None = None
) -> Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
    one, mask_shape = clips.frames(0), clips.mask(0).shape

    def load(index: np.int64) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        frames, mask = clips.frames(int(index)), clips.mask(int(index))
        if frame_order is None:
            return frames, mask
        real = int(mask.sum())
        order = np.concatenate([frame_order(int(index), real), np.arange(real, len(mask))])
        return frames[order], mask

    def read(index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        frames, mask = tf.numpy_function(load, [index], (one.dtype, tf.bool), stateful=False)
        return tf.ensure_shape(frames, one.shape), tf.ensure_shape(mask, mask_shape)

    return read

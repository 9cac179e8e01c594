"""Batch clips with tf.data. The only module of this package that imports TensorFlow."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

Inputs = dict[str, tf.Tensor]
# Changes one clip: (frames uint8 [T, H, W, C], mask bool [T], encoded target, seed int32 [2])
# -> (frames, encoded target).
Augment = Callable[[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]
# Turns one clip into an example of the model that is fitted; see ``Task.training_example``:
# (inputs, encoded target, seed int32 [2]) -> (inputs, target).
Prepare = Callable[[Inputs, tf.Tensor, tf.Tensor], tuple[Inputs, tf.Tensor]]
# Reorders the real frames of a clip: (index of the clip, number of real frames) -> their indices.
FrameOrder = Callable[[int, int], NDArray[np.int64]]

_PARALLEL_READS = 2
_PREFETCHED_BATCHES = 2


class ClipSource(Protocol):
    """Clips in memory or on disk: ``ClipArrays``, or the stored features of their frames."""

    def side_arrays(self) -> Mapping[str, NDArray[Any]]:
        """Return the side inputs [N, columns] by name of the model input."""

    def __len__(self) -> int: ...

    def frame_inputs(self, index: int) -> Mapping[str, NDArray[Any]]:
        """Return the arrays [T, ...] of one clip by name of the model input."""

    def mask(self, index: int) -> NDArray[np.bool_]:
        """Return bool [T], True for a real frame, right-padded."""


def training_batches(
    clips: ClipSource,
    encoded: NDArray[Any],
    *,
    batch_size: int,
    seed: int,
    augment: Augment | None = None,
    prepare: Prepare | None = None,
) -> tf.data.Dataset:
    """Return batches in a new random order in every epoch; a seed determines the orders.

    Each batch is ``({"frames": uint8 [B, T, H, W, C], "mask": bool [B, T]}, encoded [B, ...])``;
    the inputs are ``clips.frame_inputs``, the mask and ``clips.side_arrays``. Indices are shuffled,
    not clips, so the shuffle covers all clips without loading them.

    Args:
        encoded: [N, ...], ``task.encode`` of the targets.
        augment: changes the input ``frames`` of each clip.
        prepare: changes each example, after ``augment``.
    """
    order = tf.data.Dataset.range(len(clips)).shuffle(
        len(clips), seed=seed, reshuffle_each_iteration=True
    )
    draws = tf.data.Dataset.random(seed=seed, rerandomize_each_iteration=True)
    read, side_inputs = _reader(clips), clips.side_arrays()

    def example(index: tf.Tensor, draw: tf.Tensor) -> tuple[Inputs, tf.Tensor]:
        inputs = {**read(index), **_rows(side_inputs, index)}
        target = tf.gather(encoded, index)
        clip_seed = tf.cast(tf.stack([seed, draw]), tf.int32)
        if augment is not None:
            frames, target = augment(inputs["frames"], inputs["mask"], target, clip_seed)
            inputs["frames"] = frames
        return (inputs, target) if prepare is None else prepare(inputs, target, clip_seed)

    return _batched(tf.data.Dataset.zip((order, draws)), example, batch_size)


def evaluation_batches(
    clips: ClipSource,
    encoded: NDArray[Any],
    *,
    batch_size: int,
    frame_order: FrameOrder | None = None,
    prepare: Prepare | None = None,
) -> tf.data.Dataset:
    """Return batches like those of ``training_batches``, in the order of the clips.

    Args:
        encoded: [N, ...], ``task.encode`` of the targets.
        frame_order: reorders the real frames of every clip, to test whether the model uses
            their order.
        prepare: changes each example; the seed is the same in every call.
    """
    read, side_inputs = _reader(clips, frame_order), clips.side_arrays()

    def example(index: tf.Tensor) -> tuple[Inputs, tf.Tensor]:
        inputs = {**read(index), **_rows(side_inputs, index)}
        target = tf.gather(encoded, index)
        if prepare is None:
            return inputs, target
        return prepare(inputs, target, tf.cast(tf.stack([0, index]), tf.int32))

    return _batched(tf.data.Dataset.range(len(clips)), example, batch_size)


def _rows(arrays: Mapping[str, NDArray[Any]], index: tf.Tensor) -> Inputs:
    return {name: tf.gather(array, index) for name, array in arrays.items()}


def _batched(
    indices: tf.data.Dataset, example: Callable[..., object], batch_size: int
) -> tf.data.Dataset:
    examples = indices.map(example, num_parallel_calls=_PARALLEL_READS)
    return examples.batch(batch_size).prefetch(_PREFETCHED_BATCHES)


def _reader(
    clips: ClipSource, frame_order: FrameOrder | None = None
) -> Callable[[tf.Tensor], Inputs]:
    first = {**clips.frame_inputs(0), "mask": clips.mask(0)}

    def load(index: np.int64) -> list[NDArray[Any]]:
        arrays, mask = clips.frame_inputs(int(index)).values(), clips.mask(int(index))
        if frame_order is None:
            return [*arrays, mask]
        n_real = int(mask.sum())
        order = np.concatenate([frame_order(int(index), n_real), np.arange(n_real, len(mask))])
        return [*(array[order] for array in arrays), mask]

    def read(index: tf.Tensor) -> Inputs:
        dtypes = [array.dtype for array in first.values()]
        arrays = tf.numpy_function(load, [index], dtypes, stateful=False)
        return {
            name: tf.ensure_shape(array, first[name].shape)
            for name, array in zip(first, arrays, strict=True)
        }

    return read

"""Batch clips with tf.data. The only module of this package that imports TensorFlow."""

from collections.abc import Callable, Iterator, Mapping
from math import lcm
from typing import Any, NamedTuple, Protocol

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
_ITERATORS_AN_EPOCH = 2  # that EpochIterator of Keras 3.15 creates of a dataset of known size


class Shares(NamedTuple):
    """The shares of every batch that a process reads: one for each of its replicas of the model.

    first, n: number of its first replica, from 0, and how many it has.
    total: replicas of all processes.
    """

    first: int
    n: int
    total: int


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
    shares: Shares | None = None,
    first_epoch: int = 0,
) -> tf.data.Dataset:
    """Return batches in a new random order in every epoch; a seed determines the orders.

    Each batch is ``({"frames": uint8 [B, T, H, W, C], "mask": bool [B, T]}, encoded [B, ...])``;
    the inputs are ``clips.frame_inputs``, the mask and ``clips.side_arrays``. Indices are shuffled,
    not clips, so the shuffle covers all clips without loading them.

    Args:
        encoded: [N, ...], ``task.encode`` of the targets.
        augment: changes the input ``frames`` of each clip.
        prepare: changes each example, after ``augment``.
        shares: return only these shares of the batches that are returned without it, one element
            a share, in order, and epoch after epoch without an end. See ``share_of``.
        first_epoch: the epoch to begin with, from 0.
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

    pairs = tf.data.Dataset.zip((order, draws))
    for _ in range(_ITERATORS_AN_EPOCH * first_epoch):
        iter(pairs)  # each iterator has an order of its own
    if shares is None:
        return _batched(pairs, example, batch_size)
    return _shared(lambda: _epochs(pairs, batch_size), example, shares, n_values=2)


def evaluation_batches(
    clips: ClipSource,
    encoded: NDArray[Any],
    *,
    batch_size: int,
    frame_order: FrameOrder | None = None,
    prepare: Prepare | None = None,
    shares: Shares | None = None,
) -> tf.data.Dataset:
    """Return batches like those of ``training_batches``, in the order of the clips.

    Args:
        encoded: [N, ...], ``task.encode`` of the targets.
        frame_order: reorders the real frames of every clip, to test whether the model uses
            their order.
        prepare: changes each example; the seed is the same in every call.
        shares: as for ``training_batches``, but of one epoch.
    """
    read, side_inputs = _reader(clips, frame_order), clips.side_arrays()

    def example(index: tf.Tensor) -> tuple[Inputs, tf.Tensor]:
        inputs = {**read(index), **_rows(side_inputs, index)}
        target = tf.gather(encoded, index)
        if prepare is None:
            return inputs, target
        return prepare(inputs, target, tf.cast(tf.stack([0, index]), tf.int32))

    if shares is None:
        return _batched(tf.data.Dataset.range(len(clips)), example, batch_size)
    batches = np.split(np.arange(len(clips)), range(batch_size, len(clips), batch_size))
    return _shared(lambda: ((batch,) for batch in batches), example, shares, n_values=1)


def share_of(batch: NDArray[Any], replica: int, replicas: int) -> NDArray[Any]:
    """Return the rows of ``batch`` for one of ``replicas``.

    The shares together are the batch, in order; their sizes differ by at most one. A batch with
    fewer rows than replicas is repeated as a whole until all shares have the same size: so the
    mean over all shares stays the mean over the batch.

    >>> [share_of(np.arange(5), replica, 2).tolist() for replica in range(2)]
    [[0, 1], [2, 3, 4]]
    >>> [share_of(np.arange(2), replica, 3).tolist() for replica in range(3)]
    [[0, 1], [0, 1], [0, 1]]
    """
    if len(batch) < replicas:
        batch = np.concatenate([batch] * (lcm(len(batch), replicas) // len(batch)))
    return batch[replica * len(batch) // replicas : (replica + 1) * len(batch) // replicas]


def _rows(arrays: Mapping[str, NDArray[Any]], index: tf.Tensor) -> Inputs:
    return {name: tf.gather(array, index) for name, array in arrays.items()}


def _batched(
    indices: tf.data.Dataset, example: Callable[..., object], batch_size: int
) -> tf.data.Dataset:
    examples = indices.map(example, num_parallel_calls=_PARALLEL_READS)
    return examples.batch(batch_size).prefetch(_PREFETCHED_BATCHES)


def _epochs(pairs: tf.data.Dataset, batch_size: int) -> Iterator[tuple[NDArray[np.int64], ...]]:
    """Yield the batches of ``pairs``, epoch after epoch, in the orders of ``Model.fit``.

    Keras creates two iterators in each epoch, the second one after the last batch, and reads the
    first.
    """
    while True:
        yield from pairs.batch(batch_size).as_numpy_iterator()
        for _ in range(_ITERATORS_AN_EPOCH - 1):
            iter(pairs)


def _shared(
    batches: Callable[[], Iterator[tuple[NDArray[np.int64], ...]]],
    example: Callable[..., object],
    shares: Shares,
    *,
    n_values: int,
) -> tf.data.Dataset:
    """Return the shares of each batch of arguments of ``example``."""

    def rows() -> Iterator[tuple[NDArray[np.int64], ...]]:
        for batch in batches():
            for replica in range(shares.first, shares.first + shares.n):
                yield tuple(share_of(values, replica, shares.total) for values in batch)

    def batch_of(*values: tf.Tensor) -> tf.data.Dataset:
        of_share = tf.data.Dataset.from_tensor_slices(values)
        examples = of_share.map(example, num_parallel_calls=_PARALLEL_READS)
        return examples.batch(tf.size(values[0], tf.int64))

    signature = (tf.TensorSpec([None], tf.int64),) * n_values
    dataset = tf.data.Dataset.from_generator(rows, output_signature=signature)
    return dataset.flat_map(batch_of).prefetch(_PREFETCHED_BATCHES * shares.n)


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

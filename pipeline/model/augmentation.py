"""Random augmentation of training clips, equal for all frames of a clip."""

import tensorflow as tf

from pipeline.clips.batches import Augment
from pipeline.model.settings import AugmentationSection
from pipeline.tasks.task import Task


def clip_augmenter(augmentation: AugmentationSection, task: Task) -> Augment:
    """Return a function that augments one clip; equal seeds give equal changes.

    Raises:
        PipelineError: ``flip_swaps`` has a name that is unknown to ``task``.
    """
    task.check_mirror(augmentation.flip_swaps)

    def augment(
        frames: tf.Tensor, mask: tf.Tensor, target: tf.Tensor, seed: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        draws = tf.random.stateless_uniform([5], seed, minval=-1.0, maxval=1.0)
        if augmentation.shift > 0:
            frames = _shift(frames, draws[0:2] * augmentation.shift)
        if augmentation.brightness > 0 or augmentation.contrast > 0:
            offset = draws[2] * augmentation.brightness * 255.0
            frames = _change_tone(frames, mask, offset, 1.0 + draws[3] * augmentation.contrast)
        if augmentation.flip:
            is_mirrored = draws[4] > 0
            frames = tf.where(is_mirrored, tf.reverse(frames, axis=[2]), frames)
            mirrored = task.mirrored(target, augmentation.flip_swaps)
            target = tf.where(is_mirrored, mirrored, target)
        return frames, target

    return augment


def _shift(frames: tf.Tensor, fractions: tf.Tensor) -> tf.Tensor:
    """Shift frames [T, H, W, C] by fractions of H and W, with mirrored borders."""
    height, width = frames.shape[1], frames.shape[2]
    dy = tf.cast(tf.round(fractions[0] * height), tf.int32)
    dx = tf.cast(tf.round(fractions[1] * width), tf.int32)
    rows = _mirror_outside(tf.range(height) - dy, height)
    columns = _mirror_outside(tf.range(width) - dx, width)
    return tf.gather(tf.gather(frames, rows, axis=1), columns, axis=2)


def _mirror_outside(indices: tf.Tensor, size: int) -> tf.Tensor:
    """Mirror indices at the borders 0 and size - 1: -1 -> 0, -2 -> 1, size -> size - 1."""
    mirrored = tf.where(indices < 0, -1 - indices, indices)
    return tf.where(mirrored >= size, 2 * size - 1 - mirrored, mirrored)


def _change_tone(
    frames: tf.Tensor, mask: tf.Tensor, offset: tf.Tensor, gain: tf.Tensor
) -> tf.Tensor:
    """Multiply real frames by ``gain`` around their mean and add ``offset``; padding stays 0."""
    pixels = tf.cast(frames, tf.float32)
    is_real = tf.cast(mask, tf.float32)[:, None, None, None]
    real_fraction = tf.reduce_mean(tf.cast(mask, tf.float32))
    mean = tf.reduce_mean(pixels * is_real) / real_fraction
    changed = ((pixels - mean) * gain + mean + offset) * is_real
    return tf.cast(tf.clip_by_value(tf.round(changed), 0.0, 255.0), tf.uint8)

"""Random changes of training clips, the same for every frame of a clip, so that motion stays."""

from collections.abc import Sequence
from dataclasses import dataclass

import tensorflow as tf

from pipeline.base.errors import PipelineError
from pipeline.clips.dataset import Augment


@dataclass(frozen=True)
class Augmentation:
    """How much a clip may be changed; all zeros and False change nothing."""

    shift: float  # up to this share of the height and of the width, edges mirrored
    brightness: float  # up to this share of the full range, added
    contrast: float  # up to this share, multiplied around the clip's mean
    flip: bool  # mirror left and right, every second clip
    flip_swaps: Sequence[Sequence[str]]  # pairs of classes that a mirror turns into each other

    @property
    def changes_clips(self) -> bool:
        return self.flip or max(self.shift, self.brightness, self.contrast) > 0


UNCHANGED = Augmentation(shift=0, brightness=0, contrast=0, flip=False, flip_swaps=())


def check_classes(augmentation: Augmentation, class_names: Sequence[str]) -> None:
    """Raise a PipelineError unless all classes that flip_swaps names exist."""
    _mirrored_labels(augmentation.flip_swaps, class_names)


def clip_augmenter(augmentation: Augmentation, class_names: Sequence[str]) -> Augment:
    """Return a function that changes one clip; equal seeds give equal changes.

    Raises:
        PipelineError: flip_swaps names a class that does not exist.
    """
    mirrored_label = tf.constant(_mirrored_labels(augmentation.flip_swaps, class_names), tf.int64)

    def augment(
        frames: tf.Tensor, mask: tf.Tensor, label: tf.Tensor, seed: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        draws = tf.random.stateless_uniform([5], seed, minval=-1.0, maxval=1.0)
        if augmentation.shift > 0:
            frames = _shifted(frames, draws[0:2] * augmentation.shift)
        if augmentation.brightness > 0 or augmentation.contrast > 0:
            offset = draws[2] * augmentation.brightness * 255.0
            frames = _toned(frames, mask, offset, 1.0 + draws[3] * augmentation.contrast)
        if augmentation.flip:
            is_mirrored = draws[4] > 0
            frames = tf.where(is_mirrored, tf.reverse(frames, axis=[2]), frames)
            label = tf.where(is_mirrored, tf.gather(mirrored_label, label), label)
        return frames, label

    return augment


def _mirrored_labels(swaps: Sequence[Sequence[str]], class_names: Sequence[str]) -> list[int]:
    position = {name: index for index, name in enumerate(class_names)}
    mirrored = list(range(len(class_names)))
    for one, other in swaps:
        for name in (one, other):
            if name not in position:
                raise PipelineError(
                    "train.augmentation.flip_swaps: expected names of classes "
                    f"({', '.join(class_names)}). Received: {name}"
                )
        mirrored[position[one]], mirrored[position[other]] = position[other], position[one]
    return mirrored


def _shifted(frames: tf.Tensor, shares: tf.Tensor) -> tf.Tensor:
    """Move all frames [T, H, W, C] by the same shares of H and W; mirror what comes in."""
    height, width = frames.shape[1], frames.shape[2]
    dy = tf.cast(tf.round(shares[0] * height), tf.int32)
    dx = tf.cast(tf.round(shares[1] * width), tf.int32)
    rows = _mirrored_indices(tf.range(height) - dy, height)
    columns = _mirrored_indices(tf.range(width) - dx, width)
    return tf.gather(tf.gather(frames, rows, axis=1), columns, axis=2)


def _mirrored_indices(indices: tf.Tensor, size: int) -> tf.Tensor:
    """Fold indices outside 0..size-1 back in: -1 -> 0, -2 -> 1, size -> size - 1."""
    folded = tf.where(indices < 0, -1 - indices, indices)
    return tf.where(folded >= size, 2 * size - 1 - folded, folded)


def _toned(frames: tf.Tensor, mask: tf.Tensor, offset: tf.Tensor, gain: tf.Tensor) -> tf.Tensor:
    """Change the tone of the real frames around their mean; the padding stays black."""
    pixels = tf.cast(frames, tf.float32)
    is_real = tf.cast(mask, tf.float32)[:, None, None, None]
    real_share = tf.reduce_mean(tf.cast(mask, tf.float32))
    middle = tf.reduce_mean(pixels * is_real) / real_share
    toned = ((pixels - middle) * gain + middle + offset) * is_real
    return tf.cast(tf.clip_by_value(tf.round(toned), 0.0, 255.0), tf.uint8)

"""Run the CNN on every real frame of a batch of clips.

Keras's own TimeDistributed (Keras 3) loops over time in Python: the graph has T copies of the
wrapped layer, and each copy also computes the padding. A training step then takes 1.5 to 4.3 times
as long (docs/models.md, benchmarks/train.py).
"""

from functools import reduce
from typing import Any, Literal

import keras
import tensorflow as tf

FEATURES_LAYER = "frame_features"  # name of the layer whose output is the frame features


@keras.saving.register_keras_serializable(package="pipeline")
class TimeDistributed(keras.layers.TimeDistributed):  # type: ignore[misc]  # Keras has no types
    """Apply a layer to every real frame of a batch of clips, in one call of the layer.

    The real frames of all clips are gathered into one batch, and the results are scattered back.
    The outputs of real frames equal those of Keras's own layer. Batch normalisation inside the
    layer takes its statistics from real frames only.

    XLA cannot compile a model with this layer, because the number of real frames is known at run
    time only. Keras's ``jit_compile="auto"`` does not try.

    >>> frames = keras.Input((None, 64, 64, 3))
    >>> mask = keras.Input((None,), dtype="bool")
    >>> TimeDistributed(keras.layers.Flatten())(frames, mask=mask).shape
    (None, None, 12288)

    Args:
        layer: the layer to apply to frames [R, ...], with R real frames in the batch.

    Call arguments:
        inputs: [B, T, ...], or a list of such tensors for a layer with several inputs.
        mask: bool [B, T], True for a real frame; at least one frame of the batch must be real.

    Returns:
        [B, T, ...], zeros where the mask is False.
    """

    def __init__(self, layer: keras.Layer, **kwargs: Any) -> None:
        super().__init__(layer, **kwargs)
        self.supports_jit = False
        self.autocast = False  # the wrapped layer casts its inputs

    def call(self, inputs: Any, mask: tf.Tensor) -> tf.Tensor:
        real = tf.where(tf.reshape(mask, (-1,)))  # int64 [R, 1]

        def real_frames(clips: tf.Tensor) -> tf.Tensor:
            return tf.gather_nd(tf.reshape(clips, (-1, *clips.shape[2:])), real)

        outputs = self.layer(keras.tree.map_structure(real_frames, inputs))
        frame_shape = tf.shape(outputs, tf.int64)[1:]
        all_frames = tf.concat([[tf.size(mask, tf.int64)], frame_shape], axis=0)
        outputs = tf.scatter_nd(real, outputs, all_frames)
        return tf.reshape(outputs, tf.concat([tf.shape(mask, tf.int64), frame_shape], axis=0))

    def _get_child_input_shape(self, input_shape: Any) -> Any:
        # Add and Concatenate have a list of shapes.
        return keras.tree.map_shape_structure(super()._get_child_input_shape, input_shape)

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        frames = keras.tree.map_shape_structure(
            keras.KerasTensor, self._get_child_input_shape(input_shape)
        )
        # Unlike compute_output_shape, it works for every layer, such as LayerScale in ConvNeXt.
        n_frames, *frame_shape = self.layer.compute_output_spec(frames).shape
        first = input_shape[0] if isinstance(input_shape[0], tuple | list) else input_shape
        return (n_frames, first[1], *frame_shape)


def over_frames(
    encoder: keras.Sequential,
    frames: keras.KerasTensor,
    mask: keras.KerasTensor,
    *,
    wrap: Literal["whole", "per_layer"],
) -> keras.KerasTensor:
    """Run ``encoder`` on every real frame of ``frames`` [B, T, H, W, C].

    ``whole`` puts the encoder into one TimeDistributed. ``per_layer`` puts each of its layers
    into its own, so the model summary lists them all. The outputs are the same; ``per_layer`` is
    slower, because every layer gathers and scatters the frames.

    Returns:
        [B, T, ...], zeros where ``mask`` [B, T] is False.
    """
    if wrap == "whole":
        return TimeDistributed(encoder, name=FEATURES_LAYER)(frames, mask=mask)
    last = inner_layers(encoder)[-1]

    def wrapped(layer: keras.Operation, *args: Any, **kwargs: Any) -> keras.KerasTensor:
        if isinstance(layer, keras.Sequential):
            return reduce(lambda steps, inner: wrapped(inner, steps), layer.layers, args[0])
        if isinstance(layer, keras.Model):
            return layer._run_through_graph(args, call_fn=wrapped)
        if not isinstance(layer, keras.Layer):
            return layer(*args, **kwargs)  # arithmetic, such as x + 3 in MobileNetV3
        name = FEATURES_LAYER if layer is last else layer.name
        return TimeDistributed(layer, name=name)(*args, mask=mask)

    return wrapped(encoder, frames)


def inner_layers(layer: keras.Layer) -> list[keras.Layer]:
    """Return the layers inside ``layer``, in order, including those of inner models."""
    if isinstance(layer, keras.layers.TimeDistributed):
        return inner_layers(layer.layer)
    if isinstance(layer, keras.Model):
        return [leaf for inner in layer.layers for leaf in inner_layers(inner)]
    return [layer]

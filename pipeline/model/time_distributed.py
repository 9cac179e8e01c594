"""Run the CNN on every real frame of a batch of clips.

Keras's own TimeDistributed (Keras 3) loops over time in Python: T copies of the wrapped layer in
the graph, each of which also sees the padding. A training step then takes 2.4 to 4.3 times as
long (benchmarks/train.py).
"""

from functools import reduce
from typing import Any, Literal

import keras
import tensorflow as tf

FEATURES_LAYER = "frame_features"  # name of the layer whose output is the frame features

_Shape = tuple[int | None, ...]


@keras.saving.register_keras_serializable(package="pipeline")
class TimeDistributed(keras.layers.TimeDistributed):  # type: ignore[misc]  # Keras has no types
    """Apply a layer to every real frame of a batch of clips, in one call of the layer.

    Time is folded into the batch, the frames that the mask marks as real are gathered, the layer
    runs on all of them, and the results are scattered back. The outputs of real frames equal
    those of Keras's own layer, and batch normalisation inside the layer takes its statistics from
    real frames only.

    The number of real frames is known at run time only, so XLA cannot compile a model with this
    layer; Keras's ``jit_compile="auto"`` does not try.

    >>> frames = keras.Input((None, 64, 64, 3))
    >>> mask = keras.Input((None,), dtype="bool")
    >>> TimeDistributed(keras.layers.Flatten())(frames, mask=mask).shape
    (None, None, 12288)

    Args:
        layer: the layer to apply to each frame; it sees [R, ...] with R real frames.

    Call arguments:
        inputs: [B, T, ...], or several such tensors for a layer with several inputs.
        mask: bool [B, T], True for a real frame; None when all frames are real. At least
            one frame of the batch must be real.

    Returns:
        [B, T, ...], zeros where the mask is False.
    """

    def __init__(self, layer: keras.Layer, **kwargs: Any) -> None:
        super().__init__(layer, **kwargs)
        self.supports_jit = False
        self.autocast = False  # the wrapped layer casts its inputs

    def call(
        self, inputs: Any, training: bool | None = None, mask: tf.Tensor | None = None
    ) -> tf.Tensor:
        batch_and_time = tf.shape(keras.tree.flatten(inputs)[0])[:2]
        frames = keras.tree.map_structure(_fold_time, inputs)
        if mask is None:
            outputs = self._run(frames, training)
        else:
            real = tf.where(tf.reshape(mask, (-1,)))  # int64 [R, 1]
            frames = keras.tree.map_structure(lambda one: tf.gather_nd(one, real), frames)
            outputs = self._run(frames, training)
            shape = tf.concat([[tf.size(mask)], tf.shape(outputs)[1:]], axis=0)
            outputs = tf.scatter_nd(real, outputs, tf.cast(shape, tf.int64))
        return tf.reshape(outputs, tf.concat([batch_and_time, tf.shape(outputs)[1:]], axis=0))

    def _run(self, frames: Any, training: bool | None) -> tf.Tensor:
        if self.layer._call_has_training_arg:
            return self.layer(frames, training=training)
        return self.layer(frames)

    def _get_child_input_shape(self, input_shape: Any) -> Any:
        child_shape = super()._get_child_input_shape
        if _has_several_inputs(input_shape):
            return [child_shape(shape) for shape in input_shape]
        return child_shape(input_shape)

    def compute_output_shape(self, input_shape: Any) -> _Shape:
        frame_shape = _output_shape(self.layer, self._get_child_input_shape(input_shape))
        first = input_shape[0] if _has_several_inputs(input_shape) else input_shape
        return (frame_shape[0], first[1], *frame_shape[1:])


def over_frames(
    encoder: keras.Sequential,
    frames: keras.KerasTensor,
    mask: keras.KerasTensor,
    *,
    wrap: Literal["whole", "per_layer"],
) -> keras.KerasTensor:
    """Run ``encoder`` on every real frame of ``frames`` [B, T, H, W, C].

    ``whole`` puts the encoder into one TimeDistributed; ``per_layer`` puts each of its layers
    into its own, so that all appear in the summary of the model. The outputs are the same;
    ``per_layer`` is slower, because every layer gathers and scatters the frames.

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
            # The graph of the model with each of its layers wrapped.
            return layer._run_through_graph(args, call_fn=wrapped)
        if not isinstance(layer, keras.Layer):
            return layer(*args, **kwargs)  # arithmetic, such as x + 3 in MobileNetV3
        name = FEATURES_LAYER if layer is last else layer.name
        return TimeDistributed(layer, name=name)(*args, mask=mask)

    return wrapped(encoder, frames)


def inner_layers(layer: keras.Layer) -> list[keras.Layer]:
    """Return the layers inside ``layer``, in order, also those inside models and wrappers."""
    if isinstance(layer, keras.layers.TimeDistributed):
        return inner_layers(layer.layer)
    if isinstance(layer, keras.Model):
        return [leaf for inner in layer.layers for leaf in inner_layers(inner)]
    return [layer]


def _output_shape(layer: keras.Layer, input_shape: Any) -> _Shape:
    try:
        shape: _Shape = layer.compute_output_shape(input_shape)
    except NotImplementedError:  # LayerScale in ConvNeXt: Keras traces the call instead
        if _has_several_inputs(input_shape):
            inputs = [keras.KerasTensor(one) for one in input_shape]
        else:
            inputs = keras.KerasTensor(input_shape)
        shape = layer.compute_output_spec(inputs).shape
    return shape


def _has_several_inputs(shape: Any) -> bool:
    """Whether ``shape`` is a list of shapes, as of the inputs of Add."""
    return len(shape) > 0 and isinstance(shape[0], tuple | list)


def _fold_time(clips: tf.Tensor) -> tf.Tensor:
    """Reshape [B, T, ...] to [B * T, ...]."""
    return tf.reshape(clips, (-1, *clips.shape[2:]))

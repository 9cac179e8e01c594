"""TimeDistributed that runs its layer once, and only on real frames."""

import logging
from functools import cache
from typing import Any

import keras
import tensorflow as tf
from tensorflow.python.ops import control_flow_util

logger = logging.getLogger(__name__)

_Shape = tuple[int | None, ...]


@keras.saving.register_keras_serializable(package="pipeline")
class TimeDistributed(keras.layers.TimeDistributed):  # type: ignore[misc]
    """Apply a layer to every real frame of a batch of clips.

    Keras's own layer of this name (Keras 3) loops over time in Python: T copies of the
    wrapped layer in the graph, each of which also sees the padding. This one folds time
    into the batch, gathers the frames that the mask calls real, runs the wrapped layer on
    all of them at once and scatters the results back. The outputs for real frames are the
    same; the cost follows the number of real frames; and batch normalisation inside the
    wrapped layer takes its statistics from real frames only.

    XLA compiles only what has the same shape at every run, which the gathered frames have
    not. Keras therefore does not compile a model with this layer (``jit_compile`` of
    ``compile``). Inside a function that XLA compiles all the same, all frames run, padding as
    zeros: outputs and gradients are the same, but padding costs as much as real frames, and
    batch normalisation counts it while training. A warning says so, once.

    >>> frames = keras.Input((None, 64, 64, 3))
    >>> mask = keras.Input((None,), dtype="bool")
    >>> TimeDistributed(keras.layers.Flatten())(frames, mask=mask).shape
    (None, None, 12288)

    Args:
        layer: the layer to apply to each frame; it sees [R, ...] with R real frames.

    Call arguments:
        inputs: [B, T, ...], or several such tensors for a layer that takes several.
        mask: bool [B, T], True for a real frame; None when all frames are real. At least
            one frame of the batch must be real.

    Returns:
        [B, T, ...], zeros where the mask is False.
    """

    def __init__(self, layer: keras.Layer, **kwargs: Any) -> None:
        super().__init__(layer, **kwargs)
        self.supports_jit = False  # the number of real frames is known only at run time
        self.autocast = False  # the layer inside casts what it takes

    def call(
        self, inputs: Any, training: bool | None = None, mask: tf.Tensor | None = None
    ) -> tf.Tensor:
        batch_and_time = tf.shape(keras.tree.flatten(inputs)[0])[:2]
        folded = keras.tree.map_structure(_folded, inputs)
        if mask is None:
            outputs = self._run(folded, training)
        elif _is_compiled_by_xla():
            _warn_of_folding()
            outputs = self._on_all_frames(folded, tf.reshape(mask, (-1,)), training)
        else:
            outputs = self._on_real_frames(folded, tf.reshape(mask, (-1,)), training)
        return tf.reshape(outputs, tf.concat([batch_and_time, tf.shape(outputs)[1:]], axis=0))

    def _on_real_frames(self, frames: Any, mask: tf.Tensor, training: bool | None) -> tf.Tensor:
        real = tf.where(mask)  # int64 [R, 1]
        gathered = keras.tree.map_structure(lambda one: tf.gather_nd(one, real), frames)
        features = self._run(gathered, training)
        shape = tf.concat([tf.shape(mask), tf.shape(features)[1:]], axis=0)
        return tf.scatter_nd(real, features, tf.cast(shape, tf.int64))

    def _on_all_frames(self, frames: Any, mask: tf.Tensor, training: bool | None) -> tf.Tensor:
        blank = keras.tree.map_structure(lambda one: _zero_where_false(one, mask), frames)
        return _zero_where_false(self._run(blank, training), mask)

    def _run(self, frames: Any, training: bool | None) -> tf.Tensor:
        if self.layer._call_has_training_arg:
            return self.layer(frames, training=training)
        return self.layer(frames)

    def _get_child_input_shape(self, input_shape: Any) -> Any:
        child = super()._get_child_input_shape
        if _is_of_several(input_shape):
            return [child(shape) for shape in input_shape]
        return child(input_shape)

    def compute_output_shape(self, input_shape: Any) -> _Shape:
        of_frame = _output_shape(self.layer, self._get_child_input_shape(input_shape))
        first = input_shape[0] if _is_of_several(input_shape) else input_shape
        return (of_frame[0], first[1], *of_frame[1:])


def _output_shape(layer: keras.Layer, input_shape: Any) -> _Shape:
    try:
        shape: _Shape = layer.compute_output_shape(input_shape)
    except NotImplementedError:  # as of LayerScale in ConvNeXt: Keras finds it by a trial
        if _is_of_several(input_shape):
            trial = [keras.KerasTensor(one) for one in input_shape]
        else:
            trial = keras.KerasTensor(input_shape)
        shape = layer.compute_output_spec(trial).shape
    return shape


def _is_of_several(shape: Any) -> bool:
    """Whether it is a list of shapes, as that of a layer with several inputs, such as Add."""
    return len(shape) > 0 and isinstance(shape[0], tuple | list)


def _folded(clips: tf.Tensor) -> tf.Tensor:
    """[B, T, ...] -> [B * T, ...]"""
    return tf.reshape(clips, (-1, *clips.shape[2:]))


def _zero_where_false(frames: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    over = tf.reshape(mask, (-1, *[1] * (len(frames.shape) - 1)))
    return tf.where(over, frames, tf.zeros_like(frames))


def _is_compiled_by_xla() -> bool:
    """Whether what is traced now is to be compiled by XLA (tf.function, TPUStrategy)."""
    if tf.executing_eagerly():
        return False
    return bool(control_flow_util.GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph()))


@cache
def _warn_of_folding() -> None:
    """Warn at the first call only: the cache remembers the others."""
    logger.warning(
        "XLA cannot compile frames of a number that changes: TimeDistributed runs its layer on "
        "the padding too. Results are the same, except that batch normalisation counts the "
        "padding while training. Compile without jit_compile to run real frames only."
    )

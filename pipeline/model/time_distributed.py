"""TimeDistributed that runs its layer once, and only on real frames."""

from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable(package="pipeline")
class TimeDistributed(keras.layers.TimeDistributed):  # type: ignore[misc]
    """Apply a layer to every real frame of a batch of clips.

    Keras's own layer of this name (Keras 3) loops over time in Python: T copies of the
    wrapped layer in the graph, each of which also sees the padding. This one folds time
    into the batch, gathers the frames that the mask calls real, runs the wrapped layer on
    all of them at once and scatters the results back. The outputs for real frames are the
    same; the cost follows the number of real frames; and batch normalisation inside the
    wrapped layer takes its statistics from real frames only.

    >>> frames = keras.Input((None, 64, 64, 3))
    >>> mask = keras.Input((None,), dtype="bool")
    >>> TimeDistributed(keras.layers.Flatten())(frames, mask=mask).shape
    (None, None, 12288)

    Args:
        layer: the layer to apply to each frame; it sees [R, ...] with R real frames.

    Call arguments:
        inputs: [B, T, ...].
        mask: bool [B, T], True for a real frame; None when all frames are real. At least
            one frame of the batch must be real.

    Returns:
        [B, T, ...], zeros where the mask is False.
    """

    def __init__(self, layer: keras.Layer, **kwargs: Any) -> None:
        super().__init__(layer, **kwargs)
        self.supports_jit = False  # the number of real frames is known only at run time

    def call(
        self, inputs: tf.Tensor, training: bool | None = None, mask: tf.Tensor | None = None
    ) -> tf.Tensor:
        batch_and_time = tf.shape(inputs)[:2]
        folded = tf.reshape(inputs, (-1, *inputs.shape[2:]))
        if mask is None:
            outputs = self._run(folded, training)
        else:
            real = tf.where(tf.reshape(mask, (-1,)))  # int64 [R, 1]
            features = self._run(tf.gather_nd(folded, real), training)
            shape = tf.concat([tf.shape(folded)[:1], tf.shape(features)[1:]], axis=0)
            outputs = tf.scatter_nd(real, features, tf.cast(shape, tf.int64))
        return tf.reshape(outputs, tf.concat([batch_and_time, tf.shape(outputs)[1:]], axis=0))

    def _run(self, frames: tf.Tensor, training: bool | None) -> tf.Tensor:
        if self.layer._call_has_training_arg:
            return self.layer(frames, training=training)
        return self.layer(frames)

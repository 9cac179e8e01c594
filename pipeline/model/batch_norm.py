"""Batch normalisation of feature maps in one pass of TensorFlow instead of a dozen."""

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable(package="pipeline")
class FusedBatchNormalization(keras.layers.BatchNormalization):  # type: ignore[misc]
    """Keras's BatchNormalization of [N, H, W, C], faster while it trains.

    Keras composes it of elementwise operations, each of which writes a tensor of full size.
    TensorFlow has a single operation for it. Outputs, gradients and statistics are the same
    but for rounding; in inference this is Keras's own code.
    """

    def call(
        self, inputs: tf.Tensor, training: bool | None = None, mask: tf.Tensor | None = None
    ) -> tf.Tensor:
        if not (training and self.trainable) or mask is not None:
            return super().call(inputs, training=training, mask=mask)
        outputs, mean, sample_variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=tf.cast(inputs, tf.float32),
            scale=tf.cast(self.gamma, tf.float32),
            offset=tf.cast(self.beta, tf.float32),
            mean=tf.zeros([0]),
            variance=tf.zeros([0]),
            epsilon=self.epsilon,
            is_training=True,
        )
        # The operation divides by n - 1; Keras keeps the variance divided by n.
        count = tf.cast(tf.size(inputs) // tf.shape(inputs)[-1], tf.float32)
        variance = sample_variance * (count - 1.0) / count
        self._follow(self.moving_mean, mean)
        self._follow(self.moving_variance, variance)
        return tf.cast(outputs, self.compute_dtype)

    def _follow(self, moving: keras.Variable, value: tf.Tensor) -> None:
        moving.assign(moving * self.momentum + value * (1.0 - self.momentum))

"""Keras layers of this project, with the mask as an explicit argument.

Convolution, pooling and reshape layers of Keras drop the implicit mask, so every layer that mixes
time steps is called with ``mask=``.
"""

import inspect
from typing import Any

import keras
import tensorflow as tf

ATTENTION_LAYER = "attention_weights"  # name of the layer whose output is the weights

_Shape = tuple[int | None, ...]

_MIDDLE_GREY = 127.5  # middle of the range of pixels
_NO_WEIGHT = -1e9  # a score that the softmax turns into exactly 0


class ExplicitMaskLayer(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """Take the mask of the inputs as an argument, and pass no implicit mask on."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True

    def compute_mask(self, *_: Any) -> None:
        return None


@keras.saving.register_keras_serializable(package="pipeline")
class FrameDifferences(keras.layers.Layer):  # type: ignore[misc]
    """Replace each frame by its difference from the previous frame.

    A difference d of two pixels, -255 to 255, becomes the pixel 127.5 + d / 2. The result is grey
    where nothing moves, and everywhere in the first frame. It needs no mask: clips are padded on
    the right only, so the frame before a real frame is real.

    Args:
        keep_frames: False, as in the files of earlier versions. Models that read frames and
            differences in one CNN, True, cannot be loaded.

    Call arguments:
        inputs: [B, T, H, W, C], 0 to 255, of any dtype.

    Returns:
        float32 [B, T, H, W, C], 0 to 255.

    Raises:
        ValueError: ``keep_frames`` is True.
    """

    def __init__(self, *, keep_frames: bool = False, **kwargs: Any) -> None:
        if keep_frames:
            raise ValueError("frames and differences in one CNN are no longer supported")
        super().__init__(**{"dtype": "float32", **kwargs})  # half precision rounds pixels

    def call(self, inputs: keras.KerasTensor) -> keras.KerasTensor:
        frames = keras.ops.cast(inputs, "float32")
        previous = keras.ops.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
        return _MIDDLE_GREY + (frames - previous) / 2

    def compute_output_shape(self, input_shape: _Shape) -> _Shape:
        return input_shape


@keras.saving.register_keras_serializable(package="pipeline")
class ApplicationPixels(keras.layers.Layer):  # type: ignore[misc]
    """Scale pixels as an image model of keras.applications expects them.

    It calls ``preprocess_input`` of the model's module, which scales to -1 to 1, or centres and
    converts to BGR, or changes nothing because the model contains the scaling.

    Args:
        application: name in keras.applications, such as MobileNetV2.

    Call arguments:
        inputs: [..., 3], RGB, 0 to 255, of any dtype.

    Returns:
        [..., 3] in the compute dtype.
    """

    def __init__(self, application: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.autocast = False  # half precision would round pixels before they are scaled
        self.application = application
        module: Any = inspect.getmodule(getattr(keras.applications, application))
        self._preprocess = module.preprocess_input

    def call(self, inputs: keras.KerasTensor) -> keras.KerasTensor:
        pixels = self._preprocess(keras.ops.cast(inputs, "float32"))
        return keras.ops.cast(pixels, self.compute_dtype)

    def compute_output_shape(self, input_shape: _Shape) -> _Shape:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "application": self.application}


@keras.saving.register_keras_serializable(package="pipeline")
class FusedBatchNormalization(keras.layers.BatchNormalization):  # type: ignore[misc]
    """Normalise [N, H, W, C] in one TensorFlow operation while training.

    Keras uses several elementwise operations, each of which writes a tensor of full size.
    Outputs, gradients and statistics are the same except for rounding; inference is Keras's own,
    and so is training with ``synchronized``, on several replicas of a model.
    """

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        if self.synchronized or not (training and self.trainable):
            return super().call(inputs, training=training)
        outputs, mean, sample_variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=tf.cast(inputs, tf.float32),
            scale=tf.cast(self.gamma, tf.float32),
            offset=tf.cast(self.beta, tf.float32),
            mean=tf.zeros([0]),
            variance=tf.zeros([0]),
            epsilon=self.epsilon,
            is_training=True,
        )
        # The operation divides by n - 1; Keras stores the variance divided by n.
        count = tf.cast(tf.size(inputs) // tf.shape(inputs)[-1], tf.float32)
        variance = sample_variance * (count - 1.0) / count
        for moving, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + value * (1.0 - self.momentum))
        return tf.cast(outputs, self.compute_dtype)


@keras.saving.register_keras_serializable(package="pipeline")
class ZeroPaddedSteps(ExplicitMaskLayer):
    """Set padded time steps to zero.

    A convolution over time then reads zeros after the last real step, as it does at the end of a
    clip without padding.

    Call arguments:
        inputs: [B, T, F].
        mask: bool [B, T], True for a real step.

    Returns:
        [B, T, F].
    """

    def call(self, inputs: keras.KerasTensor, mask: keras.KerasTensor) -> keras.KerasTensor:
        return keras.ops.where(mask[..., None], inputs, keras.ops.zeros_like(inputs))

    def compute_output_shape(self, input_shape: _Shape) -> _Shape:
        return input_shape


@keras.saving.register_keras_serializable(package="pipeline")
class MaskedMaxPooling1D(ExplicitMaskLayer):
    """Return the maximum of each feature over the real time steps.

    Keras's GlobalMaxPooling1D ignores the mask.

    Call arguments:
        inputs: [B, T, F].
        mask: bool [B, T], True for a real step, at least one a row.

    Returns:
        [B, F].
    """

    def call(self, inputs: keras.KerasTensor, mask: keras.KerasTensor) -> keras.KerasTensor:
        lowest = keras.ops.full_like(inputs, float("-inf"))
        return keras.ops.max(keras.ops.where(mask[..., None], inputs, lowest), axis=1)

    def compute_output_shape(self, input_shape: _Shape) -> _Shape:
        return (input_shape[0], input_shape[2])


@keras.saving.register_keras_serializable(package="pipeline")
class LastRealStep(ExplicitMaskLayer):
    """Return the last real time step of each clip.

    Call arguments:
        inputs: [B, T, F].
        mask: bool [B, T], True for a real step, right-padded, at least one a row.

    Returns:
        [B, F].
    """

    def call(self, inputs: keras.KerasTensor, mask: keras.KerasTensor) -> keras.KerasTensor:
        last = keras.ops.sum(keras.ops.cast(mask, "int32"), axis=1) - 1
        return keras.ops.squeeze(
            keras.ops.take_along_axis(inputs, last[:, None, None], axis=1), axis=1
        )

    def compute_output_shape(self, input_shape: _Shape) -> _Shape:
        return (input_shape[0], input_shape[2])


@keras.saving.register_keras_serializable(package="pipeline")
class AttentionWeights(ExplicitMaskLayer):
    """Compute additive attention over the time steps of a clip: softmax(v . tanh(W x + b)).

    Source: Bahdanau et al., 2015, arXiv 1409.0473, without a query, as in Yang et al.,
    Hierarchical Attention Networks, 2016.

    Args:
        units: rows of W.

    Call arguments:
        inputs: [B, T, F].
        mask: bool [B, T], True for a real step, at least one a row.

    Returns:
        [B, T], at least 0, exactly 0 where the mask is False; each row sums to 1.
    """

    def __init__(self, units: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units = units
        policy = self.dtype_policy  # of the saved model; the global policy may differ
        self.hidden = keras.layers.Dense(units, activation="tanh", dtype=policy, name="hidden")
        self.score = keras.layers.Dense(1, use_bias=False, dtype=policy, name="score")

    def build(self, input_shape: _Shape) -> None:
        self.hidden.build(input_shape)
        self.score.build((*input_shape[:-1], self.units))

    def call(self, inputs: keras.KerasTensor, mask: keras.KerasTensor) -> keras.KerasTensor:
        scores = keras.ops.squeeze(self.score(self.hidden(inputs)), -1)
        scores = keras.ops.cast(scores, "float32")  # half precision cannot hold _NO_WEIGHT
        scores = keras.ops.where(mask, scores, _NO_WEIGHT)
        return keras.ops.cast(keras.ops.softmax(scores, axis=-1), self.compute_dtype)

    def compute_output_shape(self, input_shape: _Shape) -> _Shape:
        return input_shape[:2]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units}

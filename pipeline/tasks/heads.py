"""Keras layers and losses at the end of a model, after the clip features."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras

TEMPERATURE_LAYER = "temperature"
THRESHOLDS_LAYER = "thresholds"


@keras.saving.register_keras_serializable(package="pipeline")
class Temperature(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """Divide logits by a temperature that is fitted after training.

    A temperature above 1 makes the probabilities more equal, one below 1 less equal; their order
    does not change. The temperature is a non-trainable weight with the initial value 1, so it is
    saved with the model. Source: Guo et al., On Calibration of Modern Neural Networks, 2017,
    arXiv 1706.04599.
    """

    def build(self, input_shape: tuple[int | None, ...]) -> None:  # noqa: ARG002
        self.temperature = self.add_weight(
            shape=(), initializer="ones", trainable=False, dtype="float32", name="temperature"
        )

    def call(self, inputs: keras.KerasTensor) -> keras.KerasTensor:
        return inputs / self.temperature

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape


def class_probabilities(clip: keras.KerasTensor, n_classes: int) -> keras.KerasTensor:
    """Return class probabilities float32 [B, n_classes] from clip features [B, G]."""
    logits = keras.layers.Dense(n_classes, dtype="float32", name="classes")(clip)
    tempered = Temperature(dtype="float32", name=TEMPERATURE_LAYER)(logits)
    return keras.layers.Activation("softmax", dtype="float32", name="probabilities")(tempered)


@keras.saving.register_keras_serializable(package="pipeline")
class FrameSoftmax(keras.layers.Activation):  # type: ignore[misc]  # Keras has no types
    """Softmax of each frame [B, T, C]; zeros where ``mask`` [B, T] is False.

    So the outputs tell the real frames of a clip from its padding. It is an ``Activation``, which
    Grad-CAM leaves out.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("softmax", **{key: kwargs[key] for key in kwargs if key != "activation"})

    def call(self, inputs: keras.KerasTensor, mask: keras.KerasTensor) -> keras.KerasTensor:
        is_real = keras.ops.cast(mask, "float32")[:, :, None]
        return super().call(inputs) * is_real

    def compute_mask(self, inputs: keras.KerasTensor, mask: object = None) -> None:  # noqa: ARG002
        return None


def frame_probabilities(
    steps: keras.KerasTensor, mask: keras.KerasTensor, n_classes: int
) -> keras.KerasTensor:
    """Return class probabilities of each frame, float32 [B, T, n_classes], zeros for padding.

    Args:
        steps: features of each frame, [B, T, S].
        mask: bool [B, T], True for a real frame.
    """
    logits = keras.layers.Dense(n_classes, dtype="float32", name="classes")(steps)
    tempered = Temperature(dtype="float32", name=TEMPERATURE_LAYER)(logits)
    return FrameSoftmax(dtype="float32", name="probabilities")(tempered, mask=mask)


@keras.saving.register_keras_serializable(package="pipeline")
class Thresholds(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """Shift the logit of each label so that its decision threshold is a probability of 0.5.

    A label with the threshold 0.2 gets a probability of 0.5 where it had 0.2. The order of the
    probabilities of a label does not change. The shifts are a non-trainable weight [L], 0 before
    they are fitted.
    """

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.logits = self.add_weight(
            shape=(input_shape[-1],),
            initializer="zeros",
            trainable=False,
            dtype="float32",
            name="logits",
        )

    def call(self, inputs: keras.KerasTensor) -> keras.KerasTensor:
        return inputs - self.logits

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape


def label_probabilities(clip: keras.KerasTensor, n_labels: int) -> keras.KerasTensor:
    """Return independent label probabilities float32 [B, n_labels] from clip features [B, G]."""
    logits = keras.layers.Dense(n_labels, dtype="float32", name="labels")(clip)
    shifted = Thresholds(dtype="float32", name=THRESHOLDS_LAYER)(logits)
    return keras.layers.Activation("sigmoid", dtype="float32", name="probabilities")(shifted)


def temperature_of(model: keras.Model) -> float:
    """Return the temperature of a classifier."""
    return float(model.get_layer(TEMPERATURE_LAYER).temperature)


def set_temperature(model: keras.Model, temperature: float) -> None:
    """Set the temperature of a classifier in place."""
    model.get_layer(TEMPERATURE_LAYER).temperature.assign(temperature)


def set_thresholds(model: keras.Model, thresholds: Sequence[float]) -> None:
    """Set the decision thresholds of the labels, probabilities of length L, in place."""
    logits = [math.log(threshold / (1 - threshold)) for threshold in thresholds]
    model.get_layer(THRESHOLDS_LAYER).logits.assign(logits)


@contextmanager
def without_thresholds(model: keras.Model) -> Iterator[None]:
    """Set the thresholds of ``model`` to 0.5 within the block."""
    logits = model.get_layer(THRESHOLDS_LAYER).logits
    fitted = keras.ops.convert_to_numpy(logits)
    logits.assign(keras.ops.zeros_like(logits))
    try:
        yield
    finally:
        logits.assign(fitted)


@contextmanager
def without_temperature(model: keras.Model) -> Iterator[None]:
    """Set the temperature of ``model`` to 1 within the block."""
    fitted = temperature_of(model)
    set_temperature(model, 1.0)
    try:
        yield
    finally:
        set_temperature(model, fitted)


class WeightedCrossentropy(keras.losses.Loss):  # type: ignore[misc]  # Keras has no types
    """Cross-entropy of integer labels with a weight for each class, and label smoothing.

    Args:
        class_weights: length C; 1 for the plain cross-entropy.
        label_smoothing: 0 to 1. Keras smooths one-hot labels only.
    """

    def __init__(self, class_weights: Sequence[float], label_smoothing: float) -> None:
        super().__init__(name="weighted_crossentropy")
        self._class_weights = list(class_weights)
        self._label_smoothing = label_smoothing

    def call(self, y_true: keras.KerasTensor, y_pred: keras.KerasTensor) -> keras.KerasTensor:
        one_hot = keras.ops.one_hot(keras.ops.reshape(y_true, (-1,)), y_pred.shape[-1])
        weights = keras.ops.convert_to_tensor(self._class_weights, dtype=y_pred.dtype)
        return keras.ops.sum(one_hot * weights, axis=-1) * keras.losses.categorical_crossentropy(
            one_hot, y_pred, label_smoothing=self._label_smoothing
        )


class WeightedBinaryCrossentropy(keras.losses.Loss):  # type: ignore[misc]  # Keras has no types
    """Mean binary cross-entropy of L labels, with a weight for the positives of each label.

    Args:
        positive_weights: length L; 1 for the plain cross-entropy.
        label_smoothing: 0 to 1.
    """

    def __init__(self, positive_weights: Sequence[float], label_smoothing: float) -> None:
        super().__init__(name="weighted_binary_crossentropy")
        self._positive_weights = list(positive_weights)
        self._label_smoothing = label_smoothing

    def call(self, y_true: keras.KerasTensor, y_pred: keras.KerasTensor) -> keras.KerasTensor:
        y_true = keras.ops.cast(y_true, y_pred.dtype)
        weights = keras.ops.convert_to_tensor(self._positive_weights, dtype=y_pred.dtype)
        weights = y_true * weights + (1 - y_true)
        smoothed = y_true * (1 - self._label_smoothing) + self._label_smoothing / 2
        losses = keras.ops.binary_crossentropy(smoothed, y_pred)
        return keras.ops.mean(weights * losses, axis=-1)


class StandardisedHuber(keras.losses.Loss):  # type: ignore[misc]  # Keras has no types
    """Huber loss of numbers divided by the standard deviation of the training targets."""

    def __init__(self, deviation: float) -> None:
        super().__init__(name="standardised_huber")
        self._deviation = deviation

    def call(self, y_true: keras.KerasTensor, y_pred: keras.KerasTensor) -> keras.KerasTensor:
        return keras.losses.huber(y_true / self._deviation, y_pred / self._deviation)


class FrameCrossentropy(keras.losses.Loss):  # type: ignore[misc]  # Keras has no types
    """Cross-entropy of labels int [B, T] and probabilities [B, T, C], as a scalar.

    It is the mean over the labelled frames of the batch, 0 without one. The label -1 is an
    unlabelled or a padded frame.

    Args:
        class_weights: length C; 1 for the plain cross-entropy.
        label_smoothing: 0 to 1.
    """

    def __init__(self, class_weights: Sequence[float], label_smoothing: float) -> None:
        super().__init__(name="frame_crossentropy")
        self._class_weights = list(class_weights)
        self._label_smoothing = label_smoothing

    def call(self, y_true: keras.KerasTensor, y_pred: keras.KerasTensor) -> keras.KerasTensor:
        ops, n_classes = keras.ops, len(self._class_weights)
        is_labelled = ops.cast(y_true >= 0, y_pred.dtype)
        one_hot = ops.one_hot(ops.maximum(y_true, 0), n_classes, dtype=y_pred.dtype)
        smoothed = one_hot * (1 - self._label_smoothing) + self._label_smoothing / n_classes
        losses = -ops.sum(smoothed * ops.log(ops.maximum(y_pred, keras.config.epsilon())), axis=-1)
        class_weights = ops.convert_to_tensor(self._class_weights, dtype=y_pred.dtype)
        weights = ops.sum(one_hot * class_weights, axis=-1) * is_labelled
        return ops.sum(losses * weights) / ops.maximum(ops.sum(is_labelled), 1)


class FrameAccuracy(keras.metrics.Mean):  # type: ignore[misc]  # Keras has no types
    """Proportion of the labelled frames, those without the label -1, whose class is correct."""

    def update_state(
        self,
        y_true: keras.KerasTensor,
        y_pred: keras.KerasTensor,
        sample_weight: keras.KerasTensor | None = None,  # noqa: ARG002
    ) -> None:
        is_correct = keras.ops.equal(
            keras.ops.cast(y_true, "int64"), keras.ops.argmax(y_pred, axis=-1)
        )
        super().update_state(is_correct, sample_weight=keras.ops.cast(y_true >= 0, "float32"))

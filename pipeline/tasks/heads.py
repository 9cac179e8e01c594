"""Keras layers and losses at the end of a model, after the clip features."""

from collections.abc import Iterator
from contextlib import contextmanager

import keras

TEMPERATURE_LAYER = "temperature"


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


def temperature_of(model: keras.Model) -> float:
    """Return the temperature of a classifier."""
    return float(model.get_layer(TEMPERATURE_LAYER).temperature)


def set_temperature(model: keras.Model, temperature: float) -> None:
    """Set the temperature of a classifier in place."""
    model.get_layer(TEMPERATURE_LAYER).temperature.assign(temperature)


@contextmanager
def uncalibrated(model: keras.Model) -> Iterator[None]:
    """Set the temperature of ``model`` to 1 within the block."""
    fitted = temperature_of(model)
    set_temperature(model, 1.0)
    try:
        yield
    finally:
        set_temperature(model, fitted)


class SmoothedCrossentropy(keras.losses.Loss):  # type: ignore[misc]  # Keras has no types
    """Cross-entropy of integer labels with label smoothing; Keras smooths one-hot labels only."""

    def __init__(self, label_smoothing: float) -> None:
        super().__init__(name="smoothed_crossentropy")
        self._label_smoothing = label_smoothing

    def call(self, y_true: keras.KerasTensor, y_pred: keras.KerasTensor) -> keras.KerasTensor:
        one_hot = keras.ops.one_hot(keras.ops.reshape(y_true, (-1,)), y_pred.shape[-1])
        return keras.losses.categorical_crossentropy(
            one_hot, y_pred, label_smoothing=self._label_smoothing
        )

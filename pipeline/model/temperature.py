"""Temperature: one number that makes the probabilities of a trained model honest."""

from collections.abc import Iterator
from contextlib import contextmanager

import keras

TEMPERATURE_LAYER = "temperature"


@keras.saving.register_keras_serializable(package="pipeline")
class Temperature(keras.layers.Layer):  # type: ignore[misc]  # Keras does not type it
    """Divide what the softmax is taken of by a number that is fitted after training.

    Above 1 the model becomes less sure, below 1 surer; which class is the most probable stays.
    The number is a weight that no optimizer touches, 1 at first, so it is saved with the model.
    Source: Guo et al., On Calibration of Modern Neural Networks, 2017, arXiv 1706.04599.
    """

    def build(self, input_shape: tuple[int | None, ...]) -> None:  # noqa: ARG002
        self.temperature = self.add_weight(
            shape=(), initializer="ones", trainable=False, dtype="float32", name="temperature"
        )

    def call(self, inputs: keras.KerasTensor) -> keras.KerasTensor:
        return inputs / self.temperature

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape


def temperature_of(model: keras.Model) -> float:
    """Return the temperature of a classifier."""
    return float(model.get_layer(TEMPERATURE_LAYER).temperature)


def set_temperature(model: keras.Model, temperature: float) -> None:
    model.get_layer(TEMPERATURE_LAYER).temperature.assign(temperature)


@contextmanager
def uncalibrated(model: keras.Model) -> Iterator[None]:
    """Give ``model`` the temperature 1 within the block."""
    fitted = temperature_of(model)
    set_temperature(model, 1.0)
    try:
        yield
    finally:
        set_temperature(model, fitted)

"""Single-label classification: labels, head, loss and metrics, which belong together.

Another task (several labels, regression, a label a frame) is another module like this one.
"""

from collections.abc import Sequence

import keras
import numpy as np
from numpy.typing import NDArray

from pipeline.model.penalty import penalty
from pipeline.model.temperature import TEMPERATURE_LAYER, Temperature

PRIMARY_METRIC = "accuracy"


def encode_labels(labels: Sequence[str], class_names: Sequence[str]) -> NDArray[np.int64]:
    """Return int64 [N]: the position of each label in ``class_names``."""
    position = {name: index for index, name in enumerate(class_names)}
    return np.array([position[label] for label in labels], np.int64)


def probabilities(clip: keras.KerasTensor, n_classes: int, *, l2: float = 0.0) -> keras.KerasTensor:
    """Return probabilities float32 [B, n_classes] from clip features [B, F]."""
    classes = keras.layers.Dense(
        n_classes, kernel_regularizer=penalty(l2), dtype="float32", name="classes"
    )
    tempered = Temperature(dtype="float32", name=TEMPERATURE_LAYER)(classes(clip))
    return keras.layers.Activation("softmax", dtype="float32", name="probabilities")(tempered)


def loss(*, label_smoothing: float = 0.0) -> keras.losses.Loss:
    """Return the cross-entropy of labels int64 [B] and probabilities [B, n_classes].

    Args:
        label_smoothing: share of every label that is spread evenly over all classes.
    """
    if label_smoothing > 0:
        return _SmoothedCrossentropy(label_smoothing)
    return keras.losses.SparseCategoricalCrossentropy()


def metrics() -> list[keras.metrics.Metric]:
    return [keras.metrics.SparseCategoricalAccuracy(name=PRIMARY_METRIC)]


def balanced_weights(labels: NDArray[np.int64], n_classes: int) -> dict[int, float]:
    """Weigh each class by n / (n_classes * n_of_class), so that all count the same in the loss.

    >>> balanced_weights(np.array([0, 0, 0, 1]), n_classes=2)
    {0: 0.6666666666666666, 1: 2.0}
    """
    counts = np.bincount(labels, minlength=n_classes)
    return {index: len(labels) / (n_classes * int(count)) for index, count in enumerate(counts)}


class _SmoothedCrossentropy(keras.losses.Loss):  # type: ignore[misc]  # Keras does not type it
    """Keras smooths only labels that are one-hot already."""

    def __init__(self, label_smoothing: float) -> None:
        super().__init__(name="smoothed_crossentropy")
        self._label_smoothing = label_smoothing

    def call(self, y_true: keras.KerasTensor, y_pred: keras.KerasTensor) -> keras.KerasTensor:
        one_hot = keras.ops.one_hot(keras.ops.reshape(y_true, (-1,)), y_pred.shape[-1])
        return keras.losses.categorical_crossentropy(
            one_hot, y_pred, label_smoothing=self._label_smoothing
        )

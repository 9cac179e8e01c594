"""Single-label classification: labels, head, loss and metrics, which belong together.

Another task (several labels, regression, a label a frame) is another module like this one.
"""

from collections.abc import Sequence

import keras
import numpy as np
from numpy.typing import NDArray

PRIMARY_METRIC = "accuracy"


def encode_labels(labels: Sequence[str], class_names: Sequence[str]) -> NDArray[np.int64]:
    """Return int64 [N]: the position of each label in ``class_names``."""
    position = {name: index for index, name in enumerate(class_names)}
    return np.array([position[label] for label in labels], np.int64)


def head(n_classes: int) -> keras.layers.Layer:
    """Return the layer from clip features [B, F] to probabilities float32 [B, n_classes]."""
    return keras.layers.Dense(n_classes, activation="softmax", dtype="float32", name="classes")


def loss() -> keras.losses.Loss:
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

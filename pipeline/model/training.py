"""Fitting a classifier so that the same seed gives the same weights, bit for bit."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from pipeline.clips.dataset import evaluation_dataset, training_dataset
from pipeline.clips.shards import ClipArrays
from pipeline.model import task
from pipeline.model.augmentation import Augmentation, clip_augmenter


@dataclass(frozen=True)
class FitOptions:
    """How a classifier is fitted."""

    seed: int
    epochs: int
    batch_size: int
    learning_rate: float
    clip_norm: float
    patience: int
    class_weights: Literal["none", "balanced"]
    augmentation: Augmentation


@dataclass(frozen=True)
class FitResult:
    """What happened while fitting."""

    history: list[dict[str, float]]  # one row an epoch: epoch (from 1), loss, accuracy, val_...
    best_epoch: int  # whose weights the model has now


def make_deterministic(seed: int, threads: int) -> None:
    """Fix what TensorFlow leaves to chance. Call it once, before anything is computed.

    The number of threads is part of it: it sets the order in which floats are summed.
    """
    keras.utils.set_random_seed(seed)
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    tf.config.experimental.enable_op_determinism()


def fit(
    model: keras.Model,
    train: ClipArrays,
    val: ClipArrays,
    class_names: Sequence[str],
    options: FitOptions,
    *,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> FitResult:
    """Fit ``model`` in place; it ends with the weights of the epoch with the least val_loss."""
    train_labels = task.encode_labels(train.labels, class_names)
    val_labels = task.encode_labels(val.labels, class_names)
    model.compile(
        optimizer=keras.optimizers.Adam(options.learning_rate, clipnorm=options.clip_norm),
        loss=task.loss(),
        metrics=task.metrics(),
    )
    stopping = keras.callbacks.EarlyStopping(
        monitor="val_loss", patience=options.patience, restore_best_weights=True
    )
    fitted = model.fit(
        training_dataset(
            train,
            train_labels,
            batch_size=options.batch_size,
            seed=options.seed,
            augment=clip_augmenter(options.augmentation, class_names),
        ),
        validation_data=evaluation_dataset(val, val_labels, batch_size=options.batch_size),
        epochs=options.epochs,
        class_weight=_class_weight(options, train_labels, len(class_names)),
        callbacks=[stopping, *callbacks],
        shuffle=False,  # the data set does it
        verbose=1 if sys.stderr.isatty() else 2,  # a progress bar, or a line an epoch in a log
    )
    return FitResult(history=_rows(fitted.history), best_epoch=stopping.best_epoch + 1)


def _class_weight(
    options: FitOptions, labels: NDArray[np.int64], n_classes: int
) -> dict[int, float] | None:
    if options.class_weights == "none":
        return None
    return task.balanced_weights(labels, n_classes)


def _rows(history: dict[str, list[float]]) -> list[dict[str, float]]:
    n_epochs = len(history["loss"])
    return [
        {"epoch": epoch + 1, **{name: float(values[epoch]) for name, values in history.items()}}
        for epoch in range(n_epochs)
    ]

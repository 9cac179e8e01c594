"""Fitting a classifier so that the same seed gives the same weights, bit for bit."""

import logging
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from pipeline.clips.dataset import Augment, evaluation_dataset, training_dataset
from pipeline.clips.shards import ClipArrays
from pipeline.model import task
from pipeline.model.augmentation import UNCHANGED, Augmentation, clip_augmenter
from pipeline.model.classifier import clip_head, cnn_layers
from pipeline.model.features import FeatureArrays, cached_features, is_frozen
from pipeline.model.freezing import set_trainable
from pipeline.model.masking import refuse_empty_clips
from pipeline.model.optimization import Schedule, build_optimizer, rate_by_step, rate_callback

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FineTuning:
    """Two phases: first with the CNN frozen, then with those of its layers that may train."""

    head_epochs: int = 0  # of the first phase; 0: there is only one
    learning_rate: float = 1e-4  # of the second


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
    optimizer: Literal["adam", "adamw"] = "adam"
    weight_decay: float = 0.0  # adamw
    schedule: Schedule = "constant"
    warmup_epochs: int = 0
    label_smoothing: float = 0.0
    fine_tuning: FineTuning = FineTuning()
    trim_batches: bool = False
    cache_features: bool = True  # of a frozen CNN, where fit is given a folder for them


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
    features_folder: Path | None = None,
) -> FitResult:
    """Fit ``model`` in place; it ends with the weights of the epoch with the least val_loss.

    Args:
        features_folder: keeps what a frozen CNN makes of the clips; the layers after it are
            then fitted on that, without augmentation. None, or ``options.cache_features``
            False, runs the CNN in every epoch.

    Raises:
        PipelineError: a clip has no real frame.
    """
    for clips in (train, val):
        refuse_empty_clips(clips.masks(), clips.names)
    if features_folder is not None and options.cache_features and is_frozen(model):
        fitting = _on_features(model, train, val, class_names, options, callbacks, features_folder)
    else:
        fitting = _Fitting(model, train, val, class_names, options, callbacks)
    head_epochs = options.fine_tuning.head_epochs
    if head_epochs > 0:
        cnn = cnn_layers(model)
        could_train = [layer.trainable for layer in cnn]
        set_trainable(cnn, "none")
        fitting.run(options.learning_rate, until_epoch=head_epochs)
        for layer, trainable in zip(cnn, could_train, strict=True):
            layer.trainable = trainable
        fitting.run(options.fine_tuning.learning_rate, until_epoch=options.epochs)
    else:
        fitting.run(options.learning_rate, until_epoch=options.epochs)
    return FitResult(history=fitting.history, best_epoch=fitting.best.best_epoch + 1)


def _on_features(
    model: keras.Model,
    train: ClipArrays,
    val: ClipArrays,
    class_names: Sequence[str],
    options: FitOptions,
    callbacks: Sequence[keras.callbacks.Callback],
    folder: Path,
) -> "_Fitting":
    """Fit the layers after the frozen CNN; they are those of ``model``, not copies."""
    if options.augmentation.changes_clips:
        logger.warning(
            "train.augmentation does not apply: the CNN is frozen (model.cnn.trainable none), so "
            "its features are computed once, from unchanged clips. train.cache_features: false "
            "augments, and runs the CNN in every epoch."
        )
    of_train, of_val = (cached_features(model, clips, folder) for clips in (train, val))
    options = replace(options, augmentation=UNCHANGED)
    return _Fitting(clip_head(model), of_train, of_val, class_names, options, callbacks)


class _Fitting:
    """One model, its data, and what is known after the phases that have run."""

    def __init__(
        self,
        model: keras.Model,
        train: ClipArrays | FeatureArrays,
        val: ClipArrays | FeatureArrays,
        class_names: Sequence[str],
        options: FitOptions,
        callbacks: Sequence[keras.callbacks.Callback],
    ) -> None:
        labels = task.encode_labels(train.labels, class_names)
        val_labels = task.encode_labels(val.labels, class_names)
        batch_size = options.batch_size
        self.history: list[dict[str, float]] = []
        self.best = _BestEpoch(patience=options.patience)
        self._model, self._options, self._callbacks = model, options, callbacks
        self._class_weight = _class_weight(options, labels, len(class_names))
        self._steps_per_epoch = math.ceil(len(train) / batch_size)
        self._train = training_dataset(
            train,
            labels,
            batch_size=batch_size,
            seed=options.seed,
            augment=_augment(options.augmentation, class_names),
            trim=options.trim_batches,
        )
        self._val = evaluation_dataset(val, val_labels, batch_size=batch_size)

    def run(self, learning_rate: float, *, until_epoch: int) -> None:
        """Fit what may train, from the best weights so far, with a fresh optimizer."""
        self._compile(learning_rate, epochs=until_epoch - len(self.history))
        fitted = self._model.fit(
            self._train,
            validation_data=self._val,
            initial_epoch=len(self.history),
            epochs=until_epoch,
            class_weight=self._class_weight,
            callbacks=[self.best, *self._rate_callbacks(), *self._callbacks],
            shuffle=False,  # the data set does it
            verbose=1 if sys.stderr.isatty() else 2,  # a progress bar, or a line an epoch in a log
        )
        self.history += _rows(fitted.history, first_epoch=len(self.history) + 1)

    def _compile(self, learning_rate: float, *, epochs: int) -> None:
        options = self._options
        rate = rate_by_step(
            learning_rate,
            schedule=options.schedule,
            warmup_steps=options.warmup_epochs * self._steps_per_epoch,
            steps=epochs * self._steps_per_epoch,
        )
        self._model.compile(
            optimizer=build_optimizer(
                options.optimizer,
                learning_rate=rate,
                weight_decay=options.weight_decay,
                clip_norm=options.clip_norm,
            ),
            loss=task.loss(label_smoothing=options.label_smoothing),
            metrics=task.metrics(),
        )

    def _rate_callbacks(self) -> list[keras.callbacks.Callback]:
        options = self._options
        is_one_rate = options.schedule == "constant" and options.warmup_epochs == 0
        if is_one_rate and options.fine_tuning.head_epochs == 0:
            return []
        return [rate_callback(options.schedule, patience=options.patience)]


class _BestEpoch(keras.callbacks.EarlyStopping):  # type: ignore[misc]  # Keras does not type it
    """Early stopping that remembers the best epoch of earlier phases, too."""

    def __init__(self, *, patience: int) -> None:
        super().__init__(monitor="val_loss", patience=patience, restore_best_weights=True)

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        if self.best_weights is None:
            super().on_train_begin(logs)
        self.wait = 0


def _augment(augmentation: Augmentation, class_names: Sequence[str]) -> Augment | None:
    augment = clip_augmenter(augmentation, class_names)
    return augment if augmentation.changes_clips else None


def _class_weight(
    options: FitOptions, labels: NDArray[np.int64], n_classes: int
) -> dict[int, float] | None:
    if options.class_weights == "none":
        return None
    return task.balanced_weights(labels, n_classes)


def _rows(history: dict[str, list[float]], *, first_epoch: int) -> list[dict[str, float]]:
    return [
        {
            "epoch": first_epoch + index,
            **{name: float(values[index]) for name, values in history.items()},
        }
        for index in range(len(history["loss"]))
    ]

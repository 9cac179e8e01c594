"""Fitting a classifier so that the same seed gives the same weights, bit for bit."""

import logging
import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import keras
import tensorflow as tf

from pipeline.clips.dataset import evaluation_dataset, training_dataset
from pipeline.clips.shards import ClipArrays
from pipeline.model import task
from pipeline.model.augmentation import UNCHANGED, Augmentation, clip_augmenter
from pipeline.model.best_epoch import BestEpoch
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
        features_folder: keeps what a frozen CNN makes of the clips; wherever it is frozen, the
            layers after it are fitted on that, without augmentation. None, or
            ``options.cache_features`` False, runs the CNN in every epoch.

    Raises:
        PipelineError: a clip has no real frame, or the loss is not a number.
    """
    for clips in (train, val):
        refuse_empty_clips(clips.masks(), clips.names)
    of_frames = _Fitted(model, train, val, options.augmentation)
    fitting = _Fitting(model, class_names, options, callbacks)

    def of_frozen_cnn() -> _Fitted:
        if features_folder is None or not options.cache_features:
            return of_frames
        return _of_features(model, train, val, options.augmentation, features_folder)

    head_epochs = options.fine_tuning.head_epochs
    if head_epochs > 0:
        with _frozen(cnn_layers(model)):
            fitting.run(of_frozen_cnn(), options.learning_rate, until_epoch=head_epochs)
        fitting.run(of_frames, options.fine_tuning.learning_rate, until_epoch=options.epochs)
    else:
        fitted = of_frozen_cnn() if is_frozen(model) else of_frames
        fitting.run(fitted, options.learning_rate, until_epoch=options.epochs)
    return FitResult(history=fitting.history, best_epoch=fitting.best.best_epoch + 1)


@dataclass(frozen=True, eq=False)
class _Fitted:
    """What a phase fits, and on what: a classifier on clips, or the layers after its CNN."""

    model: keras.Model
    train: ClipArrays | FeatureArrays
    val: ClipArrays | FeatureArrays
    augmentation: Augmentation


def _of_features(
    model: keras.Model, train: ClipArrays, val: ClipArrays, augmentation: Augmentation, folder: Path
) -> _Fitted:
    """Return the layers after the frozen CNN, not copies, and what it makes of the clips."""
    if augmentation.changes_clips:
        logger.warning(
            "train.augmentation does not apply while the CNN is frozen: its features are computed "
            "once, from unchanged clips. train.cache_features: false augments, and runs the CNN "
            "in every epoch."
        )
    of_train, of_val = (cached_features(model, clips, folder) for clips in (train, val))
    return _Fitted(clip_head(model), of_train, of_val, UNCHANGED)


@contextmanager
def _frozen(layers: Sequence[keras.Layer]) -> Iterator[None]:
    """Let none of ``layers`` train inside the block."""
    could_train = [layer.trainable for layer in layers]
    set_trainable(layers, "none")
    try:
        yield
    finally:
        for layer, trainable in zip(layers, could_train, strict=True):
            layer.trainable = trainable


class _Fitting:
    """How a classifier is fitted, and what is known after the phases that have run."""

    def __init__(
        self,
        model: keras.Model,
        class_names: Sequence[str],
        options: FitOptions,
        callbacks: Sequence[keras.callbacks.Callback],
    ) -> None:
        self.history: list[dict[str, float]] = []
        self.best = BestEpoch(patience=options.patience)
        self._whole, self._class_names = model, class_names
        self._options, self._callbacks = options, callbacks

    def run(self, fitted: _Fitted, learning_rate: float, *, until_epoch: int) -> None:
        """Fit what may train, from the best weights so far, with a fresh optimizer."""
        options, names, augmentation = self._options, self._class_names, fitted.augmentation
        labels = task.encode_labels(fitted.train.labels, names)
        is_weighed = options.class_weights == "balanced"
        steps_per_epoch = math.ceil(len(labels) / options.batch_size)
        epochs = until_epoch - len(self.history)
        _compile(fitted.model, options, learning_rate, steps_per_epoch, epochs=epochs)
        found = fitted.model.fit(
            training_dataset(
                fitted.train,
                labels,
                batch_size=options.batch_size,
                seed=options.seed + len(self.history),  # another phase, another order
                augment=clip_augmenter(augmentation, names) if augmentation.changes_clips else None,
                trim=options.trim_batches,
            ),
            validation_data=evaluation_dataset(
                fitted.val,
                task.encode_labels(fitted.val.labels, names),
                batch_size=options.batch_size,
            ),
            initial_epoch=len(self.history),
            epochs=until_epoch,
            class_weight=task.balanced_weights(labels, len(names)) if is_weighed else None,
            callbacks=[self.best, *_rate_callbacks(options), *self._callbacks],
            shuffle=False,  # the data set does it
            verbose=1 if sys.stderr.isatty() else 2,  # a progress bar, or a line an epoch in a log
        )
        # The next phase may fit another part of the layers that they share.
        self.best.best_weights = self._whole.get_weights()
        self.history += _rows(found.history, first_epoch=len(self.history) + 1)


def _compile(
    model: keras.Model,
    options: FitOptions,
    learning_rate: float,
    steps_per_epoch: int,
    *,
    epochs: int,
) -> None:
    rate = rate_by_step(
        learning_rate,
        schedule=options.schedule,
        warmup_steps=options.warmup_epochs * steps_per_epoch,
        steps=epochs * steps_per_epoch,
    )
    model.compile(
        optimizer=build_optimizer(
            options.optimizer,
            learning_rate=rate,
            weight_decay=options.weight_decay,
            clip_norm=options.clip_norm,
        ),
        loss=task.loss(label_smoothing=options.label_smoothing),
        metrics=task.metrics(),
    )


def _rate_callbacks(options: FitOptions) -> list[keras.callbacks.Callback]:
    is_one_rate = options.schedule == "constant" and options.warmup_epochs == 0
    if is_one_rate and options.fine_tuning.head_epochs == 0:
        return []
    return [rate_callback(options.schedule, patience=options.patience)]


def _rows(history: dict[str, list[float]], *, first_epoch: int) -> list[dict[str, float]]:
    return [
        {
            "epoch": first_epoch + index,
            **{name: float(values[index]) for name, values in history.items()},
        }
        for index in range(len(history["loss"]))
    ]

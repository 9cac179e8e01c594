"""Fit a model so that the same seed gives the same weights, bit for bit."""

import logging
import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import keras
import tensorflow as tf

from pipeline.clips.arrays import ClipArrays
from pipeline.clips.batches import evaluation_batches, training_batches
from pipeline.model.augmentation import clip_augmenter
from pipeline.model.backbones import set_trainable
from pipeline.model.features import FeatureArrays, cached_features
from pipeline.model.network import clip_head, cnn_layers, is_frozen
from pipeline.model.optimization import BestEpoch, build_optimizer, rate_callbacks
from pipeline.model.prediction import predict_arrays, refuse_empty_clips
from pipeline.model.settings import AugmentationSection, TrainSection
from pipeline.tasks.task import Task

logger = logging.getLogger(__name__)

_NO_AUGMENTATION = AugmentationSection(shift=0, brightness=0, contrast=0)


@dataclass(frozen=True)
class FitResult:
    """The course of a training.

    Attributes:
        history: one row an epoch: ``epoch`` (from 1), ``loss``, metrics, ``val_loss``, ...
        best_epoch: the epoch whose weights the model has now, from 1.
    """

    history: list[dict[str, float]]
    best_epoch: int


def make_deterministic(seed: int, threads: int) -> None:
    """Make TensorFlow deterministic. Call it once in a process, before any computation.

    The number of threads decides the order in which floats are summed, so it is fixed too.
    """
    keras.utils.set_random_seed(seed)
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    tf.config.experimental.enable_op_determinism()


def fit(
    model: keras.Model,
    task: Task,
    train: ClipArrays,
    val: ClipArrays,
    section: TrainSection,
    *,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    features_folder: Path | None = None,
) -> FitResult:
    """Fit ``model`` in place; it ends with the weights of the epoch with the lowest val_loss.

    Args:
        features_folder: cache of the frame features of a frozen CNN. While the CNN is frozen,
            the layers after it are fitted on these features, without augmentation. None, or
            ``section.cache_features`` False, runs the CNN in every epoch.

    Raises:
        PipelineError: a clip has no real frame, or the loss is not finite in the first epoch.
    """
    for clips in (train, val):
        refuse_empty_clips(clips.masks(), clips.names)
    whole = _Fitted(model, train, val, section.augmentation)
    phases = _Phases(model, task, section, callbacks)

    def frozen() -> _Fitted:
        if features_folder is None or not section.cache_features:
            return whole
        if section.augmentation.changes_clips:
            logger.warning(
                "train.augmentation does not apply while the CNN is frozen: its features are "
                "computed once, from unchanged clips. train.cache_features: false augments, and "
                "runs the CNN in every epoch."
            )
        train_features = cached_features(model, train, features_folder)
        val_features = cached_features(model, val, features_folder)
        return _Fitted(clip_head(model), train_features, val_features, _NO_AUGMENTATION)

    head_epochs = section.fine_tuning.head_epochs
    if head_epochs > 0:
        with _not_training(cnn_layers(model)):
            phases.run(frozen(), section.learning_rate, until_epoch=head_epochs)
        phases.run(whole, section.fine_tuning.learning_rate, until_epoch=section.epochs)
    else:
        fitted = frozen() if is_frozen(model) else whole
        phases.run(fitted, section.learning_rate, until_epoch=section.epochs)
    return FitResult(history=phases.history, best_epoch=phases.best.best_epoch + 1)


def calibrate(model: keras.Model, task: Task, val: ClipArrays) -> Task:
    """Fit on the validation clips what ``task`` fits after training.

    Args:
        model: a fitted model; its calibration changes in place.

    Returns:
        The calibrated task.

    Raises:
        PipelineError: a clip has no real frame.
    """
    with task.uncalibrated(model):
        outputs = predict_arrays(model, val)
    targets = val.chosen(val.first_of_videos()).targets
    return task.calibrate(model, outputs, targets, val.video_numbers())


@dataclass(frozen=True, eq=False)
class _Fitted:
    """The model and data of a phase: all layers on clips, or those after the CNN on features."""

    model: keras.Model
    train: ClipArrays | FeatureArrays
    val: ClipArrays | FeatureArrays
    augmentation: AugmentationSection


@contextmanager
def _not_training(layers: Sequence[keras.Layer]) -> Iterator[None]:
    """Freeze ``layers`` inside the block."""
    trainable_before = [layer.trainable for layer in layers]
    set_trainable(layers, "none")
    try:
        yield
    finally:
        for layer, trainable in zip(layers, trainable_before, strict=True):
            layer.trainable = trainable


class _Phases:
    """The phases of one training: history and best epoch over all of them."""

    def __init__(
        self,
        model: keras.Model,
        task: Task,
        section: TrainSection,
        callbacks: Sequence[keras.callbacks.Callback],
    ) -> None:
        self.history: list[dict[str, float]] = []
        self.best = BestEpoch(patience=section.patience)
        self._model, self._task = model, task
        self._section, self._callbacks = section, callbacks

    def run(self, fitted: _Fitted, learning_rate: float, *, until_epoch: int) -> None:
        """Fit the trainable layers, from the best weights so far, with a new optimizer."""
        section, task = self._section, self._task
        first_epoch = len(self.history)  # from 0
        targets = task.encode(fitted.train.targets)
        fitted.model.compile(
            optimizer=build_optimizer(
                section,
                learning_rate=learning_rate,
                epochs=until_epoch - first_epoch,
                steps_per_epoch=math.ceil(len(targets) / section.batch_size),
            ),
            loss=task.loss(label_smoothing=section.label_smoothing),
            metrics=task.metrics(),
        )
        augments = fitted.augmentation.changes_clips
        metrics = fitted.model.fit(
            training_batches(
                fitted.train,
                targets,
                batch_size=section.batch_size,
                seed=section.seed + first_epoch,  # another order in each phase
                augment=clip_augmenter(fitted.augmentation, task) if augments else None,
            ),
            validation_data=evaluation_batches(
                fitted.val, task.encode(fitted.val.targets), batch_size=section.batch_size
            ),
            initial_epoch=first_epoch,
            epochs=until_epoch,
            class_weight=(
                task.class_weights(targets) if section.class_weights == "balanced" else None
            ),
            callbacks=[self.best, *rate_callbacks(section), *self._callbacks],
            shuffle=False,  # training_batches shuffles
            verbose=1 if sys.stderr.isatty() else 2,  # a progress bar, or a line an epoch
        ).history
        # The next phase may fit other layers of the model, so keep the weights of all.
        self.best.best_weights = self._model.get_weights()
        self.history += [
            {"epoch": first_epoch + number, **dict(zip(metrics, map(float, values), strict=True))}
            for number, values in enumerate(zip(*metrics.values(), strict=True), start=1)
        ]

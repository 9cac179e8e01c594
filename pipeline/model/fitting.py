"""Fit a model reproducibly: the same seed gives the same weights, bit for bit."""

import logging
import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from pipeline.clips.arrays import ClipArrays
from pipeline.clips.batches import (
    Augment,
    Inputs,
    Prepare,
    evaluation_batches,
    training_batches,
)
from pipeline.common.errors import PipelineError
from pipeline.model.augmentation import clip_augmenter
from pipeline.model.backbones import set_trainable
from pipeline.model.features import FeatureArrays, cached_features
from pipeline.model.network import clip_head, cnn_layers, is_frozen
from pipeline.model.optimization import build_optimizer, rate_callbacks
from pipeline.model.prediction import predict_arrays, refuse_empty_clips
from pipeline.model.settings import TrainSection
from pipeline.model.streams import fit_stream_weights, streams_of
from pipeline.tasks.heads import FUSED
from pipeline.tasks.task import Task

logger = logging.getLogger(__name__)

_Clips = ClipArrays | FeatureArrays


@dataclass(frozen=True)
class FitResult:
    """The history of a training.

    Attributes:
        history: one row for each epoch: ``epoch`` (from 1), ``loss``, metrics, ``val_loss``, ...
        kept_epoch: epoch of the final weights, from 1: the last one if ``train.patience`` is 0.
    """

    history: list[dict[str, float]]
    kept_epoch: int


def make_deterministic(seed: int, threads: int) -> None:
    """Make TensorFlow deterministic.

    Call it once in a process, before any computation. The number of threads is fixed because it
    determines the order in which floats are summed.
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
    """Fit ``model`` in place.

    With ``section.patience`` above 0, the weights of the epoch with the lowest ``val_loss`` are
    kept, otherwise those of the last epoch: a few validation videos are too few to choose one.

    Args:
        features_folder: cache of the frame features of a frozen CNN. While the CNN is frozen,
            the layers after it are fitted on these features, without augmentation. None, or
            ``section.cache_features`` False, runs the CNN in every epoch.

    Raises:
        PipelineError: a clip has no real frame, the model has a stream of differences and no
            training clip has two frames, or the loss is not finite in the first epoch.
    """
    for clips in (train, val):
        refuse_empty_clips(clips.masks(), clips.names)
    if "differences" in streams_of(model):
        _check_differences(train)
    augment = None
    if section.augmentation.changes_clips:
        augment = clip_augmenter(section.augmentation, task)
    epochs = section.n_epochs(len(train))
    logger.info("%d epochs of %d steps", epochs, math.ceil(len(train) / section.batch_size))
    whole = task.training_model(model)
    phases = _Phases(whole, task, section, callbacks)

    def run_frozen(until_epoch: int) -> None:
        """Run a phase with a frozen CNN."""
        if features_folder is None or not section.cache_features:
            phases.run(whole, train, val, section.learning_rate, until_epoch, augment)
            return
        if augment is not None:
            logger.warning(
                "train.augmentation does not apply while the CNN is frozen: its features are "
                "computed once, without augmentation. To augment, set train.cache_features to "
                "false; each epoch then runs the CNN."
            )
        train_features = cached_features(model, train, features_folder)
        val_features = cached_features(model, val, features_folder)
        head = task.training_model(clip_head(model))
        phases.run(head, train_features, val_features, section.learning_rate, until_epoch)

    tuning = section.fine_tuning
    if tuning.head_epochs > 0:
        with _frozen(cnn_layers(model)):
            run_frozen(tuning.head_epochs)
        phases.run(whole, train, val, tuning.learning_rate, epochs, augment)
    elif is_frozen(model):
        run_frozen(epochs)
    else:
        phases.run(whole, train, val, section.learning_rate, epochs, augment)
    return FitResult(history=phases.history, kept_epoch=phases.kept.best_epoch + 1)


def calibrate(model: keras.Model, task: Task, val: ClipArrays) -> Task:
    """Fit the weights of its streams and calibrate ``model`` in place on the validation clips.

    Returns:
        The calibrated task.

    Raises:
        PipelineError: a clip has no real frame.
    """
    fit_stream_weights(model, task, val)
    with task.uncalibrated(model):
        outputs = predict_arrays(model, val)
    return task.calibrate(model, outputs, val.video_targets(), val.video_numbers())


def _check_differences(train: ClipArrays) -> None:
    """Refuse clips that all have one real frame; warn if some have."""
    single = int((train.masks().sum(axis=1) == 1).sum())
    if not single:
        return
    message = (
        f"model.streams: {single} of {len(train)} training clips have one real frame, so the frame "
        "difference is grey. Expected clips of 2 or more. Set model.streams to [frames], raise "
        "decode.fps, or lower extract.stride."
    )
    if single == len(train):
        raise PipelineError(message)
    logger.warning("%s", message)


@contextmanager
def _frozen(layers: Sequence[keras.Layer]) -> Iterator[None]:
    """Freeze ``layers`` inside the block."""
    trainable_before = [layer.trainable for layer in layers]
    set_trainable(layers, "none")
    try:
        yield
    finally:
        for layer, trainable in zip(layers, trainable_before, strict=True):
            layer.trainable = trainable


class _Phases:
    """The phases of one training, with their common history and best epoch."""

    def __init__(
        self,
        model: keras.Model,
        task: Task,
        section: TrainSection,
        callbacks: Sequence[keras.callbacks.Callback],
    ) -> None:
        self.history: list[dict[str, float]] = []
        self.kept = KeptEpoch(patience=section.patience)
        self._model, self._task = model, task
        self._section, self._callbacks = section, callbacks

    def run(
        self,
        model: keras.Model,
        train: _Clips,
        val: _Clips,
        learning_rate: float,
        until_epoch: int,
        augment: Augment | None = None,
    ) -> None:
        """Fit ``model``, or its head on features, with a new optimizer."""
        section, task = self._section, self._task
        first_epoch = len(self.history)  # from 0
        targets = task.encode(train.targets)
        loss: Any = task.loss(
            label_smoothing=section.label_smoothing,
            balanced_on=targets if section.class_weights == "balanced" else None,
        )
        metrics: Any = task.metrics()
        prepare: Prepare = task.training_example
        if isinstance(model.output, dict):  # several streams
            loss = {name: loss for name in model.output if name != FUSED}
            metrics = {FUSED: metrics}
            prepare = _example_of_streams(task, list(model.output))
        model.compile(
            optimizer=build_optimizer(
                section,
                learning_rate=learning_rate,
                epochs=until_epoch - first_epoch,
                steps_per_epoch=math.ceil(len(targets) / section.batch_size),
            ),
            loss=loss,
            metrics=metrics,
        )
        history = model.fit(
            training_batches(
                train,
                targets,
                batch_size=section.batch_size,
                seed=section.seed + first_epoch,  # another order in each phase
                augment=augment,
                prepare=prepare,
            ),
            validation_data=evaluation_batches(
                val,
                task.encode(val.targets),
                batch_size=section.batch_size,
                prepare=prepare,
            ),
            initial_epoch=first_epoch,
            epochs=until_epoch,
            callbacks=[_FusedMetrics(), self.kept, *rate_callbacks(section), *self._callbacks],
            shuffle=False,  # training_batches shuffles
            verbose=1 if sys.stderr.isatty() else 2,  # a progress bar, or one line for each epoch
        ).history
        # The next phase may fit other layers, so keep the weights of all layers.
        self.kept.best_weights = self._model.get_weights()
        self.history += [
            {"epoch": first_epoch + number, **dict(zip(history, map(float, values), strict=True))}
            for number, values in enumerate(zip(*history.values(), strict=True), start=1)
        ]


def _example_of_streams(task: Task, outputs: Sequence[str]) -> Prepare:
    """Return ``task.training_example`` with the target for each of ``outputs``."""

    def prepare(
        inputs: Inputs, target: tf.Tensor, seed: tf.Tensor
    ) -> tuple[Inputs, dict[str, tf.Tensor]]:
        inputs, target = task.training_example(inputs, target, seed)
        return inputs, dict.fromkeys(outputs, target)

    return prepare


class _FusedMetrics(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
    """Name the metrics of the fused output as those of a model with one stream."""

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        for name in list(logs or {}):
            if logs is not None and f"{FUSED}_" in name:
                logs[name.replace(f"{FUSED}_", "")] = logs.pop(name)


class KeptEpoch(keras.callbacks.EarlyStopping):  # type: ignore[misc]  # Keras has no types
    """Early stopping on the validation loss that keeps the best epoch of all phases.

    With a patience of 0, training runs to its end, and the last epoch is kept. A loss that is NaN
    or infinite stops the training; the weights of the best earlier epoch are restored.

    Raises:
        PipelineError: the loss is NaN or infinite and there is no earlier epoch.
    """

    def __init__(self, *, patience: int) -> None:
        super().__init__(
            monitor="val_loss", patience=patience or sys.maxsize, restore_best_weights=True
        )
        self._keeps_last = patience == 0
        self._is_broken = False  # the loss of this phase was not finite
        self._last_epoch = 0

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        if self.best_weights is None:
            super().on_train_begin(logs)
        self.wait = 0
        self._is_broken = False

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        losses = {name: float((logs or {})[name]) for name in ("loss", "val_loss")}
        wrong = [name for name, loss in losses.items() if not math.isfinite(loss)]
        if not wrong:
            self._last_epoch = epoch
            super().on_epoch_end(epoch, logs)
            return
        message = (
            f"Epoch {epoch + 1}: the loss is not finite. Received: {wrong[0]} {losses[wrong[0]]}. "
            "Lower train.learning_rate, or use train.precision float32."
        )
        if self.best_weights is None:
            raise PipelineError(message)
        logger.warning("%s Training stops; the best epoch is %d.", message, self.best_epoch + 1)
        self.model.stop_training = True
        self._is_broken = True

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        if self._keeps_last and not self._is_broken:
            self.best_epoch = self._last_epoch
        else:
            super().on_train_end(logs)

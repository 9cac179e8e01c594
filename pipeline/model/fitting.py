"""Fit a model reproducibly: the same seed gives the same weights, bit for bit."""

import logging
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from pipeline.clips.arrays import ClipArrays, ShardKey
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
from pipeline.model.checkpoints import CheckpointFile, History, WriteCheckpoint
from pipeline.model.features import FeatureArrays, cached_features
from pipeline.model.kept_epoch import FusedMetrics, KeptEpoch
from pipeline.model.network import clip_head, cnn_layers, is_frozen
from pipeline.model.optimization import build_optimizer, rate_callbacks
from pipeline.model.prediction import predict_arrays, refuse_empty_clips
from pipeline.model.settings import TrainSection
from pipeline.model.strategy import OneReplica
from pipeline.model.streams import fit_stream_weights, streams_of
from pipeline.tasks.heads import FUSED
from pipeline.tasks.task import Task

logger = logging.getLogger(__name__)

_Clips = ClipArrays | FeatureArrays
OptimizerOf = Callable[..., keras.optimizers.Optimizer]  # as build_optimizer


@dataclass(frozen=True)
class FitResult:
    """The history of a training.

    Attributes:
        history: one row for each epoch: ``epoch`` (from 1), ``loss``, metrics, ``val_loss``, ...
        kept_epoch: epoch of the final weights, from 1: the last one if ``train.patience`` is 0.
    """

    history: History
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
    shard_digests: Mapping[ShardKey, str] | None = None,
    replicas: OneReplica | None = None,
    checkpoints: CheckpointFile | None = None,
    optimizer_of: OptimizerOf = build_optimizer,
) -> FitResult:
    """Fit ``model`` in place.

    With ``section.patience`` above 0, the weights of the epoch with the lowest ``val_loss`` are
    kept, otherwise those of the last epoch: a few validation videos are too few to choose one.

    Args:
        features_folder: cache of the frame features of a frozen CNN. While the CNN is frozen,
            the layers after it are fitted on these features, without augmentation. None, or
            ``section.cache_features`` False, runs the CNN in every epoch.
        shard_digests: of the clips, if another process has verified their features in the cache.
        replicas: of ``model``, which was built in their scope; by default one.
        checkpoints: where to write one after every epoch, and from where to continue.
        optimizer_of: returns the optimizer of a phase.

    Raises:
        PipelineError: a clip has no real frame, the model has a stream of differences and no
            training clip has two frames, the loss is not finite in the first epoch, or the
            replicas cannot train with ``section``.
    """
    replicas = replicas or OneReplica()
    replicas.check(section)
    replicas.synchronize(model)
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
    phases = _Phases(
        whole,
        task,
        section,
        callbacks,
        replicas,
        checkpoints=checkpoints,
        optimizer_of=optimizer_of,
    )

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
        train_features, val_features = (
            cached_features(
                model,
                clips,
                features_folder,
                digests=shard_digests,
                is_verified=shard_digests is not None,
            )
            for clips in (train, val)
        )
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
        "difference is grey. Expected clips of 2 or more real frames. Set model.streams to "
        "[frames], raise decode.fps, or lower extract.stride."
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
        replicas: OneReplica,
        *,
        checkpoints: CheckpointFile | None,
        optimizer_of: OptimizerOf,
    ) -> None:
        self.history: History = []
        self.kept = KeptEpoch(patience=section.patience)
        self._number = -1  # of the phase, from 0
        self._model, self._task = model, task
        self._section, self._callbacks = section, callbacks
        self._replicas, self._checkpoints = replicas, checkpoints
        self._optimizer_of = optimizer_of

    def run(
        self,
        model: keras.Model,
        train: _Clips,
        val: _Clips,
        learning_rate: float,
        until_epoch: int,
        augment: Augment | None = None,
    ) -> None:
        """Fit ``model``, or its head on features, with a new optimizer.

        A phase that a checkpoint has completed is left out.
        """
        section, task, replicas = self._section, self._task, self._replicas
        self._number += 1
        first_epoch = start = len(self.history)  # from 0
        last = None if self._checkpoints is None else self._checkpoints.last
        if last is not None:
            if last.phase > self._number:
                return
            self.history = list(last.history)
            first_epoch = last.first_epoch
            start = until_epoch if last.is_stopped else len(self.history)
        targets = task.encode(train.targets)
        loss: Any = task.loss(
            label_smoothing=section.label_smoothing,
            balanced_on=targets if section.class_weights == "balanced" else None,
        )
        loss = replicas.loss(loss)
        prepare: Prepare = task.training_example
        if isinstance(model.output, dict):  # several streams
            loss = {name: loss for name in model.output if name != FUSED}
            prepare = _example_of_streams(task, list(model.output))
        batches = replicas.batches(
            lambda shares: training_batches(
                train,
                targets,
                batch_size=section.batch_size,
                seed=section.seed + first_epoch,  # another order in each phase
                augment=augment,
                prepare=prepare,
                shares=shares,
                first_epoch=start - first_epoch,
            )
        )
        val_batches = replicas.batches(
            lambda shares: evaluation_batches(
                val,
                task.encode(val.targets),
                batch_size=section.batch_size,
                prepare=prepare,
                shares=shares,
            )
        )
        stateful = [self.kept, *rate_callbacks(section)]
        callbacks = [FusedMetrics(), *stateful, *self._callbacks]
        if self._checkpoints is not None:
            callbacks.append(
                WriteCheckpoint(
                    self._checkpoints,
                    phase=self._number,
                    first_epoch=first_epoch,
                    history=self.history,
                    stateful=stateful,
                )
            )
        with replicas.scope():
            metrics: Any = task.metrics()
            fitted = replicas.model(model, batches)
            fitted.compile(
                optimizer=self._optimizer_of(
                    section,
                    learning_rate=learning_rate,
                    epochs=until_epoch - first_epoch,
                    steps_per_epoch=math.ceil(len(targets) / section.batch_size),
                ),
                loss=loss,
                metrics={FUSED: metrics} if isinstance(model.output, dict) else metrics,
            )
        with replicas.fitting():
            history = fitted.fit(
                batches,
                validation_data=val_batches,
                initial_epoch=start,
                epochs=until_epoch,
                steps_per_epoch=replicas.steps(len(train), section.batch_size),
                validation_steps=replicas.steps(len(val), section.batch_size),
                callbacks=callbacks,
                shuffle=False,  # training_batches shuffles
                # A progress bar, or one line for each epoch.
                verbose=(1 if sys.stdout.isatty() else 2) if replicas.is_verbose else 0,
            ).history
        # The next phase may fit other layers, so keep the weights of all layers.
        self.kept.best_weights = self._model.get_weights()
        self.history += [
            {"epoch": start + number, **dict(zip(history, map(float, values), strict=True))}
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

"""Fit a model as ``compute`` of params.yaml says: on all GPUs, or in several processes.

The model of the caller stays an ordinary one: copies of it are trained, and it gets their weights.
Calibration, saving and everything after do not differ.
"""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from numpy.typing import NDArray

import pipeline
from pipeline.clips.arrays import ClipArrays, ShardKey
from pipeline.common import paths
from pipeline.common.errors import first_line
from pipeline.common.files import sha256_of_file, sha256_of_json
from pipeline.common.side_inputs import SideInput
from pipeline.common.tables import count_of
from pipeline.compute.settings import ComputeSection
from pipeline.compute.training_workers import Report, run_workers
from pipeline.model.checkpoints import Checkpoint, CheckpointFile, remove_checkpoint
from pipeline.model.features import cached_features
from pipeline.model.fitting import FitResult, OptimizerOf, fit, make_deterministic
from pipeline.model.network import build_model, is_frozen
from pipeline.model.optimization import build_optimizer
from pipeline.model.settings import ModelSection, TrainSection
from pipeline.model.strategy import Replicas, machine_replicas, worker_replicas
from pipeline.tasks.task import Task, task_to_json

logger = logging.getLogger(__name__)

# Code that decides the weights: a training does not continue with other code.
_CODE = ("clips", "model", "tasks")

_LOST_CONNECTION = (
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.InternalError,
    tf.errors.UnavailableError,
)


@dataclass(frozen=True)
class Training:
    """A training as every process of it can run it.

    Attributes:
        clips: folder of the splits ``train`` and ``val``.
        features: as for ``fit``.
        optimizer_of: as for ``fit``.
    """

    model: ModelSection
    section: TrainSection
    task: Task
    side_inputs: tuple[SideInput, ...]
    clips: Path
    features: Path | None = None
    optimizer_of: OptimizerOf = build_optimizer

    def splits(self) -> tuple[ClipArrays, ClipArrays]:
        """Open the splits ``train`` and ``val``."""
        return ClipArrays(self.clips / "train"), ClipArrays(self.clips / "val")

    def shard_digests(self) -> dict[ShardKey, str]:
        """Hash the clips of both splits."""
        return {
            key: shard.digest() for clips in self.splits() for key, shard in clips.shards().items()
        }

    def digest(self, weights: Sequence[NDArray[Any]], shard_digests: Mapping[ShardKey, str]) -> str:
        """Return a digest of what decides the result, such as ``weights``, those at the start."""
        package = Path(pipeline.__file__).parent
        code = sorted(path for name in _CODE for path in (package / name).glob("*.py"))
        return sha256_of_json(
            [
                self.model.model_dump(),
                self.section.model_dump(),
                task_to_json(self.task),
                [asdict(one) for one in self.side_inputs],
                [sha256_of_file(path) for path in sorted(self.clips.glob("*/*.csv"))],
                [sha256_of_file(path) for path in sorted(self.clips.glob("*.json"))],
                list(shard_digests.values()),
                [sha256_of_file(path) for path in code],
                [keras.__version__, tf.__version__],
                [hashlib.sha256(array.tobytes()).hexdigest() for array in weights],
            ]
        )


def fit_replicas(
    model: keras.Model,
    training: Training,
    compute: ComputeSection,
    *,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    checkpoint: Path = paths.CHECKPOINT,
) -> FitResult:
    """Fit ``model`` in place, with the replicas that ``compute`` names.

    Several workers write a checkpoint after every epoch. A training that finds one of its own
    continues from it.

    Args:
        model: untrained, of ``build_model``.
        callbacks: with several workers, only ``on_train_begin`` and ``on_epoch_end`` are called.
            The epochs of a checkpoint come before ``on_train_begin``.

    Raises:
        PipelineError: as ``fit`` and ``run_workers``; or the disk cannot read the checkpoint.
    """
    weights = model.get_weights()
    if compute.train_workers == 1:
        replicas = machine_replicas()
        devices = replicas.devices
        logger.info(
            "Training with %s of the model on %s",
            count_of(len(devices), "replica"),
            ", ".join(devices),
        )
        result, weights = _fit_copy(training, weights, replicas, callbacks=list(callbacks))
        model.set_weights(weights)
        return result
    section, digests = training.section, training.shard_digests()
    has_frozen_phase = section.fine_tuning.head_epochs > 0 or is_frozen(model)
    if training.features is not None and section.cache_features and has_frozen_phase:
        for clips in training.splits():  # the workers only read them
            cached_features(model, clips, training.features, digests=digests)

    digest = training.digest(weights, digests)
    earlier = Checkpoint.read(checkpoint, digest)
    n_earlier = len(earlier.history) if earlier else 0
    del earlier  # has the weights

    def begin() -> None:
        for callback in callbacks:
            callback.on_train_begin()

    def log_epoch(row: dict[str, float]) -> None:
        logs = {name: value for name, value in row.items() if name != "epoch"}
        text = " - ".join(f"{name}: {value:.4g}" for name, value in logs.items())
        origin = ", of the checkpoint" if row["epoch"] <= n_earlier else ""
        logger.info("Epoch %d%s: %s", row["epoch"], origin, text)
        for callback in callbacks:
            callback.on_epoch_end(int(row["epoch"]) - 1, dict(logs))
        if row["epoch"] == n_earlier:
            begin()

    if n_earlier == 0:
        begin()
    train = partial(_train_in_worker, training, weights, digests, checkpoint, digest)
    result, weights = run_workers(train, compute, on_row=log_epoch, checkpoint=checkpoint)
    model.set_weights(weights)
    remove_checkpoint(checkpoint)
    return result


def _train_in_worker(
    training: Training,
    weights: list[NDArray[Any]],
    shard_digests: Mapping[ShardKey, str],
    checkpoint: Path,
    digest: str,
    is_chief: bool,
    report: Report,
) -> tuple[FitResult, list[NDArray[Any]]]:
    """Train in one of the processes that TF_CONFIG names.

    Raises:
        ConnectionError: another process is gone, or the port of this one is in use.
        PipelineError: the processes read different checkpoints, or TensorFlow sees no GPU where
            Ray has reserved one.
    """
    make_deterministic(training.section.seed, training.section.threads)
    file = CheckpointFile(checkpoint, digest, is_writer=is_chief, report=report)
    try:
        replicas = worker_replicas()
        file.require_agreement(replicas.gathered)
        report([])  # the workers are connected
        return _fit_copy(training, weights, replicas, checkpoints=file, shard_digests=shard_digests)
    except _LOST_CONNECTION as error:
        raise ConnectionError(first_line(error)) from None


def _fit_copy(
    training: Training, weights: list[NDArray[Any]], replicas: Replicas, **options: Any
) -> tuple[FitResult, list[NDArray[Any]]]:
    """Fit a copy of the model with ``weights``; return its weights at the end."""
    train, val = training.splits()
    # The caller's model has the weights, and has logged the warnings.
    section = training.model.model_copy(
        update={"cnn": training.model.cnn.model_copy(update={"weights": "none"})}
    )
    logging.disable(logging.WARNING)
    try:
        with replicas.scope():
            model = build_model(
                section,
                training.task,
                frame_shape=train.frames(0).shape[1:],
                precision=training.section.precision,
                side_inputs=training.side_inputs,
            )
    finally:
        logging.disable(logging.NOTSET)
    model.set_weights(weights)
    result = fit(
        model,
        training.task,
        train,
        val,
        training.section,
        features_folder=training.features,
        replicas=replicas,
        optimizer_of=training.optimizer_of,
        **options,
    )
    return result, model.get_weights()

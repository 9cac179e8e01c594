"""Train one model on several replicas: GPUs of a machine, or processes on several machines.

Every replica computes a share of each batch with the same weights, and adds its share of the
gradient. So the weights are those of one replica with the whole batch, except for rounding:

- batch normalisation takes its statistics from the real frames of all shares;
- the loss is the mean over the whole batch, whatever the sizes of the shares (``GlobalMean``);
- gradients are clipped after their sum (``pipeline/model/optimization.py``).
"""

import logging
import os
import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from math import ceil
from typing import Any

import keras
import tensorflow as tf
from keras.src.backend.tensorflow import trainer as keras_trainer

from pipeline.clips.batches import Shares
from pipeline.common.errors import PipelineError, first_line
from pipeline.model.network import cnn_layers
from pipeline.model.settings import TrainSection

logger = logging.getLogger(__name__)

_Batches = Callable[[Shares | None], tf.data.Dataset]

_INSTALL = f"run: .venv/bin/pip install 'tensorflow[and-cuda]=={tf.__version__}'"


class OneReplica:
    """Training in this process on one device, as ``Model.fit`` does it."""

    is_verbose = True

    def scope(self) -> AbstractContextManager[Any]:
        """Return the context in which variables are created."""
        return nullcontext()

    def fitting(self) -> AbstractContextManager[Any]:
        """Return the context of ``Model.fit``."""
        return nullcontext()

    def check(self, section: TrainSection) -> None:
        """Refuse settings with which replicas cannot train."""

    def synchronize(self, model: keras.Model) -> None:
        """Make batch normalisation use the batches of all replicas."""

    def model(self, model: keras.Model, batches: tf.data.Dataset) -> keras.Model:  # noqa: ARG002
        """Return the model that is fitted on ``batches``, with the layers of ``model``."""
        return model

    def loss(self, loss: keras.losses.Loss) -> keras.losses.Loss:
        """Return the loss of a whole batch."""
        return loss

    def batches(self, make: _Batches) -> tf.data.Dataset:
        """Return the batches that ``make`` returns for the shares of this process."""
        return make(None)

    def steps(self, n_clips: int, batch_size: int) -> int | None:  # noqa: ARG002
        """Return the number of steps of an epoch if the batches do not end with it."""
        return None


class Replicas(OneReplica):
    """Training with a strategy of ``tf.distribute``.

    Args:
        strategy: ``MirroredStrategy``, or ``MultiWorkerMirroredStrategy`` in each of the
            processes that TF_CONFIG names.
        is_verbose: whether ``Model.fit`` writes its progress.
    """

    def __init__(self, strategy: tf.distribute.Strategy, *, is_verbose: bool = True) -> None:
        self._strategy = strategy
        self.is_verbose = is_verbose

    @property
    def devices(self) -> list[str]:
        """Return the device of each replica of this process, such as ``GPU:0``."""
        return [name.rpartition("device:")[2] for name in self._strategy.extended.worker_devices]

    def scope(self) -> AbstractContextManager[Any]:
        scope: AbstractContextManager[Any] = self._strategy.scope()
        return scope

    @contextmanager
    def fitting(self) -> Iterator[None]:
        """Keep Keras from reducing the logs of each step over the workers.

        Keras 3.15 calls ``strategy.reduce(..., axis=0)`` on scalars: "Invalid reduction dimension
        0". The metrics of an epoch are those of all workers without it, because their variables
        are.
        """
        original = keras_trainer._collective_all_reduce_multi_worker
        keras_trainer._collective_all_reduce_multi_worker = lambda _strategy: False
        try:
            yield
        finally:
            keras_trainer._collective_all_reduce_multi_worker = original

    def check(self, section: TrainSection) -> None:
        """Refuse settings with which replicas cannot train.

        Raises:
            PipelineError: ``batch_size`` is not a multiple of the number of replicas, or
                ``precision`` scales the loss: Keras 3.15 then asks each worker whether its own
                gradient is finite, and waits forever if their answers differ.
        """
        replicas = self._strategy.num_replicas_in_sync
        if replicas > 1 and section.precision == "mixed_float16":
            raise PipelineError(
                "params.yaml: train.precision must be float32 or mixed_bfloat16 where several "
                "replicas train (compute.train_workers, compute.gpus). Received: mixed_float16. "
                "Change one of them."
            )
        if section.batch_size % replicas:
            raise PipelineError(
                f"params.yaml: train.batch_size must be a multiple of {replicas}, the number of "
                "replicas of the model (compute.train_workers times the GPUs of each). "
                f"Received: {section.batch_size}. Change train.batch_size or compute.train_workers."
            )

    def synchronize(self, model: keras.Model) -> None:
        for layer in cnn_layers(model):
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.synchronized = True

    def model(self, model: keras.Model, batches: tf.data.Dataset) -> keras.Model:
        replicated = ReplicatedModel(model.input, model.output, name=model.name)
        replicated.dtype_policy = model.dtype_policy  # Keras scales the loss if it is mixed_float16
        spec = batches.element_spec
        replicated.batch_spec = lambda: spec  # Keras would change a dict
        return replicated

    def loss(self, loss: keras.losses.Loss) -> keras.losses.Loss:
        return GlobalMean(loss)

    def batches(self, make: _Batches) -> tf.data.Dataset:
        def of_process(context: tf.distribute.InputContext) -> tf.data.Dataset:
            total = context.num_replicas_in_sync
            count = total // context.num_input_pipelines
            return make(Shares(context.input_pipeline_id * count, count, total))

        return self._strategy.distribute_datasets_from_function(of_process)

    def gathered(self, values: Sequence[int]) -> list[list[int]]:
        """Return the values of all processes, a row for each replica.

        Every process calls it at the same point of the training, with equally many values.
        """
        rows = self._strategy.experimental_distribute_values_from_function(
            lambda _: tf.constant([list(values)], tf.int64)
        )
        gathered: list[list[int]] = self._strategy.gather(rows, axis=0).numpy().tolist()
        return gathered

    def steps(self, n_clips: int, batch_size: int) -> int:
        return ceil(n_clips / batch_size)


class ReplicatedModel(keras.Model):  # type: ignore[misc]  # Keras has no types
    """A functional model that ``fit`` accepts with every strategy.

    Attributes:
        batch_spec: returns the types of a batch of ``fit``.
    """

    batch_spec: Callable[[], Any]

    def _maybe_symbolic_build(self, iterator: Any = None, data_batch: Any = None) -> None:  # noqa: ARG002
        """Build metrics and losses from the types of a batch.

        Keras 3.15 reads a batch for that, whose values of several replicas it cannot convert:
        "PerReplica ... unsupported type".
        """
        first = keras.tree.map_structure(
            lambda spec: getattr(spec, "_value_specs", (spec,))[0], self.batch_spec()
        )
        with self.distribute_strategy.scope():
            self._symbolic_build(data_batch=first)


class GlobalMean(keras.losses.Loss):  # type: ignore[misc]
    """The mean of a loss over the shares of a batch, which may differ in size.

    In a replica its gradient is the share of the replica in the gradient of the mean, and its
    value is the mean divided by the number of replicas, which Keras multiplies for its logs.

    Args:
        loss: its ``call`` returns a value for each example, or their mean. A mean over anything
            but examples needs the method ``n_terms(y_true)``, their number.
    """

    def __init__(self, loss: keras.losses.Loss) -> None:
        super().__init__(name=loss.name)
        self._loss = loss

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        values = tf.convert_to_tensor(self._loss.call(y_true, y_pred))
        if hasattr(self._loss, "n_terms"):
            count = tf.cast(self._loss.n_terms(y_true), values.dtype)
            total = values * count
        else:
            count = tf.cast(tf.size(values), values.dtype)
            total = tf.reduce_sum(values)
        replica = tf.distribute.get_replica_context()
        if replica is None:  # while Keras builds the model
            return total / tf.maximum(count, 1)
        sums = replica.all_reduce("SUM", tf.stack([tf.stop_gradient(total), count]))
        share = total / tf.maximum(sums[1], 1)
        mean = sums[0] / tf.maximum(sums[1], 1)
        return share + tf.stop_gradient(mean / replica.num_replicas_in_sync - share)


def machine_replicas(devices: Sequence[str] | None = None) -> Replicas:
    """Return a replica for each of ``devices``, by default all GPUs of this machine.

    Without a GPU it is one replica on the CPU, with a warning.
    """
    if devices is None and not _sees_gpus():
        logger.warning(
            "compute.gpus is all, but TensorFlow sees no GPU, so the model trains on the CPU. If "
            "this machine has an NVIDIA GPU, %s",
            _INSTALL,
        )
    return Replicas(tf.distribute.MirroredStrategy(devices))


def worker_replicas() -> Replicas:
    """Return the replicas of all processes that TF_CONFIG names, one for each GPU.

    Call it in each of them, before the first computation: it waits for the others.

    Raises:
        PipelineError: CUDA_VISIBLE_DEVICES names GPUs, and TensorFlow sees none.
        ConnectionError: another program uses the port of this process.
        tf.errors.OpError: the processes do not connect.
    """
    if (gpus := os.environ.get("CUDA_VISIBLE_DEVICES")) and not _sees_gpus():
        raise PipelineError(
            f"compute.train_workers: Ray has reserved the GPUs {gpus} of the machine "
            f"{platform.node()} for a worker, but TensorFlow sees none. To train on them, "
            f'{_INSTALL}. To train on the CPU, set CUDA_VISIBLE_DEVICES to "" for ray start, or '
            'for this command if compute.address is "".'
        )
    try:
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    except tf.errors.UnknownError as error:
        if "Could not start gRPC server" not in str(error):
            raise
        reason = first_line(error)
        raise ConnectionError(f"another program uses its port ({reason})") from None
    return Replicas(strategy, is_verbose=False)


def _sees_gpus() -> bool:
    return bool(tf.config.list_physical_devices("GPU"))

"""The ways of running a CNN over the frames of clips that are compared, in training.

Each function runs in a process of its own, which holds one model. All models train in the
project's own way: deterministic, with two threads, no XLA.
"""

import importlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from benchmarks.timing import cpu_seconds_of

if TYPE_CHECKING:
    import keras

SideName = Literal["project", "stock", "stock_tuned", "per_layer"]
CnnName = Literal["small_cnn", "MobileNetV2"]

SIDE = 112  # pixels
N_CLASSES = 6
_THREADS = 2
_BATCHES = 3  # of different numbers of real frames, in turn; all are seen before 0.4 is timed


@dataclass(frozen=True)
class Job:
    """One model and its batches."""

    side: SideName
    cnn: CnnName
    n_frames: int  # T
    batch_size: int


@dataclass
class _Held:
    """What a process keeps between calls."""

    model: Any = None
    job: Job | None = None
    steps_done: int = 0
    before_kib: int = 0
    batches: dict[float, list[Any]] = field(default_factory=dict)


_held = _Held()


def start_side(side: SideName) -> None:
    """Leave TensorFlow as it comes, unless it is for the project. Called before anything else.

    ``pipeline.model`` sets what is not set when it is imported: so stock Keras gets the memory
    that it has by default by name, and TensorFlow decides about oneDNN before that import.
    """
    if side in ("stock", "per_layer"):
        os.environ["TF_CPU_ALLOCATOR_USE_BFC"] = "false"
        os.environ.pop("TF_ENABLE_ONEDNN_OPTS", None)
        importlib.import_module("tensorflow")


def prepare(job: Job) -> float:
    """Build the model and take one step; return the seconds, less those of a second step.

    They are of processor time, so that sides may prepare at the same time.
    """
    from pipeline.model.training import make_deterministic

    make_deterministic(0, _THREADS)
    _held.job, _held.batches = job, {}
    _held.before_kib = _memory_kib("VmRSS")

    def build_and_step() -> None:
        _held.model = _classifier(job)
        step_seconds(0.4)

    return cpu_seconds_of(build_and_step) - cpu_seconds_of(lambda: step_seconds(0.4))


def step_seconds(share: float) -> float:
    """Return the seconds of one training step on clips with so many real frames on average."""
    assert _held.job is not None, "prepare comes first"
    if share not in _held.batches:
        rng = np.random.default_rng(0)
        _held.batches[share] = [noise_batch(_held.job, share, rng) for _ in range(_BATCHES)]
    inputs, labels = _held.batches[share][_held.steps_done % _BATCHES]
    _held.steps_done += 1
    started = time.perf_counter()
    loss = float(_held.model.train_on_batch(inputs, labels))
    seconds = time.perf_counter() - started
    if not np.isfinite(loss):
        raise SystemExit(f"expected a finite loss of {_held.job}, received {loss}")
    return seconds


def peak_memory_mb() -> float:
    """Return by how many megabytes (10^6 bytes) this process has grown since the imports."""
    return (_memory_kib("VmHWM") - _held.before_kib) * 1024 / 1e6


def noise_batch(
    job: Job, share: float, rng: np.random.Generator
) -> tuple[dict[str, NDArray[Any]], NDArray[np.int64]]:
    """Return clips of noise; their lengths are even from both ends around ``share`` of T."""
    lowest = max(1.0, (2 * share - 1) * job.n_frames)
    lengths = rng.uniform(lowest, 2 * share * job.n_frames - lowest, job.batch_size)
    lengths += share * job.n_frames - lengths.mean() + rng.uniform(-0.5, 0.5)
    mask = np.arange(job.n_frames) < np.clip(np.round(lengths), 1, job.n_frames)[:, None]
    if share == 1:
        mask[:] = True
    frames = np.zeros((*mask.shape, SIDE, SIDE, 3), np.uint8)
    frames[mask] = rng.integers(0, 256, (int(mask.sum()), SIDE, SIDE, 3), np.uint8)
    return {"frames": frames, "mask": mask}, rng.integers(0, N_CLASSES, job.batch_size)


def _classifier(job: Job) -> "keras.Model":
    """CNN, LSTM, classes; only what runs the CNN over the frames differs."""
    import keras

    from pipeline.model.architecture import Cnn
    from pipeline.model.backbones import frame_encoder

    pooling: Literal["flatten", "average"] = "flatten" if job.cnn == "small_cnn" else "average"
    encoder = frame_encoder(Cnn(job.cnn, pooling=pooling), frame_shape=(SIDE, SIDE, 3))
    # Keras unrolls time, so it must know how much there is.
    n_frames = None if job.side == "project" else job.n_frames
    frames = keras.Input((n_frames, SIDE, SIDE, 3), dtype="uint8", name="frames")
    mask = keras.Input((n_frames,), dtype="bool", name="mask")
    features = _over_frames(job.side)(encoder, frames, mask)
    clip = keras.layers.LSTM(64)(features, mask=mask)
    probabilities = keras.layers.Dense(N_CLASSES, activation="softmax")(clip)
    model = keras.Model({"frames": frames, "mask": mask}, probabilities)
    model.compile(keras.optimizers.Adam(1e-3, clipnorm=1.0), "sparse_categorical_crossentropy")
    model.optimizer.build(model.trainable_variables)  # as fit does: or the step is traced twice
    return model


def _over_frames(side: SideName) -> Callable[..., Any]:
    match side:
        case "project":
            return _project
        case "per_layer":
            return lambda encoder, frames, _: _each_wrapped(_of_keras_alone(encoder), frames)
        case _:
            return _stock


def _project(encoder: "keras.Model", frames: Any, mask: Any) -> Any:
    from pipeline.model.wrapping import over_frames

    return over_frames(encoder, frames, mask, wrap="whole")


def _stock(encoder: "keras.Model", frames: Any, _: Any) -> Any:
    import keras

    return keras.layers.TimeDistributed(_of_keras_alone(encoder))(frames)


def _of_keras_alone(encoder: "keras.Model") -> "keras.Model":
    """Return a copy of ``encoder`` with Keras's own batch normalisation."""
    import keras

    from pipeline.model.batch_norm import FusedBatchNormalization

    def own(layer: keras.Layer) -> keras.Layer:
        if isinstance(layer, FusedBatchNormalization):
            return keras.layers.BatchNormalization.from_config(layer.get_config())
        return layer

    return keras.models.clone_model(encoder, clone_function=own)


def _each_wrapped(layer: Any, *inputs: Any, **options: Any) -> Any:
    import keras

    if isinstance(layer, keras.Sequential):
        return reduce(lambda steps, inner: _each_wrapped(inner, steps), layer.layers, inputs[0])
    if isinstance(layer, keras.Model):
        return layer._run_through_graph(inputs, call_fn=_each_wrapped)
    if not isinstance(layer, keras.Layer) or isinstance(inputs[0], list | tuple):
        return layer(*inputs, **options)  # Add: the same with and without time
    return keras.layers.TimeDistributed(layer)(*inputs)


def _memory_kib(name: Literal["VmRSS", "VmHWM"]) -> int:
    """Return the memory of this process, now or at its peak.

    getrusage does not serve: Linux hands the parent's peak down to a new process.
    """
    for line in Path("/proc/self/status").read_text("ascii").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    raise SystemExit(f"expected {name} in /proc/self/status: this measure needs Linux")

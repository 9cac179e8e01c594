"""Compare training steps of this project's TimeDistributed with those of Keras.

`python -m benchmarks.train [--quick]` trains the small CNN and MobileNetV2 with an LSTM on
clips of noise, 112x112, of which on average 0.4, 0.7 and 1.0 of the frames are real. Each side
runs in its own process; the sides take turns:

- project: the CNN in this project's TimeDistributed, with its settings of TensorFlow;
- stock: the CNN in keras.layers.TimeDistributed, with TensorFlow's defaults;
- stock_tuned: the same with the settings of this project, to measure these settings;
- per_layer: each layer in a keras.layers.TimeDistributed. Its memory grows with the square of
  T, so it runs with the small CNN only, up to T=32.

All sides are deterministic, with two threads and without XLA. `--quick` measures T=16 and the
first two sides only.

Graph building is the processor time by which building the model and the first step exceed the
second step; as many models are built at a time as there are cores. Peak memory is the growth of a
process until it has trained at 0.4. The last line is JSON; its ratios are against stock: medians
over T of speedups and memory, and graph building at the largest T.
"""

import argparse
import importlib
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial, reduce
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.timing import (
    cpu_seconds_of,
    interleaved,
    memory_mb,
    new_process,
    rounded,
    usable_cores,
)
from pipeline.common.command import run_command

if TYPE_CHECKING:
    import keras

SideName = Literal["project", "stock", "stock_tuned", "per_layer"]
CnnName = Literal["small_cnn", "MobileNetV2"]

_SIDE_PIXELS = 112
_CLASSES = 6
_THREADS = 2
_BATCHES = 3  # of different numbers of real frames, in turn; all are seen before 0.4 is timed
_LONGEST_PER_LAYER = 32
_SLOWEST_FIRST: tuple[SideName, ...] = ("stock", "stock_tuned", "per_layer", "project")
_BATCH_SIZES: dict[CnnName, Callable[[int], int]] = {
    "small_cnn": lambda _: 8,
    "MobileNetV2": lambda n_frames: 64 // n_frames,  # more do not fit in memory
}


@dataclass(frozen=True)
class Scale:
    """The amount of measurements."""

    lengths: tuple[int, ...] = (16, 32, 64)
    real_fractions: tuple[float, ...] = (0.4, 0.7, 1.0)  # rising: memory is read after the first
    sides: tuple[SideName, ...] = ("project", "stock", "stock_tuned", "per_layer")
    repetitions: int = 5


QUICK = Scale(lengths=(16,), sides=("project", "stock"), repetitions=3)


@dataclass(frozen=True)
class Job:
    """One model and its batches."""

    side: SideName
    cnn: CnnName
    n_frames: int  # T
    batch_size: int


@dataclass
class Measurement:
    """The measurements of one CNN and length, by side."""

    cnn: CnnName
    n_frames: int
    building: dict[SideName, float]  # seconds of processor time
    memory: dict[SideName, float] = field(default_factory=dict)  # megabytes, at 0.4
    steps: dict[float, dict[SideName, float]] = field(default_factory=dict)  # seconds

    def speedup(self, fraction: float) -> float | None:
        steps = self.steps.get(fraction)
        return None if steps is None else steps["stock"] / steps["project"]


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.train", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="T=16, project and stock only")
    scale = QUICK if parser.parse_args().quick else Scale()
    measurements: list[Measurement] = []
    for n_frames in tqdm(scale.lengths, desc="measure", unit="length", disable=None):
        for measurement in _measure(n_frames, scale):
            print(_table(measurement), flush=True)
            measurements.append(measurement)
    print(json.dumps(_summary(measurements)))


def _measure(n_frames: int, scale: Scale) -> Iterator[Measurement]:
    """Build all models of a length, then time one CNN after the other."""
    has_per_layer = n_frames <= _LONGEST_PER_LAYER
    with ExitStack() as stack:
        processes: dict[CnnName, dict[SideName, ProcessPoolExecutor]] = {
            cnn: {
                side: stack.enter_context(new_process(_start_side, side))
                for side in scale.sides
                if side != "per_layer" or (cnn == "small_cnn" and has_per_layer)
            }
            for cnn in _BATCH_SIZES
        }
        building = _build_all(processes, n_frames)
        for cnn, by_side in processes.items():
            measurement = Measurement(cnn, n_frames, building[cnn])
            for fraction in scale.real_fractions:

                def step(process: ProcessPoolExecutor, fraction: float = fraction) -> float:
                    return process.submit(_step_seconds, fraction).result()

                steps = {side: partial(step, process) for side, process in by_side.items()}
                timings = interleaved(steps, repetitions=scale.repetitions)
                measurement.steps[fraction] = timings.medians
                if fraction == scale.real_fractions[0]:
                    measurement.memory = {
                        side: process.submit(_peak_memory_mb).result()
                        for side, process in by_side.items()
                    }
            yield measurement


def _build_all(
    processes: dict[CnnName, dict[SideName, ProcessPoolExecutor]], n_frames: int
) -> dict[CnnName, dict[SideName, float]]:
    """Build every model in its process, one a core at a time, and return the seconds of each.

    The slowest come first, so that no core waits at the end.
    """

    def build(cnn: CnnName, side: SideName) -> float:
        job = Job(side, cnn, n_frames, _BATCH_SIZES[cnn](n_frames))
        return processes[cnn][side].submit(_prepare, job).result()

    with ThreadPoolExecutor(len(usable_cores())) as cores:
        seconds: dict[CnnName, dict[SideName, Future[float]]] = {
            cnn: {
                side: cores.submit(build, cnn, side)
                for side in _SLOWEST_FIRST
                if side in processes[cnn]
            }
            for cnn in reversed(_BATCH_SIZES)
        }
        return {
            cnn: {side: seconds[cnn][side].result() for side in by_side}
            for cnn, by_side in processes.items()
        }


def _table(measurement: Measurement) -> str:
    sides = list(measurement.building)
    title = f"{measurement.cnn}, T={measurement.n_frames}"
    rows = [
        ("graph, s", measurement.building, 1.0),
        ("peak at 0.4, MB", measurement.memory, 1.0),
        *((f"step at {share}, ms", step, 1000.0) for share, step in measurement.steps.items()),
    ]
    lines = [f"{title:18}" + "".join(f"{side:>13}" for side in sides)]
    for name, values, factor in rows:
        lines.append(f"{name:18}" + "".join(f"{factor * values[side]:13.1f}" for side in sides))
    return "\n".join(lines)


def _summary(measurements: list[Measurement]) -> dict[str, float | None]:
    summary: dict[str, float | None] = {}
    for cnn in _BATCH_SIZES:
        for fraction in (0.4, 1.0):
            speedups = [one.speedup(fraction) for one in measurements if one.cnn == cnn]
            summary[f"{cnn.lower()}_speedup_{fraction}"] = _median(speedups)
    longest = max(one.n_frames for one in measurements)
    building = [
        one.building["stock"] / one.building["project"]
        for one in measurements
        if one.n_frames == longest and one.cnn == "small_cnn"
    ]
    memory = [one.memory["project"] / one.memory["stock"] for one in measurements]
    return {
        **summary,
        "graph_building_speedup": _median(building),
        "peak_memory_ratio_0.4": _median(memory),
    }


def _median(values: list[float | None] | list[float]) -> float | None:
    known = [value for value in values if value is not None]
    return rounded(statistics.median(known)) if known else None


# The functions below run in the process of a side, which holds one model.


@dataclass
class _State:
    """The state of a process between calls."""

    model: Any = None
    job: Job | None = None
    steps_done: int = 0
    initial_mb: float = 0.0
    batches: dict[float, list[Any]] = field(default_factory=dict)


_state = _State()


def _start_side(side: SideName) -> None:
    """Import TensorFlow first, with its defaults, for the sides of stock Keras."""
    if side in ("stock", "per_layer"):
        os.environ["TF_CPU_ALLOCATOR_USE_BFC"] = "false"
        os.environ.pop("TF_ENABLE_ONEDNN_OPTS", None)
        # Without the import hook of pipeline.common.tensorflow, which applies its settings.
        sys.meta_path[:] = [
            finder
            for finder in sys.meta_path
            if type(finder).__module__.split(".")[0] != "pipeline"
        ]
        importlib.import_module("tensorflow")


def _prepare(job: Job) -> float:
    """Build the model and take one step; return the seconds, minus those of a second step.

    They are seconds of processor time, so that sides may prepare at the same time.
    """
    from pipeline.model.fitting import make_deterministic

    make_deterministic(0, _THREADS)
    _state.job, _state.batches = job, {}
    _state.initial_mb = memory_mb("VmRSS")

    def build_and_step() -> None:
        _state.model = _build(job)
        _step_seconds(0.4)

    return cpu_seconds_of(build_and_step) - cpu_seconds_of(lambda: _step_seconds(0.4))


def _step_seconds(fraction: float) -> float:
    """Return the seconds of one training step on clips with this mean fraction of real frames."""
    assert _state.job is not None, "_prepare comes first"
    if fraction not in _state.batches:
        rng = np.random.default_rng(0)
        _state.batches[fraction] = [
            _noise_batch(_state.job, fraction, rng) for _ in range(_BATCHES)
        ]
    inputs, labels = _state.batches[fraction][_state.steps_done % _BATCHES]
    _state.steps_done += 1
    started = time.perf_counter()
    loss = float(_state.model.train_on_batch(inputs, labels))
    seconds = time.perf_counter() - started
    if not np.isfinite(loss):
        raise SystemExit(f"Expected a finite loss of {_state.job}. Received: {loss}")
    return seconds


def _peak_memory_mb() -> float:
    """Return the growth of this process since the imports, in megabytes (10^6 bytes)."""
    return memory_mb("VmHWM") - _state.initial_mb


def _noise_batch(
    job: Job, fraction: float, rng: np.random.Generator
) -> tuple[dict[str, NDArray[Any]], NDArray[np.int64]]:
    """Return clips of noise whose lengths are uniform around ``fraction`` of T."""
    lowest = max(1.0, (2 * fraction - 1) * job.n_frames)
    lengths = rng.uniform(lowest, 2 * fraction * job.n_frames - lowest, job.batch_size)
    lengths += fraction * job.n_frames - lengths.mean() + rng.uniform(-0.5, 0.5)
    mask = np.arange(job.n_frames) < np.clip(np.round(lengths), 1, job.n_frames)[:, None]
    if fraction == 1:
        mask[:] = True
    frames = np.zeros((*mask.shape, _SIDE_PIXELS, _SIDE_PIXELS, 3), np.uint8)
    noise_shape = (int(mask.sum()), *frames.shape[2:])
    frames[mask] = rng.integers(0, 256, noise_shape, np.uint8)
    return {"frames": frames, "mask": mask}, rng.integers(0, _CLASSES, job.batch_size)


def _build(job: Job) -> "keras.Model":
    """Return CNN, LSTM, classes; sides differ only in how the CNN runs over the frames."""
    import keras

    from pipeline.model.backbones import frame_encoder
    from pipeline.model.settings import CnnSection
    from pipeline.model.time_distributed import over_frames

    cnn = CnnSection(backbone=job.cnn, pooling="flatten" if job.cnn == "small_cnn" else "average")
    frame_shape = (_SIDE_PIXELS, _SIDE_PIXELS, 3)
    encoder = frame_encoder(cnn, frame_shape=frame_shape)
    # Keras's TimeDistributed unrolls time, so it needs a fixed length.
    n_frames = None if job.side == "project" else job.n_frames
    frames = keras.Input((n_frames, *frame_shape), dtype="uint8", name="frames")
    mask = keras.Input((n_frames,), dtype="bool", name="mask")
    match job.side:
        case "project":
            features = over_frames(encoder, frames, mask, wrap="whole")
        case "per_layer":
            features = _wrap_each(_with_stock_batch_norm(encoder), frames)
        case _:
            features = keras.layers.TimeDistributed(_with_stock_batch_norm(encoder))(frames)
    clip = keras.layers.LSTM(64)(features, mask=mask)
    probabilities = keras.layers.Dense(_CLASSES, activation="softmax")(clip)
    model = keras.Model({"frames": frames, "mask": mask}, probabilities)
    model.compile(keras.optimizers.Adam(1e-3, clipnorm=1.0), "sparse_categorical_crossentropy")
    model.optimizer.build(model.trainable_variables)  # as fit does; else the step is traced twice
    return model


def _with_stock_batch_norm(encoder: "keras.Model") -> "keras.Model":
    """Return a copy of ``encoder`` with Keras's own batch normalisation."""
    import keras

    from pipeline.model.layers import FusedBatchNormalization

    def stock(layer: keras.Layer) -> keras.Layer:
        if isinstance(layer, FusedBatchNormalization):
            return keras.layers.BatchNormalization.from_config(layer.get_config())
        return layer

    return keras.models.clone_model(encoder, clone_function=stock)


def _wrap_each(layer: Any, *inputs: Any, **options: Any) -> Any:
    import keras

    if isinstance(layer, keras.Sequential):
        return reduce(lambda steps, inner: _wrap_each(inner, steps), layer.layers, inputs[0])
    if isinstance(layer, keras.Model):
        return layer._run_through_graph(inputs, call_fn=_wrap_each)
    if not isinstance(layer, keras.Layer) or isinstance(inputs[0], list | tuple):
        return layer(*inputs, **options)  # Add: the same with and without time
    return keras.layers.TimeDistributed(layer)(*inputs)


if __name__ == "__main__":
    run_command(main)

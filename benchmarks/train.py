"""Compare training steps of this project's TimeDistributed with those of Keras's own.

`python -m benchmarks.train [--quick]` trains the small CNN and MobileNetV2 with an LSTM on
clips of noise, 112x112, of which on average 0.4, 0.7 and 1.0 of the frames are real. The
sides, each in a process of its own, take turns:

- project: the CNN in this project's TimeDistributed, with what `pipeline` sets for TensorFlow;
- stock: the CNN in keras.layers.TimeDistributed, TensorFlow as it comes;
- stock_tuned: the same with the settings of `pipeline`, to see what these do;
- per_layer: each layer in a keras.layers.TimeDistributed. Its memory grows with the square of
  T, so it takes part with the small CNN only, up to T=32.

`--quick` measures T=16 and the first two sides only.

Graph building is what building the model and the first step take longer than the second
step, in processor time, because as many models build at a time as there are cores. Peak memory
is what a process grows by until it has trained at 0.4. The last line is JSON; its ratios are
against stock: medians over T of speedups and memory, and graph building at the largest T.
"""

import argparse
import json
import statistics
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context

from tqdm import tqdm

from benchmarks.timing import interleaved, usable_cores
from benchmarks.train_sides import (
    CnnName,
    Job,
    SideName,
    peak_memory_mb,
    prepare,
    start_side,
    step_seconds,
)
from pipeline.base.command import run_command

_LONGEST_PER_LAYER = 32
_SLOWEST_FIRST: tuple[SideName, ...] = ("stock", "stock_tuned", "per_layer", "project")
_CLIPS: dict[CnnName, Callable[[int], int]] = {
    "small_cnn": lambda _: 8,
    "MobileNetV2": lambda n_frames: 64 // n_frames,  # more do not fit beside each other
}


@dataclass(frozen=True)
class Scale:
    """How much is measured."""

    lengths: tuple[int, ...] = (16, 32, 64)
    shares: tuple[float, ...] = (0.4, 0.7, 1.0)  # rising: peak memory is read after the first
    sides: tuple[SideName, ...] = ("project", "stock", "stock_tuned", "per_layer")
    repetitions: int = 5


QUICK = Scale(lengths=(16,), sides=("project", "stock"), repetitions=3)


@dataclass
class Measured:
    """What was measured of one CNN and length, by side."""

    cnn: CnnName
    n_frames: int
    building: dict[SideName, float]  # seconds of processor time
    memory: dict[SideName, float] = field(default_factory=dict)  # megabytes, at 0.4
    steps: dict[float, dict[SideName, float]] = field(default_factory=dict)  # seconds

    def speedup(self, share: float) -> float | None:
        steps = self.steps.get(share)
        return None if steps is None else steps["stock"] / steps["project"]


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.train", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="T=16, project and stock only")
    scale = QUICK if parser.parse_args().quick else Scale()
    found: list[Measured] = []
    for n_frames in tqdm(scale.lengths, desc="measure", unit="length", disable=None):
        for measured in _measure(n_frames, scale):
            print(_table(measured), flush=True)
            found.append(measured)
    print(json.dumps(_summary(found)))


def _measure(n_frames: int, scale: Scale) -> Iterator[Measured]:
    """Build all models of a length, then time one CNN after the other."""
    with ExitStack() as stack:
        processes: dict[CnnName, dict[SideName, ProcessPoolExecutor]] = {
            cnn: {side: stack.enter_context(_process_of(side)) for side in sides}
            for cnn, sides in _taking_part(n_frames, scale).items()
        }
        built = _build(processes, n_frames)
        for cnn, of_cnn in processes.items():
            yield _measure_steps(Measured(cnn, n_frames, built[cnn]), of_cnn, scale)


def _build(
    processes: dict[CnnName, dict[SideName, ProcessPoolExecutor]], n_frames: int
) -> dict[CnnName, dict[SideName, float]]:
    """Build every model in its process, one a core at a time, and return how long each took.

    The slowest to build come first, so that the fast ones fill the other cores meanwhile.
    """

    def build(cnn: CnnName, side: SideName) -> float:
        job = Job(side, cnn, n_frames, _CLIPS[cnn](n_frames))
        return processes[cnn][side].submit(prepare, job).result()

    with ThreadPoolExecutor(len(usable_cores())) as cores:
        building: dict[CnnName, dict[SideName, Future[float]]] = {
            cnn: {
                side: cores.submit(build, cnn, side)
                for side in _SLOWEST_FIRST
                if side in processes[cnn]
            }
            for cnn in reversed(_CLIPS)
        }
        return {
            cnn: {side: building[cnn][side].result() for side in of_cnn}
            for cnn, of_cnn in processes.items()
        }


def _taking_part(n_frames: int, scale: Scale) -> dict[CnnName, list[SideName]]:
    fits = n_frames <= _LONGEST_PER_LAYER
    return {
        cnn: [side for side in scale.sides if side != "per_layer" or (cnn == "small_cnn" and fits)]
        for cnn in _CLIPS
    }


def _process_of(side: SideName) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(
        max_workers=1, mp_context=get_context("spawn"), initializer=start_side, initargs=(side,)
    )


def _measure_steps(
    measured: Measured, processes: dict[SideName, ProcessPoolExecutor], scale: Scale
) -> Measured:
    for share in scale.shares:
        sides = {side: partial(_step_in, process, share) for side, process in processes.items()}
        measured.steps[share] = interleaved(sides, repetitions=scale.repetitions).medians
        if share == scale.shares[0]:
            measured.memory = {
                side: process.submit(peak_memory_mb).result() for side, process in processes.items()
            }
    return measured


def _step_in(process: ProcessPoolExecutor, share: float) -> float:
    return process.submit(step_seconds, share).result()


def _table(measured: Measured) -> str:
    sides = list(measured.building)
    lines = [f"{measured.cnn}, T={measured.n_frames}" + "".join(f"{side:>13}" for side in sides)]
    width = len(lines[0]) - 13 * len(sides)
    rows = [
        ("graph, s", measured.building, 1.0),
        ("peak at 0.4, MB", measured.memory, 1.0),
        *((f"step at {share}, ms", step, 1000.0) for share, step in measured.steps.items()),
    ]
    for name, values, factor in rows:
        cells = "".join(f"{factor * values[side]:13.1f}" for side in sides)
        lines.append(f"{name:{width}}{cells}")
    return "\n".join(lines)


def _summary(found: list[Measured]) -> dict[str, float | None]:
    summary: dict[str, float | None] = {}
    for cnn in _CLIPS:
        for share in (0.4, 1.0):
            ratios = [one.speedup(share) for one in found if one.cnn == cnn]
            summary[f"{cnn.lower()}_speedup_{share}"] = _median(ratios)
    longest = max(one.n_frames for one in found)
    building = [
        one.building["stock"] / one.building["project"]
        for one in found
        if one.n_frames == longest and one.cnn == "small_cnn"
    ]
    memory = [one.memory["project"] / one.memory["stock"] for one in found]
    return {
        **summary,
        "graph_building_speedup": _median(building),
        "peak_memory_ratio_0.4": _median(memory),
    }


def _median(values: list[float | None] | list[float]) -> float | None:
    known = [value for value in values if value is not None]
    return round(statistics.median(known), 3) if known else None


if __name__ == "__main__":
    run_command(main)

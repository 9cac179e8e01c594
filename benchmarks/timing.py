"""Measure sides fairly: in processes of their own, interleaved, as medians; also memory."""

import os
import statistics
import time
from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

import cv2

SideT = TypeVar("SideT", bound=Hashable)


class CannotMeasureError(Exception):
    """A side cannot process this input; the message is the reason."""


@dataclass
class Timings(Generic[SideT]):
    """The result of ``interleaved``."""

    medians: dict[SideT, float] = field(default_factory=dict)  # seconds
    failures: dict[SideT, str] = field(default_factory=dict)  # reason by side


def usable_cores() -> list[int]:
    """Return the numbers of the cores that this process may run on."""
    return sorted(os.sched_getaffinity(0))


def new_process(
    initializer: Callable[..., object] | None = None, *initargs: Any
) -> ProcessPoolExecutor:
    """Return an executor with one new process, which calls ``initializer`` first."""
    spawn = get_context("spawn")
    return ProcessPoolExecutor(1, mp_context=spawn, initializer=initializer, initargs=initargs)


def pinned_process(core: int) -> ProcessPoolExecutor:
    """Return an executor with one new process that runs on ``core`` only, with one thread."""
    return new_process(_pin, core)


def interleaved(sides: Mapping[SideT, Callable[[], float]], *, repetitions: int) -> Timings[SideT]:
    """Run the sides in turns and return the medians.

    Other load then affects all sides alike. The first turn does not count: it loads libraries and
    fills the page cache. A side that fails in it is left out.

    Args:
        sides: functions that do the work once and return its seconds.
        repetitions: number of turns that count.
    """
    timings = Timings[SideT]()
    for name, run in sides.items():
        try:
            run()
        except (CannotMeasureError, BrokenProcessPool) as error:
            timings.failures[name] = str(error)
    left = [name for name in sides if name not in timings.failures]
    seconds: dict[SideT, list[float]] = {name: [] for name in left}
    for repetition in range(repetitions):
        for name in left if repetition % 2 == 0 else reversed(left):
            seconds[name].append(sides[name]())
    timings.medians = {name: statistics.median(seconds[name]) for name in left}
    return timings


def seconds_of(work: Callable[[], object]) -> float:
    """Return the wall time of ``work``, in seconds."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def cpu_seconds_of(work: Callable[[], object]) -> float:
    """Return the processor time of ``work`` in this process, in seconds.

    Other load on the machine affects it less than the wall time.
    """
    started = time.process_time()
    work()
    return time.process_time() - started


def memory_mb(name: Literal["VmRSS", "VmHWM"]) -> float:
    """Return the memory of this process, now or at its peak, in megabytes (10^6 bytes).

    getrusage is unsuitable: on Linux, a new process inherits the peak of its parent.
    """
    for line in Path("/proc/self/status").read_text("ascii").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise SystemExit(f"/proc/self/status: expected a line {name}. Run the benchmark on Linux.")


def rounded(value: float | None) -> float | None:
    """Round to three decimals."""
    return None if value is None else round(value, 3)


def _pin(core: int) -> None:
    os.sched_setaffinity(0, {core})
    os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"] = "threads;1"
    os.environ["OPENCV_FFMPEG_LOGLEVEL"] = "-8"  # silent; a side raises its error
    cv2.setNumThreads(1)

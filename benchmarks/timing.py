"""Fair timing: each side in its own process on one core, in turns, as medians."""

import os
import statistics
import time
from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import Generic, TypeVar

import cv2

SideT = TypeVar("SideT", bound=Hashable)


class CannotMeasureError(Exception):
    """A side that cannot process this input; the message is the reason."""


@dataclass
class Timings(Generic[SideT]):
    """The result of ``interleaved``."""

    medians: dict[SideT, float] = field(default_factory=dict)  # seconds
    failures: dict[SideT, str] = field(default_factory=dict)  # reason by side


def usable_cores() -> list[int]:
    """Return the numbers of the cores that this process may run on."""
    return sorted(os.sched_getaffinity(0))


def pinned_process(core: int) -> ProcessPoolExecutor:
    """Return an executor with one new process that runs on ``core`` only, with one thread."""
    return ProcessPoolExecutor(
        max_workers=1, mp_context=get_context("spawn"), initializer=_pin, initargs=(core,)
    )


def interleaved(sides: Mapping[SideT, Callable[[], float]], *, repetitions: int) -> Timings[SideT]:
    """Run every side in turn, ``repetitions`` times, so that all are affected alike by other load.

    The first turn does not count: it loads libraries and fills the page cache. A side that fails
    in it is left out.

    Args:
        sides: each does its work once and returns its seconds.
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

    Other load on the machine changes it less than the wall time.
    """
    started = time.process_time()
    work()
    return time.process_time() - started


def _pin(core: int) -> None:
    os.sched_setaffinity(0, {core})
    os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"] = "threads;1"
    os.environ["OPENCV_FFMPEG_LOGLEVEL"] = "-8"  # a side that fails reports it itself
    cv2.setNumThreads(1)

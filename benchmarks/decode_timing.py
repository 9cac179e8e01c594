"""Each way of reading a video, timed in a process of its own."""

from contextlib import ExitStack
from functools import partial
from typing import Literal

from benchmarks.decode_sides import Job, SideName, can_import, time_side
from benchmarks.timing import Timings, interleaved, pinned_process, usable_cores

Kind = Literal["dense", "sparse"]
Side = tuple[Kind, SideName]

DENSE_SIDES: tuple[SideName, ...] = (
    "project",
    "opencv",
    "opencv_kept",
    "grab",
    "decode_only",
    "decord",
    "torchcodec",
)
SPARSE_SIDES: tuple[SideName, ...] = ("project", "opencv", "decord")


def measure_file(dense: Job, sparse: Job, *, repetitions: int) -> Timings[Side]:
    """Time every side that can be imported on both jobs."""
    jobs: dict[Side, Job] = {("dense", name): dense for name in DENSE_SIDES if can_import(name)}
    jobs |= {("sparse", name): sparse for name in SPARSE_SIDES if can_import(name)}
    return _measure(jobs, repetitions)


def measure_long(job: Job, *, repetitions: int) -> float:
    """Return the time of decoding everything over that of skipping."""
    jobs: dict[Side, Job] = {("sparse", "project"): job, ("sparse", "project_full"): job}
    medians = _measure(jobs, repetitions).medians
    return medians["sparse", "project_full"] / medians["sparse", "project"]


def _measure(jobs: dict[Side, Job], repetitions: int) -> Timings[Side]:
    core = usable_cores()[0]
    with ExitStack() as stack:
        processes = {
            name: stack.enter_context(pinned_process(core)) for name in {side[1] for side in jobs}
        }

        def run(name: SideName, job: Job) -> float:
            return processes[name].submit(time_side, name, job).result()

        sides = {side: partial(run, side[1], job) for side, job in jobs.items()}
        return interleaved(sides, repetitions=repetitions)

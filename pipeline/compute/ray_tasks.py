"""Run tasks on a Ray cluster, in processes that may block or die.

A Ray worker runs the tasks in a child process, as ``run_isolated`` does on one machine. So a task
that blocks, dies or needs too much memory stops the child process and not the Ray worker, and has
the same reason as on one machine. A Ray worker dies with its machine, or when the machine lacks
memory: Ray runs its chunk again on any machine, which does not count as a crash of a task.
"""

import ctypes
import pickle
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.common.errors import PipelineError, first_line
from pipeline.compute.isolated import Failure, IsolatedPool, ResultT, TaskT
from pipeline.compute.ray_cluster import ray_cluster, wait_for_one
from pipeline.compute.settings import ComputeSection
from pipeline.compute.shared_folder import SharedFolder, require_imports, sharing_working_directory

_PENDING_PER_CPU = 2  # one runs, and the next one waits
MAX_LOSSES = 10  # of a chunk, with its Ray worker
_PR_SET_PDEATHSIG = 1  # of linux/prctl.h


def run_on_ray(
    work: Callable[[TaskT], ResultT],
    chunks: Sequence[Sequence[TaskT]],
    *,
    compute: ComputeSection,
    timeout_seconds: float | None,
    initializer: Callable[[], None] | None = None,
) -> Iterator[tuple[TaskT, ResultT | Failure]]:
    """Yield each task with its result, as ``run_isolated``, from the machines of a cluster.

    Args:
        work: as for ``run_isolated``. Its results pass through the memory of the cluster, so
            they are small: ``work`` writes arrays to files in the shared folder.
        chunks: tasks that a Ray worker receives together.
        compute: the address of the cluster, and the number of chunks that run at once.
        timeout_seconds: of a task; None: no limit.
        initializer: called once in each child process.

    Raises:
        PipelineError: Ray is not installed, no cluster answers, a machine does not share the
            working directory, or a chunk lost its Ray worker too often.
    """
    if not chunks:
        return
    with (
        sharing_working_directory() as folder,
        ray_cluster(compute.address, cpus=compute.workers or None) as ray,
    ):
        job = _Job(folder, pickle.dumps(work), pickle.dumps(initializer), timeout_seconds)
        run_chunk = ray.remote(num_cpus=1, max_retries=MAX_LOSSES)(_run_chunk)
        waiting = iter(chunks)
        pending: dict[Any, Sequence[TaskT]] = {}
        while True:
            # Few at a time: a data set of millions of videos must not fill the memory.
            limit = _pending_limit(ray, compute.workers)
            while len(pending) < limit and (chunk := next(waiting, None)) is not None:
                pending[run_chunk.remote(job, chunk)] = chunk
            if not pending:
                return
            reference = wait_for_one(ray, list(pending), "chunk has finished")
            finished = pending.pop(reference)
            results = _results(ray, reference, finished)
            yield from ((finished[number], result) for number, result in results)


def _pending_limit(ray: Any, workers: int) -> int:
    """Return the number of chunks to submit now: machines join and leave the cluster."""
    cpus = int(ray.cluster_resources().get("CPU", 1))
    return workers if 0 < workers < cpus else _PENDING_PER_CPU * max(cpus, 1)


def _results(ray: Any, reference: Any, chunk: Sequence[object]) -> list[tuple[int, Any]]:
    """Return the results of a chunk that has run, with their positions in it."""
    try:
        results: list[tuple[int, Any]] = ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        require_imports(error)
        raise error.cause from error
    except ray.exceptions.RayError as error:
        reason = first_line(error)
        raise PipelineError(
            f"compute.engine: a chunk of {len(chunk)} tasks, the first {chunk[0]}, lost its Ray "
            f"worker {MAX_LOSSES + 1} times ({reason}). A machine may lack memory: see the logs "
            "of Ray there, then run the command again."
        ) from error
    return results


# In a Ray worker


@dataclass(frozen=True)
class _Job:
    """What the Ray workers need to run the chunks of a call of ``run_on_ray``.

    The functions are pickled: only the child process imports their modules.
    """

    folder: SharedFolder
    work: bytes
    initializer: bytes
    timeout_seconds: float | None

    def start_child(self) -> None:
        """Initialize a child process."""
        if sys.platform == "linux":  # otherwise, it ends after its chunk
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        pickle.loads(self.work)  # its imports count for no task
        if initializer := pickle.loads(self.initializer):
            initializer()

    def run_task(self, numbered: tuple[int, Any]) -> Any:
        """Run a task in a child process."""
        _, task = numbered
        return pickle.loads(self.work)(task)


_pools: dict[_Job, IsolatedPool] = {}  # the child process of this Ray worker, for the last job


def _run_chunk(job: _Job, chunk: Sequence[Any]) -> list[tuple[int, Any]]:
    """Return the results of the tasks of a chunk, with their positions in it."""
    if job not in _pools:
        while _pools:
            _pools.popitem()[1].stop()
        job.folder.enter()
        _pools[job] = IsolatedPool(
            1, timeout_seconds=job.timeout_seconds, initializer=job.start_child
        )
    results = _pools[job].run(job.run_task, [list(enumerate(chunk))])
    return [(number, result) for (number, _), result in results]

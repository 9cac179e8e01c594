"""Run tasks in Ray actors, each of which prepares once, such as by loading a model."""

import os
import pickle
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from pipeline.common.errors import PipelineError, first_line
from pipeline.compute.isolated import ResultT, TaskT
from pipeline.compute.ray_cluster import ray_cluster, wait_for_one
from pipeline.compute.settings import ComputeSection
from pipeline.compute.shared_folder import SharedFolder, require_imports, sharing_working_directory

_AHEAD_PER_ACTOR = 4  # tasks whose results may wait for the result of an earlier one
MAX_LOSSES = 3  # of a task, with its actor

_PREPARATION = -1  # in place of the number of a task


def run_in_actors(
    prepare: Callable[[], Callable[[TaskT], ResultT]],
    tasks: Sequence[TaskT],
    *,
    compute: ComputeSection,
) -> Iterator[ResultT]:
    """Yield the result of each task, in the order of the tasks.

    An actor that dies, for example with its machine, is replaced, and its task runs again.
    Exceptions of ``prepare`` and of a task are raised.

    Args:
        prepare: called once in each actor; returns the function that runs a task. It can be
            pickled, as can tasks and results.
        tasks: an actor runs one at a time.
        compute: the address of the cluster, and the number of actors; 0 for one per core.

    Raises:
        PipelineError: Ray is not installed, no cluster answers, a machine does not share the
            working directory, or a task lost its actor too often.
    """
    if not tasks:
        return
    with (
        sharing_working_directory() as folder,
        ray_cluster(compute.address, cpus=compute.workers or None) as ray,
    ):
        cpus = int(ray.cluster_resources().get("CPU", 1))
        count = min(compute.workers or max(cpus, 1), len(tasks))
        actor_class = ray.remote(num_cpus=1)(_Actor)
        prepared = pickle.dumps(prepare)
        calls: dict[Any, tuple[Any, int]] = {}  # reference -> actor and number of its task
        waiting = deque(range(len(tasks)))
        idle: list[Any] = []
        results: dict[int, ResultT] = {}
        losses: Counter[int] = Counter()

        def start() -> None:
            actor = actor_class.remote()
            calls[actor.prepare.remote(folder, prepared)] = (actor, _PREPARATION)

        for _ in range(count):
            start()
        for next_number in range(len(tasks)):
            while next_number not in results:
                while idle and waiting and waiting[0] < next_number + _AHEAD_PER_ACTOR * count:
                    actor, number = idle.pop(), waiting.popleft()
                    calls[actor.run.remote(tasks[number])] = (actor, number)
                reference = wait_for_one(ray, list(calls), "actor has answered")
                actor, number = calls.pop(reference)
                try:
                    result = ray.get(reference)
                except ray.exceptions.RayTaskError as error:
                    raise error.cause from error
                except ray.exceptions.RayError as error:  # the actor died
                    require_imports(error)
                    losses[number] += 1
                    # One dead machine can end all actors that are preparing.
                    if losses[number] > MAX_LOSSES * (count if number == _PREPARATION else 1):
                        raise _lost(number, losses[number], error) from error
                    if number != _PREPARATION:
                        waiting.appendleft(number)
                    start()
                    continue
                idle.append(actor)
                if number != _PREPARATION:
                    results[number] = result
            yield results.pop(next_number)


def _lost(number: int, losses: int, error: Exception) -> PipelineError:
    chunk = "before their first chunk" if number == _PREPARATION else f"in chunk {number + 1}"
    return PipelineError(
        f"compute.engine: {losses} Ray actors died {chunk} ({first_line(error)}). A machine may "
        "lack memory: see the logs of Ray there, then run the command again."
    )


class _Actor:
    """A Ray worker that has prepared to run tasks."""

    def prepare(self, folder: SharedFolder, prepared: bytes) -> None:
        """Prepare in the working directory of the command, without a GPU."""
        # Ray hides no GPU from an actor that reserves none, and TensorFlow would open them all in
        # each actor.
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        folder.enter()
        self._run = pickle.loads(prepared)()

    def run(self, task: Any) -> Any:
        """Return the result of a task."""
        return self._run(task)

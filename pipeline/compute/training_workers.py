"""Processes that train one model together, as actors of a Ray cluster.

Each worker gets the TF_CONFIG of ``tf.distribute.MultiWorkerMirroredStrategy``. When one dies, the
others cannot continue: all are stopped and started again, once, and the training continues from
its last checkpoint.
"""

import json
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pipeline.common.errors import PipelineError
from pipeline.compute.ray_cluster import ray_cluster
from pipeline.compute.settings import ComputeSection
from pipeline.compute.shared_folder import SharedFolder, sharing_working_directory

logger = logging.getLogger(__name__)

_Result = TypeVar("_Result")
Report = Callable[[Sequence[Any]], None]
# Trains in one of the processes: (whether it is the chief, which writes files, report) -> result.
Train = Callable[[bool, Report], _Result]

_STARTS = 2  # of the workers
_POLL_SECONDS = 0.5
_PLACEMENT_SECONDS = 120.0
_SECONDS_TO_DIE = 15.0  # of the processes whose neighbour died


class _WorkerLostError(Exception):
    """A worker died, or lost the connection to another one that died."""


def run_workers(
    train: Train[_Result],
    compute: ComputeSection,
    *,
    on_row: Callable[[Any], None],
    checkpoint: Path,
) -> _Result:
    """Run ``train`` in ``compute.train_workers`` processes at once; return the chief's result.

    Args:
        train: a function that a worker can import, or a ``functools.partial`` of one. The chief
            reports all rows up to now, each time a longer list.
        on_row: called in this process with each row that the chief reports, once, in order.
        checkpoint: from where ``train`` continues, for messages.

    Raises:
        PipelineError: ``train`` raised one, the cluster has too few CPUs or GPUs, or workers died
            twice.
    """
    count = compute.train_workers
    handler = signal.getsignal(signal.SIGTERM)
    with ray_cluster(compute.address, cpus=max(count, os.cpu_count() or 1)) as ray:
        if threading.current_thread() is threading.main_thread():
            # Ray's own handler would exit before the run is closed: tracking/interruption.py.
            signal.signal(signal.SIGTERM, handler)
        bundle = _bundle(ray, compute)
        group = ray.util.placement_group([bundle] * count, strategy="SPREAD")
        if not group.wait(_PLACEMENT_SECONDS):
            raise PipelineError(
                f"compute.train_workers: the cluster has no room for {count} workers with {bundle} "
                f"each. Received: {ray.available_resources()}. Lower it, or wait until other work "
                "ends."
            )
        seen: list[Any] = []

        def report(rows: Sequence[Any]) -> None:
            for row in rows[len(seen) :]:
                on_row(row)
                seen.append(row)

        for start in range(1, _STARTS + 1):
            try:
                return _run(ray, group, bundle, count, train, report)
            except _WorkerLostError as error:
                if start == _STARTS:
                    raise PipelineError(
                        f"compute.train_workers: {error}, for the second time in this training. "
                        f"{checkpoint} has its last complete epoch. Look at the memory of the "
                        "machines, then run the stage again: it continues from there if the code, "
                        "the params and the clips are the same."
                    ) from None
                logger.warning(
                    "%s. Starting the workers again; they continue after the last complete epoch.",
                    error,
                )
        raise AssertionError("every start returns or raises")


class _Worker:
    """A process of the training; an actor of Ray."""

    def __init__(self, *, is_chief: bool) -> None:
        logging.basicConfig(
            level=logging.WARNING if is_chief else logging.ERROR, format="%(message)s"
        )
        self._is_chief = is_chief
        self._rows: list[Any] = []

    def enter(self, folder: SharedFolder) -> str:
        """Work in ``folder``; return ``host:port`` of this machine, a port that is free.

        Raises:
            PipelineError: this machine does not share the folder.
        """
        import ray

        folder.enter()
        with socket.socket() as free:
            free.bind(("", 0))
            return f"{ray.util.get_node_ip_address()}:{free.getsockname()[1]}"

    def train(self, train: Train[Any], addresses: list[str], rank: int) -> Any:
        """Train as worker ``rank`` of those at ``addresses``; the result is None but of chief."""
        task = {"type": "worker", "index": rank}
        os.environ["TF_CONFIG"] = json.dumps({"cluster": {"worker": addresses}, "task": task})
        result = train(self._is_chief, self._report)
        return result if self._is_chief else None

    def reported(self, start: int) -> list[Any]:
        """Return the rows of the training from number ``start`` on."""
        return self._rows[start:]

    def _report(self, rows: Sequence[Any]) -> None:
        self._rows = list(rows)


def _run(
    ray: Any,
    group: Any,
    bundle: dict[str, float],
    count: int,
    train: Train[_Result],
    report: Report,
) -> _Result:
    """Start the workers, train, and stop them.

    Raises:
        _WorkerLostError: one of them died.
        PipelineError: ``train`` raised one, or the workers did not start.
    """
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    workers = [
        ray.remote(_Worker)
        .options(
            num_cpus=bundle["CPU"],
            num_gpus=bundle.get("GPU", 0),
            max_concurrency=2,  # ``reported`` while ``train`` runs
            scheduling_strategy=PlacementGroupSchedulingStrategy(
                group, placement_group_bundle_index=rank
            ),
        )
        .remote(is_chief=rank == 0)
        for rank in range(count)
    ]
    try:
        with sharing_working_directory() as folder:
            addresses = ray.get(
                [worker.enter.remote(folder) for worker in workers], timeout=_PLACEMENT_SECONDS
            )
        job = ray.put(train)
        ranks = {
            worker.train.remote(job, addresses, rank): rank for rank, worker in enumerate(workers)
        }
        running, result = list(ranks), None
        rows: list[Any] = []
        while running:
            done, running = ray.wait(running, timeout=_POLL_SECONDS)
            answers = {ranks[reference]: ray.get(reference) for reference in done}
            result = answers.get(0, result)
            rows += ray.get(workers[0].reported.remote(len(rows)))
            report(rows)
        return result  # type: ignore[return-value]
    except ray.exceptions.GetTimeoutError:
        raise PipelineError(
            f"compute.train_workers: {count} workers did not start within "
            f"{_PLACEMENT_SECONDS:.0f} seconds. Look at the cluster with: ray status"
        ) from None
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, PipelineError):
            raise PipelineError(str(error.cause)) from None
        if not isinstance(error.cause, ConnectionError):
            raise
        dead = _wait_for_death(ray, workers)
        who = f"worker {dead} of {count} died" if dead else f"a connection broke ({error.cause})"
        raise _WorkerLostError(who) from None
    except ray.exceptions.RayActorError:
        dead = _wait_for_death(ray, workers)
        raise _WorkerLostError(f"worker {dead or '?'} of {count} died") from None
    finally:
        for worker in workers:
            ray.kill(worker)


def _wait_for_death(ray: Any, workers: Sequence[Any]) -> int | None:
    """Return the number of the first dead worker, from 1; None if all live after a while."""
    deadline = time.monotonic() + _SECONDS_TO_DIE
    while time.monotonic() < deadline:
        for number, worker in enumerate(workers, start=1):
            try:
                ray.get(worker.reported.remote(0), timeout=_POLL_SECONDS)
            except ray.exceptions.GetTimeoutError:
                continue
            except ray.exceptions.RayActorError:
                return number
    return None


def _bundle(ray: Any, compute: ComputeSection) -> dict[str, float]:
    """Return the resources of a worker: a CPU, and GPUs if the cluster has any.

    Raises:
        PipelineError: the cluster has too few of them.
    """
    count = compute.train_workers
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    cpus = int(sum(node.get("CPU", 0) for node in nodes))
    gpus = [int(node["GPU"]) for node in nodes if node.get("GPU", 0) >= 1]
    if cpus < count:
        raise PipelineError(
            f"compute.train_workers: expected at most {cpus}, the CPUs of the cluster. "
            f"Received: {count}. Lower it, or add machines."
        )
    if not gpus:
        return {"CPU": 1}
    if sum(gpus) < count:
        raise PipelineError(
            f"compute.train_workers: expected at most {sum(gpus)}, the GPUs of the cluster. "
            f"Received: {count}. Lower it, or add machines."
        )
    on_each_machine = -(-count // len(gpus))
    return {"CPU": 1, "GPU": max(min(gpus) // on_each_machine, 1) if compute.gpus == "all" else 1}

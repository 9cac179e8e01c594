"""Processes that train one model together, as actors of a Ray cluster.

Each worker gets the TF_CONFIG of ``tf.distribute.MultiWorkerMirroredStrategy``. When one dies, the
others cannot continue: all are stopped and started again, once, and the training continues from
its last checkpoint.
"""

import json
import logging
import math
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from pipeline.common.errors import PipelineError, first_line
from pipeline.common.tables import count_of
from pipeline.compute.ray_cluster import ray_cluster
from pipeline.compute.settings import ComputeSection
from pipeline.compute.shared_folder import SharedFolder, require_imports, sharing_working_directory

logger = logging.getLogger(__name__)

_Result = TypeVar("_Result")
Report = Callable[[Sequence[Any]], None]
# Trains in one of the processes: (whether it is the chief, which writes files, report) -> result.
Train = Callable[[bool, Report], _Result]

_STARTS = 2  # of the workers
_POLL_SECONDS = 0.5
_QUIET_SECONDS = 5.0  # of waiting for room, before a line in the log
_SECONDS_TO_FAIL = 15.0  # of the other workers, after one has lost a connection or died


class _WorkerLostError(Exception):
    """A worker died, or lost the connection to another one."""


def run_workers(
    train: Train[_Result],
    compute: ComputeSection,
    *,
    on_row: Callable[[Any], None],
    checkpoint: Path,
    start_seconds: float = 600.0,
) -> _Result:
    """Run ``train`` in ``compute.train_workers`` processes at once; return the chief's result.

    Args:
        train: a function that a worker can import, or a ``functools.partial`` of one. The chief
            reports once the workers are connected, and then all rows up to now, each time a
            longer list.
        on_row: called in this process with each row that the chief reports, once, in order.
        checkpoint: from where ``train`` continues, for messages.
        start_seconds: the longest wait for each of: room in the cluster, the processes, their
            connections.

    Raises:
        PipelineError: ``train`` raised one, the cluster has too few CPUs or GPUs, the workers did
            not start or connect, or workers died or lost a connection twice.
        Exception: another error of ``train``.
    """
    count = compute.train_workers
    handler = signal.getsignal(signal.SIGTERM)
    with ray_cluster(compute.address, cpus=max(count, os.cpu_count() or 1)) as ray:
        if threading.current_thread() is threading.main_thread():
            # Ray's own handler would exit before the run is closed: tracking/interruption.py.
            signal.signal(signal.SIGTERM, handler)
        seen: list[Any] = []

        def report(rows: Sequence[Any]) -> None:
            for row in rows[len(seen) :]:
                on_row(row)
                seen.append(row)

        with _placement(ray, compute, start_seconds) as placement:
            for start in range(1, _STARTS + 1):
                try:
                    with _started(ray, placement) as workers:
                        addresses = _addresses(ray, workers, start_seconds, checkpoint)
                        return _run(ray, workers, addresses, train, report, start_seconds)
                except _WorkerLostError as error:
                    if start == _STARTS:
                        raise PipelineError(
                            f"compute.train_workers: {error}, for the second time in this "
                            "training. Look at the memory of the machines, the network between "
                            f"them, and their free ports. {_rerun(checkpoint)}"
                        ) from error
                    logger.warning(
                        "%s. Starting the workers again; they continue after the last complete "
                        "epoch.",
                        error,
                    )
        raise AssertionError("every start returns or raises")


def _rerun(checkpoint: Path) -> str:
    """Return the sentence for a training that has failed and may be continued."""
    if not checkpoint.exists():
        return "Then run the stage again."
    return (
        f"Then run the stage again: it continues after the last complete epoch, from {checkpoint}, "
        "if the code, the params and the clips are the same."
    )


class _Worker:
    """A process of the training; an actor of Ray."""

    def __init__(self, rank: int, gpus: float) -> None:
        if not gpus:
            # Ray lets a worker that reserves no GPU see all of its machine.
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        logging.basicConfig(
            level=logging.WARNING if rank == 0 else logging.ERROR, format="%(message)s"
        )
        self._rank = rank
        self._rows: list[Any] | None = None

    def enter(self, folder: SharedFolder) -> str:
        """Work in ``folder``; return ``host:port`` of this machine, with a free port.

        Raises:
            PipelineError: this machine does not share the folder.
        """
        import ray

        folder.enter()
        with socket.socket() as free:
            free.bind(("", 0))
            return f"{ray.util.get_node_ip_address()}:{free.getsockname()[1]}"

    def train(
        self, train: Train[_Result], addresses: list[str]
    ) -> tuple[_Result, list[Any]] | None:
        """Train as one of the workers at ``addresses``.

        Returns:
            The result and all rows, of the chief; None of the other workers.
        """
        task = {"type": "worker", "index": self._rank}
        os.environ["TF_CONFIG"] = json.dumps({"cluster": {"worker": addresses}, "task": task})
        result = train(self._rank == 0, self._report)
        return (result, self._rows or []) if self._rank == 0 else None

    def reported(self) -> list[Any] | None:
        """Return the rows of the training up to now; None if the workers are not connected."""
        return self._rows

    def _report(self, rows: Sequence[Any]) -> None:
        self._rows = list(rows)


@contextmanager
def _placement(ray: Any, compute: ComputeSection, start_seconds: float) -> Iterator[Any]:
    """Yield a placement group with a bundle for each worker, which is released after the block.

    Raises:
        PipelineError: the cluster has too few CPUs or GPUs, or other work uses them.
    """
    count, bundle = compute.train_workers, _bundle(ray, compute)
    group = ray.util.placement_group([bundle] * count, strategy="SPREAD")
    try:
        if not group.wait(_QUIET_SECONDS):
            logger.info("Waiting until the cluster has room for %d workers", count)
            if not group.wait(start_seconds):
                raise PipelineError(
                    f"compute.train_workers: the cluster has no room for {count} workers with "
                    f"{bundle} each. Received: {ray.available_resources()}. Lower it, or wait "
                    "until other work ends."
                )
        devices = count_of(int(bundle["GPU"]), "GPU") if "GPU" in bundle else "the CPU"
        logger.info("Training with %d workers, each on %s", count, devices)
        yield group
    finally:
        ray.util.remove_placement_group(group)


@contextmanager
def _started(ray: Any, placement: Any) -> Iterator[list[Any]]:
    """Yield an actor of ``_Worker`` for each bundle; they are stopped after the block."""
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    workers = [
        ray.remote(_Worker)
        .options(
            num_cpus=bundle["CPU"],
            num_gpus=bundle.get("GPU", 0),
            max_concurrency=2,  # ``reported`` while ``train`` runs
            scheduling_strategy=PlacementGroupSchedulingStrategy(
                placement, placement_group_bundle_index=rank
            ),
        )
        .remote(rank, bundle.get("GPU", 0))
        for rank, bundle in enumerate(placement.bundle_specs)
    ]
    try:
        yield workers
    finally:
        for worker in workers:
            ray.kill(worker)


def _addresses(
    ray: Any, workers: Sequence[Any], start_seconds: float, checkpoint: Path
) -> list[str]:
    """Wait for the processes of the workers; return where each of them will listen.

    Raises:
        _WorkerLostError: one of them died.
        PipelineError: a machine does not share the folder, or a process did not start.
    """
    try:
        with sharing_working_directory() as folder:
            addresses: list[str] = ray.get(
                [worker.enter.remote(folder) for worker in workers], timeout=start_seconds
            )
    except ray.exceptions.GetTimeoutError:
        raise PipelineError(
            f"compute.train_workers: {len(workers)} workers did not start within "
            f"{start_seconds:.0f} seconds. Look at the cluster with: ray status. "
            f"{_rerun(checkpoint)}"
        ) from None
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error
    except ray.exceptions.RayError as error:
        require_imports(error)
        raise _WorkerLostError(f"a worker died at its start ({first_line(error)})") from error
    logger.info("Waiting for %d workers at %s", len(workers), ", ".join(addresses))
    return addresses


def _run(
    ray: Any,
    workers: Sequence[Any],
    addresses: list[str],
    train: Train[_Result],
    report: Report,
    start_seconds: float,
) -> _Result:
    """Train in the workers; return the result of the chief as soon as it is there.

    Raises:
        _WorkerLostError: one of them died, or lost a connection for no other reason.
        PipelineError: ``train`` raised one, or the workers did not connect.
        Exception: another error of ``train``.
    """
    job, count = ray.put(train), len(workers)
    ranks = {worker.train.remote(job, addresses): rank for rank, worker in enumerate(workers)}
    running = list(ranks)
    reported = workers[0].reported.remote()
    lost: dict[int, Exception] = {}  # rank -> that the worker died, or its ConnectionError
    deadline = time.monotonic() + start_seconds
    while running and time.monotonic() < deadline:
        done, running = ray.wait(running, timeout=_POLL_SECONDS)
        for rank, reference in ((ranks[reference], reference) for reference in done):
            try:
                answer = ray.get(reference)
            except ray.exceptions.RayTaskError as error:
                if isinstance(error.cause, PipelineError):
                    raise PipelineError(str(error.cause)) from None
                if not isinstance(error.cause, ConnectionError):
                    raise
                lost[rank] = error.cause
            except ray.exceptions.RayError as error:
                lost[rank] = error
            else:
                if rank == 0:
                    result, rows = answer
                    report(rows)
                    return result  # type: ignore[no-any-return]
            if lost:
                # The first one may be a victim of another worker, whose error comes later.
                deadline = min(deadline, time.monotonic() + _SECONDS_TO_FAIL)
        # TensorFlow blocks the chief while it waits for the others: do not wait for its answer.
        if not lost and ray.wait([reported], timeout=0)[0]:
            with suppress(ray.exceptions.RayError):  # the chief died: see above
                if (rows := ray.get(reported)) is not None:
                    deadline = math.inf
                    report(rows)
            reported = workers[0].reported.remote()
    if lost:
        raise _lost(lost, count)
    raise PipelineError(
        f"compute.train_workers: {count} workers did not connect within {start_seconds:.0f} "
        f"seconds. They listen at {', '.join(addresses)}. Expected that each machine reaches the "
        "others there. Open these ports within the private network of the cluster: Linux "
        "chooses them from net.ipv4.ip_local_port_range. Then run the stage again."
    )


def _lost(lost: dict[int, Exception], count: int) -> _WorkerLostError:
    """Return the error of workers that died; if none did, of those that lost a connection."""
    broken = {rank: error for rank, error in lost.items() if isinstance(error, ConnectionError)}
    dead = {rank: error for rank, error in lost.items() if rank not in broken}
    if dead:
        names = ", ".join(str(rank + 1) for rank in sorted(dead))
        noun = "worker" if len(dead) == 1 else "workers"
        return _WorkerLostError(f"{noun} {names} of {count} died")
    reasons = "; ".join(f"worker {rank + 1}: {error}" for rank, error in sorted(broken.items()))
    return _WorkerLostError(f"a connection between the workers broke ({reasons})")


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
        if compute.gpus == "all":
            logger.warning("compute.gpus is all, but no machine of the Ray cluster has a GPU.")
        return {"CPU": 1}
    if sum(gpus) < count:
        raise PipelineError(
            f"compute.train_workers: expected at most {sum(gpus)}, the GPUs of the cluster. "
            f"Received: {count}. Lower it, or add machines."
        )
    on_each_machine = -(-count // len(gpus))
    return {"CPU": 1, "GPU": max(min(gpus) // on_each_machine, 1) if compute.gpus == "all" else 1}

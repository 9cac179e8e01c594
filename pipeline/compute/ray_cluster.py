"""The connection to a Ray cluster. Ray is an extra: ``make install-cluster``.

The machines of a cluster share the repository by a network disk, at the same path. A worker imports
the same code and opens the same files as the process that started it.
"""

import logging
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pipeline.common.errors import PipelineError, first_line

logger = logging.getLogger(__name__)

# Set in the processes of a cluster that is started here, unless the user has set them.
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_COLOR_PREFIX": "0",  # a log in a file has no colours
    # As a process of the local engine; the default of 15 starves workers on a busy machine.
    "RAY_worker_niceness": "0",
    # A task that needs more memory than its machine has would otherwise run again without end.
    "RAY_task_oom_retries": "10",
}

QUIET_SECONDS = 60.0  # of waiting, before a line in the log
_ANSWER_SECONDS = 10  # to open a connection to the cluster
_MAX_STARTS = 2  # of a cluster on this machine: a busy machine may exceed the limits of Ray


@contextmanager
def ray_cluster(address: str, *, cpus: int | None = None) -> Iterator[Any]:
    """Connect to a Ray cluster inside the block and yield the module ``ray``.

    A block inside another one uses the connection of the outer block.

    Args:
        address: ``host:port`` of the cluster; ``""`` starts one on this machine, which ends with
            the block.
        cpus: of a cluster that is started here; None for the cores of this machine.

    Raises:
        PipelineError: Ray is not installed, or no cluster answers at ``address``.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError:
        raise PipelineError(
            "compute: engine ray and train_workers above 1 need the package ray, which is not "
            "installed. Run: make install-cluster"
        ) from None
    if ray.is_initialized():
        yield ray
        return
    if address:
        _check_address(address)
    _connect(ray, address, cpus)
    try:
        yield ray
    finally:
        ray.shutdown()


def wait_for_one(ray: Any, references: Sequence[Any], event: str) -> Any:
    """Wait until one of ``references`` is ready, and return it.

    Args:
        event: what this means, such as ``chunk has finished``: a line in the log says every minute
            that none has.
    """
    seconds = 0.0
    while not (ready := ray.wait(references, num_returns=1, timeout=QUIET_SECONDS)[0]):
        seconds += QUIET_SECONDS
        logger.info(
            "No %s for %.0f seconds. ray status lists the machines, what runs and what waits.",
            event,
            seconds,
        )
    return ready[0]


def _connect(ray: Any, address: str, cpus: int | None) -> None:
    # Without "local", Ray would join a cluster that another program has started here.
    options = {"address": address} if address else {"address": "local", "num_cpus": cpus}
    for starts_left in range(0 if address else _MAX_STARTS - 1, -1, -1):
        try:
            ray.init(
                **options,
                include_dashboard=None if address else False,
                logging_level=logging.WARNING,
            )
            return
        except Exception as error:  # noqa: BLE001  # a plain Exception if a process starts slowly
            ray.shutdown()
            if starts_left:
                continue
            raise _not_connected(error, address) from None


def _not_connected(error: Exception, address: str) -> PipelineError:
    if "Version mismatch" in str(error):
        reason = " ".join(str(error).split())  # with both versions
        return PipelineError(
            "compute.address: the Ray cluster has other versions than this command. Received: "
            f"{address!r} ({reason}). Stop Ray on all machines with: ray stop; and start it again "
            "from the .venv of this command: docs/scale.md."
        )
    problem = f"no Ray cluster answers. Received: {address!r}" if address else "Ray fails"
    return PipelineError(
        f"compute.address: {problem} ({first_line(error)}). Start a cluster with: ray start "
        '--head; or set the address to "" for one on this machine. For a cluster with a token, '
        "set RAY_AUTH_MODE=token, and copy its ~/.ray/auth_token to this machine: "
        "docs/scale.md."
    )


def _check_address(address: str) -> None:
    """Refuse an address that nothing listens to: Ray itself would try it for minutes."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise PipelineError(
            f"compute.address: expected host:port, such as 10.0.0.5:6379. Received: {address!r}"
        )
    try:
        socket.create_connection((host, int(port)), timeout=_ANSWER_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise PipelineError(
            f"compute.address: no Ray cluster answers. Received: {address!r} ({error}). Start one "
            'with: ray start --head; or set the address to "" for one on this machine.'
        ) from None

"""The connection to a Ray cluster. Ray is an extra: ``make install-cluster``.

The machines of a cluster share the repository by a network disk, at the same path. So a worker
imports the same code and opens the same files as the process that started it.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.common.errors import PipelineError

# Before Ray is imported: Ray reads them then. The variables of the user come first.
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",
}


@contextmanager
def ray_cluster(address: str, *, cpus: int | None = None) -> Iterator[Any]:
    """Connect to a Ray cluster inside the block and yield the module ``ray``.

    Args:
        address: ``host:port`` of the cluster; ``""`` starts one on this machine, which ends with
            the block.
        cpus: of a cluster that is started here; None for the cores of this machine.

    Raises:
        PipelineError: Ray is not installed, or no cluster answers at ``address``.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError:
        raise PipelineError(
            "compute: engine ray and train_workers above 1 need the package ray, which is not "
            "installed. Run: make install-cluster"
        ) from None
    options: dict[str, Any] = {"address": address} if address else {"num_cpus": cpus}
    try:
        ray.init(
            **options,
            include_dashboard=None if address else False,
            logging_level=logging.WARNING,
            # A worker starts in a folder of Ray, without the repository on its path.
            runtime_env={"env_vars": {"PYTHONPATH": str(Path.cwd())}},
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise PipelineError(
            f"compute.address: no Ray cluster answers. Received: {address!r} ({reason}). Start one "
            'with: ray start --head; or set the address to "" for one on this machine.'
        ) from None
    try:
        yield ray
    finally:
        ray.shutdown()

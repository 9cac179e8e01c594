"""A Ray cluster whose nodes are processes of this machine."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from pipeline.compute.ray_cluster import ENVIRONMENT
from tests.servers import free_port

# The agents of a node. Without a port of theirs, a node gives up if they start slowly.
_PORTS = (
    "dashboard_agent_listen_port",
    "metrics_agent_port",
    "metrics_export_port",
    "runtime_env_agent_port",
)

_TRIES = 4


@contextmanager
def running_nodes(count: int, **resources: int) -> Iterator[Any]:
    """Start a cluster of nodes inside the block and yield it; ``resources`` as for ``add_node``."""
    pytest.importorskip("ray", reason="Ray is not installed: make install-cluster")
    os.environ |= ENVIRONMENT | {"RAY_agent_register_timeout_ms": "120000"}
    from ray.cluster_utils import Cluster

    cluster = Cluster()
    try:
        for _ in range(count):
            add_node(cluster, **resources)
        yield cluster
    finally:
        cluster.shutdown()


def add_node(cluster: Any, *, num_cpus: int = 1, num_gpus: int = 0) -> Any:
    """Add a node and return it. On a busy machine, it may need several tries.

    Ray does not look for the CPUs and GPUs that a node declares.
    """
    for tries_left in reversed(range(_TRIES)):
        ports = {name: free_port() for name in _PORTS}
        try:
            return cluster.add_node(
                num_cpus=num_cpus, num_gpus=num_gpus, include_dashboard=False, **ports
            )
        except Exception:
            if not tries_left:
                raise
    raise AssertionError

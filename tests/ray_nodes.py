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
def running_nodes(count: int) -> Iterator[Any]:
    """Start a cluster of nodes with one CPU each inside the block and yield it."""
    pytest.importorskip("ray", reason="Ray is not installed: make install-cluster")
    os.environ |= ENVIRONMENT | {"RAY_agent_register_timeout_ms": "120000"}
    from ray.cluster_utils import Cluster

    cluster = Cluster()
    try:
        for _ in range(count):
            add_node(cluster)
        yield cluster
    finally:
        cluster.shutdown()


def add_node(cluster: Any) -> Any:
    """Add a node with one CPU and return it. On a busy machine, it may need several tries."""
    for tries_left in reversed(range(_TRIES)):
        ports = {name: free_port() for name in _PORTS}
        try:
            return cluster.add_node(num_cpus=1, include_dashboard=False, **ports)
        except Exception:
            if not tries_left:
                raise
    raise AssertionError

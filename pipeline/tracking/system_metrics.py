"""Sample the use of processor, memory, disk, network and GPU during a training.

MLflow's own thread stops at the first outage of the store, so only its monitors are used.
"""

import logging
import os
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self

from mlflow.system_metrics.metrics.base_metrics_monitor import BaseMetricsMonitor
from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

from pipeline.tracking.buffer import BufferedRun

logger = logging.getLogger(__name__)

_INTERVAL_VARIABLE = "MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL"
_INTERVAL_SECONDS = "10"


class SystemMetrics:
    """A context in which system metrics are logged to a run at regular intervals."""

    def __init__(self, run: BufferedRun) -> None:
        self._run = run
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._is_over.set()
        self._thread.join()

    def _sample(self) -> None:
        monitors: list[BaseMetricsMonitor] = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
        with suppress(Exception):  # no NVIDIA GPU, or no driver
            monitors.append(GPUMonitor())
        seconds = float(os.environ.get(_INTERVAL_VARIABLE, _INTERVAL_SECONDS))
        step = 0
        while not self._is_over.wait(seconds):
            metrics: dict[str, float] = {}
            for monitor in monitors:
                try:
                    monitor.collect_metrics()
                    metrics |= monitor.aggregate_metrics()
                    monitor.clear_metrics()
                except Exception as error:  # noqa: BLE001  # of a driver: the training continues
                    logger.warning("System metrics are incomplete: %s", error)
            named = {f"system/{name}": value for name, value in metrics.items()}
            self._run.log_metrics(named, step=step, retry=False)
            step += 1

"""Log the metrics of every epoch during training."""

import logging
from typing import Any

from keras.callbacks import Callback

from pipeline.common.errors import PipelineError
from pipeline.tracking.runs import log_epoch

logger = logging.getLogger(__name__)


class EpochMetrics(Callback):  # type: ignore[misc]  # Keras does not type it
    """Log loss and metrics to a run after every epoch, as steps counted from 1.

    When the store fails, the training continues and the metrics are logged after a later epoch.
    ``mlflow.keras.MlflowCallback`` counts from 0, logs validation metrics twice and loses the
    metrics of a failed call.
    """

    def __init__(self, run_id: str) -> None:
        super().__init__()
        self._run_id = run_id
        self._unsent: list[tuple[int, dict[str, float]]] = []

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        metrics = {name: float(value) for name, value in (logs or {}).items()}
        self._unsent.append((epoch + 1, metrics))
        try:
            while self._unsent:
                log_epoch(self._run_id, *self._unsent[0])
                self._unsent.pop(0)
        except PipelineError as error:
            logger.warning("Epoch %d is not logged yet: %s", epoch + 1, error)

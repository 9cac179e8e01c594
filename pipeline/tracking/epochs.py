"""Follow a training: log the metrics of every epoch, and the time left."""

import logging
import time
from typing import Any

from keras.callbacks import Callback

from pipeline.common.tables import duration
from pipeline.tracking.buffer import BufferedRun

logger = logging.getLogger(__name__)

_SECONDS_BETWEEN_LINES = 60.0


class EpochMetrics(Callback):  # type: ignore[misc]  # Keras does not type it
    """Log loss and metrics to a run after every epoch, as steps counted from 1.

    ``mlflow.keras.MlflowCallback`` counts from 0, logs validation metrics twice and loses the
    metrics of a failed call.
    """

    def __init__(self, run: BufferedRun) -> None:
        super().__init__()
        self._run = run

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        metrics = {name: float(value) for name, value in (logs or {}).items()}
        self._run.log_metrics(metrics, step=epoch + 1)


class TimeLeft(Callback):  # type: ignore[misc]  # Keras does not type it
    """Log how long the other epochs will take, at most once a minute.

    The first epoch after ``on_train_begin`` does not count, because it includes the construction of
    the graph, and epochs of a checkpoint do not, because they are reported before it.

    Args:
        epochs: number of epochs if the training does not stop early.
    """

    def __init__(self, epochs: int) -> None:
        super().__init__()
        self._epochs = epochs
        self._first: tuple[int, float] | None = None  # number and end of the first epoch
        self._last_line = time.monotonic()

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        self._first = None
        self._last_line = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        now = time.monotonic()
        if self._first is None:
            self._first = epoch, now
            return
        first, since = self._first
        left = self._epochs - epoch - 1
        if left > 0 and now - self._last_line >= _SECONDS_BETWEEN_LINES:
            self._last_line = now
            seconds = (now - since) / (epoch - first)
            logger.info(
                "epoch %d of %d, %s each: %s left",
                epoch + 1,
                self._epochs,
                duration(seconds),
                duration(seconds * left),
            )

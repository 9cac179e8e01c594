"""Log the metrics of every epoch during training."""

from typing import Any

from keras.callbacks import Callback

from pipeline.tracking.buffer import BufferedRun


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

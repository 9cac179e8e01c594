"""Callbacks of every training: names of metrics, and the epoch whose weights are kept."""

import logging
import math
import sys
from typing import Any

import keras

from pipeline.common.errors import PipelineError
from pipeline.tasks.heads import FUSED

logger = logging.getLogger(__name__)


class FusedMetrics(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
    """Name the metrics of the fused output as those of a model with one stream."""

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        for name in list(logs or {}):
            if logs is not None and f"{FUSED}_" in name:
                logs[name.replace(f"{FUSED}_", "")] = logs.pop(name)


class KeptEpoch(keras.callbacks.EarlyStopping):  # type: ignore[misc]  # Keras has no types
    """Early stopping on the validation loss that keeps the best epoch of all phases.

    With a patience of 0, training runs to its end, and the last epoch is kept. A loss that is NaN
    or infinite stops the training; the weights of the best earlier epoch are restored.

    Raises:
        PipelineError: the loss is NaN or infinite and there is no earlier epoch.
    """

    def __init__(self, *, patience: int) -> None:
        super().__init__(
            monitor="val_loss", patience=patience or sys.maxsize, restore_best_weights=True
        )
        self._keeps_last = patience == 0
        self._is_broken = False  # the loss of this phase was not finite
        self._last_epoch = 0

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        if self.best_weights is None:
            super().on_train_begin(logs)
        self.wait = 0
        self._is_broken = False

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        losses = {name: float((logs or {})[name]) for name in ("loss", "val_loss")}
        wrong = [name for name, loss in losses.items() if not math.isfinite(loss)]
        if not wrong:
            self._last_epoch = epoch
            super().on_epoch_end(epoch, logs)
            return
        message = (
            f"Epoch {epoch + 1}: the loss is not finite. Received: {wrong[0]} {losses[wrong[0]]}. "
            "Lower train.learning_rate, or use train.precision float32."
        )
        if self.best_weights is None:
            raise PipelineError(message)
        logger.warning("%s Training stops; the best epoch is %d.", message, self.best_epoch + 1)
        self.model.stop_training = True
        self._is_broken = True

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        if self._keeps_last and not self._is_broken:
            self.best_epoch = self._last_epoch
        else:
            super().on_train_end(logs)

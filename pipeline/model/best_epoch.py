"""Early stopping over several phases, which knows a loss that is no number."""

import logging
import math
from typing import Any

import keras

from pipeline.base.errors import PipelineError

logger = logging.getLogger(__name__)


class BestEpoch(keras.callbacks.EarlyStopping):  # type: ignore[misc]  # Keras does not type it
    """Early stopping that remembers the best epoch of earlier phases, too.

    A model whose loss is not a number has lost its weights for good. After a good epoch it
    stops there and goes back to that; before, there is nothing to go back to.

    Raises:
        PipelineError: the loss is not a number, and no epoch before had one.
    """

    def __init__(self, *, patience: int) -> None:
        super().__init__(monitor="val_loss", patience=patience, restore_best_weights=True)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        if self.best_weights is None:
            super().on_train_begin(logs)
        self.wait = 0

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        losses = {name: float((logs or {})[name]) for name in ("loss", "val_loss")}
        wrong = [name for name, loss in losses.items() if not math.isfinite(loss)]
        if not wrong:
            super().on_epoch_end(epoch, logs)
            return
        found = (
            f"Expected a loss that is a number. Received: {wrong[0]} {losses[wrong[0]]} in epoch "
            f"{epoch + 1}. Lower train.learning_rate or, if train.precision is a mixed one, try "
            "float32."
        )
        if self.best_weights is None:
            raise PipelineError(found)
        logger.warning("%s The training stops; epoch %d was the best.", found, self.best_epoch + 1)
        self.model.stop_training = True

"""Optimizer and learning rate schedule."""

import logging
import math
from typing import Any

import keras
import tensorflow as tf

from pipeline.model.settings import TrainSection

logger = logging.getLogger(__name__)

_CLIP_NORM = 1.0  # largest norm of the gradient of a weight
_PLATEAU_FACTOR = 0.5
_NOT_DECAYED = ["bias", "gamma", "beta"]  # in the names of weights


def build_optimizer(
    train: TrainSection, *, learning_rate: float, epochs: int, steps_per_epoch: int
) -> keras.optimizers.Optimizer:
    """Return the optimizer of one phase of training; call it in the scope of the strategy.

    Args:
        train: ``weight_decay``, ``schedule`` and ``warmup_epochs`` are used.
        learning_rate: the highest rate of the phase, after the warm-up.
        epochs: epochs of the phase.
    """
    rate: float | WarmupThenDecay = learning_rate
    is_constant = train.schedule == "constant" and train.warmup_epochs == 0
    if not is_constant and train.schedule != "reduce_on_plateau":
        rate = WarmupThenDecay(
            learning_rate,
            warmup_steps=train.warmup_epochs * steps_per_epoch,
            decay_steps=max(epochs - train.warmup_epochs, 0) * steps_per_epoch,
            is_cosine=train.schedule == "cosine",
        )
    has_replicas = tf.distribute.has_strategy()
    if train.weight_decay == 0:
        adam = ReplicatedAdam if has_replicas else keras.optimizers.Adam
        return adam(rate, clipnorm=_CLIP_NORM)
    adam_w = ReplicatedAdamW if has_replicas else keras.optimizers.AdamW
    optimizer = adam_w(rate, weight_decay=train.weight_decay, clipnorm=_CLIP_NORM)
    optimizer.exclude_from_weight_decay(var_names=_NOT_DECAYED)
    return optimizer


class ClippedAfterSum:
    """Clip the sum of the gradients of all replicas, as one replica clips its gradient.

    Keras 3.15 clips the gradient of each replica before it adds them: their sum then has another
    direction and norm.
    """

    def _clip_gradients(self, grads: Any) -> Any:
        return grads

    def _all_reduce_sum_gradients(self, grads_and_vars: Any) -> Any:
        grads, variables = zip(
            *super()._all_reduce_sum_gradients(grads_and_vars),  # type: ignore[misc]
            strict=True,
        )
        return list(
            zip(super()._clip_gradients(list(grads)), variables, strict=True)  # type: ignore[misc]
        )


class ReplicatedAdam(ClippedAfterSum, keras.optimizers.Adam):  # type: ignore[misc]
    """Adam for a model with several replicas."""


class ReplicatedAdamW(ClippedAfterSum, keras.optimizers.AdamW):  # type: ignore[misc]
    """AdamW for a model with several replicas."""


def rate_callbacks(train: TrainSection) -> list[keras.callbacks.Callback]:
    """Return the callback that adds the learning rate to the history, unless it is constant.

    With ``reduce_on_plateau`` the callback also halves the rate after a plateau: half of
    ``patience`` epochs, rounded down, without a lower validation loss.
    """
    if train.schedule == "reduce_on_plateau":
        return [
            keras.callbacks.ReduceLROnPlateau(factor=_PLATEAU_FACTOR, patience=train.patience // 2)
        ]
    is_constant = train.schedule == "constant" and train.warmup_epochs == 0
    return [] if is_constant and train.fine_tuning.head_epochs == 0 else [_LogRate()]


class WarmupThenDecay(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
    """Linear warm-up from 0 to the highest rate, then cosine decay to 0 or a constant rate.

    Source of the decay: Loshchilov and Hutter, 2017, arXiv 1608.03983, without restarts.
    """

    def __init__(
        self, highest: float, *, warmup_steps: int, decay_steps: int, is_cosine: bool
    ) -> None:
        self.highest = highest
        self.warmup_steps = warmup_steps
        self.decay_steps = decay_steps
        self.is_cosine = is_cosine

    def __call__(self, step: tf.Tensor | int) -> tf.Tensor:
        """Return the learning rate, a float32 scalar, of a step counted from 0."""
        step = tf.cast(step, tf.float32)
        rising = (step + 1) / max(self.warmup_steps, 1)
        progress = tf.clip_by_value((step - self.warmup_steps) / max(self.decay_steps, 1), 0.0, 1.0)
        falling = (1 + tf.cos(math.pi * progress)) / 2 if self.is_cosine else tf.ones_like(step)
        return self.highest * tf.where(step < self.warmup_steps, rising, falling)

    def get_config(self) -> dict[str, Any]:
        return {
            "highest": self.highest,
            "warmup_steps": self.warmup_steps,
            "decay_steps": self.decay_steps,
            "is_cosine": self.is_cosine,
        }


class _LogRate(keras.callbacks.Callback):  # type: ignore[misc]
    """Add the learning rate at the end of an epoch to its metrics, as ReduceLROnPlateau does."""

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        if logs is not None:
            # Of several replicas it is a MirroredVariable, which float() refuses.
            logs["learning_rate"] = float(tf.convert_to_tensor(self.model.optimizer.learning_rate))

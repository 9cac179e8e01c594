"""The optimizer and how its learning rate changes."""

import math
from typing import Any, Literal

import keras
import tensorflow as tf

Schedule = Literal["constant", "cosine", "reduce_on_plateau"]

_PLATEAU_FACTOR = 0.5
_NOT_DECAYED = ["bias", "gamma", "beta"]  # of weights' names: offsets and scales, as is usual


def build_optimizer(
    name: Literal["adam", "adamw"],
    *,
    learning_rate: float | keras.optimizers.schedules.LearningRateSchedule,
    weight_decay: float,
    clip_norm: float,
) -> keras.optimizers.Optimizer:
    """Return an optimizer that clips the gradient of every weight to a norm of ``clip_norm``."""
    if name == "adam":
        return keras.optimizers.Adam(learning_rate, clipnorm=clip_norm)
    optimizer = keras.optimizers.AdamW(learning_rate, weight_decay=weight_decay, clipnorm=clip_norm)
    optimizer.exclude_from_weight_decay(var_names=_NOT_DECAYED)
    return optimizer


def rate_by_step(
    highest: float, *, schedule: Schedule, warmup_steps: int, steps: int
) -> float | keras.optimizers.schedules.LearningRateSchedule:
    """Return the learning rate of every step, or one number where it does not follow from it.

    Args:
        highest: the rate after the warm-up.
        warmup_steps: of the ``steps``, those in which the rate rises.
    """
    if schedule == "reduce_on_plateau" or (schedule == "constant" and warmup_steps == 0):
        return highest
    return WarmupThenDecay(
        highest,
        warmup_steps=warmup_steps,
        decay_steps=max(steps - warmup_steps, 0),
        is_cosine=schedule == "cosine",
    )


def rate_callback(schedule: Schedule, *, patience: int) -> keras.callbacks.Callback:
    """Return what writes the rate into the metrics of an epoch, and on a plateau halves it.

    Args:
        patience: of early stopping, in epochs; a plateau is half as many, rounded down, without
            a better validation loss.
    """
    if schedule == "reduce_on_plateau":
        return keras.callbacks.ReduceLROnPlateau(
            factor=_PLATEAU_FACTOR, patience=max(1, patience // 2)
        )
    return _NoteRate()


class WarmupThenDecay(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
    """A straight rise from 0 to the highest rate, then half a cosine down to 0, or no change.

    The decay is that of Loshchilov and Hutter (2017, arXiv 1608.03983) without restarts.
    """

    def __init__(
        self, highest: float, *, warmup_steps: int, decay_steps: int, is_cosine: bool
    ) -> None:
        self.highest = highest
        self.warmup_steps = warmup_steps
        self.decay_steps = decay_steps
        self.is_cosine = is_cosine

    def __call__(self, step: tf.Tensor | int) -> tf.Tensor:
        """Return the rate, float32, of a step counted from 0."""
        step = tf.cast(step, tf.float32)
        rising = (step + 1) / max(self.warmup_steps, 1)
        share = tf.clip_by_value((step - self.warmup_steps) / max(self.decay_steps, 1), 0.0, 1.0)
        falling = (1 + tf.cos(math.pi * share)) / 2 if self.is_cosine else tf.ones_like(step)
        return self.highest * tf.where(step < self.warmup_steps, rising, falling)

    def get_config(self) -> dict[str, Any]:
        return {
            "highest": self.highest,
            "warmup_steps": self.warmup_steps,
            "decay_steps": self.decay_steps,
            "is_cosine": self.is_cosine,
        }


class _NoteRate(keras.callbacks.Callback):  # type: ignore[misc]
    """Adds the rate at the end of an epoch to its metrics, as Keras does for its own changes."""

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        if logs is not None:
            logs["learning_rate"] = float(self.model.optimizer.learning_rate)

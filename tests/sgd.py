"""Optimizers for tests of equality: rounding stays rounding, which Adam would magnify."""

import json
import os
import signal
from pathlib import Path

import keras
import tensorflow as tf

from pipeline.model.settings import TrainSection

_MOMENTUM = 0.9


def sgd(
    section: TrainSection,  # noqa: ARG001
    *,
    learning_rate: float,
    epochs: int,  # noqa: ARG001
    steps_per_epoch: int,  # noqa: ARG001
) -> keras.optimizers.Optimizer:
    """Return SGD with momentum, in place of ``build_optimizer``."""
    return keras.optimizers.SGD(learning_rate, momentum=_MOMENTUM)


def deadly_sgd(
    folder: Path,
    rank: int,
    steps: tuple[int, ...],
    section: TrainSection,
    *,
    learning_rate: float,
    **_,
) -> keras.optimizers.Optimizer:
    """Return ``sgd`` that kills the worker ``rank``, once, in each of these steps, from 0.

    Args:
        folder: remembers in which it did, and has the file ``steps`` with all steps of that
            worker, one a line.
    """
    del section
    return keras.optimizers.SGD(DeadlyRate(learning_rate, folder, rank, steps), momentum=_MOMENTUM)


def failing_sgd(
    folder: Path, rank: int, step: int, section: TrainSection, *, learning_rate: float, **_
) -> keras.optimizers.Optimizer:
    """Return ``sgd`` that raises "no such picture" in a step of the worker ``rank``."""
    del section
    return keras.optimizers.SGD(FailingRate(learning_rate, folder, rank, (step,)), _MOMENTUM)


class DeadlyRate(keras.optimizers.schedules.LearningRateSchedule):
    """A constant rate that kills the process with SIGKILL when it is asked in some steps."""

    def __init__(self, rate: float, folder: Path, rank: int, steps: tuple[int, ...]) -> None:
        self._rate, self._folder, self._rank, self._steps = rate, folder, rank, steps

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        rate = tf.py_function(self._rate_of, [step], tf.float32)
        return tf.ensure_shape(rate, ())

    def _rate_of(self, step: tf.Tensor) -> float:
        memory = self._folder / str(int(step))
        is_deadly = json.loads(os.environ["TF_CONFIG"])["task"]["index"] == self._rank
        if is_deadly:
            with (self._folder / "steps").open("a") as steps:
                steps.write(f"{int(step)}\n")
        if is_deadly and int(step) in self._steps and not memory.exists():
            memory.touch()
            self._end()
        return self._rate

    def _end(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def get_config(self) -> dict[str, object]:
        return {}


class FailingRate(DeadlyRate):
    """A constant rate that raises an error when it is asked in some steps."""

    def _end(self) -> None:
        raise ValueError("no such picture")

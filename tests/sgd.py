"""An optimizer for tests of equality: rounding stays rounding, which Adam would magnify."""

import keras

from pipeline.model.settings import TrainSection


def sgd(
    section: TrainSection,  # noqa: ARG001
    *,
    learning_rate: float,
    epochs: int,  # noqa: ARG001
    steps_per_epoch: int,  # noqa: ARG001
) -> keras.optimizers.Optimizer:
    """Return SGD with momentum, in place of ``build_optimizer``."""
    return keras.optimizers.SGD(learning_rate, momentum=0.9)

"""What params.yaml may ask for though it is odd or slow: a warning each."""

import logging

from pipeline.model.architecture import Architecture

logger = logging.getLogger(__name__)


def warn_of_oddities(architecture: Architecture) -> None:
    """Log a warning for everything in ``architecture`` that is hardly meant, or slow."""
    cnn, temporal = architecture.cnn, architecture.temporal
    if cnn.weights == "none" and cnn.trainable != "all":
        logger.warning(
            "model.cnn.weights is none and model.cnn.trainable is %s: the layers of the CNN that "
            "do not train keep their random weights.",
            cnn.trainable,
        )
    if cnn.weights == "imagenet" and architecture.motion != "none":
        logger.warning(
            "model.cnn.weights is imagenet and model.motion is %s: these weights were trained on "
            "photographs, not on differences of frames. model.motion: none shows them frames.",
            architecture.motion,
        )
    if temporal.recurrent in ("lstm", "gru") and temporal.recurrent_dropout > 0:
        logger.warning(
            "model.temporal.recurrent_dropout is %g: on a GPU, cuDNN's fast kernels cannot do "
            "that, and the recurrent layers run step by step. 0 is fast.",
            temporal.recurrent_dropout,
        )

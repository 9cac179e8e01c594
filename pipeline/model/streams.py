"""The streams of a model, and the weights of their fusion.

Each stream is a model with a loss of its own; ``StreamFusion`` takes the weighted mean of their
outputs. The weights are fitted after training, on validation clips.
"""

import logging
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from pipeline.clips.arrays import ClipArrays
from pipeline.clips.batches import evaluation_batches
from pipeline.model.prediction import clips_per_batch
from pipeline.tasks.heads import FUSED, FUSION_LAYER
from pipeline.tasks.task import Task

logger = logging.getLogger(__name__)

STREAM_SUFFIX = "_stream"  # of the layer of a stream; "frames" is the name of an input

_WEIGHTS = np.linspace(0, 1, 21)  # of the first of two streams
_PRIOR = 2.0  # both parameters of the beta prior of a weight: 0.5 is the most probable value


def streams_of(model: keras.Model) -> dict[str, keras.Model]:
    """Return the model of each stream by its name, such as ``differences``.

    Its inputs are ``frames``, ``mask`` and ``side``, the features of the side inputs, if any. It
    has the layers of ``model``, not copies.
    """
    return {
        layer.name.removesuffix(STREAM_SUFFIX): layer
        for layer in model.layers
        if layer.name.endswith(STREAM_SUFFIX)
    }


def stream_weights(model: keras.Model) -> dict[str, float]:
    """Return the weight of each stream in the fusion, by its name."""
    fusion = model.get_layer(FUSION_LAYER)
    weights = keras.ops.convert_to_numpy(fusion.stream_weights).tolist()
    return dict(zip(fusion.streams, weights, strict=True))


def fit_stream_weights(model: keras.Model, task: Task, val: ClipArrays) -> None:
    """Fit the weights of two streams in place; a single stream keeps the weight 1.

    A weight is the mean of its posterior distribution: the prior is a beta distribution around
    equal weights, and each validation video is one observation of ``task.fusion_loss``, also where
    videos share a group. So weights that few videos decide stay near equal, and a stream whose
    errors lower the likelihood gets a smaller weight. docs/learning.md compares this rule with
    others.
    """
    fusion = model.get_layer(FUSION_LAYER)
    if len(fusion.streams) == 1:
        return
    first, second, encoded = _stream_outputs(model, task, val)
    losses = np.array(
        [task.fusion_loss(encoded, weight * first + (1 - weight) * second) for weight in _WEIGHTS]
    )
    with np.errstate(divide="ignore"):
        log_prior = (_PRIOR - 1) * (np.log(_WEIGHTS) + np.log(1 - _WEIGHTS))
    log_posterior = log_prior - len(set(val.names)) * losses
    posterior = np.exp(log_posterior - log_posterior.max())
    weight = float((posterior * _WEIGHTS).sum() / posterior.sum())
    fusion.stream_weights.assign([weight, 1 - weight])
    logger.info(
        "weights of the streams: %s",
        ", ".join(f"{name} {value:.2f}" for name, value in stream_weights(model).items()),
    )


def _stream_outputs(
    model: keras.Model, task: Task, clips: ClipArrays
) -> tuple[tf.Tensor, tf.Tensor, NDArray[Any]]:
    """Return the outputs of two streams, each float32 [N, ...], and encoded targets [N, ...].

    Both are those of ``task.training_model`` and ``task.training_example``, which the loss reads.
    """
    training = task.training_model(model)
    outputs = {name: tensor for name, tensor in training.output.items() if name != FUSED}
    streams = keras.Model(training.input, list(outputs.values()))
    batches = evaluation_batches(
        clips,
        task.encode(clips.targets),
        batch_size=clips_per_batch(len(clips.mask(0))),
        prepare=task.training_example,
    )
    parts = [(*streams.predict_on_batch(inputs), target) for inputs, target in batches]
    first, second, encoded = (np.concatenate(part) for part in zip(*parts, strict=True))
    return tf.constant(first), tf.constant(second), encoded

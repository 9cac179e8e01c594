"""The streams of a model, and the weights of their fusion.

Each stream is a model with a loss of its own; ``StreamFusion`` takes the weighted mean of their
outputs. The weights are fitted after training, on validation clips.
"""

import logging
import math
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
_MOST_VALUES = 1 << 26  # 268 MB in float32; fitting holds a few copies
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


def fit_stream_weights(
    model: keras.Model, task: Task, val: ClipArrays, *, most_values: int = _MOST_VALUES
) -> None:
    """Fit the weights of two streams in place; a single stream keeps the weight 1.

    A weight is the mean of its posterior distribution: the prior is a beta distribution around
    equal weights, and each validation video is one observation of ``task.fusion_loss``, also where
    videos share a group. So weights that few videos decide stay near equal, and a stream whose
    errors lower the likelihood gets a smaller weight. docs/learning.md compares this rule with
    others.

    Args:
        most_values: of the outputs of a stream that are in memory. Where all clips have more, as
            with long captions and many words, clips at equal distances are used.
    """
    fusion = model.get_layer(FUSION_LAYER)
    if len(fusion.streams) == 1:
        return
    training = task.training_model(model)
    outputs = [tensor for name, tensor in training.output.items() if name != FUSED]
    streams = keras.Model(training.input, outputs)
    n_clips = max(1, most_values // math.prod(size or 1 for size in outputs[0].shape[1:]))
    if n_clips < len(val):
        val = val.chosen(np.linspace(0, len(val) - 1, n_clips, dtype=int))
    first, second, encoded = _stream_outputs(streams, task, val)
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
    streams: keras.Model, task: Task, clips: ClipArrays
) -> tuple[tf.Tensor, tf.Tensor, NDArray[Any]]:
    """Return the outputs of two streams, each float32 [N, ...], and encoded targets [N, ...].

    The targets are those of ``task.training_example``, which the loss reads.
    """
    batches = evaluation_batches(
        clips,
        task.encode(clips.targets),
        batch_size=clips_per_batch(len(clips.mask(0))),
        prepare=task.training_example,
    )
    parts = [(*streams.predict_on_batch(inputs), target) for inputs, target in batches]
    first, second, encoded = (np.concatenate(part) for part in zip(*parts, strict=True))
    return tf.constant(first), tf.constant(second), encoded

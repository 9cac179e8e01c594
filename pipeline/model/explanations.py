"""Explanations of an output: Grad-CAM heatmaps of frames, and attention weights."""

from collections.abc import Callable, Sequence
from itertools import islice

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from pipeline.clips.sampling import Clip
from pipeline.common.errors import PipelineError
from pipeline.model.layers import ATTENTION_LAYER
from pipeline.model.network import clip_head
from pipeline.model.prediction import batches_of, clip_inputs, predict_clips
from pipeline.model.time_distributed import FEATURES_LAYER, TimeDistributed, inner_layers


def grad_cam(
    model: keras.Model, clips: Sequence[Clip], outputs: Sequence[int]
) -> NDArray[np.float32] | None:
    """Return Grad-CAM heatmaps of an output unit for every frame.

    The output unit y, before its activation, is differentiated with respect to the last feature
    map A [T, h, w, K] of the CNN. The K channels of a frame are weighted by the mean of dy/dA
    over h and w and summed; negative sums become 0. Each clip is divided by its maximum, so its
    frames are comparable. Outputs of each frame are summed over time. Source: Selvaraju et al.,
    Grad-CAM, 2017, arXiv 1610.02391.

    Args:
        clips: N clips.
        outputs: index of the output unit of each clip, such as a class.

    Returns:
        float32 [N, T, h, w], 0 to 1; 0 in padding, and in a clip without positive sums. None if
        the feature map has a single position (1 x 1).

    Raises:
        PipelineError: a clip has no real frame.
    """
    to_maps, to_features = _split_at_maps(model)
    head = _without_activation(clip_head(model))
    heatmaps = []
    left = iter(outputs)
    for batch in batches_of(clips):
        inputs = {name: tf.convert_to_tensor(array) for name, array in clip_inputs(batch).items()}
        mask = inputs["mask"]
        maps = to_maps(inputs)
        del inputs["frames"]
        if maps.shape[2:4] == (1, 1):
            return None
        with tf.GradientTape() as tape:
            tape.watch(maps)
            # The identity drops the implicit mask, of which Keras would warn.
            features = tf.identity(to_features(maps, mask))
            scores = head({**inputs, "features": features})
            scores = tf.reshape(scores, (len(scores), -1, scores.shape[-1]))
            scores = tf.reduce_sum(scores, axis=1)
            explained = tf.gather(scores, list(islice(left, len(batch))), axis=1, batch_dims=1)
        gradients = tf.cast(tape.gradient(explained, maps), tf.float32)
        weights = tf.reduce_mean(gradients, axis=(2, 3), keepdims=True)
        heatmap = tf.nn.relu(tf.reduce_sum(weights * tf.cast(maps, tf.float32), axis=-1))
        maximum = tf.reduce_max(heatmap, axis=(1, 2, 3), keepdims=True)
        heatmaps.append(np.asarray(tf.math.divide_no_nan(heatmap, maximum)))
    return np.concatenate(heatmaps)


def has_attention(model: keras.Model) -> bool:
    """Return whether ``model.temporal.summary`` of the model is ``attention``."""
    return ATTENTION_LAYER in [layer.name for layer in model.layers]


def attention_weights(model: keras.Model, clips: Sequence[Clip]) -> NDArray[np.float64]:
    """Return the attention weight of each frame.

    Returns:
        float64 [N, T]; each row sums to 1, padding has weight 0.

    Raises:
        PipelineError: the model has no attention, or a clip has no real frame.
    """
    if not has_attention(model):
        raise PipelineError(
            "model.temporal.summary: the model has no attention weights. Expected a model that was "
            f"trained with attention. Received: a model without the layer {ATTENTION_LAYER}"
        )
    weights = keras.Model(model.input, model.get_layer(ATTENTION_LAYER).output)
    return predict_clips(weights, clips)


def _split_at_maps(
    model: keras.Model,
) -> tuple[keras.Model, Callable[[tf.Tensor, tf.Tensor], tf.Tensor]]:
    """Split the CNN of a model at its last feature map.

    Returns:
        A model from the inputs to the feature maps [B, T, h, w, K], and a function from feature
        maps and mask to frame features.
    """
    last = model.get_layer(FEATURES_LAYER)
    if len(last.output.shape) == 5:  # no pooling: the features are the maps
        return keras.Model(model.input, last.output), lambda maps, _: maps
    pooling = TimeDistributed(inner_layers(last)[-1])
    maps, mask = last.input
    if isinstance(last.layer, keras.Sequential):  # otherwise each layer has its own wrapper
        maps = TimeDistributed(keras.Sequential(last.layer.layers[:-1]))(maps, mask=mask)
    return keras.Model(model.input, maps), lambda maps, mask: pooling(maps, mask=mask)


def _without_activation(head: keras.Model) -> keras.Model:
    """Return ``head`` without its last layer if that is an activation, such as softmax."""
    last_layer, node, _ = head.output._keras_history
    if not isinstance(last_layer, keras.layers.Activation):
        return head
    scores, *_ = last_layer._inbound_nodes[node].input_tensors  # FrameSoftmax also has the mask
    return keras.Model(head.input, scores)

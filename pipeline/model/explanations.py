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
from pipeline.model.network import clip_encoders, clip_head, features_input
from pipeline.model.prediction import batches_of, clip_inputs, predict_clips
from pipeline.model.streams import streams_of
from pipeline.model.time_distributed import FEATURES_LAYER, TimeDistributed, inner_layers


def grad_cam(
    model: keras.Model, clips: Sequence[Clip], outputs: Sequence[int]
) -> dict[str, NDArray[np.float32]]:
    """Return Grad-CAM heatmaps of an output unit for every frame and stream.

    The output unit y, before its activation, is differentiated with respect to the last feature
    map A [T, h, w, K] of the CNN of a stream. The K channels of a frame are weighted by the mean
    of dy/dA over h and w and summed; negative sums become 0. Each clip is divided by its maximum,
    so its frames are comparable. Outputs of each frame are summed over time. Source: Selvaraju et
    al., Grad-CAM, 2017, arXiv 1610.02391.

    Args:
        clips: N clips.
        outputs: index of the output unit of each clip, such as a class.

    Returns:
        For each stream float32 [N, T, h, w], 0 to 1; 0 in padding, and in a clip without positive
        sums. Empty if the feature maps have a single position (1 x 1).

    Raises:
        PipelineError: a clip has no real frame.
    """
    halves = {
        name: _split_at_maps(stream, encoder)
        for (name, stream), encoder in zip(
            streams_of(model).items(), clip_encoders(model).values(), strict=True
        )
    }
    head = _without_activation(clip_head(model))
    heatmaps: dict[str, list[NDArray[np.float32]]] = {name: [] for name in halves}
    left = iter(outputs)
    for batch in batches_of(clips):
        inputs = {name: tf.convert_to_tensor(array) for name, array in clip_inputs(batch).items()}
        mask = inputs["mask"]
        frames = {"frames": inputs.pop("frames"), "mask": mask}
        maps = {name: to_maps(frames) for name, (to_maps, _) in halves.items()}
        if any(own.shape[2:4] == (1, 1) for own in maps.values()):
            return {}
        with tf.GradientTape() as tape:
            tape.watch(maps)
            features = {
                # The identity drops the implicit mask, of which Keras would warn.
                features_input(name): tf.identity(to_features(maps[name], mask))
                for name, (_, to_features) in halves.items()
            }
            scores = head({**inputs, **features})
            scores = tf.reshape(scores, (len(scores), -1, scores.shape[-1]))
            scores = tf.reduce_sum(scores, axis=1)
            explained = tf.gather(scores, list(islice(left, len(batch))), axis=1, batch_dims=1)
        for name, gradients in tape.gradient(explained, maps).items():
            heatmaps[name].append(_heatmap(maps[name], gradients))
    return {name: np.concatenate(parts) for name, parts in heatmaps.items()}


def has_attention(model: keras.Model) -> bool:
    """Return whether ``model.temporal.summary`` of the model is ``attention``."""
    return any(
        layer.name == ATTENTION_LAYER
        for stream in streams_of(model).values()
        for layer in stream.layers
    )


def attention_weights(model: keras.Model, clips: Sequence[Clip]) -> dict[str, NDArray[np.float64]]:
    """Return the attention weight of each frame.

    Returns:
        For each stream float64 [N, T]; each row sums to 1, padding has weight 0.

    Raises:
        PipelineError: the model has no attention, or a clip has no real frame.
    """
    if not has_attention(model):
        raise PipelineError(
            "model.temporal.summary: the model has no attention weights. Expected a model that was "
            f"trained with attention. Received: a model without the layer {ATTENTION_LAYER}"
        )
    weights = {}
    for name, stream in streams_of(model).items():
        inputs = {key: stream.input[key] for key in ("frames", "mask")}
        attention = keras.Model(inputs, stream.get_layer(ATTENTION_LAYER).output)
        outputs = attention({key: model.input[key] for key in inputs})
        weights[name] = predict_clips(keras.Model(model.input, outputs), clips)
    return weights


def _split_at_maps(
    stream: keras.Model, encoder: keras.Model
) -> tuple[keras.Model, Callable[[tf.Tensor, tf.Tensor], tf.Tensor]]:
    """Split the CNN of a stream at its last feature map.

    Args:
        encoder: from the frames of ``stream`` to its frame features.

    Returns:
        A model from frames and mask to the feature maps [B, T, h, w, K], and a function from
        feature maps and mask to frame features.
    """
    last = stream.get_layer(FEATURES_LAYER)
    if len(last.output.shape) == 5:  # no pooling: the features are the maps
        return encoder, lambda maps, _: maps
    pooling = TimeDistributed(inner_layers(last)[-1])
    maps, mask = last.input
    if isinstance(last.layer, keras.Sequential):  # otherwise each layer has its own wrapper
        maps = TimeDistributed(keras.Sequential(last.layer.layers[:-1]))(maps, mask=mask)
    return keras.Model(encoder.input, maps), lambda maps, mask: pooling(maps, mask=mask)


def _heatmap(maps: tf.Tensor, gradients: tf.Tensor) -> NDArray[np.float32]:
    """Return heatmaps [B, T, h, w], 0 to 1, of feature maps [B, T, h, w, K] and gradients."""
    weights = tf.reduce_mean(tf.cast(gradients, tf.float32), axis=(2, 3), keepdims=True)
    heatmap = tf.nn.relu(tf.reduce_sum(weights * tf.cast(maps, tf.float32), axis=-1))
    maximum = tf.reduce_max(heatmap, axis=(1, 2, 3), keepdims=True)
    return np.asarray(tf.math.divide_no_nan(heatmap, maximum))


def _without_activation(head: keras.Model) -> keras.Model:
    """Return ``head`` without its last layer if that is an activation, such as softmax."""
    last_layer, node, _ = head.output._keras_history
    if not isinstance(last_layer, keras.layers.Activation):
        return head
    scores, *_ = last_layer._inbound_nodes[node].input_tensors  # FrameSoftmax also has the mask
    return keras.Model(head.input, scores)

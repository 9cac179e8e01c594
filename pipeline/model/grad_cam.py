"""Grad-CAM: where in each frame the CNN saw what speaks for a class.

Selvaraju et al., Grad-CAM: Visual Explanations from Deep Networks via Gradient-based
Localization, 2017, arXiv 1610.02391, applied to every frame of a clip.
"""

from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from pipeline.clips.sampling import Clip
from pipeline.model.classifier import clip_head
from pipeline.model.freezing import inner_layers
from pipeline.model.prediction import clip_inputs
from pipeline.model.time_distributed import TimeDistributed
from pipeline.model.wrapping import FEATURES_LAYER

_CLIPS_AT_ONCE = 8


def grad_cam(
    model: keras.Model, clips: Sequence[Clip], classes: Sequence[int]
) -> NDArray[np.float32] | None:
    """Return how much each place of each frame speaks for a class.

    The score y of the class, before the softmax, is followed back to the last feature map
    A [T, h, w, K] of the CNN. A frame's K maps are weighed by the mean over its places of
    dy/dA and summed; what speaks against the class, below 0, counts as 0. Each clip is
    divided by its own maximum, so that its frames can be compared with each other.

    Args:
        model: a classifier.
        clips: N clips.
        classes: N indices of classes, one a clip.

    Returns:
        float32 [N, T, h, w], 0 to 1, 0 in padding and in a clip where nothing speaks for
        the class; None if the map is a single place (1 x 1), which says nothing of where.

    Raises:
        PipelineError: a clip has no real frame.
    """
    inputs = clip_inputs(clips)
    to_maps, to_features = _around_maps(model)
    scores = _class_scores(clip_head(model))
    parts = []
    for start in range(0, len(clips), _CLIPS_AT_ONCE):
        rows = slice(start, start + _CLIPS_AT_ONCE)
        frames, mask = (tf.convert_to_tensor(inputs[name][rows]) for name in ("frames", "mask"))
        maps = to_maps({"frames": frames, "mask": mask})
        if maps.shape[2:4] == (1, 1):
            return None
        with tf.GradientTape() as tape:
            tape.watch(maps)
            # A copy has no implicit mask, of which Keras would warn that it is not used.
            features = tf.identity(to_features(maps, mask))
            of_class = scores({"features": features, "mask": mask})
            chosen = tf.gather(of_class, tf.constant(classes[rows]), axis=1, batch_dims=1)
        parts.append(_heat(maps, tape.gradient(chosen, maps)))
    return np.concatenate(parts)


def _heat(maps: tf.Tensor, gradients: tf.Tensor) -> NDArray[np.float32]:
    maps, gradients = (tf.cast(part, tf.float32) for part in (maps, gradients))
    weights = tf.reduce_mean(gradients, axis=(2, 3), keepdims=True)
    heat = tf.nn.relu(tf.reduce_sum(weights * maps, axis=-1))
    largest = tf.reduce_max(heat, axis=(1, 2, 3), keepdims=True)
    return np.asarray(tf.math.divide_no_nan(heat, largest))


def _around_maps(
    model: keras.Model,
) -> tuple[keras.Model, Callable[[tf.Tensor, tf.Tensor], tf.Tensor]]:
    """Split the CNN of a classifier at its last feature map.

    Returns:
        A model from the inputs to the maps [B, T, h, w, K], and a function from maps and
        mask to the features that the head reads.
    """
    last = model.get_layer(FEATURES_LAYER)
    if len(last.output.shape) == 5:  # no pooling: the head reads maps
        return keras.Model(model.input, last.output), lambda maps, _: maps
    pooling = TimeDistributed(inner_layers(last)[-1])
    maps, mask = last.input
    if isinstance(last.layer, keras.Sequential):  # otherwise each layer has a wrapper of its own
        maps = TimeDistributed(keras.Sequential(last.layer.layers[:-1]))(maps, mask=mask)
    return keras.Model(model.input, maps), lambda maps, mask: pooling(maps, mask=mask)


def _class_scores(head: keras.Model) -> keras.Model:
    """Return ``head`` without its softmax, which is a layer of its own."""
    softmax, node, _ = head.output._keras_history
    (scores,) = softmax._inbound_nodes[node].input_tensors
    return keras.Model(head.input, scores)

"""The classifier: CNN on each frame, a head over time, class probabilities."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import keras

from pipeline.model import task
from pipeline.model.architecture import Architecture, FrameShape, Precision
from pipeline.model.backbones import frame_encoder
from pipeline.model.freezing import inner_layers
from pipeline.model.motion import input_of_cnn
from pipeline.model.oddities import warn_of_oddities
from pipeline.model.temporal import temporal_head
from pipeline.model.wrapping import FEATURES_LAYER, over_frames


def build_classifier(
    architecture: Architecture,
    *,
    n_classes: int,
    frame_shape: FrameShape,
    precision: Precision = "float32",
) -> keras.Model:
    """Build the untrained model. It takes clips of any length T.

    Inputs: ``frames`` uint8 [B, T, H, W, C], pixels as stored; ``mask`` bool [B, T], True
    for a real frame, right-padded, at least one in a clip. Output: probabilities float32
    [B, n_classes].

    Args:
        precision: of the computation; a mixed one keeps the weights in float32.

    Raises:
        PipelineError: the CNN cannot be had, or takes no frames of this shape.
    """
    warn_of_oddities(architecture)
    with _precision(precision):
        return _classifier(architecture, n_classes, frame_shape)


def check_classifier(architecture: Architecture, *, frame_shape: FrameShape) -> None:
    """Raise what ``build_classifier`` would raise, without downloading weights."""
    cnn = architecture.cnn
    weights = "none" if cnn.weights == "imagenet" else cnn.weights
    _classifier(replace(architecture, cnn=replace(cnn, weights=weights)), 2, frame_shape)


def _classifier(architecture: Architecture, n_classes: int, frame_shape: FrameShape) -> keras.Model:
    frames = keras.Input((None, *frame_shape), dtype="uint8", name="frames")
    mask = keras.Input((None,), dtype="bool", name="mask")
    cnn, seen = architecture.cnn, input_of_cnn(frames, motion=architecture.motion)
    encoder = frame_encoder(cnn, frame_shape=seen.shape[2:], dtype=seen.dtype, l2=architecture.l2)
    features = over_frames(encoder, seen, mask, wrap=cnn.wrap)
    clip = temporal_head(architecture, features, mask)
    probabilities = task.probabilities(clip, n_classes, l2=architecture.l2)
    return keras.Model({"frames": frames, "mask": mask}, probabilities, name="cnn_lstm")


def clip_encoder(model: keras.Model) -> keras.Model:
    """Return the first part of a classifier: its inputs to what the CNN makes of the frames.

    The layers are those of ``model``, not copies.
    """
    return keras.Model(model.input, _features(model), name="clip_encoder")


def clip_head(model: keras.Model) -> keras.Model:
    """Return the other part: ``features``, as ``clip_encoder`` gives them, to probabilities.

    Its second input is ``mask``. The layers are those of ``model``, not copies, so training
    one trains the other.
    """
    of_cnn = _features(model)
    features = keras.Input(of_cnn.shape[1:], dtype=of_cnn.dtype, name="features")
    inputs = {name: _input_like(tensor) for name, tensor in model.input.items()}

    def call(layer: keras.Layer, *args: Any, **kwargs: Any) -> Any:
        return features if layer.name == FEATURES_LAYER else layer(*args, **kwargs)

    # keras.Model from an inner tensor to the output would break the saving of ``model``.
    probabilities = model._run_through_graph(inputs, call_fn=call)
    return keras.Model(
        {"features": features, "mask": inputs["mask"]}, probabilities, name="clip_head"
    )


def _input_like(tensor: keras.KerasTensor) -> keras.KerasTensor:
    return keras.Input(tensor.shape[1:], dtype=tensor.dtype, name=tensor.name)


def cnn_layers(model: keras.Model) -> list[keras.Layer]:
    """Return the layers of the CNN of a classifier, in order."""
    return [layer for layer in inner_layers(clip_encoder(model)) if not _is_input(layer)]


def _features(model: keras.Model) -> keras.KerasTensor:
    return model.get_layer(FEATURES_LAYER).output


def _is_input(layer: keras.Layer) -> bool:
    return isinstance(layer, keras.layers.InputLayer)


@contextmanager
def _precision(name: Precision) -> Iterator[None]:
    """Build layers in this precision; the models of keras.applications take it from no argument."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)

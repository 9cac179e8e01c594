"""The model: the CNN on each frame, layers over time, the head of the task.

The model can be cut at the frame features into two models that share its layers: a clip encoder
and a clip head.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras

from pipeline.model.backbones import frame_encoder
from pipeline.model.layers import FrameDifferences
from pipeline.model.settings import FrameShape, ModelSection, Precision, warn_of_unusual_settings
from pipeline.model.temporal import clip_features
from pipeline.model.time_distributed import FEATURES_LAYER, inner_layers, over_frames
from pipeline.tasks.task import ClipFeatures, Task


def build_model(
    model: ModelSection,
    task: Task,
    *,
    frame_shape: FrameShape,
    precision: Precision = "float32",
) -> keras.Model:
    """Build the untrained model. It takes clips of any length T.

    Inputs: ``frames`` uint8 [B, T, H, W, C], pixels as stored; ``mask`` bool [B, T], True for a
    real frame, right-padded, at least one in a clip. Output: ``task.head``, float32 [B, ...].

    Args:
        precision: of the computation; a mixed one keeps the weights in float32.

    Raises:
        PipelineError: the CNN cannot be built, its weights cannot be loaded, or it needs larger
            frames.
    """
    warn_of_unusual_settings(model)
    with _dtype_policy(precision):
        inputs, features = _body(model, frame_shape)
        return keras.Model(inputs, task.head(features), name="cnn_lstm")


def check_model(model: ModelSection, *, frame_shape: FrameShape) -> None:
    """Raise the errors of ``build_model``, without downloading weights."""
    if model.cnn.weights == "imagenet":
        cnn = model.cnn.model_copy(update={"weights": "none"})
        model = model.model_copy(update={"cnn": cnn})
    _body(model, frame_shape)


def clip_encoder(model: keras.Model) -> keras.Model:
    """Return the first part of a model: from its inputs to the frame features.

    The layers are those of ``model``, not copies.
    """
    return keras.Model(model.input, _frame_features(model), name="clip_encoder")


def clip_head(model: keras.Model) -> keras.Model:
    """Return the second part of a model: from ``features`` and ``mask`` to its outputs.

    ``features`` is the output of ``clip_encoder``. The layers are those of ``model``, not copies:
    training one trains the other.
    """
    frame_features = _frame_features(model)
    features = keras.Input(frame_features.shape[1:], dtype=frame_features.dtype, name="features")
    inputs = {
        name: keras.Input(tensor.shape[1:], dtype=tensor.dtype, name=tensor.name)
        for name, tensor in model.input.items()
    }

    def call(layer: keras.Layer, *args: Any, **kwargs: Any) -> Any:
        return features if layer.name == FEATURES_LAYER else layer(*args, **kwargs)

    # keras.Model from an inner tensor to the output would make ``model`` impossible to save.
    outputs = model._run_through_graph(inputs, call_fn=call)
    return keras.Model({"features": features, "mask": inputs["mask"]}, outputs, name="clip_head")


def cnn_layers(model: keras.Model) -> list[keras.Layer]:
    """Return the layers of the CNN of a model, in order."""
    layers = inner_layers(clip_encoder(model))
    return [layer for layer in layers if not isinstance(layer, keras.layers.InputLayer)]


def is_frozen(model: keras.Model) -> bool:
    """Whether no weight of the CNN of a model trains."""
    return not any(layer.trainable_weights for layer in cnn_layers(model))


def _body(
    model: ModelSection, frame_shape: FrameShape
) -> tuple[dict[str, keras.KerasTensor], ClipFeatures]:
    """Return the inputs and the features that the head reads."""
    frames = keras.Input((None, *frame_shape), dtype="uint8", name="frames")
    mask = keras.Input((None,), dtype="bool", name="mask")
    pixels = frames
    if model.motion != "none":
        pixels = FrameDifferences(keep_frames=model.motion == "both", name="motion")(frames)
    encoder = frame_encoder(model.cnn, frame_shape=pixels.shape[2:], dtype=pixels.dtype)
    features = over_frames(encoder, pixels, mask, wrap=model.cnn.wrap)
    return {"frames": frames, "mask": mask}, clip_features(model, features, mask)


def _frame_features(model: keras.Model) -> keras.KerasTensor:
    return model.get_layer(FEATURES_LAYER).output


@contextmanager
def _dtype_policy(name: Precision) -> Iterator[None]:
    """Build layers with this policy; models of keras.applications take it from no argument."""
    previous = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(previous)

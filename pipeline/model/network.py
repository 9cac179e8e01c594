"""Build a model, and split it at the frame features into a clip encoder and a clip head."""

from collections.abc import Sequence
from typing import Any

import keras

from pipeline.common.side_inputs import SideInput
from pipeline.model.backbones import frame_encoder
from pipeline.model.layers import FrameDifferences
from pipeline.model.settings import FrameShape, ModelSection, Precision, log_config_warnings
from pipeline.model.side_inputs import (
    SIDE_INPUTS_LAYER,
    join_side_inputs,
    side_input_tensors,
    with_side_inputs,
)
from pipeline.model.temporal import FRAME_DENSE_LAYER, clip_features
from pipeline.model.time_distributed import FEATURES_LAYER, inner_layers, over_frames
from pipeline.tasks.task import ClipFeatures, Task


def build_model(
    model: ModelSection,
    task: Task,
    *,
    frame_shape: FrameShape,
    precision: Precision = "float32",
    side_inputs: Sequence[SideInput] = (),
) -> keras.Model:
    """Build the untrained model, for clips of any length T.

    Inputs: ``frames`` uint8 [B, T, H, W, C], pixels as stored; ``mask`` bool [B, T], True for a
    real frame, right-padded, at least one a row; ``numbers`` and ``categories`` as in
    ``pipeline/common/side_inputs.py``. Output: ``task.head``, float32 [B, ...].

    Args:
        precision: dtype of the computation; weights are float32.
        side_inputs: learnt from the training videos.

    Raises:
        PipelineError: as ``frame_encoder``.
    """
    log_config_warnings(model)
    previous = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)  # models of keras.applications take no argument
    try:
        inputs, features = _body(model, frame_shape, has_steps=task.reads_steps)
        if side_inputs:
            tensors = side_input_tensors(side_inputs)
            inputs |= tensors
            features = join_side_inputs(features, tensors, side_inputs)
        return keras.Model(inputs, task.head(features), name="cnn_lstm")
    finally:
        keras.config.set_dtype_policy(previous)


def check_model(model: ModelSection, *, frame_shape: FrameShape) -> None:
    """Raise the errors of ``build_model``, without downloading weights."""
    if model.cnn.weights == "imagenet":
        cnn = model.cnn.model_copy(update={"weights": "none"})
        model = model.model_copy(update={"cnn": cnn})
    _body(model, frame_shape)


def clip_encoder(model: keras.Model) -> keras.Model:
    """Return the model from ``frames`` and ``mask`` to the frame features [B, T, ...] of ``model``.

    The layers are those of ``model``, not copies.
    """
    inputs = {name: model.input[name] for name in ("frames", "mask")}
    return keras.Model(inputs, model.get_layer(FEATURES_LAYER).output, name="clip_encoder")


def step_encoder(model: keras.Model) -> keras.Model:
    """Return the model from the inputs of ``model`` to what its layers over time read.

    Its outputs are [B, T, F], or [B, T, h, w, c] for convlstm2d, zeros for padding. Features of the
    side inputs, if any, follow those of each frame; feature maps are then averaged. The layers are
    those of ``model``.
    """
    names = {layer.name for layer in model.layers}
    name = FRAME_DENSE_LAYER if FRAME_DENSE_LAYER in names else FEATURES_LAYER
    steps = model.get_layer(name).output
    if SIDE_INPUTS_LAYER in names:
        if len(steps.shape) == 5:
            steps = keras.ops.mean(steps, axis=(2, 3))
        side = model.get_layer(SIDE_INPUTS_LAYER).output
        steps = with_side_inputs(steps, side, model.input["mask"])
    return keras.Model(model.input, steps, name="step_encoder")


def clip_head(model: keras.Model) -> keras.Model:
    """Return the model from ``features`` instead of ``frames`` to the outputs of ``model``.

    ``features`` is the output of ``clip_encoder``. The layers are those of ``model``, not copies:
    training the head trains the model.
    """
    frame_features = model.get_layer(FEATURES_LAYER).output
    features = keras.Input(frame_features.shape[1:], dtype=frame_features.dtype, name="features")
    inputs = {
        name: keras.Input(tensor.shape[1:], dtype=tensor.dtype, name=tensor.name)
        for name, tensor in model.input.items()
    }

    def call(layer: keras.Layer, *args: Any, **kwargs: Any) -> Any:
        return features if layer.name == FEATURES_LAYER else layer(*args, **kwargs)

    # keras.Model from an inner tensor to the output would make ``model`` impossible to save.
    outputs = model._run_through_graph(inputs, call_fn=call)
    del inputs["frames"]
    head = keras.Model({"features": features, **inputs}, outputs, name="clip_head")
    head.dtype_policy = model.dtype_policy  # Keras scales the loss if it is mixed_float16
    return head


def cnn_layers(model: keras.Model) -> list[keras.Layer]:
    """Return the layers of the CNN, in order, without input layers."""
    layers = inner_layers(clip_encoder(model))
    return [layer for layer in layers if not isinstance(layer, keras.layers.InputLayer)]


def is_frozen(model: keras.Model) -> bool:
    """Return whether the CNN has no trainable weight."""
    return not any(layer.trainable_weights for layer in cnn_layers(model))


def _body(
    model: ModelSection, frame_shape: FrameShape, *, has_steps: bool = False
) -> tuple[dict[str, keras.KerasTensor], ClipFeatures]:
    """Build all layers but the head; return the inputs and the features for the head."""
    frames = keras.Input((None, *frame_shape), dtype="uint8", name="frames")
    mask = keras.Input((None,), dtype="bool", name="mask")
    pixels = frames
    if model.motion != "none":
        pixels = FrameDifferences(keep_frames=model.motion == "both", name="motion")(frames)
    encoder = frame_encoder(model.cnn, frame_shape=pixels.shape[2:], dtype=pixels.dtype)
    features = over_frames(encoder, pixels, mask, wrap=model.cnn.wrap)
    inputs = {"frames": frames, "mask": mask}
    return inputs, clip_features(model, features, mask, has_steps=has_steps)

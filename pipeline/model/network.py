"""Build a model of one or several streams, and split it at the frame features."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from pipeline.common.side_inputs import SideInput
from pipeline.model.backbones import frame_encoder
from pipeline.model.layers import FrameDifferences
from pipeline.model.settings import (
    FrameShape,
    ModelSection,
    Precision,
    Stream,
    log_config_warnings,
)
from pipeline.model.side_inputs import (
    SIDE_INPUTS_LAYER,
    SideInputFeatures,
    join_side_inputs,
    side_input_tensors,
    with_side_inputs,
)
from pipeline.model.streams import STREAM_SUFFIX, streams_of
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

    Each stream is a layer that is itself a model, with a CNN and layers over time; the streams
    share the inputs, and no weights but those of the side inputs.

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
        inputs = stream_inputs = _clip_inputs(frame_shape)
        if side_inputs:
            tensors = side_input_tensors(side_inputs)
            inputs = {**stream_inputs, **tensors}
            columns = [one.to_json() for one in side_inputs]
            side = SideInputFeatures(columns, name=SIDE_INPUTS_LAYER)(tensors)
            stream_inputs = {**stream_inputs, "side": side}
        outputs: dict[str, Any] = {}
        for stream in model.streams:
            tensors = {
                name: keras.Input(tensor.shape[1:], dtype=tensor.dtype, name=name)
                for name, tensor in stream_inputs.items()
            }
            features = _clip_features(model, stream, tensors, has_steps=task.reads_steps)
            layer = keras.Model(tensors, task.stream_head(features), name=stream + STREAM_SUFFIX)
            outputs[stream] = layer(stream_inputs)
        return keras.Model(inputs, task.head(outputs, inputs["mask"]), name="cnn_lstm")
    finally:
        keras.config.set_dtype_policy(previous)


def check_model(model: ModelSection, *, frame_shape: FrameShape) -> None:
    """Raise the errors of ``build_model``, without downloading weights."""
    if model.cnn.weights == "imagenet":
        cnn = model.cnn.model_copy(update={"weights": "none"})
        model = model.model_copy(update={"cnn": cnn})
    for stream in model.streams:
        _clip_features(model, stream, _clip_inputs(frame_shape))


def clip_encoders(model: keras.Model) -> dict[str, keras.Model]:
    """Return for each stream the model from ``frames`` and ``mask`` to its frame features.

    The frame features are [B, T, ...]. The layers are those of ``model``, not copies.
    """
    return {
        name: keras.Model(
            {key: stream.input[key] for key in ("frames", "mask")},
            stream.get_layer(FEATURES_LAYER).output,
            name="clip_encoder",
        )
        for name, stream in streams_of(model).items()
    }


def step_encoder(model: keras.Model) -> keras.Model:
    """Return the model from the inputs of ``model`` to what its layers over time read.

    Its outputs are [B, T, F], zeros for padding: the features of all streams, then those of the
    side inputs. Feature maps of convlstm2d are averaged. The layers are those of ``model``.
    """
    parts = []
    for stream in streams_of(model).values():
        names = {layer.name for layer in stream.layers}
        name = FRAME_DENSE_LAYER if FRAME_DENSE_LAYER in names else FEATURES_LAYER
        inputs = {key: stream.input[key] for key in ("frames", "mask")}
        encoder = keras.Model(inputs, stream.get_layer(name).output)
        steps = encoder({key: model.input[key] for key in inputs})
        parts.append(keras.ops.mean(steps, axis=(2, 3)) if len(steps.shape) == 5 else steps)
    steps = parts[0] if len(parts) == 1 else keras.ops.concatenate(parts, axis=-1)
    if SIDE_INPUTS_LAYER in {layer.name for layer in model.layers}:
        side = model.get_layer(SIDE_INPUTS_LAYER).output
        steps = with_side_inputs(steps, side, model.input["mask"])
    return keras.Model(model.input, steps, name="step_encoder")


def clip_head(model: keras.Model) -> keras.Model:
    """Return the model from frame features instead of ``frames`` to the outputs of ``model``.

    Its inputs ``features_<stream>`` are the outputs of ``clip_encoders``. The layers are those of
    ``model``, not copies: training the head trains the model.
    """
    heads = {stream.name: _stream_head(stream) for stream in streams_of(model).values()}
    inputs = {
        name: keras.Input(tensor.shape[1:], dtype=tensor.dtype, name=tensor.name)
        for name, tensor in model.input.items()
    }
    features = {}
    for name, stream in streams_of(model).items():
        like = heads[stream.name].input["features"]
        input_name = features_input(name)
        features[input_name] = keras.Input(like.shape[1:], dtype=like.dtype, name=input_name)

    def call(layer: keras.Layer, *args: Any, **kwargs: Any) -> Any:
        if layer.name not in heads:
            return layer(*args, **kwargs)
        (tensors,) = args
        own = features[features_input(layer.name.removesuffix(STREAM_SUFFIX))]
        return heads[layer.name](
            {"features": own, **{key: tensors[key] for key in tensors if key != "frames"}}
        )

    # keras.Model from an inner tensor to the output would make ``model`` impossible to save.
    outputs = model._run_through_graph(inputs, call_fn=call)
    del inputs["frames"]
    head = keras.Model({**features, **inputs}, outputs, name="clip_head")
    head.dtype_policy = model.dtype_policy  # Keras scales the loss if it is mixed_float16
    return head


def features_input(stream: str) -> str:
    """Return the name of the input of ``clip_head`` for the frame features of a stream."""
    return f"features_{stream}"


def cnn_layers(model: keras.Model) -> list[keras.Layer]:
    """Return the layers of the CNNs of all streams, in order, without input layers."""
    layers = [layer for encoder in clip_encoders(model).values() for layer in inner_layers(encoder)]
    return [layer for layer in layers if not isinstance(layer, keras.layers.InputLayer)]


def is_frozen(model: keras.Model) -> bool:
    """Return whether no CNN has a trainable weight."""
    return not any(layer.trainable_weights for layer in cnn_layers(model))


def _clip_inputs(frame_shape: FrameShape) -> dict[str, keras.KerasTensor]:
    return {
        "frames": keras.Input((None, *frame_shape), dtype="uint8", name="frames"),
        "mask": keras.Input((None,), dtype="bool", name="mask"),
    }


def _clip_features(
    model: ModelSection,
    stream: Stream,
    inputs: Mapping[str, keras.KerasTensor],
    *,
    has_steps: bool = False,
) -> ClipFeatures:
    """Build the layers of a stream up to the features that the head of the task reads."""
    pixels, mask = inputs["frames"], inputs["mask"]
    if stream == "differences":
        pixels = FrameDifferences(name="differences")(pixels)
    encoder = frame_encoder(
        model.cnn, frame_shape=pixels.shape[2:], dtype=pixels.dtype, stream=stream
    )
    steps = over_frames(encoder, pixels, mask, wrap=model.cnn.wrap)
    features = clip_features(model, steps, mask, has_steps=has_steps)
    return join_side_inputs(features, inputs["side"]) if "side" in inputs else features


def _stream_head(stream: keras.Model) -> keras.Model:
    """Return the model from ``features`` instead of ``frames`` to the outputs of a stream."""
    tensor = stream.get_layer(FEATURES_LAYER).output
    features = keras.Input(tensor.shape[1:], dtype=tensor.dtype, name="features")
    inputs = {
        name: keras.Input(tensor.shape[1:], dtype=tensor.dtype, name=tensor.name)
        for name, tensor in stream.input.items()
    }

    def call(layer: keras.Layer, *args: Any, **kwargs: Any) -> Any:
        return features if layer.name == FEATURES_LAYER else layer(*args, **kwargs)

    outputs = stream._run_through_graph(inputs, call_fn=call)
    del inputs["frames"]
    return keras.Model({"features": features, **inputs}, outputs, name=stream.name)

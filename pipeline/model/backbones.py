"""The CNN of one frame: its layers, its weights, and which layers train."""

import difflib
import inspect
import logging
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import keras

from pipeline.common.errors import PipelineError, first_line
from pipeline.common.files import sha256_of_file
from pipeline.model.layers import ApplicationPixels, FusedBatchNormalization
from pipeline.model.saving import load_model
from pipeline.model.settings import CnnSection, FrameShape, Stream, Trainable
from pipeline.model.streams import streams_of
from pipeline.model.time_distributed import inner_layers

logger = logging.getLogger(__name__)

# Keras adds a second scaling layer to these, but only when it loads their weights itself.
_SCALED_TWICE = [f"EfficientNetB{number}" for number in range(8)]
_IMAGENET_DEVIATION = (0.229, 0.224, 0.225)  # of red, green and blue


def frame_encoder(
    cnn: CnnSection, *, frame_shape: FrameShape, dtype: str = "uint8", stream: Stream = "frames"
) -> keras.Sequential:
    """Return the CNN that computes the features of one frame.

    Input: [B, H, W, C], pixels 0 to 255 of type ``dtype``. Output: frame features [B, F], or the
    last feature map [B, h, w, c] when ``cnn.pooling`` is ``none``. The encoder contains all
    frozen layers of a frozen CNN and no others, so its outputs can be cached.

    Args:
        stream: of the CNN. From a saved model with several streams, its weights are those of the
            stream of this name.

    Raises:
        PipelineError: the backbone is unknown, its weights cannot be loaded or do not fit, it
            needs larger frames, or ``cnn.trainable`` exceeds its number of layers.
    """
    layers: list[keras.Layer]
    if cnn.backbone == "small_cnn":
        layers = [
            keras.layers.Rescaling(1 / 127.5, offset=-1.0, dtype="float32", name="scale_pixels")
        ]
        for number, filters in enumerate(cnn.filters, start=1):
            layers += [
                keras.layers.Conv2D(
                    filters, 3, strides=2, padding="same", use_bias=False, name=f"conv{number}"
                ),
                FusedBatchNormalization(momentum=0.9, name=f"norm{number}"),
                keras.layers.ReLU(name=f"relu{number}"),
            ]
    else:
        application = _application(cnn, frame_shape)
        layers = [ApplicationPixels(cnn.backbone, name="preprocess"), application]
    match cnn.pooling:
        case "flatten":  # keeps positions, which distinguish motion
            layers.append(keras.layers.Flatten(name="flatten"))
        case "average":  # discards positions
            layers.append(keras.layers.GlobalAveragePooling2D(name="average"))
        case "none":
            pass
    pixels = keras.Input(frame_shape, dtype=dtype, name="frame")
    encoder = keras.Sequential([pixels, *layers], name=cnn.backbone.lower())
    encoder.autocast = False  # half precision would round pixels before they are scaled
    if cnn.weights not in ("none", "imagenet"):
        _load_weights(encoder, Path(cnn.weights), stream)
    if cnn.trainable != "all":
        set_trainable(inner_layers(encoder), cnn.trainable)
    return encoder


def set_trainable(layers: Iterable[keras.Layer], trainable: Trainable) -> None:
    """Make all of ``layers`` trainable, none, or the last N that have weights.

    With N, batch normalisation is frozen and is not counted. Keras runs frozen batch
    normalisation in inference mode, so statistics of small batches do not change the inputs of
    other frozen layers.

    Raises:
        PipelineError: fewer than N layers have weights.
    """
    layers = list(layers)
    countable = [
        layer
        for layer in layers
        if layer.weights and not isinstance(layer, keras.layers.BatchNormalization)
    ]
    match trainable:
        case "all":
            chosen = layers
        case "none":
            chosen = []
        case number:
            if number > len(countable):
                raise PipelineError(
                    f"model.cnn.trainable: too many layers. Expected all, none or at most "
                    f"{len(countable)}, the number of layers with weights. Received: {number}"
                )
            chosen = countable[-number:]
    trained = {id(layer) for layer in chosen}
    for layer in layers:
        layer.trainable = id(layer) in trained


def _application(cnn: CnnSection, frame_shape: FrameShape) -> keras.Model:
    """Return the image model up to its last feature map, with the same layers for all weights."""
    name = cnn.backbone
    names = [key for key, value in vars(keras.applications).items() if inspect.isfunction(value)]
    if name not in names:
        close = difflib.get_close_matches(name, ["small_cnn", *names], n=3, cutoff=0.4)
        hint = f". Did you mean {' or '.join(close)}?" if close else ""
        raise PipelineError(
            "model.cnn.backbone: unknown model. Expected small_cnn or an image model of "
            f"keras.applications (keras.io/api/applications). Received: {name}{hint}"
        )
    build: Any = getattr(keras.applications, name)
    try:
        model = build(include_top=False, weights=None, input_shape=frame_shape)
    except ValueError as error:
        height, width, _ = frame_shape
        minimum = str(error).split(";")[0]  # "Input size must be at least 32x32; Received: ..."
        raise PipelineError(
            f"decode.width, decode.height: {name} needs larger frames. Expected: {minimum}. "
            f"Received: {width} x {height}"
        ) from None
    if cnn.weights != "imagenet":
        return _scale_again(model) if name in _SCALED_TWICE else model
    try:
        return build(include_top=False, weights="imagenet", input_shape=frame_shape)
    except Exception as error:
        # A failed connection is a bare Exception that Keras raises from an OSError. An incomplete
        # or wrong file is a ValueError.
        is_connection = isinstance(error, OSError) or isinstance(error.__context__, OSError)
        if not (is_connection or isinstance(error, ValueError)):
            raise
        raise PipelineError(
            f"model.cnn.weights: the weights of {name} cannot be downloaded ({error}). "
            "Received: imagenet. Name a file of weights, or use none"
        ) from None


def _scale_again(model: keras.Model) -> keras.Model:
    """Add the second scaling layer that Keras adds after the normalisation for imagenet weights.

    Published weights were trained with this layer. Sources:
    github.com/tensorflow/tensorflow/issues/49930, keras/src/applications/efficientnet.py.
    """
    scales = [1 / math.sqrt(deviation) for deviation in _IMAGENET_DEVIATION]

    def call(layer: keras.Layer, *args: Any, **kwargs: Any) -> Any:
        outputs = layer(*args, **kwargs)
        if isinstance(layer, keras.layers.Normalization):
            return keras.layers.Rescaling(scales, name="scale_again")(outputs)
        return outputs

    return keras.models.clone_model(model, call_function=call)


def _load_weights(encoder: keras.Sequential, path: Path, stream: Stream) -> None:
    """Load a file of weights, or the weights of the CNN of a saved model."""
    if not path.is_file():
        raise PipelineError(
            "model.cnn.weights: no such file. Expected none, imagenet or the path of a file. "
            f"Received: {path}"
        )
    logger.info("model.cnn.weights: %s, SHA-256 %s", path, sha256_of_file(path))
    models = [layer for layer in encoder.layers if isinstance(layer, keras.Model)]
    backbone = models[0] if models else encoder
    try:
        if path.suffix == ".keras":
            saved = load_model(path)
            streams = streams_of(saved)
            if streams and stream not in streams:
                logger.warning(
                    "model.cnn.weights: %s has no stream %s; its stream %s starts that one, too.",
                    path,
                    stream,
                    *streams,
                )
            source = streams.get(stream, saved)
            _copy_weights(inner_layers(source), inner_layers(backbone))
        else:
            backbone.load_weights(path)
    except (KeyError, OSError, ValueError) as error:
        reason = first_line(error)
        raise PipelineError(
            f"model.cnn.weights: the weights do not fit ({reason}). Expected weights of the same "
            f"layers as model.cnn.backbone {encoder.name}. Received: {path}. Set backbone and "
            "filters as in the training that wrote the file, or name another file"
        ) from None


def _copy_weights(source: list[keras.Layer], target: list[keras.Layer]) -> None:
    """Copy the weights of layers with the same names.

    Keras numbers unnamed layers across models (conv2d_93, conv2d_94), so numbers are compared by
    their order only.
    """
    source_layers = _by_name(source)
    for name, layers in _by_name(target).items():
        others = source_layers.get(name, [])
        if len(others) != len(layers):
            raise ValueError(f"{len(others)} layers are named {name}, expected {len(layers)}")
        for layer, other in zip(layers, others, strict=True):
            layer.set_weights(other.get_weights())


def _by_name(layers: list[keras.Layer]) -> dict[str, list[keras.Layer]]:
    """Group layers that have weights by name without number, ordered by number."""
    numbered: dict[str, list[tuple[int, keras.Layer]]] = {}
    for layer in layers:
        if layer.weights:
            name, _, number = layer.name.rpartition("_")
            if not number.isdecimal():
                name, number = layer.name, "0"
            numbered.setdefault(name, []).append((int(number), layer))
    return {
        name: [layer for _, layer in sorted(members, key=lambda member: member[0])]
        for name, members in numbered.items()
    }

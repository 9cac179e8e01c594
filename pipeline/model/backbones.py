"""The CNN: from the pixels of one frame to its features, its weights, and which layers train."""

import difflib
import inspect
import logging
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras

from pipeline.common.errors import PipelineError
from pipeline.common.files import sha256_of_file
from pipeline.model.layers import ApplicationPixels, FusedBatchNormalization
from pipeline.model.saving import load_model
from pipeline.model.settings import CnnSection, FrameShape, Trainable
from pipeline.model.time_distributed import inner_layers

logger = logging.getLogger(__name__)

# Keras scales the inputs of these once more, but only if it loads their weights itself.
_SCALED_TWICE = [f"EfficientNetB{number}" for number in range(8)]
_IMAGENET_DEVIATION = (0.229, 0.224, 0.225)  # of red, green and blue


def frame_encoder(
    cnn: CnnSection, *, frame_shape: FrameShape, dtype: str = "uint8"
) -> keras.Sequential:
    """Return the CNN from one frame to its features.

    Its input is [H, W, C], pixels 0 to 255 of type ``dtype``. Its output is a vector [F], or the
    last feature map [h, w, c] where ``cnn.pooling`` is ``none``. The encoder contains everything
    that a frozen CNN computes and nothing else, so its outputs can be stored.

    Raises:
        PipelineError: the backbone does not exist, its weights cannot be loaded or do not fit,
            or it needs larger frames.
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
        _check_application(cnn.backbone)
        layers = [
            ApplicationPixels(cnn.backbone, name="preprocess"),
            _application(cnn, frame_shape),
        ]
    match cnn.pooling:
        case "flatten":  # keeps the position of things, which motion needs
            layers.append(keras.layers.Flatten(name="flatten"))
        case "average":  # keeps what there is, not where
            layers.append(keras.layers.GlobalAveragePooling2D(name="average"))
        case "none":
            pass
    pixels = keras.Input(frame_shape, dtype=dtype, name="frame")
    encoder = keras.Sequential([pixels, *layers], name=cnn.backbone.lower())
    encoder.autocast = False  # half precision rounds pixels; the first layer scales them before
    if cnn.weights not in ("none", "imagenet"):
        _load_weights(encoder, Path(cnn.weights))
    if cnn.trainable != "all":
        set_trainable(inner_layers(encoder), cnn.trainable)
    return encoder


def set_trainable(layers: Iterable[keras.Layer], trainable: Trainable) -> None:
    """Let all of ``layers`` train, none, or the last N that have weights.

    With N, batch normalisation does not train and is not counted. Keras runs it in inference
    mode then: statistics of small batches of video would spoil the frozen layers.

    Raises:
        PipelineError: there are fewer than N layers.
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
                    f"model.cnn.trainable: expected all, none or at most {len(countable)}, the "
                    f"number of layers with weights. Received: {number}"
                )
            chosen = countable[-number:]
    trained = {id(layer) for layer in chosen}
    for layer in layers:
        layer.trainable = id(layer) in trained


def _check_application(name: str) -> None:
    names = [key for key, value in vars(keras.applications).items() if inspect.isfunction(value)]
    if name in names:
        return
    close = difflib.get_close_matches(name, ["small_cnn", *names], n=3, cutoff=0.4)
    hint = f". Did you mean {' or '.join(close)}?" if close else ""
    raise PipelineError(
        "model.cnn.backbone: expected small_cnn or an image model of keras.applications "
        f"(keras.io/api/applications). Received: {name}{hint}"
    )


def _application(cnn: CnnSection, frame_shape: FrameShape) -> keras.Model:
    """Return the image model up to its last feature map, with the same layers for all weights."""
    build: Any = getattr(keras.applications, cnn.backbone)
    try:
        model = build(include_top=False, weights=None, input_shape=frame_shape)
    except ValueError as error:  # its first clause says what is too small
        height, width, _ = frame_shape
        raise PipelineError(
            f"decode.width, decode.height: {cnn.backbone} needs larger frames "
            f"({str(error).split(';')[0]}). Received: {width} x {height}"
        ) from None
    if cnn.weights == "imagenet":
        with _download_errors(cnn.backbone):
            return build(include_top=False, weights="imagenet", input_shape=frame_shape)
    return _scale_again(model) if cnn.backbone in _SCALED_TWICE else model


@contextmanager
def _download_errors(name: str) -> Iterator[None]:
    """Turn a failed download of weights into a PipelineError.

    Keras raises a bare Exception from an OSError for a failed connection, and a ValueError for
    an incomplete or wrong file.
    """
    try:
        yield
    except Exception as error:
        causes = (error, error.__context__)
        if not isinstance(error, ValueError) and not any(
            isinstance(one, OSError) for one in causes
        ):
            raise
        raise PipelineError(
            f"model.cnn.weights: expected the imagenet weights of {name}, which cannot be "
            f"downloaded ({error}). Name a file of weights, or use none. Received: imagenet"
        ) from None


def _scale_again(model: keras.Model) -> keras.Model:
    """Add the layer that Keras adds after the normalisation for ImageNet's weights.

    Most files of weights were trained with it. Without it the same weights see other numbers:
    github.com/tensorflow/tensorflow/issues/49930 and keras/src/applications/efficientnet.py.
    """
    scales = [1 / math.sqrt(deviation) for deviation in _IMAGENET_DEVIATION]

    def call(layer: keras.Layer, *args: Any, **kwargs: Any) -> Any:
        outputs = layer(*args, **kwargs)
        if isinstance(layer, keras.layers.Normalization):
            return keras.layers.Rescaling(scales, name="scale_again")(outputs)
        return outputs

    return keras.models.clone_model(model, call_function=call)


def _load_weights(encoder: keras.Sequential, path: Path) -> None:
    """Load a file of weights, or the weights of the CNN of a saved model."""
    if not path.is_file():
        raise PipelineError(
            "model.cnn.weights: expected none, imagenet or the path of a file. No such file: "
            f"{path}"
        )
    logger.info("model.cnn.weights: %s, SHA-256 %s", path, sha256_of_file(path))
    models = [layer for layer in encoder.layers if isinstance(layer, keras.Model)]
    backbone = models[0] if models else encoder
    try:
        if path.suffix == ".keras":
            _copy_weights(inner_layers(load_model(path)), inner_layers(backbone))
        else:
            backbone.load_weights(path)
    except (KeyError, OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise PipelineError(
            f"model.cnn.weights: expected weights that fit the layers of {encoder.name}. "
            f"Received: {path} ({reason})"
        ) from None


def _copy_weights(source: list[keras.Layer], target: list[keras.Layer]) -> None:
    """Copy the weights of layers with the same names.

    Keras numbers unnamed layers from model to model (conv2d_93, conv2d_94): there only the order
    of the numbers counts.
    """
    source_layers = _by_name(source)
    for name, layers in _by_name(target).items():
        for layer, other in zip(layers, source_layers[name], strict=True):
            layer.set_weights(other.get_weights())


def _by_name(layers: list[keras.Layer]) -> dict[str, list[keras.Layer]]:
    """Group layers that have weights by name without its number, in the order of the numbers."""
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

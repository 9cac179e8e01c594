"""The CNN: from the pixels of one frame to its features."""

import difflib
import inspect
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras

from pipeline.base.errors import PipelineError
from pipeline.model.architecture import Cnn, FrameShape
from pipeline.model.batch_norm import FusedBatchNormalization
from pipeline.model.freezing import inner_layers, set_trainable
from pipeline.model.penalty import penalty
from pipeline.model.pixels import ApplicationPixels
from pipeline.model.saving import load_classifier


def frame_encoder(
    cnn: Cnn, *, frame_shape: FrameShape, dtype: str = "uint8", l2: float = 0.0
) -> keras.Sequential:
    """Return the CNN from one frame, pixels 0 to 255 [H, W, C] of type ``dtype``, to features.

    They are a vector [F], or the last feature map [h, w, c] where ``cnn.pooling`` is none.
    Everything that a frozen CNN computes stands here, and nothing else, so its output can be
    computed once and kept.

    Raises:
        PipelineError: there is no such backbone, its weights cannot be had or do not fit, or
            it takes no frames so small.
    """
    if cnn.backbone == "small_cnn":
        layers = _small_cnn(cnn, l2)
    else:
        layers = [
            ApplicationPixels(_application(cnn.backbone), name="preprocess"),
            _application_model(cnn, frame_shape),
        ]
    pixels = keras.Input(frame_shape, dtype=dtype, name="frame")
    encoder = keras.Sequential([pixels, *layers, *_pooling(cnn)], name=cnn.backbone.lower())
    if cnn.weights not in ("none", "imagenet"):
        _load_weights(encoder, Path(cnn.weights))
    if cnn.trainable != "all":
        set_trainable(inner_layers(encoder), cnn.trainable)
    return encoder


def check_frame_encoder(cnn: Cnn, *, frame_shape: FrameShape) -> None:
    """Raise what ``frame_encoder`` would raise, without downloading weights."""
    weights = "none" if cnn.weights == "imagenet" else cnn.weights
    frame_encoder(replace(cnn, weights=weights), frame_shape=frame_shape)


def _small_cnn(cnn: Cnn, l2: float) -> list[keras.Layer]:
    layers: list[keras.Layer] = [
        keras.layers.Rescaling(1 / 127.5, offset=-1.0, name="scale_pixels"),
    ]
    for number, filters in enumerate(cnn.filters, start=1):
        layers.append(
            keras.layers.Conv2D(
                filters,
                3,
                strides=2,
                padding="same",
                use_bias=not cnn.batch_norm,
                kernel_regularizer=penalty(l2),
                name=f"conv{number}",
            )
        )
        if cnn.batch_norm:
            layers.append(FusedBatchNormalization(momentum=0.9, name=f"norm{number}"))
        layers.append(keras.layers.ReLU(name=f"relu{number}"))
    return layers


def _pooling(cnn: Cnn) -> list[keras.Layer]:
    """What sums up the last feature map.

    Flattened, it still says where in the picture something is, which is what tells motion
    from standing still. Averaged, it says only what there is.
    """
    match cnn.pooling:
        case "flatten":
            return [keras.layers.Flatten(name="flatten")]
        case "average":
            return [keras.layers.GlobalAveragePooling2D(name="average")]
        case "none":
            return []


def _application(name: str) -> str:
    """Return ``name`` if it is that of an image model of keras.applications."""
    names = [key for key, value in vars(keras.applications).items() if inspect.isfunction(value)]
    if name in names:
        return name
    close = difflib.get_close_matches(name, ["small_cnn", *names], n=3, cutoff=0.4)
    hint = f" Did you mean {' or '.join(close)}?" if close else ""
    raise PipelineError(
        "model.cnn.backbone: expected small_cnn or an image model of keras.applications "
        f"(keras.io/api/applications). Received: {name}.{hint}"
    )


def _application_model(cnn: Cnn, frame_shape: FrameShape) -> keras.Model:
    build: Any = getattr(keras.applications, cnn.backbone)
    weights = "imagenet" if cnn.weights == "imagenet" else None
    try:
        return build(include_top=False, weights=weights, input_shape=frame_shape)
    except ValueError as error:  # of which Keras says in the first clause what is too small
        height, width, _ = frame_shape
        raise PipelineError(
            f"decode.width, decode.height: {cnn.backbone} takes no frames of this size "
            f"({str(error).split(';')[0]}). Received: {width} x {height}"
        ) from None
    except Exception as error:
        # Keras has no other class for a download that failed; whatever else it is goes on up.
        if not str(error).startswith("URL fetch failure"):
            raise
        raise PipelineError(
            f"model.cnn.weights: expected the imagenet weights of {cnn.backbone}, which cannot "
            f"be downloaded ({error}). Name a file of them, or set it to none. Received: imagenet"
        ) from None


def _load_weights(encoder: keras.Sequential, path: Path) -> None:
    """Load a file of weights, or take those of the CNN of a whole classifier."""
    if not path.is_file():
        raise PipelineError(
            "model.cnn.weights: expected none, imagenet or the path of a file. No such file: "
            f"{path}"
        )
    models = [layer for layer in encoder.layers if isinstance(layer, keras.Model)]
    backbone = models[0] if models else encoder
    try:
        if path.suffix == ".keras":
            _copy_weights(inner_layers(load_classifier(path)), inner_layers(backbone))
        else:
            backbone.load_weights(path)
    except (KeyError, OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise PipelineError(
            f"model.cnn.weights: expected weights that fit the layers of {encoder.name}. "
            f"Received: {path} ({reason})"
        ) from None


def _copy_weights(source: list[keras.Layer], target: list[keras.Layer]) -> None:
    """Set the weights of ``target`` to those of the layers of the same names."""
    by_name = {layer.name: layer for layer in source}
    for layer in target:
        if layer.weights:
            layer.set_weights(by_name[layer.name].get_weights())

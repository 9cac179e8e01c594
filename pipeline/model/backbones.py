"""The CNN: from the pixels of one frame to its features."""

import logging
from pathlib import Path

import keras

from pipeline.base.errors import PipelineError
from pipeline.base.files import sha256_of_file
from pipeline.model.applications import application, application_model
from pipeline.model.architecture import Cnn, FrameShape
from pipeline.model.batch_norm import FusedBatchNormalization
from pipeline.model.freezing import inner_layers, set_trainable
from pipeline.model.penalty import penalty
from pipeline.model.pixels import ApplicationPixels
from pipeline.model.saving import load_classifier

logger = logging.getLogger(__name__)


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
            ApplicationPixels(application(cnn.backbone), name="preprocess"),
            application_model(cnn, frame_shape),
        ]
    pixels = keras.Input(frame_shape, dtype=dtype, name="frame")
    encoder = keras.Sequential([pixels, *layers, *_pooling(cnn)], name=cnn.backbone.lower())
    encoder.autocast = False  # half precision rounds pixels: its first layer scales them before
    if cnn.weights not in ("none", "imagenet"):
        _load_weights(encoder, Path(cnn.weights))
    if cnn.trainable != "all":
        set_trainable(inner_layers(encoder), cnn.trainable)
    return encoder


def _small_cnn(cnn: Cnn, l2: float) -> list[keras.Layer]:
    layers: list[keras.Layer] = [
        keras.layers.Rescaling(1 / 127.5, offset=-1.0, dtype="float32", name="scale_pixels"),
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


def _load_weights(encoder: keras.Sequential, path: Path) -> None:
    """Load a file of weights, or take those of the CNN of a whole classifier."""
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
    """Set the weights of ``target`` to those of the layers of the same names.

    Of names that Keras counts up from model to model (conv2d_93, conv2d_94) the order counts.
    """
    theirs = _by_name(source)
    for name, layers in _by_name(target).items():
        for layer, other in zip(layers, theirs[name], strict=True):
            layer.set_weights(other.get_weights())


def _by_name(layers: list[keras.Layer]) -> dict[str, list[keras.Layer]]:
    """Group the layers that have weights by their names without a number, in its order."""
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

"""The image models of keras.applications: found by name, without their classes, with reasons."""

import difflib
import inspect
import math
from types import TracebackType
from typing import Any

import keras

from pipeline.base.errors import PipelineError
from pipeline.model.architecture import Cnn, FrameShape

# Keras scales the input of these once more, but only if it loads their weights itself.
_SCALED_TWICE = [f"EfficientNetB{number}" for number in range(8)]
_IMAGENET_DEVIATION = (0.229, 0.224, 0.225)  # of red, green and blue


def application(name: str) -> str:
    """Return ``name`` if it is that of an image model of keras.applications.

    Raises:
        PipelineError: it is not.
    """
    names = [key for key, value in vars(keras.applications).items() if inspect.isfunction(value)]
    if name in names:
        return name
    close = difflib.get_close_matches(name, ["small_cnn", *names], n=3, cutoff=0.4)
    hint = f" Did you mean {' or '.join(close)}?" if close else ""
    raise PipelineError(
        "model.cnn.backbone: expected small_cnn or an image model of keras.applications "
        f"(keras.io/api/applications). Received: {name}.{hint}"
    )


def application_model(cnn: Cnn, frame_shape: FrameShape) -> keras.Model:
    """Return the image model up to its last feature map.

    Its weights are those of ImageNet if ``cnn.weights`` says so, else random. Its layers are
    the same in both cases.

    Raises:
        PipelineError: it takes no frames so small, or its weights cannot be downloaded.
    """
    build: Any = getattr(keras.applications, cnn.backbone)
    try:
        model = build(include_top=False, weights=None, input_shape=frame_shape)
    except ValueError as error:  # which says in its first clause what is too small
        height, width, _ = frame_shape
        raise PipelineError(
            f"decode.width, decode.height: {cnn.backbone} takes no frames of this size "
            f"({str(error).split(';')[0]}). Received: {width} x {height}"
        ) from None
    if cnn.weights == "imagenet":
        with _Downloading(cnn.backbone):
            return build(include_top=False, weights="imagenet", input_shape=frame_shape)
    return _scaled_again(model) if cnn.backbone in _SCALED_TWICE else model


class _Downloading:
    """Says what to do where Keras cannot get the weights.

    For a failed connection Keras raises a bare Exception, so it is told by what it came from.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # ValueError: the file came, but it is cut or another one.
        causes = (error, error.__context__ if error else None)
        if isinstance(error, ValueError) or any(isinstance(cause, OSError) for cause in causes):
            raise PipelineError(
                f"model.cnn.weights: expected the imagenet weights of {self._name}, which cannot "
                f"be downloaded ({error}). Name a file of them, or set it to none. "
                "Received: imagenet"
            ) from None


def _scaled_again(model: keras.Model) -> keras.Model:
    """Give a model the layer that Keras puts after its normalisation for ImageNet's weights.

    Weights from a file were mostly trained with it, and without it they see other numbers; see
    github.com/tensorflow/tensorflow/issues/49930 and keras/src/applications/efficientnet.py.
    """
    scales = [1 / math.sqrt(deviation) for deviation in _IMAGENET_DEVIATION]

    def call(layer: keras.Layer, *args: Any, **kwargs: Any) -> Any:
        outputs = layer(*args, **kwargs)
        if isinstance(layer, keras.layers.Normalization):
            return keras.layers.Rescaling(scales, name="scale_again")(outputs)
        return outputs

    return keras.models.clone_model(model, call_function=call)

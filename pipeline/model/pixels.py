"""The preprocessing of the image models of keras.applications, as a layer inside the model."""

import inspect
from typing import Any

import keras

_Shape = tuple[int | None, ...]


@keras.saving.register_keras_serializable(package="pipeline")
class ApplicationPixels(keras.layers.Layer):  # type: ignore[misc]  # Keras does not type it
    """Change pixels 0 to 255 into what an image model was trained on.

    This is ``preprocess_input`` of the model's module, which differs from model to model:
    scaled to -1 to 1, centred and in the order BGR, or unchanged where the model does it.

    Args:
        application: a name of keras.applications, as in MobileNetV2.

    Call arguments:
        inputs: [..., 3], RGB, 0 to 255, of any type.
    """

    def __init__(self, application: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.autocast = False  # half precision rounds pixels before they are scaled
        self.application = application
        module: Any = inspect.getmodule(getattr(keras.applications, application))
        self._preprocess = module.preprocess_input

    def call(self, inputs: keras.KerasTensor) -> keras.KerasTensor:
        pixels = self._preprocess(keras.ops.cast(inputs, "float32"))
        return keras.ops.cast(pixels, self.compute_dtype)

    def compute_output_shape(self, input_shape: _Shape) -> _Shape:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "application": self.application}

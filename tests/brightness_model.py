"""A model whose answer can be computed by hand: the mean brightness of a clip's real frames."""

from pathlib import Path

import keras
import numpy as np
from keras import ops

from pipeline.clips.preprocessing import Preprocessing
from pipeline.clips.settings import ExtractSection
from pipeline.common.side_inputs import SideInput
from pipeline.model.saving import ModelMetadata, save_model
from pipeline.model.side_inputs import SideInputFeatures, side_input_tensors
from pipeline.tasks.classification import Classification
from pipeline.video.settings import DecodeSection

CLASSES = ("dark", "grey", "light")
DECODE = DecodeSection(fps=10, width=16, height=16, fit="stretch", max_seconds=60)
PREPROCESSING = Preprocessing(DECODE, ExtractSection(frames=4))


def metadata(
    *, abstain_below: float | None = None, side_inputs: tuple[SideInput, ...] = ()
) -> ModelMetadata:
    task = Classification(CLASSES, target_accuracy=0.95, abstain_below=abstain_below)
    return ModelMetadata(task, PREPROCESSING, side_inputs)


def brightness_model(side_inputs: tuple[SideInput, ...] = ()) -> keras.Model:
    """Return a model with the probabilities 1 - brightness, 0 and brightness.

    The brightness is multiplied with the standardised side inputs.
    """
    frames = keras.Input((None, 16, 16, 3), dtype="uint8", name="frames")
    mask = keras.Input((None,), dtype="bool", name="mask")
    real = ops.cast(mask, "float32")
    by_frame = ops.mean(ops.cast(frames, "float32") / 255, axis=(2, 3, 4)) * real
    light = ops.sum(by_frame, axis=1) / ops.sum(real, axis=1)
    inputs = {"frames": frames, "mask": mask, **side_input_tensors(side_inputs)}
    if side_inputs:
        layer = SideInputFeatures([one.to_json() for one in side_inputs])
        given = {name: inputs[name] for name in inputs.keys() - {"frames", "mask"}}
        light = light * ops.prod(layer(given), axis=1)
    outputs = ops.stack([1 - light, 0 * light, light], axis=1)
    return keras.Model(inputs, outputs)


def write_model(
    folder: Path,
    *,
    abstain_below: float | None = None,
    side_inputs: tuple[SideInput, ...] = (),
) -> None:
    """Write model.keras and model.json as the train stage does."""
    save_model(brightness_model(side_inputs), folder / "model.keras")
    metadata(abstain_below=abstain_below, side_inputs=side_inputs).write(folder / "model.json")


def brightness(numbers: list[int]) -> float:
    """Return the mean brightness of ``numbered_frames`` with these numbers."""
    return (10 + 8 * float(np.mean(numbers))) / 255

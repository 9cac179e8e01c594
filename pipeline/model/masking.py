"""Layers that keep padded time steps out of what follows, and the refusal of empty clips."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from pipeline.base.errors import PipelineError

Shape = tuple[int | None, ...]


def refuse_empty_clips(masks: NDArray[np.bool_], names: Sequence[str]) -> None:
    """Raise unless every clip has a real frame.

    Without one, averages over time are 0 / 0, and cuDNN's LSTM stops a whole batch.

    Args:
        masks: bool [N, T], True for a real frame.
        names: of the clips, for the message.

    Raises:
        PipelineError: names the clips without a real frame.
    """
    empty = [name for name, mask in zip(names, masks, strict=True) if not mask.any()]
    if empty:
        shown = ", ".join(empty[:10]) + (", ..." if len(empty) > 10 else "")
        raise PipelineError(
            "Expected clips of at least one real frame. Received clips of nothing but padding: "
            f"{shown}"
        )


class TakesMaskByHand(keras.layers.Layer):  # type: ignore[misc]  # Keras does not type it
    """A layer that is given the mask of its inputs and hands no mask on."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True

    def compute_mask(self, *_: Any) -> None:
        return None


@keras.saving.register_keras_serializable(package="pipeline")
class ZeroPaddedSteps(TakesMaskByHand):
    """Set the time steps that the mask calls padding to zero.

    A convolution over time then sees beyond the end of a clip what it sees where nothing is
    padded: zeros.

    Call arguments:
        inputs: [B, T, ...].
        mask: bool [B, T], True for a real step; None when all are real.
    """

    def call(
        self, inputs: keras.KerasTensor, mask: keras.KerasTensor | None = None
    ) -> keras.KerasTensor:
        if mask is None:
            return inputs
        return keras.ops.where(_over(mask, inputs), inputs, keras.ops.zeros_like(inputs))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape


@keras.saving.register_keras_serializable(package="pipeline")
class MaskedMaxPooling1D(TakesMaskByHand):
    """The greatest value of each feature over the real time steps.

    Keras's GlobalMaxPooling1D ignores the mask.

    Call arguments:
        inputs: [B, T, F].
        mask: bool [B, T], True for a real step, at least one a row; None when all are real.

    Returns:
        [B, F].
    """

    def call(
        self, inputs: keras.KerasTensor, mask: keras.KerasTensor | None = None
    ) -> keras.KerasTensor:
        if mask is not None:
            lowest = keras.ops.full_like(inputs, float("-inf"))
            inputs = keras.ops.where(_over(mask, inputs), inputs, lowest)
        return keras.ops.max(inputs, axis=1)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (input_shape[0], *input_shape[2:])


@keras.saving.register_keras_serializable(package="pipeline")
class LastRealStep(TakesMaskByHand):
    """What stands at the last real time step of each clip.

    Call arguments:
        inputs: [B, T, F].
        mask: bool [B, T], True for a real step, right-padded, at least one a row; None when all
            are real.

    Returns:
        [B, F].
    """

    def call(
        self, inputs: keras.KerasTensor, mask: keras.KerasTensor | None = None
    ) -> keras.KerasTensor:
        if mask is None:
            return inputs[:, -1]
        last = keras.ops.sum(keras.ops.cast(mask, "int32"), axis=1) - 1
        return keras.ops.squeeze(
            keras.ops.take_along_axis(inputs, last[:, None, None], axis=1), axis=1
        )

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (input_shape[0], *input_shape[2:])


def _over(mask: keras.KerasTensor, steps: keras.KerasTensor) -> keras.KerasTensor:
    """Give a mask [B, T] as many axes as ``steps`` [B, T, ...] has."""
    for _ in range(len(steps.shape) - 2):
        mask = keras.ops.expand_dims(mask, -1)
    return mask

"""Attention over time: one weight a frame, which can be read afterwards."""

from typing import Any

import keras

from pipeline.model.masking import TakesMaskByHand

WEIGHTS_LAYER = "attention_weights"  # its output is the weights

_Shape = tuple[int | None, ...]
_FAR_BELOW = -1e9  # a score whose share after the softmax is exactly zero


@keras.saving.register_keras_serializable(package="pipeline")
class AttentionWeights(TakesMaskByHand):
    """Weigh the time steps of a clip by what is in them: softmax(v . tanh(W x + b)).

    The additive attention of Bahdanau et al. (2015, arXiv 1409.0473) without a query, as Yang
    et al. (2016, "Hierarchical Attention Networks") use it to sum up a sequence.

    Args:
        units: rows of W.

    Call arguments:
        inputs: [B, T, F].
        mask: bool [B, T], True for a real step, at least one a row; None when all are real.

    Returns:
        [B, T], at least 0, exactly 0 where the mask is False, of sum 1 in every row.
    """

    def __init__(self, units: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units = units
        precision = self.dtype_policy  # as saved; the global one may be another when it is loaded
        self.hidden = keras.layers.Dense(units, activation="tanh", dtype=precision, name="hidden")
        self.score = keras.layers.Dense(1, use_bias=False, dtype=precision, name="score")

    def build(self, input_shape: _Shape) -> None:
        self.hidden.build(input_shape)
        self.score.build((*input_shape[:-1], self.units))

    def call(
        self, inputs: keras.KerasTensor, mask: keras.KerasTensor | None = None
    ) -> keras.KerasTensor:
        scores = keras.ops.squeeze(self.score(self.hidden(inputs)), -1)
        scores = keras.ops.cast(scores, "float32")  # half precision cannot hold _FAR_BELOW
        if mask is not None:
            scores = keras.ops.where(mask, scores, _FAR_BELOW)
        return keras.ops.cast(keras.ops.softmax(scores, axis=-1), self.compute_dtype)

    def compute_output_shape(self, input_shape: _Shape) -> _Shape:
        return input_shape[:2]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units}

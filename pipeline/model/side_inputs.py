"""Side inputs in a model: standardised, embedded, and joined to the features of the head."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from pipeline.common.side_inputs import SideInput, side_arrays
from pipeline.model.layers import ZeroPaddedSteps
from pipeline.tasks.task import ClipFeatures

SIDE_INPUTS_LAYER = "side_inputs"  # name of the layer whose output is their features

_UNKNOWN_SHARE = 0.05  # of the categories in training that are replaced by the unknown one


@keras.saving.register_keras_serializable(package="pipeline")
class SideInputFeatures(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """Standardise the numbers, embed the categories, and concatenate both.

    An unknown category has index 0. In training, random categories are replaced by it, so that its
    vector is trained too. An embedding of K categories has round(1.6 K^0.56) values; source:
    fastai, ``emb_sz_rule``.

    Args:
        side_inputs: ``SideInput.to_json`` of each column.

    Call arguments:
        inputs: dict with ``numbers`` float64 [B, columns] and ``categories`` text [B, columns];
            see ``pipeline/common/side_inputs.py``.

    Returns:
        [B, F] in the dtype of the computation.
    """

    def __init__(self, side_inputs: Sequence[Mapping[str, Any]], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.autocast = False  # half precision would round numbers before they are standardised
        self.supports_jit = False  # XLA has no text
        self._side_inputs = [SideInput.from_json(value) for value in side_inputs]
        self._numbers = [one for one in self._side_inputs if one.kind == "number"]
        self._categories = [one for one in self._side_inputs if one.kind == "category"]
        self._embeddings = [
            keras.layers.Embedding(
                len(one.categories) + 1,
                max(1, round(1.6 * len(one.categories) ** 0.56)),
                dtype=self.dtype_policy,
                name=f"embedding{number}",
            )
            for number, one in enumerate(self._categories, start=1)
        ]
        self._dropout = keras.layers.Dropout(_UNKNOWN_SHARE, dtype="float32", name="unknown")

    def build(self, _input_shape: Any) -> None:
        for embedding in self._embeddings:
            embedding.build((None,))
        self.built = True

    def call(self, inputs: Mapping[str, tf.Tensor], training: bool | None = False) -> tf.Tensor:
        parts = []
        if self._numbers:
            means = np.array([one.mean for one in self._numbers])
            deviations = np.array([one.deviation for one in self._numbers])
            numbers = (tf.cast(inputs["numbers"], tf.float64) - means) / deviations
            parts.append(tf.cast(numbers, self.compute_dtype))
        for column, (one, embedding) in enumerate(
            zip(self._categories, self._embeddings, strict=True)
        ):
            is_category = tf.equal(inputs["categories"][:, column, None], list(one.categories))
            positions = tf.range(1, len(one.categories) + 1)
            index = tf.reduce_sum(tf.cast(is_category, tf.int32) * positions, axis=1)
            is_kept = self._dropout(tf.ones_like(index, tf.float32), training=training) > 0
            parts.append(embedding(index * tf.cast(is_kept, tf.int32)))
        return tf.concat(parts, axis=-1)

    def compute_output_shape(self, input_shape: Mapping[str, Any]) -> tuple[int | None, int]:
        n_rows = next(iter(input_shape.values()))[0]
        width = sum(embedding.output_dim for embedding in self._embeddings)
        return (n_rows, len(self._numbers) + width)

    def compute_output_spec(self, inputs: Any, training: bool | None = False) -> Any:  # noqa: ARG002
        shape = self.compute_output_shape({name: one.shape for name, one in inputs.items()})
        return keras.KerasTensor(shape, self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        side_inputs = [one.to_json() for one in self._side_inputs]
        return {**super().get_config(), "side_inputs": side_inputs}


def side_input_tensors(side_inputs: Sequence[SideInput]) -> dict[str, keras.KerasTensor]:
    """Return the inputs of a model with these columns, by name; none without columns."""
    kinds = {one.column: one.kind for one in side_inputs}
    arrays = side_arrays(kinds, [dict.fromkeys(kinds, "0")])
    return {
        name: keras.Input(
            array.shape[1:], dtype="string" if array.dtype == object else "float64", name=name
        )
        for name, array in arrays.items()
    }


def join_side_inputs(features: ClipFeatures, side: keras.KerasTensor) -> ClipFeatures:
    """Return the features with the side inputs: of the clip, and of each step if there are any.

    A dense layer of the same width joins them, because the head of a task may be linear, and what
    a motion means may depend on a side input.

    Args:
        side: [B, F], the output of ``SideInputFeatures``.
    """
    clip = keras.layers.Concatenate(name="clip_and_side_inputs")([features.clip, side])
    clip = keras.layers.Dense(features.clip.shape[-1], activation="relu", name="join")(clip)
    steps = features.steps
    if steps is not None:
        dense = keras.layers.Dense(steps.shape[-1], activation="relu", name="join_steps")
        steps = dense(with_side_inputs(steps, side, features.mask))
        steps = ZeroPaddedSteps(name="joined_steps")(steps, mask=features.mask)
    return features._replace(clip=clip, steps=steps)


def with_side_inputs(
    steps: keras.KerasTensor, side: keras.KerasTensor, mask: keras.KerasTensor
) -> keras.KerasTensor:
    """Return [B, T, S + F]: ``side`` [B, F] after the features of each step, zeros for padding."""
    repeated = RepeatedOverTime(name="repeat_side_inputs")(side, steps)
    joined = keras.layers.Concatenate(name="steps_and_side_inputs")([steps, repeated])
    return ZeroPaddedSteps(name="real_steps_and_side_inputs")(joined, mask=mask)


@keras.saving.register_keras_serializable(package="pipeline")
class RepeatedOverTime(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """Repeat features [B, F] at each time step of ``steps`` [B, T, ...]: [B, T, F]."""

    def call(self, features: tf.Tensor, steps: tf.Tensor) -> tf.Tensor:
        return tf.repeat(features[:, None], tf.shape(steps)[1], axis=1)

    def compute_output_shape(self, features_shape: Any, steps_shape: Any) -> tuple[int | None, ...]:
        return (features_shape[0], steps_shape[1], features_shape[-1])

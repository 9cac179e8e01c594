"""The layers over time: from the features of the frames of a clip to the features of the clip.

Keras drops a mask at convolution and pooling layers, so each layer that mixes time steps is called
with it.
"""

import keras

from pipeline.model.layers import (
    ATTENTION_LAYER,
    AttentionWeights,
    LastRealStep,
    MaskedMaxPooling1D,
    ZeroPaddedSteps,
)
from pipeline.model.settings import ModelSection, TemporalSection
from pipeline.model.time_distributed import TimeDistributed
from pipeline.tasks.task import ClipFeatures

_ATTENTION_UNITS = 64
_CONV1D_STEPS = 3
_CONVLSTM_PIXELS = 3


def clip_features(
    model: ModelSection, features: keras.KerasTensor, mask: keras.KerasTensor
) -> ClipFeatures:
    """Return the features that the head of a task reads.

    Args:
        model: ``frame_features``, ``temporal`` and ``dropout`` are used.
        features: frame features, zeros for padding: [B, T, F], or feature maps [B, T, h, w, c]
            for convlstm2d.
        mask: bool [B, T], True for a real frame, right-padded, at least one a row.
    """
    steps = features
    if model.frame_features > 0:
        dense = keras.layers.Dense(model.frame_features, activation="relu", name="features")
        steps = TimeDistributed(dense, name="frame_dense")(steps, mask=mask)
    frames = steps
    if len(steps.shape) == 5:
        frames = TimeDistributed(keras.layers.GlobalAveragePooling2D())(steps, mask=mask)
    if model.temporal.recurrent != "none":
        steps = _recurrent_layers(model.temporal, steps, mask)
    clip = _summary(model.temporal, steps, mask)
    clip = keras.layers.Dropout(model.dropout, name="dropout")(clip)
    return ClipFeatures(frames=frames, clip=clip, mask=mask)


def _recurrent_layers(
    temporal: TemporalSection, steps: keras.KerasTensor, mask: keras.KerasTensor
) -> keras.KerasTensor:
    """Run the recurrent layers: to [B, T, F], or to the last state [B, F] for summary ``last``."""
    for number, units in enumerate(temporal.units, start=1):
        is_last_layer = number == len(temporal.units)
        layer = _recurrent_layer(
            temporal,
            units,
            return_sequences=not (is_last_layer and temporal.summary == "last"),
            name=f"{temporal.recurrent}{number}",
        )
        steps = layer(steps, mask=mask)
    if temporal.recurrent != "convlstm2d":
        return steps
    average = keras.layers.GlobalAveragePooling2D(name="average")
    if temporal.summary == "last":
        return average(steps)
    return TimeDistributed(average, name="average_maps")(steps, mask=mask)


def _recurrent_layer(
    temporal: TemporalSection, units: int, *, return_sequences: bool, name: str
) -> keras.Layer:
    options = {"return_sequences": return_sequences, "name": name}
    layer: keras.Layer
    match temporal.recurrent:
        case "lstm":
            layer = keras.layers.LSTM(units, **options)
        case "gru":
            layer = keras.layers.GRU(units, **options)
        case "convlstm2d":
            layer = keras.layers.ConvLSTM2D(units, _CONVLSTM_PIXELS, padding="same", **options)
        case _:
            raise ValueError(f"model.temporal.recurrent: no layer for {temporal.recurrent!r}")
    if temporal.bidirectional:
        # The summary ``last`` is its last state. Its last output has seen one step backwards.
        return keras.layers.Bidirectional(layer, name=f"bidirectional_{name}")
    return layer


def _summary(
    temporal: TemporalSection, steps: keras.KerasTensor, mask: keras.KerasTensor
) -> keras.KerasTensor:
    match temporal.summary:
        case "last":
            return steps
        case "mean":
            return keras.layers.GlobalAveragePooling1D(name="mean")(steps, mask=mask)
        case "attention":
            return _attention(steps, mask, with_last=temporal.recurrent != "none")
        case "conv1d":
            steps = ZeroPaddedSteps(name="zero_padding")(steps, mask=mask)
            steps = keras.layers.Conv1D(
                temporal.units[-1],
                _CONV1D_STEPS,
                padding="same",
                activation="relu",
                name="conv1d",
            )(steps)
            return MaskedMaxPooling1D(name="max")(steps, mask=mask)


def _attention(
    steps: keras.KerasTensor, mask: keras.KerasTensor, *, with_last: bool
) -> keras.KerasTensor:
    """Return the weighted mean of the steps, with the last step appended after recurrent layers.

    A weighted mean alone trains badly: at first all weights are equal, so an early state, which
    has seen little of the clip, gets as much of the gradient as the last one.
    Source: Luong et al., Effective Approaches to Attention-based Neural Machine Translation,
    2015, arXiv 1508.04025, section 3.
    """
    weights = AttentionWeights(_ATTENTION_UNITS, name=ATTENTION_LAYER)(steps, mask=mask)
    mean = keras.layers.Dot(axes=1, name="attention")([weights, steps])
    if not with_last:
        return mean
    last = LastRealStep(name="last_step")(steps, mask=mask)
    return keras.layers.Concatenate(name="attention_and_last")([mean, last])

"""Layers over time: from frame features to clip features.

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

FRAME_DENSE_LAYER = "frame_dense"  # name of the dense layer on the features of a frame

_ATTENTION_UNITS = 64
_CONV1D_STEPS = 3
_CONVLSTM_PIXELS = 3


def clip_features(
    model: ModelSection,
    features: keras.KerasTensor,
    mask: keras.KerasTensor,
    *,
    has_steps: bool = False,
) -> ClipFeatures:
    """Return the features that the head of a task reads.

    Args:
        model: ``frame_features``, ``temporal`` and ``dropout`` are used.
        features: frame features, zeros for padding: [B, T, F], or feature maps [B, T, h, w, c]
            for convlstm2d.
        mask: bool [B, T], True for a real frame, right-padded, at least one a row.
        has_steps: whether ``ClipFeatures.steps`` is computed.
    """
    steps = features
    if model.frame_features > 0:
        dense = keras.layers.Dense(model.frame_features, activation="relu", name="features")
        steps = TimeDistributed(dense, name=FRAME_DENSE_LAYER)(steps, mask=mask)
    last = None
    if model.temporal.recurrent != "none":
        steps, last = _recurrent_layers(model.temporal, steps, mask, has_steps=has_steps)
    clip = last if last is not None else _summary(model.temporal, steps, mask)
    clip = keras.layers.Dropout(model.dropout, name="dropout")(clip)
    if has_steps:
        steps = ZeroPaddedSteps(name="steps")(steps, mask=mask)
        steps = keras.layers.Dropout(model.dropout, name="steps_dropout")(steps)
    return ClipFeatures(clip=clip, steps=steps if has_steps else None, mask=mask)


def _recurrent_layers(
    temporal: TemporalSection,
    steps: keras.KerasTensor,
    mask: keras.KerasTensor,
    *,
    has_steps: bool,
) -> tuple[keras.KerasTensor, keras.KerasTensor | None]:
    """Return all states [B, T, F], and the last state [B, F] for summary ``last``.

    For that summary, the states are None unless ``has_steps``.
    """
    layer: keras.Layer
    last = None
    for number, units in enumerate(temporal.units, start=1):
        name = f"{temporal.recurrent}{number}"
        is_summary = number == len(temporal.units) and temporal.summary == "last"
        options = {
            "return_sequences": has_steps or not is_summary,
            "return_state": has_steps and is_summary,
            "name": name,
        }
        match temporal.recurrent:
            case "lstm":
                layer = keras.layers.LSTM(units, **options)
            case "gru":
                layer = keras.layers.GRU(units, **options)
            case "convlstm2d":
                layer = keras.layers.ConvLSTM2D(units, _CONVLSTM_PIXELS, padding="same", **options)
            case other:
                raise ValueError(f"recurrent: no layer of this kind. Received: {other}")
        if temporal.bidirectional:
            # For summary ``last`` it returns the last state of each direction. The backward
            # output of the last frame has seen only that frame.
            layer = keras.layers.Bidirectional(layer, name=f"bidirectional_{name}")
        steps = layer(steps, mask=mask)
        if is_summary and has_steps:
            steps, *states = steps  # of LSTM and ConvLSTM2D: output and cell, in each direction
            last = states[0]
            if temporal.bidirectional:
                last = keras.layers.Concatenate(name="last")([last, states[len(states) // 2]])
        elif is_summary:
            steps, last = None, steps
    if temporal.recurrent == "convlstm2d":
        average = keras.layers.GlobalAveragePooling2D(name="average")
        if steps is not None:
            steps = TimeDistributed(average, name="average_maps")(steps, mask=mask)
        if last is not None:
            last = average(last)
    return steps, last


def _summary(
    temporal: TemporalSection, steps: keras.KerasTensor, mask: keras.KerasTensor
) -> keras.KerasTensor:
    """Return clip features [B, G]."""
    match temporal.summary:
        case "mean":
            return keras.layers.GlobalAveragePooling1D(name="mean")(steps, mask=mask)
        case "attention":
            weights = AttentionWeights(_ATTENTION_UNITS, name=ATTENTION_LAYER)(steps, mask=mask)
            mean = keras.layers.Dot(axes=1, name="attention")([weights, steps])
            if temporal.recurrent == "none":
                return mean
            # The mean alone trains badly: all weights are equal at first, so early states, which
            # have seen few frames, get as much of the gradient as the last state. Source: Luong
            # et al., 2015, arXiv 1508.04025, section 3.
            last = LastRealStep(name="last_step")(steps, mask=mask)
            return keras.layers.Concatenate(name="attention_and_last")([mean, last])
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

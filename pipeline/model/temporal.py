"""The head over time: from the features of the frames of a clip to those of the clip.

Keras drops a mask at convolutions and pooling, so every layer that mixes time gets it by hand.
"""

import keras

from pipeline.model.architecture import Architecture, Temporal
from pipeline.model.attention import WEIGHTS_LAYER, AttentionWeights
from pipeline.model.masking import LastRealStep, MaskedMaxPooling1D, ZeroPaddedSteps
from pipeline.model.penalty import penalty
from pipeline.model.time_distributed import TimeDistributed

_ATTENTION_UNITS = 64
_STEPS_OF_CONV1D = 3
_PIXELS_OF_CONVLSTM = 3


def temporal_head(
    architecture: Architecture, features: keras.KerasTensor, mask: keras.KerasTensor
) -> keras.KerasTensor:
    """Sum up the frames of each clip.

    Args:
        features: what the CNN makes of the frames, zeros for padding: [B, T, F], or feature
            maps [B, T, h, w, c] for convlstm2d.
        mask: bool [B, T], True for a real frame, right-padded, at least one a row.

    Returns:
        [B, G].
    """
    steps = features
    if architecture.frame_features > 0:
        dense = keras.layers.Dense(
            architecture.frame_features,
            activation="relu",
            kernel_regularizer=penalty(architecture.l2),
            name="features",
        )
        steps = TimeDistributed(dense, name="frame_dense")(steps, mask=mask)
    temporal = architecture.temporal
    if temporal.recurrent != "none":
        steps = _recurrent(temporal, steps, mask, l2=architecture.l2)
    clip = _summary(temporal, steps, mask, l2=architecture.l2)
    return keras.layers.Dropout(architecture.dropout, name="dropout")(clip)


def _recurrent(
    temporal: Temporal, steps: keras.KerasTensor, mask: keras.KerasTensor, *, l2: float
) -> keras.KerasTensor:
    """Run the recurrent layers: to [B, T, F], or the last state [B, F] where that is all."""
    wants_last = temporal.summary == "last"
    for number, units in enumerate(temporal.units, start=1):
        is_last_layer = number == len(temporal.units)
        layer = _recurrent_layer(
            temporal,
            units,
            return_sequences=not (is_last_layer and wants_last),
            l2=l2,
            name=f"{temporal.recurrent}{number}",
        )
        steps = layer(steps, mask=mask)
    if temporal.recurrent != "convlstm2d":
        return steps
    pooling = _map_pooling(temporal)
    if wants_last:
        return pooling(steps)
    return TimeDistributed(pooling, name=f"{pooling.name}_maps")(steps, mask=mask)


def _recurrent_layer(
    temporal: Temporal, units: int, *, return_sequences: bool, l2: float, name: str
) -> keras.Layer:
    options = {
        "return_sequences": return_sequences,
        "recurrent_dropout": temporal.recurrent_dropout,
        "kernel_regularizer": penalty(l2),
        "recurrent_regularizer": penalty(l2),
        "name": name,
    }
    layer: keras.Layer
    match temporal.recurrent:
        case "lstm":
            layer = keras.layers.LSTM(units, **options)
        case "gru":
            layer = keras.layers.GRU(units, **options)
        case _:
            layer = keras.layers.ConvLSTM2D(units, _PIXELS_OF_CONVLSTM, padding="same", **options)
    if temporal.bidirectional:
        # Its last state, not its last output: that is one step of the backward layer.
        return keras.layers.Bidirectional(layer, name=f"bidirectional_{name}")
    return layer


def _map_pooling(temporal: Temporal) -> keras.Layer:
    if temporal.map_pooling == "flatten":
        return keras.layers.Flatten(name="flatten")
    return keras.layers.GlobalAveragePooling2D(name="average")


def _summary(
    temporal: Temporal, steps: keras.KerasTensor, mask: keras.KerasTensor, *, l2: float
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
            convolution = keras.layers.Conv1D(
                temporal.units[-1],
                _STEPS_OF_CONV1D,
                padding="same",
                activation="relu",
                kernel_regularizer=penalty(l2),
                name="conv1d",
            )
            return MaskedMaxPooling1D(name="max")(convolution(steps), mask=mask)


def _attention(
    steps: keras.KerasTensor, mask: keras.KerasTensor, *, with_last: bool
) -> keras.KerasTensor:
    """Weigh the steps, and put the last one beside their mean, as Luong et al. (2015) do.

    A mean of states alone trains badly: at first it weighs all steps the same, and what it
    hands back to a state early in a clip, which has seen little, is as much as to the last.
    Source: Luong et al., Effective Approaches to Attention-based Neural Machine Translation,
    2015, arXiv 1508.04025, section 3.
    """
    weights = AttentionWeights(_ATTENTION_UNITS, name=WEIGHTS_LAYER)(steps, mask=mask)
    mean = keras.layers.Dot(axes=1, name="attention")([weights, steps])
    if not with_last:
        return mean
    last = LastRealStep(name="last_step")(steps, mask=mask)
    return keras.layers.Concatenate(name="attention_and_last")([mean, last])

"""The classifier: CNN on each frame, LSTM over the frames, a head; from pixels and a mask."""

from collections.abc import Sequence
from dataclasses import dataclass

import keras

from pipeline.model import task
from pipeline.model.time_distributed import TimeDistributed

FrameShape = tuple[int, int, int]  # height, width, channels


@dataclass(frozen=True)
class Architecture:
    """Sizes of the CNN-LSTM."""

    cnn_filters: Sequence[int]  # one convolution of stride 2 each
    frame_features: int
    lstm_units: int
    dropout: float


def build_classifier(
    architecture: Architecture, *, n_classes: int, frame_shape: FrameShape
) -> keras.Model:
    """Build the untrained model. It takes clips of any length T.

    Inputs: ``frames`` uint8 [B, T, H, W, C], pixels as stored; ``mask`` bool [B, T], True
    for a real frame, right-padded, at least one in a clip. Output: probabilities float32
    [B, n_classes]. The mask is passed by hand to every layer that mixes time: Keras drops
    it at convolutions and pooling otherwise.
    """
    frames = keras.Input((None, *frame_shape), dtype="uint8", name="frames")
    mask = keras.Input((None,), dtype="bool", name="mask")
    cnn = small_cnn(architecture, frame_shape)
    features = TimeDistributed(cnn, name="frame_features")(frames, mask=mask)
    clip = keras.layers.LSTM(architecture.lstm_units, name="over_time")(features, mask=mask)
    clip = keras.layers.Dropout(architecture.dropout, name="dropout")(clip)
    probabilities = task.head(n_classes)(clip)
    return keras.Model({"frames": frames, "mask": mask}, probabilities, name="cnn_lstm")


def small_cnn(architecture: Architecture, frame_shape: FrameShape) -> keras.Sequential:
    """Return the CNN from one frame, uint8 [H, W, C], to ``frame_features`` numbers.

    The last feature map is flattened, not averaged: where something is in the picture is
    what tells motion from standing still.
    """
    layers: list[keras.layers.Layer] = [
        keras.Input(frame_shape, dtype="uint8", name="frame"),
        keras.layers.Rescaling(1 / 127.5, offset=-1.0, name="scale_pixels"),
    ]
    for number, filters in enumerate(architecture.cnn_filters, start=1):
        layers += [
            keras.layers.Conv2D(
                filters, 3, strides=2, padding="same", use_bias=False, name=f"conv{number}"
            ),
            keras.layers.BatchNormalization(momentum=0.9, name=f"norm{number}"),
            keras.layers.ReLU(name=f"relu{number}"),
        ]
    layers += [
        keras.layers.Flatten(name="flatten"),
        keras.layers.Dense(architecture.frame_features, activation="relu", name="features"),
    ]
    return keras.Sequential(layers, name="small_cnn")

"""What a classifier is made of, as values. docs/models.md says which choices fit together."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pipeline.model.motion import Motion

Trainable = Literal["all", "none"] | int  # a number: only the last layers
Precision = Literal["float32", "mixed_float16", "mixed_bfloat16"]
FrameShape = tuple[int, int, int]  # height, width, channels


@dataclass(frozen=True)
class Cnn:
    """What is made of one frame."""

    backbone: str = "small_cnn"  # or the name of an image model of keras.applications
    weights: str = "none"  # none, imagenet, or the path of a file
    trainable: Trainable = "all"
    filters: Sequence[int] = (16, 32, 32, 32)  # small_cnn: one convolution of stride 2 each
    batch_norm: bool = True  # small_cnn
    pooling: Literal["flatten", "average", "none"] = "flatten"  # of the last feature map
    wrap: Literal["whole", "per_layer"] = "whole"  # in TimeDistributed


@dataclass(frozen=True)
class Temporal:
    """What is made of the frames of a clip."""

    recurrent: Literal["lstm", "gru", "convlstm2d", "none"] = "lstm"
    units: Sequence[int] = (64,)  # one recurrent layer each; convlstm2d: its filters
    bidirectional: bool = False
    recurrent_dropout: float = 0.0
    map_pooling: Literal["flatten", "average"] = "average"  # after convlstm2d
    summary: Literal["last", "mean", "attention", "conv1d"] = "last"  # of the time steps


@dataclass(frozen=True)
class Architecture:
    """A classifier from the pixels of a clip to class probabilities.

    The defaults are those of the committed params.yaml.
    """

    cnn: Cnn = Cnn()
    frame_features: int = 48  # width of the dense layer that sums up a frame; 0: none
    temporal: Temporal = Temporal()
    dropout: float = 0.2
    l2: float = 0.0
    motion: Motion = "difference"  # what the CNN sees: frames (none), their differences, or both

"""Sections ``model`` and ``train`` of params.yaml, their contradictions and warnings."""

import logging
import math
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, NonNegativeInt, PlainValidator, PositiveInt

from pipeline.clips.settings import ExtractSection
from pipeline.common.settings import BelowOne, NonNegative, Positive, Section, Seed, Text

logger = logging.getLogger(__name__)

Trainable = Literal["all", "none"] | int
Epochs = Literal["auto"] | int
Precision = Literal["float32", "mixed_float16", "mixed_bfloat16"]
Stream = Literal["frames", "differences"]
FrameShape = tuple[int, int, int]  # height, width, channels

_LEAST_AUTO_EPOCHS = 24


def _check_trainable(value: Any) -> Any:
    is_number = type(value) is int and value > 0
    if is_number or value in ("all", "none"):
        return value
    raise ValueError("Input should be all, none or a number of layers greater than 0")


def _check_epochs(value: Any) -> Any:
    if value == "auto" or (type(value) is int and value > 0):
        return value
    raise ValueError("Input should be auto or a number greater than 0")


def _check_streams(streams: list[Stream]) -> list[Stream]:
    if len(set(streams)) < len(streams):
        raise ValueError("Input should name every stream at most once")
    return streams


def _check_swaps(pairs: list[list[str]]) -> list[list[str]]:
    names = [name for pair in pairs for name in pair]
    if len(set(names)) < len(names):
        raise ValueError("Input should name every class at most once")
    return pairs


_Sizes = Annotated[list[PositiveInt], Field(min_length=1)]
_Pair = Annotated[list[str], Field(min_length=2, max_length=2)]


class CnnSection(Section):
    """The CNN that encodes each frame.

    Attributes:
        backbone: ``small_cnn`` or an image model of keras.applications, such as MobileNetV2.
        weights: ``none``, ``imagenet``, or the path of a file in data/weights: weights, or a
            model.keras.
        trainable: ``all``, ``none``, or N for the last N layers that have weights.
        filters: filters of each convolution of small_cnn; the stride is 2.
        pooling: pooling of the last feature map; ``none`` for convlstm2d only.
        wrap: the whole CNN in one TimeDistributed, or each of its layers in its own.
    """

    backbone: Text = "small_cnn"
    weights: Text = "none"
    trainable: Annotated[Trainable, PlainValidator(_check_trainable)] = "all"
    filters: _Sizes = Field(default=[16, 32, 32, 32])
    pooling: Literal["flatten", "average", "none"] = "average"
    wrap: Literal["whole", "per_layer"] = "whole"


class TemporalSection(Section):
    """The layers over time.

    Attributes:
        recurrent: type of the recurrent layers.
        units: units of each recurrent layer; for convlstm2d its filters.
        summary: reduction of the time steps to one feature vector.
    """

    recurrent: Literal["lstm", "gru", "convlstm2d", "none"] = "lstm"
    units: _Sizes = Field(default=[64])
    bidirectional: bool = False
    summary: Literal["last", "mean", "attention", "conv1d"] = "last"


class ModelSection(Section):
    """A CNN-LSTM model or one of its variants.

    Attributes:
        streams: input of the CNN of each stream: frames, or their differences. Each stream has a
            CNN and layers over time of its own; several streams are fused at the output.
        frame_features: units of the dense layer on frame features; 0 for no such layer.
        dropout: dropout rate of the clip features.
    """

    streams: Annotated[list[Stream], Field(min_length=1), AfterValidator(_check_streams)] = Field(
        default=["frames", "differences"]
    )
    cnn: CnnSection = CnnSection()
    frame_features: NonNegativeInt = 48
    temporal: TemporalSection = TemporalSection()
    dropout: BelowOne = 0.2


class AugmentationSection(Section):
    """Random augmentation of training clips, equal for all frames of a clip.

    Attributes:
        shift: largest shift, a fraction of width and height; borders are mirrored.
        brightness: largest offset, a fraction of 255.
        contrast: largest change of the gain around the mean of the clip, a fraction.
        flip: mirror each clip left to right with probability 0.5.
        flip_swaps: pairs of classes that a mirror exchanges.
    """

    shift: BelowOne = 0.2
    brightness: BelowOne = 0.2
    contrast: BelowOne = 0.2
    flip: bool = False
    flip_swaps: Annotated[list[_Pair], AfterValidator(_check_swaps)] = Field(default=[])

    @property
    def changes_clips(self) -> bool:
        return self.flip or max(self.shift, self.brightness, self.contrast) > 0


class FineTuningSection(Section):
    """Training in two phases: with the CNN frozen, then with ``model.cnn.trainable``.

    Attributes:
        head_epochs: epochs of the first phase; 0 for a single phase.
        learning_rate: learning rate of the second phase.
    """

    head_epochs: NonNegativeInt = 0
    learning_rate: Positive = 0.0001


class TrainSection(Section):
    """Settings of the training.

    Attributes:
        weight_decay: weight decay of AdamW; 0 selects Adam.
        epochs: passes over the training clips; ``auto`` for as many as ``n_epochs`` returns.
        steps: of the optimizer; the least number if ``epochs`` is ``auto``.
        warmup_epochs: epochs at the start of each phase in which the learning rate rises from 0.
        patience: epochs without a lower validation loss before training stops, and the weights of
            the best epoch are kept; 0 trains to the end and keeps the last weights.
        cache_features: compute the features of a frozen CNN once, without augmentation.
        threads: threads of TensorFlow; another number changes the weights slightly.
    """

    seed: Seed = 0
    epochs: Annotated[Epochs, PlainValidator(_check_epochs)] = "auto"
    steps: PositiveInt = 800
    batch_size: PositiveInt = 16
    learning_rate: Positive = 0.002
    schedule: Literal["constant", "cosine", "reduce_on_plateau"] = "cosine"
    warmup_epochs: NonNegativeInt = 0
    weight_decay: NonNegative = 0.01
    fine_tuning: FineTuningSection = FineTuningSection()
    patience: NonNegativeInt = 0
    class_weights: Literal["none", "balanced"] = "none"
    label_smoothing: BelowOne = 0.0
    precision: Precision = "float32"
    cache_features: bool = True
    threads: Annotated[int, Field(ge=1, le=1024)] = 2
    augmentation: AugmentationSection = AugmentationSection()

    def n_epochs(self, n_clips: int) -> int:
        """Return the number of epochs for a training split of ``n_clips``.

        ``auto``: enough for ``steps``, but at least 24.

        >>> [TrainSection(batch_size=16).n_epochs(n_clips) for n_clips in (70, 500, 5000)]
        [160, 25, 24]
        """
        if self.epochs != "auto":
            return self.epochs
        return max(_LEAST_AUTO_EPOCHS, math.ceil(self.steps / math.ceil(n_clips / self.batch_size)))


def find_contradictions(
    extract: ExtractSection, model: ModelSection, train: TrainSection
) -> list[str]:
    """Return one message for each pair of settings that exclude each other."""
    cnn, temporal, head_epochs = model.cnn, model.temporal, train.fine_tuning.head_epochs
    epochs = _LEAST_AUTO_EPOCHS if train.epochs == "auto" else train.epochs
    of_epochs = f"{epochs}, the fewest that auto can be" if train.epochs == "auto" else str(epochs)
    messages = []
    if extract.frames == 1 and "differences" in model.streams:
        messages.append(
            "extract.frames: expected 2 or more, because model.streams has differences and one "
            "frame has no difference. Received: 1. Raise it, or set model.streams to [frames]"
        )
    if temporal.recurrent == "convlstm2d" and cnn.pooling != "none":
        messages.append(
            "model.cnn.pooling: expected none, because model.temporal.recurrent is convlstm2d, "
            f"which reads feature maps. Received: {cnn.pooling}"
        )
    if temporal.recurrent != "convlstm2d" and cnn.pooling == "none":
        messages.append(
            "model.cnn.pooling: expected flatten or average, because only convlstm2d reads "
            f"feature maps and model.temporal.recurrent is {temporal.recurrent}. Received: none"
        )
    if cnn.backbone == "small_cnn" and cnn.weights == "imagenet":
        messages.append(
            "model.cnn.weights: expected none or the path of a file, because small_cnn has no "
            "imagenet weights. Received: imagenet"
        )
    if temporal.recurrent == "none" and temporal.summary == "last":
        messages.append(
            "model.temporal.summary: expected mean, attention or conv1d, because without a "
            "recurrent layer the last frame carries nothing of the others. Received: last"
        )
    if temporal.recurrent == "none" and temporal.bidirectional:
        messages.append(
            "model.temporal.bidirectional: expected false, because model.temporal.recurrent is "
            "none. Received: true"
        )
    if temporal.recurrent == "convlstm2d" and model.frame_features > 0:
        messages.append(
            "model.frame_features: expected 0, because convlstm2d reads feature maps, not "
            f"feature vectors. Received: {model.frame_features}"
        )
    if train.schedule == "reduce_on_plateau" and train.warmup_epochs > 0:
        messages.append(
            "train.warmup_epochs: expected 0, because train.schedule is reduce_on_plateau. "
            f"Received: {train.warmup_epochs}"
        )
    if train.schedule == "reduce_on_plateau" and train.patience < 2:
        messages.append(
            "train.patience: expected 2 or more, because train.schedule is reduce_on_plateau, "
            f"which waits for half of it. Received: {train.patience}"
        )
    if train.warmup_epochs >= epochs:
        messages.append(
            f"train.warmup_epochs: expected fewer than train.epochs, {of_epochs}. "
            f"Received: {train.warmup_epochs}"
        )
    shorter_phase = min(head_epochs, epochs - head_epochs)
    if 0 < shorter_phase <= train.warmup_epochs < epochs:
        messages.append(
            f"train.warmup_epochs: expected fewer than {shorter_phase}, the epochs of the shorter "
            f"phase (train.fine_tuning.head_epochs is {head_epochs} of {of_epochs}), because "
            f"the learning rate rises in each phase. Received: {train.warmup_epochs}"
        )
    if head_epochs >= epochs:
        messages.append(
            "train.fine_tuning.head_epochs: expected fewer than train.epochs, "
            f"{of_epochs}. Received: {head_epochs}"
        )
    if head_epochs > 0 and cnn.trainable == "none":
        messages.append(
            "train.fine_tuning.head_epochs: expected 0, because model.cnn.trainable is none and "
            f"nothing is unfrozen. Received: {head_epochs}"
        )
    return messages


def log_config_warnings(model: ModelSection) -> None:
    """Log a warning for each legal combination that is rarely intended."""
    cnn = model.cnn
    if cnn.weights == "none" and cnn.trainable != "all":
        logger.warning(
            "model.cnn.weights is none and model.cnn.trainable is %s: the frozen layers of the "
            "CNN keep their random weights.",
            cnn.trainable,
        )
    if cnn.weights == "imagenet" and cnn.trainable != "all" and "differences" in model.streams:
        logger.warning(
            "model.cnn.weights is imagenet and model.cnn.trainable is %s: the frozen layers of "
            "the stream of differences were trained on photographs. Set model.cnn.trainable to "
            "all, or model.streams to [frames].",
            cnn.trainable,
        )

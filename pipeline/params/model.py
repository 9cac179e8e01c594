"""The sections of params.yaml that say what the model is and how it is fitted."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, NonNegativeInt, PlainValidator, PositiveInt

from pipeline.params.fields import BelowOne, NonNegative, Positive, Section, Seed, Text


def _layers_to_train(value: Any) -> Any:
    is_number = type(value) is int and value > 0
    if is_number or value in ("all", "none"):
        return value
    raise ValueError("Input should be all, none or a number of layers greater than 0")


def _no_class_twice(pairs: list[list[str]]) -> list[list[str]]:
    names = [name for pair in pairs for name in pair]
    if len(set(names)) < len(names):
        raise ValueError("Input should name every class once at most, with the one that it becomes")
    return pairs


_Trainable = Annotated[Literal["all", "none"] | int, PlainValidator(_layers_to_train)]
_Sizes = Annotated[list[PositiveInt], Field(min_length=1)]
_Pair = Annotated[list[str], Field(min_length=2, max_length=2)]


class CnnParams(Section):
    """What is made of one frame."""

    backbone: Text
    weights: Text
    trainable: _Trainable
    filters: _Sizes
    batch_norm: bool
    pooling: Literal["flatten", "average", "none"]
    wrap: Literal["whole", "per_layer"]


class TemporalParams(Section):
    """What is made of the frames of a clip."""

    recurrent: Literal["lstm", "gru", "convlstm2d", "none"]
    units: _Sizes
    bidirectional: bool
    recurrent_dropout: BelowOne
    map_pooling: Literal["flatten", "average"]
    summary: Literal["last", "mean", "attention", "conv1d"]


class ModelParams(Section):
    """The CNN-LSTM and its family."""

    motion: Literal["none", "difference", "both"]
    cnn: CnnParams
    frame_features: NonNegativeInt
    temporal: TemporalParams
    dropout: BelowOne
    l2: NonNegative


class AugmentationParams(Section):
    """Random changes of training clips, the same for every frame of a clip."""

    shift: BelowOne
    brightness: BelowOne
    contrast: BelowOne
    flip: bool
    flip_swaps: Annotated[list[_Pair], AfterValidator(_no_class_twice)]


class FineTuningParams(Section):
    """Training in two phases: with the CNN frozen, then with what model.cnn.trainable says."""

    head_epochs: NonNegativeInt
    learning_rate: Positive


class TrainParams(Section):
    """How the model is fitted."""

    seed: Seed
    epochs: PositiveInt
    batch_size: PositiveInt
    optimizer: Literal["adam", "adamw"]
    weight_decay: NonNegative
    learning_rate: Positive
    schedule: Literal["constant", "cosine", "reduce_on_plateau"]
    warmup_epochs: NonNegativeInt
    fine_tuning: FineTuningParams
    clip_norm: Positive
    patience: PositiveInt
    class_weights: Literal["none", "balanced"]
    label_smoothing: BelowOne
    precision: Literal["float32", "mixed_float16", "mixed_bfloat16"]
    cache_features: bool
    trim_batches: bool
    threads: Annotated[int, Field(ge=1, le=1024)]
    augmentation: AugmentationParams


def contradictions(model: ModelParams, train: TrainParams) -> list[str]:
    """Return one sentence for every two settings that cannot both be meant.

    Each names the key to change, what is expected and why, and what was received.
    """
    return [
        *_of_frames(model.cnn, model.temporal),
        *_of_the_model(model),
        *_of_training(train),
        *_of_phases(train, model.cnn),
    ]


def _of_frames(cnn: CnnParams, temporal: TemporalParams) -> list[str]:
    found = []
    if temporal.recurrent == "convlstm2d" and cnn.pooling != "none":
        found.append(
            "model.cnn.pooling: expected none, because model.temporal.recurrent is convlstm2d, "
            f"which reads feature maps. Received: {cnn.pooling}"
        )
    if temporal.recurrent != "convlstm2d" and cnn.pooling == "none":
        found.append(
            "model.cnn.pooling: expected flatten or average, because only convlstm2d reads "
            f"feature maps and model.temporal.recurrent is {temporal.recurrent}. Received: none"
        )
    if cnn.backbone == "small_cnn" and cnn.weights == "imagenet":
        found.append(
            "model.cnn.weights: expected none or the path of a file, because small_cnn has no "
            "imagenet weights. Received: imagenet"
        )
    return found


def _of_the_model(model: ModelParams) -> list[str]:
    temporal, found = model.temporal, []
    if model.motion == "both" and model.cnn.backbone != "small_cnn":
        found.append(
            "model.motion: expected none or difference, because model.cnn.backbone is "
            f"{model.cnn.backbone}, which takes three channels. Received: both"
        )
    if temporal.recurrent == "none" and temporal.summary == "last":
        found.append(
            "model.temporal.summary: expected mean, attention or conv1d, because with "
            "model.temporal.recurrent none the last frame knows nothing of the others. "
            "Received: last"
        )
    if temporal.recurrent == "none" and temporal.bidirectional:
        found.append(
            "model.temporal.bidirectional: expected false, because model.temporal.recurrent is "
            "none. Received: true"
        )
    if temporal.recurrent == "none" and temporal.recurrent_dropout > 0:
        found.append(
            "model.temporal.recurrent_dropout: expected 0, because model.temporal.recurrent is "
            f"none. Received: {temporal.recurrent_dropout}"
        )
    if temporal.recurrent == "convlstm2d" and model.frame_features > 0:
        found.append(
            "model.frame_features: expected 0, because convlstm2d reads feature maps, which no "
            f"dense layer sums up. Received: {model.frame_features}"
        )
    return found


def _of_training(train: TrainParams) -> list[str]:
    found = []
    if train.optimizer == "adam" and train.weight_decay > 0:
        found.append(
            "train.weight_decay: expected 0, because train.optimizer is adam; adamw decays "
            f"weights. Received: {train.weight_decay}"
        )
    if train.schedule == "reduce_on_plateau" and train.warmup_epochs > 0:
        found.append(
            "train.warmup_epochs: expected 0, because train.schedule is reduce_on_plateau. "
            f"Received: {train.warmup_epochs}"
        )
    if train.warmup_epochs >= train.epochs:
        found.append(
            f"train.warmup_epochs: expected fewer than train.epochs, {train.epochs}. "
            f"Received: {train.warmup_epochs}"
        )
    return found


def _of_phases(train: TrainParams, cnn: CnnParams) -> list[str]:
    found, head_epochs = [], train.fine_tuning.head_epochs
    shorter = min(head_epochs, train.epochs - head_epochs)
    if 0 < shorter <= train.warmup_epochs < train.epochs:
        found.append(
            f"train.warmup_epochs: expected fewer than {shorter}, because the rate rises in each "
            f"phase, and with train.fine_tuning.head_epochs {head_epochs} of train.epochs "
            f"{train.epochs} the shorter one has no more. Received: {train.warmup_epochs}"
        )
    if head_epochs >= train.epochs:
        found.append(
            "train.fine_tuning.head_epochs: expected fewer than train.epochs, "
            f"{train.epochs}. Received: {head_epochs}"
        )
    if head_epochs > 0 and cnn.trainable == "none":
        found.append(
            "train.fine_tuning.head_epochs: expected 0, because model.cnn.trainable is none, so "
            f"there is nothing to unfreeze. Received: {head_epochs}"
        )
    return found

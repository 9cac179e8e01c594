"""params.yaml as one typed, validated object: read once per stage, passed down explicitly.

Each section is a frozen model that knows no key but its own. An error names the dotted
key, the rule and the value received, as in ``train.epochs: Input should be greater than
or equal to 1. Received: 0``.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails

from pipeline.base.errors import PipelineError

PARAMS_FILE = Path("params.yaml")

# PyYAML reads "2e-3" as text, DVC as a number: these fields take either.
_Share = Annotated[float, Field(strict=False, allow_inf_nan=False, gt=0, lt=1)]
_Positive = Annotated[float, Field(strict=False, allow_inf_nan=False, gt=0)]
_NonNegative = Annotated[float, Field(strict=False, allow_inf_nan=False, ge=0)]
_Fraction = Annotated[float, Field(strict=False, allow_inf_nan=False, ge=0, le=1)]
_BelowOne = Annotated[float, Field(strict=False, allow_inf_nan=False, ge=0, lt=1)]
_Seed = Annotated[int, Field(ge=0, lt=2**32)]
_Side = Annotated[int, Field(ge=2, le=8192)]  # pixels; video files have no smaller ones
_Text = Annotated[str, StringConstraints(min_length=1)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class DataParams(_Section):
    """Where the videos and their labels are. Paths are relative to the repository or absolute."""

    videos: _Text
    layout: Literal["folders", "csv"]
    labels: _Text

    @model_validator(mode="after")
    def _labels_fit_layout(self) -> Self:
        if self.layout == "folders" and Path(self.labels) != Path(self.videos):
            raise ValueError(
                "labels must be the same path as videos when layout is folders, "
                f"because the folder names are the labels; set it to {self.videos}"
            )
        return self


class CatalogParams(_Section):
    """How videos without a given split are split, by group."""

    val_share: _Share
    test_share: _Share
    seed: int

    @model_validator(mode="after")
    def _train_is_left(self) -> Self:
        if self.val_share + self.test_share >= 1:
            raise ValueError("val_share + test_share must leave videos to train on (sum below 1)")
        return self


class DecodeParams(_Section):
    """Which frames of a video are kept, at what size, and what is too much."""

    fps: _Positive
    width: _Side
    height: _Side
    fit: Literal["crop", "letterbox", "stretch"]
    on_damage: Literal["quarantine", "keep"]
    max_seconds: _Positive
    max_pixels: PositiveInt
    timeout_seconds: _Positive
    max_bad_fraction: _Fraction


class ReportParams(_Section):
    """The picture of the data."""

    bins: Annotated[int, Field(ge=1, le=200)]


class ExtractParams(_Section):
    """How the frames of a video become one clip of fixed length."""

    frames: PositiveInt
    sampling: Literal["uniform", "stride", "head"]
    stride: PositiveInt
    shards: PositiveInt


class ModelParams(_Section):
    """The CNN-LSTM."""

    cnn_filters: Annotated[list[PositiveInt], Field(min_length=1)]
    frame_features: PositiveInt
    lstm_units: PositiveInt
    dropout: _BelowOne


class AugmentationParams(_Section):
    """Random changes of training clips, the same for every frame of a clip."""

    shift: _BelowOne
    brightness: _BelowOne
    contrast: _BelowOne
    flip: bool
    flip_swaps: list[Annotated[list[str], Field(min_length=2, max_length=2)]]


class TrainParams(_Section):
    """How the model is fitted."""

    seed: _Seed
    epochs: PositiveInt
    batch_size: PositiveInt
    learning_rate: _Positive
    clip_norm: _Positive
    patience: PositiveInt
    class_weights: Literal["none", "balanced"]
    threads: Annotated[int, Field(ge=1, le=1024)]
    augmentation: AugmentationParams


class EvaluateParams(_Section):
    """How scores and their intervals are computed."""

    top_k: PositiveInt
    bootstrap_samples: PositiveInt
    confidence: _Share
    calibration_bins: PositiveInt
    seed: _Seed


class RegisterParams(_Section):
    """Where the model goes in the MLflow registry."""

    name: Annotated[str, StringConstraints(pattern=r"^[^/:@'\"]+$")]


class ComputeParams(_Section):
    """What the work may use. Never changes a result, so no stage depends on it."""

    workers: NonNegativeInt


class Params(_Section):
    """All of params.yaml."""

    data: DataParams
    catalog: CatalogParams
    decode: DecodeParams
    report: ReportParams
    extract: ExtractParams
    model: ModelParams
    train: TrainParams
    evaluate: EvaluateParams
    register_: RegisterParams = Field(alias="register")
    compute: ComputeParams


def load_params(path: Path = PARAMS_FILE) -> Params:
    """Read and validate ``path``.

    Raises:
        PipelineError: the file is missing, is not YAML, or breaks a rule; the message has
            one sentence a mistake, each naming its dotted key and the value received.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PipelineError(
            f"{path}: no such file. Run the command from the root of the repository."
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise PipelineError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise PipelineError(f"{path}: expected sections such as data: and train:, found none.")
    try:
        return Params.model_validate(content)
    except ValidationError as error:
        mistakes = "; ".join(_sentence(detail) for detail in error.errors())
        raise PipelineError(f"{path}: {mistakes}") from None


def _sentence(detail: ErrorDetails) -> str:
    key = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "extra_forbidden":
        return f"{key}: unknown key (remove it or correct its spelling)"
    if detail["type"] == "missing":
        return f"{key}: missing"
    message = detail["msg"].removeprefix("Value error, ")
    if isinstance(detail["input"], dict):
        return f"{key}: {message}"
    return f"{key}: {message}. Received: {_shown(detail['input'])}"


def _shown(value: Any) -> str:
    return f"{value!r}"[:80]

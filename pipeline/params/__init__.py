"""params.yaml as one typed, validated object: read once per stage, passed down explicitly.

Each section is a frozen model that knows no key but its own. An error names the dotted
key, the rule and the value received, as in ``train.epochs: Input should be greater than
or equal to 1. Received: 0``.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    Field,
    NonNegativeInt,
    PositiveInt,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails

from pipeline.base.errors import PipelineError
from pipeline.params.data_check import DataCheckParams
from pipeline.params.fields import (
    Finite,
    Fraction,
    Positive,
    Section,
    Seed,
    Share,
    Side,
    Text,
)
from pipeline.params.model import ModelParams, TrainParams, contradictions

PARAMS_FILE = Path("params.yaml")


class DataParams(Section):
    """Where the videos and their labels are. Paths are relative to the repository or absolute."""

    videos: Text
    layout: Literal["folders", "csv"]
    labels: Text

    @model_validator(mode="after")
    def _labels_fit_layout(self) -> Self:
        if self.layout == "folders" and Path(self.labels) != Path(self.videos):
            raise ValueError(
                "labels must be the same path as videos when layout is folders, "
                f"because the folder names are the labels; set it to {self.videos}"
            )
        return self


class CatalogParams(Section):
    """How videos without a given split are split, by group."""

    val_share: Share
    test_share: Share
    seed: int

    @model_validator(mode="after")
    def _train_is_left(self) -> Self:
        if self.val_share + self.test_share >= 1:
            raise ValueError("val_share + test_share must leave videos to train on (sum below 1)")
        return self


class DecodeParams(Section):
    """Which frames of a video are kept, at what size, and what is too much."""

    fps: Positive
    width: Side
    height: Side
    fit: Literal["crop", "letterbox", "stretch"]
    on_damage: Literal["quarantine", "keep"]
    max_seconds: Positive
    max_pixels: PositiveInt
    timeout_seconds: Positive
    max_bad_fraction: Fraction


class ReportParams(Section):
    """The picture of the data."""

    bins: Annotated[int, Field(ge=1, le=200)]


class ExtractParams(Section):
    """How the frames of a video become clips of fixed length."""

    frames: PositiveInt
    sampling: Literal["uniform", "stride", "head"]
    stride: PositiveInt
    clips_per_video: PositiveInt
    shards: PositiveInt


class EvaluateParams(Section):
    """How scores and their intervals are computed."""

    top_k: PositiveInt
    bootstrap_samples: PositiveInt
    confidence: Share
    calibration_bins: PositiveInt
    target_accuracy: Share
    slice_videos: PositiveInt
    length_margin: Fraction
    time_margin: Fraction
    leak_distance: Annotated[int, Field(ge=0, le=32)]  # bits; hashes of anything differ in 32
    max_label_issues: Fraction
    seed: Seed


class ReviewParams(Section):
    """How much the report of a review shows."""

    clips: PositiveInt
    suspects: NonNegativeInt
    previews: bool


class RegisterParams(Section):
    """Where the model goes in the MLflow registry."""

    name: Annotated[str, StringConstraints(pattern=r"^[^/:@'\"]+$")]


class PromoteParams(Section):
    """What a challenger must show to become champion."""

    metric: Literal["accuracy", "macro_f1", "log_loss"]
    min_gain: Finite
    confidence: Share
    class_floor: Fraction
    max_calibration_error: Fraction
    max_latency_ms: Positive
    min_groups: PositiveInt


class ServeParams(Section):
    """What a server of the model may read."""

    path_root: str


class ComputeParams(Section):
    """What the work may use. Never changes a result, so no stage depends on it."""

    workers: NonNegativeInt


class Params(Section):
    """All of params.yaml."""

    data: DataParams
    catalog: CatalogParams
    decode: DecodeParams
    report: ReportParams
    extract: ExtractParams
    model: ModelParams
    train: TrainParams
    evaluate: EvaluateParams
    review: ReviewParams
    register_: RegisterParams = Field(alias="register")
    promote: PromoteParams
    data_check: DataCheckParams
    serve: ServeParams
    compute: ComputeParams

    def of_model(self) -> dict[str, Any]:
        """Return the sections that make the model what it is: not how it is judged or kept."""
        return self.model_dump(include={"data", "catalog", "decode", "extract", "model", "train"})


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
    return parse_params(content, source=path)


def parse_params(content: Mapping[str, Any], *, source: Path = PARAMS_FILE) -> Params:
    """Validate what params.yaml holds, or would hold.

    Args:
        content: section -> key -> value.
        source: named in the message.

    Raises:
        PipelineError: as ``load_params``.
    """
    try:
        params = Params.model_validate(content)
    except ValidationError as error:
        mistakes = [_sentence(detail) for detail in error.errors()]
    else:
        mistakes = contradictions(params.model, params.train)
        if not mistakes:
            return params
    raise PipelineError(f"{source}: {'; '.join(mistakes)}")


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

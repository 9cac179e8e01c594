"""Registered models, ready to classify videos in this process."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PyFuncModel

from pipeline.base.errors import PipelineError
from pipeline.serving.contract import PLAIN, RequestOptions, ServingConfig
from pipeline.tracking.aliases import CHALLENGER, CHAMPION
from pipeline.tracking.store import MISSING, RESTORE, connect, mlflow_errors, shown_uri

# Whoever runs a command may name any file that it can read.
_LOCAL = ServingConfig(path_root="/")


@dataclass(frozen=True)
class Stretch:
    """What a model says of a part of a video."""

    start_seconds: float  # since the first frame
    end_seconds: float
    probabilities: dict[str, float]


@dataclass(frozen=True)
class Prediction:
    """What a model says of one video."""

    label: str
    probability: float  # of the label
    probabilities: dict[str, float]  # of every class, or of the most probable ones
    timeline: tuple[Stretch, ...] = ()  # where it is asked for: the whole video, part by part
    confident: bool | None = None  # None: the model has no threshold for what was asked


class RegisteredClassifier:
    """A model from the registry. ``uri`` names its version, as in models:/video-classifier/3."""

    def __init__(self, uri: str, servable: PyFuncModel) -> None:
        self.uri = uri
        self._servable = servable

    def predict(
        self, videos: Sequence[Path | bytes], options: RequestOptions = PLAIN
    ) -> list[Prediction]:
        """Classify video files, given as paths or as their bytes.

        Raises:
            PipelineError: one of them is no video, is damaged or is over a limit, or the model
                is older than one of the options.
        """
        self._refuse_unknown(options)
        return [_prediction(row) for row in self._answer(videos, options)]

    def try_each(
        self, videos: Sequence[Path], options: RequestOptions = PLAIN
    ) -> list[Prediction | PipelineError]:
        """Classify video files; in place of one that cannot be used stands why, without its name.

        Raises:
            PipelineError: the machine failed (its disk is full), or the model is older than one
                of the options.
        """
        self._refuse_unknown(options)
        if "keep_going" not in self._known_options():  # an older version
            return [self._try_alone(video, options) for video in videos]
        rows = self._answer(videos, replace(options, keep_going=True))
        return [PipelineError(row["error"]) if row["error"] else _prediction(row) for row in rows]

    def _try_alone(self, video: Path, options: RequestOptions) -> Prediction | PipelineError:
        try:
            (prediction,) = self.predict([video], options)
        except PipelineError as error:
            return PipelineError(str(error).removeprefix(f"{video.absolute()}: "))
        return prediction

    def _answer(
        self, videos: Sequence[Path | bytes], options: RequestOptions
    ) -> list[dict[str, Any]]:
        rows = [
            {"video": video, "path": None}
            if isinstance(video, bytes)
            else {"video": None, "path": str(video.absolute())}
            for video in videos
        ]
        try:
            found: pd.DataFrame = self._servable.predict(pd.DataFrame(rows), options.to_params())
        except MlflowException as error:
            message = str(error.message)
            if len(videos) == 1:
                message = message.removeprefix("Video 1: ")
            raise PipelineError(message) from None
        answer: list[dict[str, Any]] = found.to_dict("records")
        return answer

    def _refuse_unknown(self, options: RequestOptions) -> None:
        """MLflow would warn and leave the option out."""
        if unknown := options.to_params().keys() - self._known_options():
            raise PipelineError(
                f"{self.uri}: this version was registered before there was the option "
                f"{', '.join(sorted(unknown))}. Register a new one with: make repro"
            )

    def _known_options(self) -> set[str]:
        return {param.name for param in self._servable.metadata.signature.params or ()}


def load_model(
    name_or_uri: str, *, alias: str = CHALLENGER, config: ServingConfig = _LOCAL
) -> RegisteredClassifier:
    """Load a registered model.

    In a process that has imported ``pipeline``, such as every command of this repository,
    the code of the checkout runs: the copy of ``pipeline`` in the model is used where there
    is no checkout, as in ``mlflow models serve``. Only servable.py always comes from the
    model. A model whose preprocessing this code cannot repeat is refused.

    Args:
        name_or_uri, alias: as for ``model_uri``.
        config: time for a video, processes that decode; paths go anywhere by default.

    Raises:
        PipelineError: there is no such model, or this code makes other frames than it saw.
    """
    uri = model_uri(name_or_uri, alias=alias)
    with mlflow_errors(), _missing_model(uri):
        servable = mlflow.pyfunc.load_model(uri, model_config=config.to_json())
    return RegisteredClassifier(uri, servable)


def model_uri(name_or_uri: str, *, alias: str) -> str:
    """Return the URI of a version: models:/video-classifier/3.

    Args:
        name_or_uri: a name, ``name@alias``, or a URI such as ``models:/video-classifier/3`` or
            ``runs:/...``, which is returned as it is.
        alias: ``challenger`` or ``champion``; used with a name only.

    Raises:
        PipelineError: there is no such model, or no version has the alias.
    """
    if ":/" in name_or_uri:
        return name_or_uri
    client = connect()
    name, _, given = name_or_uri.partition("@")
    with mlflow_errors(), _missing_model(f"{name}@{given or alias}"):
        version = client.get_model_version_by_alias(name, given or alias).version
    return f"models:/{name}/{version}"


def model_file(uri: str, name: str) -> Path:
    """Return the path of a file that the model at ``uri`` carries, such as classifier.keras.

    Raises:
        PipelineError: there is no such model, or it carries no such file.
    """
    connect()
    with mlflow_errors(), _missing_model(uri):
        return Path(mlflow.artifacts.download_artifacts(f"{uri}/artifacts/{name}"))


def _prediction(row: dict[str, Any]) -> Prediction:
    return Prediction(
        label=row["label"],
        probability=row["probability"],
        probabilities=row["probabilities"],
        timeline=tuple(Stretch(**stretch) for stretch in row.get("timeline") or ()),
        confident=row.get("confident"),
    )


@contextmanager
def _missing_model(wanted: str) -> Iterator[None]:
    """Say how to get the model when MLflow has none."""
    try:
        yield
    except MlflowException as error:
        if error.error_code not in MISSING:
            raise
        remedy = "make promote" if wanted.endswith(f"@{CHAMPION}") else f"make repro. {RESTORE}"
        raise PipelineError(
            f"MLflow at {shown_uri()} has no model {wanted}. Get one with: {remedy}"
        ) from error

"""Registered models, ready to classify videos in this process."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PyFuncModel

from pipeline.base.errors import PipelineError
from pipeline.serving.contract import ServingConfig
from pipeline.tracking.registry import CHALLENGER
from pipeline.tracking.store import RESTORE, connect, mlflow_errors, shown_uri

# Error codes of MLflow for a model, a version or an alias that does not exist.
_MISSING = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")

# Whoever runs a command may name any file that it can read.
_LOCAL = ServingConfig(path_root="/")


@dataclass(frozen=True)
class Prediction:
    """What a model says of one video."""

    label: str
    probability: float  # of the label
    probabilities: dict[str, float]  # of every class


class RegisteredClassifier:
    """A model from the registry. ``uri`` names its version, as in models:/video-classifier/3."""

    def __init__(self, uri: str, servable: PyFuncModel) -> None:
        self.uri = uri
        self._servable = servable

    def predict(self, videos: Sequence[Path | bytes]) -> list[Prediction]:
        """Classify video files, given as paths or as their bytes.

        Raises:
            PipelineError: one of them is no video, is damaged or is over a limit.
        """
        rows = [
            {"video": video, "path": None}
            if isinstance(video, bytes)
            else {"video": None, "path": str(video.absolute())}
            for video in videos
        ]
        try:
            found: pd.DataFrame = self._servable.predict(pd.DataFrame(rows))
        except MlflowException as error:
            message = str(error.message)
            if len(videos) == 1:
                message = message.removeprefix("Video 1: ")
            raise PipelineError(message) from None
        return [Prediction(**row) for row in found.to_dict("records")]


def load_model(
    name_or_uri: str, *, alias: str = CHALLENGER, config: ServingConfig = _LOCAL
) -> RegisteredClassifier:
    """Load the version of a registered model that has ``alias``, or the model at a URI.

    In a process that has imported ``pipeline``, such as every command of this repository,
    the code of the checkout runs: the copy of ``pipeline`` in the model is used where there
    is no checkout, as in ``mlflow models serve``. Only servable.py always comes from the
    model. A model whose preprocessing this code cannot repeat is refused.

    Args:
        name_or_uri: a name, or a URI such as ``models:/video-classifier/3`` or ``runs:/...``.
        alias: ``challenger`` or ``champion``; not used with a URI.
        config: time for a video, processes that decode; paths go anywhere by default.

    Raises:
        PipelineError: there is no such model, or this code makes other frames than it saw.
    """
    client = connect()
    wanted = name_or_uri if ":/" in name_or_uri else f"{name_or_uri}@{alias}"
    with mlflow_errors():
        try:
            uri = name_or_uri
            if ":/" not in name_or_uri:
                version = client.get_model_version_by_alias(name_or_uri, alias).version
                uri = f"models:/{name_or_uri}/{version}"
            return RegisteredClassifier(
                uri, mlflow.pyfunc.load_model(uri, model_config=config.to_json())
            )
        except MlflowException as error:
            if error.error_code not in _MISSING:
                raise
            raise PipelineError(
                f"MLflow at {shown_uri()} has no model {wanted}. Register one with: make repro. "
                f"{RESTORE}"
            ) from error

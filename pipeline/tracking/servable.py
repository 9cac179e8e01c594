"""The classifier as MLflow serves it: videos in, class probabilities out.

MLflow logs this file as the model ("models from code") and runs it wherever the model is
loaded; ``pipeline`` itself travels beside it (``code_paths``). See registry.py.
"""

import threading
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from pipeline.base.errors import PipelineError
from pipeline.clips.metadata import ClipsMetadata
from pipeline.clips.preprocessing import clip_from_video
from pipeline.clips.sampling import Clip
from pipeline.model.prediction import predict_clips
from pipeline.model.saving import load_classifier
from pipeline.video.reading import Segment

_VIDEOS_AT_ONCE = 32  # clips held in memory


class VideoClassifier(PythonModel):
    """Classifies video files, each through the preprocessing that the model carries.

    Input, one row a video: ``video`` (binary: the bytes of a video file) or ``path`` (string:
    a file that the serving process can read); the other one is empty or left out. With
    ``start_seconds`` or ``end_seconds`` (double, since the first frame), only that part.
    Output, one row a video: ``label`` (string), ``probability`` (double, of that label) and
    ``probabilities`` (map from class name to double).

    A server also reads any ``path`` that a client names. It answers with probabilities or
    with why that is no video, never with content; let only those reach it who may know that.
    """

    def load_context(self, context: PythonModelContext) -> None:
        """Read the artifacts ``model`` (.keras) and ``metadata`` (classes, preprocessing)."""
        self._metadata = ClipsMetadata.read(Path(context.artifacts["metadata"]))
        self._model = load_classifier(Path(context.artifacts["model"]))
        self._one_at_a_time = threading.Lock()  # a server calls from several threads

    def predict(
        self,
        context: PythonModelContext,  # noqa: ARG002
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,  # noqa: ARG002
    ) -> pd.DataFrame:
        """Return one row a video, in the order of the input.

        Raises:
            MlflowException: a row is no video, the message has its number, counted from 1; or
                there is no row, or none of the columns. A server answers with status 400.
        """
        if len(model_input) == 0:  # MLflow drops unknown columns, and with the last one the rows
            raise _bad_input("Expected one row a video, with the column video or path.")
        rows: list[dict[str, Any]] = []
        for start in range(0, len(model_input), _VIDEOS_AT_ONCE):
            some = range(start, min(start + _VIDEOS_AT_ONCE, len(model_input)))
            clips = [self._clip(model_input.iloc[index].to_dict(), index + 1) for index in some]
            rows += self._classified(clips)
        return pd.DataFrame(rows, columns=["label", "probability", "probabilities"])

    def _clip(self, row: dict[str, Any], number: int) -> Clip:
        try:
            return clip_from_video(
                _source(row), self._metadata.preprocessing, segment=_segment(row)
            )
        except PipelineError as error:
            raise _bad_input(f"Video {number}: {error}") from None

    def _classified(self, clips: list[Clip]) -> list[dict[str, Any]]:
        names = self._metadata.class_names
        with self._one_at_a_time:
            probabilities = predict_clips(self._model, clips)
        return [
            {
                "label": names[row.argmax()],
                "probability": float(row.max()),
                "probabilities": dict(zip(names, map(float, row), strict=True)),
            }
            for row in probabilities
        ]


def _source(row: dict[str, Any]) -> Path | bytes:
    """Return the one of ``video`` and ``path`` that the row has; None, NaN and "" are nothing."""
    given = {name: value for name in ("video", "path") if not _is_nothing(value := row.get(name))}
    match given:
        case {"video": bytes() as content, **others} if not others:
            return content
        case {"path": str() as path, **others} if not others:
            return Path(path)
    received = ", ".join(f"{name} of type {type(value).__name__}" for name, value in given.items())
    raise PipelineError(
        "expected either the bytes of a video file in the column video (base64 in JSON) "
        f"or its path in the column path. Received: {received or 'neither'}"
    )


def _segment(row: dict[str, Any]) -> Segment:
    """Return the part that the row asks for; None and NaN are no bound."""
    given = [row.get(name) for name in ("start_seconds", "end_seconds")]
    start, end = (None if value is None or value != value else float(value) for value in given)
    if (start or 0) < 0 or (end is not None and end <= (start or 0)):
        raise PipelineError(
            "expected 0 <= start_seconds < end_seconds. "
            f"Received: start_seconds = {start}, end_seconds = {end}"
        )
    return Segment(start, end)


def _bad_input(message: str) -> MlflowException:
    return MlflowException(message, error_code=INVALID_PARAMETER_VALUE)


def _is_nothing(value: Any) -> bool:
    is_nan = value != value
    return value is None or is_nan or len(value) == 0


# How MLflow finds the model in this file; nothing imports the file for anything else.
mlflow.models.set_model(VideoClassifier())

"""The MLflow model: rows of videos in, rows of answers out.

MLflow logs this file as the model ("models from code") and runs it wherever the model is loaded.
"""

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR, INVALID_PARAMETER_VALUE
from mlflow.pyfunc.model import PythonModel, PythonModelContext
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
from mlflow.types.schema import Array, Map, Object, Property

from pipeline.common.errors import PipelineError
from pipeline.common.side_inputs import SideInput, SideInputKind
from pipeline.serving.request import RequestOptions, ServingConfig, request_from_row
from pipeline.serving.scorer import Scorer
from pipeline.tasks.task import AnswerType, ScalarType, Task

logger = logging.getLogger(__name__)

_TYPES: dict[ScalarType, DataType | Map | Array] = {
    "string": DataType.string,
    "double": DataType.double,
    "boolean": DataType.boolean,
    "strings": Array(DataType.string),
    "doubles": Array(DataType.double),
    "string to double": Map(DataType.double),
}

_SIDE_INPUT_TYPES: dict[SideInputKind, DataType] = {
    "number": DataType.double,
    "category": DataType.string,
}


def _type_of(kind: AnswerType) -> DataType | Map | Array:
    if isinstance(kind, str):
        return _TYPES[kind]
    return Array(Object([Property(name, _TYPES[field]) for name, field in kind.items()]))


def signature_of(task: Task, side_inputs: Sequence[SideInput] = ()) -> ModelSignature:
    """Return MLflow's signature of a model: columns of requests and answers, params."""
    segment = Object(
        [
            Property("start_seconds", DataType.double),
            Property("end_seconds", DataType.double),
            *(Property(name, _type_of(task.answer_types[name])) for name in task.segment_fields),
        ]
    )
    return ModelSignature(
        inputs=Schema(
            [
                ColSpec(DataType.binary, "video", required=False),
                ColSpec(DataType.string, "path", required=False),
                ColSpec(DataType.double, "start_seconds", required=False),
                ColSpec(DataType.double, "end_seconds", required=False),
                *(
                    ColSpec(_SIDE_INPUT_TYPES[one.kind], one.column, required=False)
                    for one in side_inputs
                ),
            ]
        ),
        outputs=Schema(
            [
                *(ColSpec(_type_of(kind), name) for name, kind in task.answer_types.items()),
                ColSpec(DataType.boolean, "confident", required=False),
                ColSpec(Array(segment), "timeline", required=False),
                ColSpec(DataType.string, "error", required=False),
            ]
        ),
        params=ParamSchema(
            [
                ParamSpec("top_k", DataType.long, 0),
                ParamSpec("timeline", DataType.boolean, False),
                ParamSpec("clips", DataType.long, 0),
                ParamSpec("keep_going", DataType.boolean, False),
            ]
        ),
    )


class VideoModel(PythonModel):
    """Predict video files with the preprocessing of the model's training.

    Input, one row a video: ``video`` (binary, the bytes of a video or picture file) or ``path``
    (string, a file or a folder of pictures below ``path_root``). ``start_seconds`` and
    ``end_seconds`` (double, since the first frame) select a segment. Side inputs of the model are
    further columns: numbers (double) and categories (string). Params: RequestOptions. Output, one
    row a video: ``Scorer.score``. ``model_config``: ServingConfig.
    """

    def load_context(self, context: PythonModelContext) -> None:
        """Load the artifacts ``model`` (.keras) and ``metadata`` (task, preprocessing)."""
        self._config = ServingConfig.from_json(context.model_config)
        model, metadata = (Path(context.artifacts[name]) for name in ("model", "metadata"))
        self._scorer = Scorer.load(model, metadata, self._config)
        self._scorer.warm_up()

    def predict(
        self,
        context: PythonModelContext,  # noqa: ARG002
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,
    ) -> pd.DataFrame:
        """Return one row a video, in the order of the input.

        Raises:
            ServingError: the request or one of its videos is invalid (the server answers with
                status 400), or the machine failed (500).
        """
        if len(model_input) == 0:  # MLflow drops unknown columns, and with the last one the rows
            raise ServingError(
                "Expected one row a video, with the column video or path. Received: no such row."
            )
        try:
            options = RequestOptions.from_params(params)
            requests = [
                request_from_row(
                    row,
                    number=number,
                    path_root=self._config.path_root,
                    side_inputs=self._scorer.side_inputs,
                )
                for number, row in enumerate(model_input.to_dict("records"), start=1)
            ]
            answers = self._scorer.score(requests, options)
        except PipelineError as error:
            raise ServingError(str(error)) from None
        except (OSError, MemoryError) as error:  # a full disk, no memory, no process
            logger.exception("the server failed, not the request")
            number = error.errno if isinstance(error, OSError) else None
            reason = os.strerror(number) if number else type(error).__name__  # without its paths
            raise ServingError(
                f"The server failed, not the request: {reason}. See the log of the server. It "
                "needs memory, and room in TMPDIR for the frames of each request.",
                error_code=INTERNAL_ERROR,
            ) from None
        if not options.keep_going:
            return pd.DataFrame(answers)
        # pandas would fill missing fields with NaN, which is not valid JSON.
        columns = list(dict.fromkeys(name for answer in answers for name in answer))
        rows = [[answer.get(name) for name in columns] for answer in answers]
        return pd.DataFrame(rows, columns=columns, dtype=object)


class ServingError(MlflowException):
    """An error message for the client.

    MLflow's server would put the request, whole videos in some formats, before the message.
    """

    def __init__(self, message: str, *, error_code: int = INVALID_PARAMETER_VALUE) -> None:
        super().__init__(message, error_code=error_code)
        self._client_message = message

    def serialize_as_json(self) -> str:
        """Return the body of the answer."""
        self.message = self._client_message
        return str(super().serialize_as_json())  # type: ignore[no-untyped-call]


mlflow.models.set_model(VideoModel())  # MLflow finds the model in this file by this call

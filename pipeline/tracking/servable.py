"""The classifier as MLflow serves it: videos in, class probabilities out.

MLflow logs this file as the model ("models from code") and runs it wherever the model is
loaded; ``pipeline`` itself travels beside it (``code_paths``). See registry.py.
"""

from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from pipeline.base.errors import PipelineError
from pipeline.clips.metadata import ClipsMetadata
from pipeline.model.saving import load_classifier
from pipeline.serving.contract import RequestOptions, ServingConfig
from pipeline.serving.decoding import Decoder
from pipeline.serving.scoring import Scorer
from pipeline.serving.sources import source_of


class VideoClassifier(PythonModel):
    """Classifies video files, each through the preprocessing that the model carries.

    Input, one row a video: ``video`` (binary: the bytes of a video file) or ``path`` (string:
    a file below ``path_root``); the other one is empty or left out. With
    ``start_seconds`` or ``end_seconds`` (double, since the first frame), only that part.
    Params: ``top_k``, ``timeline`` and ``clips``, see RequestOptions.
    Output, one row a video: ``label`` (string), ``probability`` (double, of that label) and
    ``probabilities`` (map from class name to double); with ``timeline`` also ``timeline``, a
    list of ``start_seconds``, ``end_seconds`` and ``probabilities``.
    Config (``model_config``): see ServingConfig. Paths are off unless it names a folder.
    """

    def load_context(self, context: PythonModelContext) -> None:
        """Read the artifacts ``model`` (.keras) and ``metadata`` (classes, preprocessing)."""
        self._config = ServingConfig.from_json(context.model_config)
        metadata = ClipsMetadata.read(Path(context.artifacts["metadata"]))
        decoder = Decoder(
            metadata.preprocessing,
            timeout_seconds=self._config.timeout_seconds,
            processes=self._config.decoders,
        )
        self._scorer = Scorer(load_classifier(Path(context.artifacts["model"])), metadata, decoder)
        self._scorer.warm_up()

    def predict(
        self,
        context: PythonModelContext,  # noqa: ARG002
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,
    ) -> pd.DataFrame:
        """Return one row a video, in the order of the input.

        Raises:
            MlflowException: a row is no video, the message has its number, counted from 1; or
                there is no row, or none of the columns. A server answers with status 400.
        """
        if len(model_input) == 0:  # MLflow drops unknown columns, and with the last one the rows
            raise _bad_input("Expected one row a video, with the column video or path.")
        try:
            sources = [
                source_of(row, number=number, path_root=self._config.path_root)
                for number, row in enumerate(model_input.to_dict("records"), start=1)
            ]
            return pd.DataFrame(self._scorer.score(sources, RequestOptions.from_params(params)))
        except PipelineError as error:
            raise _bad_input(str(error)) from None


def _bad_input(message: str) -> MlflowException:
    return MlflowException(message, error_code=INVALID_PARAMETER_VALUE)


# How MLflow finds the model in this file; nothing imports the file for anything else.
mlflow.models.set_model(VideoClassifier())

"""The classifier as MLflow serves it: videos in, class probabilities out.

MLflow logs this file as the model ("models from code") and runs it wherever the model is
loaded; ``pipeline`` itself travels beside it (``code_paths``). See registry.py.
"""

import logging
import os
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR, INVALID_PARAMETER_VALUE
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from pipeline.base.errors import PipelineError
from pipeline.model.metadata import ClassifierMetadata
from pipeline.model.saving import load_classifier
from pipeline.serving.contract import RequestOptions, ServingConfig
from pipeline.serving.decoding import Decoder
from pipeline.serving.scoring import Scorer
from pipeline.serving.sources import source_of

logger = logging.getLogger(__name__)

# Faults of the machine, whatever the videos: a full disk, no memory, no processes.
_MACHINE_ERRORS = (OSError, MemoryError, BrokenProcessPool)


class VideoClassifier(PythonModel):
    """Classifies video files, each through the preprocessing that the model carries.

    Input, one row a video: ``video`` (binary: the bytes of a video file) or ``path`` (string:
    a file below ``path_root``); the other one is empty or left out. With
    ``start_seconds`` or ``end_seconds`` (double, since the first frame), only that part.
    Params: ``top_k``, ``timeline``, ``clips`` and ``keep_going``, see RequestOptions.
    Output, one row a video: ``label`` (string), ``probability`` (double, of that label) and
    ``probabilities`` (map from class name to double); ``confident`` (boolean: the probability
    is not below the model's threshold) where the model has one, which holds for as many clips
    as in training; with ``timeline`` also ``timeline``, a list of ``start_seconds``,
    ``end_seconds`` and ``probabilities``; with ``keep_going`` also ``error`` (string or None),
    beside which all else is None.
    Config (``model_config``): see ServingConfig. Paths are off unless it names a folder.
    """

    def load_context(self, context: PythonModelContext) -> None:
        """Read the artifacts ``model`` (.keras) and ``metadata`` (classes, preprocessing)."""
        self._config = ServingConfig.from_json(context.model_config)
        metadata = ClassifierMetadata.read(Path(context.artifacts["metadata"]))
        decoder = Decoder(
            metadata.preprocessing,
            timeout_seconds=self._config.timeout_seconds,
            processes=self._config.decoders,
        )
        self._scorer = Scorer(
            load_classifier(Path(context.artifacts["model"])),
            metadata,
            decoder,
            abstain_below=metadata.abstain_below,
        )
        self._scorer.warm_up()

    def predict(
        self,
        context: PythonModelContext,  # noqa: ARG002
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,
    ) -> pd.DataFrame:
        """Return one row a video, in the order of the input.

        Raises:
            Refusal: a row is no video, the message has its number, counted from 1; or there is
                no row, or none of the columns: a server answers with status 400. Or the machine
                failed: 500.
        """
        if len(model_input) == 0:  # MLflow drops unknown columns, and with the last one the rows
            raise Refusal("Expected one row a video, with the column video or path.")
        try:
            options = RequestOptions.from_params(params)
            sources = [
                source_of(row, number=number, path_root=self._config.path_root)
                for number, row in enumerate(model_input.to_dict("records"), start=1)
            ]
            rows = self._scorer.score(sources, options)
        except PipelineError as error:
            raise Refusal(str(error)) from None
        except _MACHINE_ERRORS as error:
            logger.exception("the machine failed")
            raise Refusal(
                f"The machine failed, not the request: {_without_paths(error)}. Its log says more; "
                "frames are kept in TMPDIR while they are scored.",
                error_code=INTERNAL_ERROR,
            ) from None
        return _with_none(rows) if options.keep_going else pd.DataFrame(rows)


class Refusal(MlflowException):
    """A sentence for the client, who gets it as it is.

    MLflow's server would put the request before ``message``: whole videos, in some formats.
    """

    def __init__(self, sentence: str, *, error_code: int = INVALID_PARAMETER_VALUE) -> None:
        super().__init__(sentence, error_code=error_code)
        self._sentence = sentence

    def serialize_as_json(self) -> str:
        """Return what the server answers."""
        self.message = self._sentence
        return str(super().serialize_as_json())  # type: ignore[no-untyped-call]


def _without_paths(error: Exception) -> str:
    """Say what happened, and nothing of the folders of the machine."""
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    return type(error).__name__


def _with_none(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Make a table of rows with different keys: pandas would put NaN, which is no JSON."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    filled = [[row.get(name) for name in columns] for row in rows]
    return pd.DataFrame(filled, columns=columns, dtype=object)


# How MLflow finds the model in this file; nothing imports the file for anything else.
mlflow.models.set_model(VideoClassifier())

"""Where MLflow keeps runs and models, and plain words for what goes wrong on the way there."""

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import mlflow
import sqlalchemy
from mlflow import MlflowClient
from mlflow.entities import LifecycleStage
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from pipeline.base.errors import PipelineError

EXPERIMENT = "video-classifier"

RESTORE = (
    "After the store was deleted, the last model comes back with: "
    "dvc repro --force --single-item evaluate register"
)

# Error codes of MLflow for a model, a version, an alias or a run that does not exist.
MISSING = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")

_DATABASE = Path("mlflow.db")
_ARTIFACTS = Path("mlartifacts")
_URI_VARIABLE = "MLFLOW_TRACKING_URI"
# The UI opens on pages for language models otherwise.
_TRAINING_VIEW = {"mlflow.experimentKind": "custom_model_development"}
_SERVERS = ("http", "https")
_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")

# MLflow's own defaults wait four minutes for a server that refuses connections, and a quarter
# of an hour for one that does not answer.
_DEFAULTS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",  # seconds
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}


def store_uri() -> str:
    """Return ``MLFLOW_TRACKING_URI``, or a database file in the current folder without it."""
    return os.environ.get(_URI_VARIABLE) or _default_uri()


def connect() -> MlflowClient:
    """Point MLflow at the store, quietly and with little patience; make it if it is a new file.

    Raises:
        PipelineError: the store cannot be opened.
    """
    if "MLFLOW_LOGGING_LEVEL" not in os.environ:
        logging.getLogger("mlflow").setLevel(logging.WARNING)
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    uri = store_uri()
    is_given = _URI_VARIABLE in os.environ
    with mlflow_errors():
        if uri.startswith(_DATABASES):
            _open_database(uri)
        mlflow.set_tracking_uri(uri)
        if not is_given:
            # MLflow exports what it was told. A child process in another folder must not
            # take this folder's store for the user's choice.
            os.environ.pop(_URI_VARIABLE, None)
        return MlflowClient()


def experiment_id(client: MlflowClient, name: str) -> str:
    """Return the id of an experiment, which is made when it does not exist.

    Raises:
        PipelineError: the experiment was deleted, or the folder with the store was moved.
    """
    is_default = store_uri() == _default_uri()
    artifacts = _ARTIFACTS.resolve().as_uri() if is_default else None
    with mlflow_errors():
        experiment = client.get_experiment_by_name(name)
        if experiment is None:
            return str(
                client.create_experiment(name, artifact_location=artifacts, tags=_TRAINING_VIEW)
            )
    if experiment.lifecycle_stage == LifecycleStage.DELETED:
        number = experiment.experiment_id
        raise PipelineError(
            f"MLflow at {shown_uri()}: the experiment {name} was deleted, but its name is not "
            f"free. Restore it with: mlflow experiments restore --experiment-id {number}, or "
            f"remove it for good with: mlflow gc --experiment-ids {number}"
        )
    if is_default and experiment.artifact_location != artifacts:
        raise PipelineError(
            f"{_DATABASE} keeps its files in {experiment.artifact_location}, expected {artifacts}: "
            f"this folder was moved or copied. Move it back, or delete {_DATABASE} and "
            f"{_ARTIFACTS}. {RESTORE}"
        )
    return str(experiment.experiment_id)


@contextmanager
def mlflow_errors() -> Iterator[None]:
    """Turn what MLflow and its store raise into a PipelineError of one sentence and a remedy."""
    try:
        yield
    except (MlflowException, SQLAlchemyError, ImportError, OSError) as error:
        raise PipelineError(f"MLflow at {shown_uri()}: {_reason(error)}. {_remedy()}") from error


def shown_uri() -> str:
    """Return the store's address for messages, without its password."""
    try:
        return sqlalchemy.make_url(store_uri()).render_as_string(hide_password=True)
    except ArgumentError:  # a folder, or a name such as "databricks"
        return store_uri()


def _default_uri() -> str:
    return f"sqlite:///{_DATABASE.resolve()}"


@cache
def _open_database(uri: str) -> None:
    """Fail at once where MLflow would try again and again for a minute and a half."""
    engine = sqlalchemy.create_engine(uri)
    try:
        sqlalchemy.inspect(engine).get_table_names()
    finally:
        engine.dispose()


def _remedy() -> str:
    if store_uri().startswith(_SERVERS):
        return f"Start the server, or correct or unset {_URI_VARIABLE}."
    if store_uri() == _default_uri():
        return f"If its files are damaged, delete {_DATABASE} and {_ARTIFACTS}. {RESTORE}"
    return f"Correct or unset {_URI_VARIABLE}."


def _reason(error: Exception) -> str:
    """Return the first line, and of a failed connection what the system said of it."""
    lines = str(error).strip().splitlines()
    connection = re.search(r"\(Caused by \w+\([\"'].*?: (.*)[\"']\)\)", str(error))
    reason = connection[1] if connection else lines[0] if lines else type(error).__name__
    return reason.rstrip(".")

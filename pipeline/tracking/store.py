"""The MLflow store: its address, its experiment and its error messages."""

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import mlflow
import requests
import sqlalchemy
from mlflow import MlflowClient
from mlflow.entities import LifecycleStage
from mlflow.exceptions import ERROR_CODE_TO_HTTP_STATUS, MlflowException, RestException
from sqlalchemy.exc import ArgumentError, InterfaceError, OperationalError, SQLAlchemyError

from pipeline.common.errors import PipelineError, first_line

EXPERIMENT = "video-classifier"

RESTORE = (
    "After the store was deleted, log and register the last model again with: "
    "dvc repro --force --single-item register"
)

# MLflow's error codes for a missing run, and for a missing model, version or alias.
GONE = "RESOURCE_DOES_NOT_EXIST"
MISSING = (GONE, "INVALID_PARAMETER_VALUE")

_DATABASE = Path("mlflow.db")
_ARTIFACTS = Path("mlartifacts")
_URI_VARIABLE = "MLFLOW_TRACKING_URI"
# Without this tag the UI opens on pages for language models.
_EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}
_SERVERS = ("http", "https")
_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")

_SERVER_FAILURE = 500  # the smallest HTTP status of one
_NO_ANSWER = (
    ConnectionError,
    TimeoutError,
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.ChunkedEncodingError,  # the connection broke
    requests.exceptions.RetryError,  # HTTP 5xx at every try
)
# Errors that databases report like a lost connection.
_REFUSED_BY_DATABASE = re.compile(
    r"authentication failed|no password supplied|access denied|permission denied|"
    r"does not exist|readonly database|login failed|unknown database|no pg_hba.conf entry",
    re.IGNORECASE,
)

# MLflow's own defaults wait four minutes for a server that refuses connections, and fifteen for
# one that does not answer.
_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",  # seconds
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}


class StoreUnreachableError(PipelineError):
    """The MLflow store fails, but may answer later: no connection, a timeout, HTTP 5xx.

    A refused request is another error: a wrong password, a missing permission, a deleted run.
    """


def store_uri() -> str:
    """Return ``MLFLOW_TRACKING_URI``; without it, a database file in the current folder."""
    return os.environ.get(_URI_VARIABLE) or _default_uri()


def connect() -> MlflowClient:
    """Set MLflow's store and return a client; create the database file if it is missing.

    Raises:
        PipelineError: the store cannot be opened.
    """
    if "MLFLOW_LOGGING_LEVEL" not in os.environ:
        logging.getLogger("mlflow").setLevel(logging.WARNING)
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    uri = store_uri()
    is_given = _URI_VARIABLE in os.environ
    with mlflow_errors():
        if uri.startswith(_DATABASES):
            _open_database(uri)
        mlflow.set_tracking_uri(uri)
        if not is_given:
            # set_tracking_uri sets the variable; a child process in another folder would use it.
            os.environ.pop(_URI_VARIABLE, None)
        return MlflowClient()


def experiment_id(client: MlflowClient, name: str) -> str:
    """Return the id of an experiment; create the experiment if it does not exist.

    Raises:
        PipelineError: the experiment was deleted, or the folder with the store was moved.
    """
    is_default = store_uri() == _default_uri()
    artifacts = _ARTIFACTS.resolve().as_uri() if is_default else None
    with mlflow_errors():
        experiment = client.get_experiment_by_name(name)
        if experiment is None:
            return str(
                client.create_experiment(name, artifact_location=artifacts, tags=_EXPERIMENT_TAGS)
            )
    if experiment.lifecycle_stage == LifecycleStage.DELETED:
        number = experiment.experiment_id
        raise PipelineError(
            f"MLflow at {shown_uri()}: the experiment {name} was deleted; its name is reserved. "
            f"Restore it with: mlflow experiments restore --experiment-id {number}, or "
            f"delete it for good with: mlflow gc --experiment-ids {number}"
        )
    if is_default and experiment.artifact_location != artifacts:
        raise PipelineError(
            f"{_DATABASE}: this folder was moved or copied. Expected files in {artifacts}. "
            f"Received: {experiment.artifact_location}. Move the folder back, or delete "
            f"{_DATABASE} and {_ARTIFACTS}. {RESTORE}"
        )
    return str(experiment.experiment_id)


@contextmanager
def mlflow_errors() -> Iterator[None]:
    """Turn errors of MLflow and its store into a PipelineError: address, reason, remedy.

    Raises:
        StoreUnreachableError: the store fails, but may answer later.
        PipelineError: any other error.
    """
    try:
        yield
    except (MlflowException, SQLAlchemyError, ImportError, OSError) as error:
        reason = _reason(error)
        kind = StoreUnreachableError if _is_outage(error) else PipelineError
        raise kind(f"MLflow at {shown_uri()}: {reason}. {_remedy(reason)}") from error


def shown_uri() -> str:
    """Return the address of the store for messages, without its password."""
    try:
        return sqlalchemy.make_url(store_uri()).render_as_string(hide_password=True)
    except ArgumentError:  # a folder, or a name such as "databricks"
        return store_uri()


def _default_uri() -> str:
    return f"sqlite:///{_DATABASE.resolve()}"


@cache
def _open_database(uri: str) -> None:
    """Raise when the database cannot be opened; MLflow would retry for 90 seconds."""
    engine = sqlalchemy.create_engine(uri)
    try:
        sqlalchemy.inspect(engine).get_table_names()
    finally:
        engine.dispose()


def _is_outage(error: BaseException | None) -> bool:
    """Return whether the store may answer later.

    MLflow wraps the errors of ``requests`` and SQLAlchemy; its own code for most of them is
    INTERNAL_ERROR.
    """
    if isinstance(error, requests.exceptions.SSLError):  # such as an untrusted certificate
        return False
    if isinstance(error, requests.HTTPError):
        return error.response is not None and error.response.status_code >= _SERVER_FAILURE
    if isinstance(error, (OperationalError, InterfaceError)):
        return not _REFUSED_BY_DATABASE.search(str(error))
    if isinstance(error, RestException):
        code = str(error.json.get("error_code"))
        return ERROR_CODE_TO_HTTP_STATUS.get(code, 0) >= _SERVER_FAILURE
    if isinstance(error, MlflowException):
        status = re.search(r"failed with error code (\d+)", str(error))
        if status:
            return int(status[1]) >= _SERVER_FAILURE
        return _is_outage(error.__cause__ or error.__context__)
    return isinstance(error, _NO_ANSWER)


def _reason(error: Exception) -> str:
    """Return the first line of the message; of a failed connection, its cause."""
    connection = re.search(r"\(Caused by \w+\([\"'].*?: (.*)[\"']\)\)", str(error))
    reason = connection[1] if connection else first_line(error)
    return reason.rstrip(".")


def _remedy(reason: str) -> str:
    if store_uri().startswith(_SERVERS):
        if "Invalid Host header" in reason:
            host = urlsplit(store_uri()).netloc.rpartition("@")[2]
            return f"Add {host} to --allowed-hosts of mlflow server, or correct {_URI_VARIABLE}."
        if re.search(r"error code (401|403)\b|\b(401|403) Client Error", reason):
            return (
                "Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD to an account that may "
                "do this."
            )
        return f"Start the server, or correct or unset {_URI_VARIABLE}."
    if store_uri() == _default_uri():
        return f"If its files are damaged, delete {_DATABASE} and {_ARTIFACTS}. {RESTORE}"
    return f"Correct or unset {_URI_VARIABLE}."

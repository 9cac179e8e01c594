"""Which videos a registered model has seen: every training run carries its catalog."""

import logging
import tempfile
from collections.abc import Collection
from pathlib import Path

import mlflow
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from pipeline.catalog.records import Split, read_catalog
from pipeline.tracking.store import connect, mlflow_errors

logger = logging.getLogger(__name__)

CATALOG = "catalog.csv"
LEDGER = "index.csv"
BRIGHTNESS = "brightness.csv"

_TRAINING: tuple[Split, ...] = ("train",)
_FOLDER = "data"  # of the run's artifacts
_GONE = "RESOURCE_DOES_NOT_EXIST"


def log_catalog(run_id: str, path: Path) -> None:
    """Make the catalog an artifact of a run, as ``log_data``."""
    log_data(run_id, path, name=CATALOG)


def log_data(run_id: str, path: Path, *, name: str) -> None:
    """Make a table of the data the artifact ``data/<name>`` of a run, unless the run has one.

    The first one is kept: it lay there when the model was trained. A table that is not on
    disk is a warning, because the model can do without.

    Args:
        name: ``catalog.csv``, ``index.csv`` (the ledger of the frames) or ``brightness.csv``.

    Raises:
        PipelineError: the store cannot be opened or written.
    """
    client = connect()
    with mlflow_errors():
        if _has(client, run_id, name):
            return
        if not path.exists():
            logger.warning("%s: no such file, so the run does not say what it saw.", path)
            return
        with tempfile.TemporaryDirectory() as folder:
            named = Path(folder, name)
            named.write_bytes(path.read_bytes())
            client.log_artifact(run_id, str(named), _FOLDER)


def has_data(run_id: str, name: str) -> bool:
    """Tell whether a run has the table ``name`` already."""
    client = connect()
    with mlflow_errors():
        return _has(client, run_id, name)


def recorded_data(version: ModelVersion, name: str, folder: Path) -> Path | None:
    """Copy the table ``name`` of the run that made a version into ``folder``; return its path.

    Returns:
        None when the run has no such table, or is gone.

    Raises:
        PipelineError: the store cannot be opened or read.
    """
    run_id = version.run_id
    if not run_id:
        return None
    client = connect()
    with mlflow_errors():
        if not _has(client, run_id, name):
            return None
        copied = mlflow.artifacts.download_artifacts(
            run_id=run_id, artifact_path=f"{_FOLDER}/{name}", dst_path=str(folder)
        )
    return Path(copied)


def trained_on(
    version: ModelVersion, *, splits: Collection[Split] = _TRAINING
) -> frozenset[str] | None:
    """Return the content hashes (SHA-256) of the videos that a version was trained on.

    Args:
        version: of a registered model.
        splits: as they were then. ``val`` chose the epoch and the temperature.

    Returns:
        None when its run has no catalog, or is gone. A video that was quarantined is among
        the hashes although no frame of it was seen.

    Raises:
        PipelineError: the store cannot be opened or read.
    """
    with tempfile.TemporaryDirectory() as folder:
        catalog = recorded_data(version, CATALOG, Path(folder))
        if catalog is None:
            return None
        entries = read_catalog(catalog)
    return frozenset(entry.sha256 for entry in entries if entry.split in splits and entry.sha256)


def _has(client: MlflowClient, run_id: str, name: str) -> bool:
    try:
        files = client.list_artifacts(run_id, _FOLDER)
    except MlflowException as error:
        if error.error_code != _GONE:
            raise
        return False
    return f"{_FOLDER}/{name}" in [file.path for file in files]

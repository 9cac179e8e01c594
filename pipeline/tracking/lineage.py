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

_TRAINING: tuple[Split, ...] = ("train",)
_FOLDER = "data"  # of the run's artifacts
_NAME = "catalog.csv"
_GONE = "RESOURCE_DOES_NOT_EXIST"


def log_catalog(run_id: str, path: Path) -> None:
    """Make the catalog the artifact ``data/catalog.csv`` of a run, unless the run has one.

    The first one is kept: it lay there when the model was trained. A catalog that is not on
    disk is a warning, because the model can do without.

    Raises:
        PipelineError: the store cannot be opened or written.
    """
    client = connect()
    with mlflow_errors():
        if _has_catalog(client, run_id):
            return
        if not path.exists():
            logger.warning("%s: no such file, so the run does not say what it saw.", path)
            return
        with tempfile.TemporaryDirectory() as folder:
            named = Path(folder, _NAME)
            named.write_bytes(path.read_bytes())
            client.log_artifact(run_id, str(named), _FOLDER)


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
    client = connect()
    run_id = version.run_id
    if not run_id:
        return None
    with mlflow_errors(), tempfile.TemporaryDirectory() as folder:
        if not _has_catalog(client, run_id):
            return None
        catalog = mlflow.artifacts.download_artifacts(
            run_id=run_id, artifact_path=f"{_FOLDER}/{_NAME}", dst_path=folder
        )
        entries = read_catalog(Path(catalog))
    return frozenset(entry.sha256 for entry in entries if entry.split in splits and entry.sha256)


def _has_catalog(client: MlflowClient, run_id: str) -> bool:
    try:
        files = client.list_artifacts(run_id, _FOLDER)
    except MlflowException as error:
        if error.error_code != _GONE:
            raise
        return False
    return f"{_FOLDER}/{_NAME}" in [file.path for file in files]

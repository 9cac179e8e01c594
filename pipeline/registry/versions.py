"""Versions of the registered model: names, files, and the videos that a version was trained on."""

import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

import mlflow
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from pipeline.common.errors import PipelineError
from pipeline.common.files import output_file, read_csv, replacing_folder
from pipeline.common.paths import MODEL, MODEL_METADATA
from pipeline.common.records import VideoRecord, read_catalog, read_decoded
from pipeline.common.tables import shorten_list
from pipeline.tracking.results import CATALOG, DATA, DECODE_INDEX, has_data
from pipeline.tracking.store import MISSING, RESTORE, connect, mlflow_errors, shown_uri

T = TypeVar("T")

CHALLENGER = "challenger"  # alias of the version that was registered last
CHAMPION = "champion"  # alias of the version that passed the gate: docs/promotion.md

_SHORT_NAME = re.compile(r"(?P<number>\d+)|@(?P<alias>[^/:@]+)")
_LONG_NAME = re.compile(r"(?:models:/)?(?P<name>[^/:@]+)(?:/(?P<number>\d+)|@(?P<alias>[^/:@]+))")
_SAVED_MODEL = "saved_model"
_EXPORTED = sorted([MODEL.name, MODEL_METADATA.name, _SAVED_MODEL])


class TrainingVideos(NamedTuple):
    """Content hashes (SHA-256) and names of the groups of the videos of a training."""

    contents: frozenset[str]
    groups: frozenset[str]


def find_version(text: str, *, name: str) -> ModelVersion:
    """Return the version that ``text`` names.

    Args:
        text: ``3``, ``@champion``, ``name@champion``, ``name/3`` or ``models:/name/3``.
        name: of the registered model, for a ``text`` that leaves it out.

    Raises:
        PipelineError: there is no such version; lists those that exist.
    """
    version = lookup_version(text, name=name)
    if version is not None:
        return version
    client = connect()
    with mlflow_errors():
        versions = client.search_model_versions(f"name = '{name}'")
    numbers = sorted((int(version.version) for version in versions), reverse=True)
    if numbers:
        aliases = if_exists(lambda client: client.get_registered_model(name).aliases) or {}
        noun = "version" if len(numbers) == 1 else "versions"
        listed = f"{name} has the {noun} {shorten_list([*map(str, numbers)], shown=10)}"
        listed += f"; aliases: {', '.join(f'@{alias}' for alias in sorted(aliases)) or 'none'}."
        if text.endswith(f"@{CHAMPION}"):
            listed += " Name one of these, or make one champion with: vidpipe promote"
    else:
        listed = f"{name} has no versions. Register one with: vidpipe repro. {RESTORE}"
    raise PipelineError(
        f"MLflow at {shown_uri()} has no version {text!r}. Expected a version such as 3, "
        f"@{CHAMPION}, {name}@{CHAMPION}, {name}/3 or models:/{name}/3. {listed}"
    )


def version_number(text: str, *, name: str) -> int:
    """Return the number of a version of ``name``, also when it was deleted.

    Raises:
        PipelineError: as ``find_version``, or it is a version of another registered model.
    """
    if text.isdecimal():
        return int(text)
    version = find_version(text, name=name)
    if version.name != name:
        raise PipelineError(f"Expected a version of {name} (register.name). Received: {text}")
    return int(version.version)


def lookup_version(text: str, *, name: str) -> ModelVersion | None:
    """Return the version that ``text`` names, as ``find_version``; None if there is none."""
    parts = _SHORT_NAME.fullmatch(text) or _LONG_NAME.fullmatch(text)
    if parts is None:
        return None
    name = parts.groupdict().get("name") or name
    if parts["alias"]:
        return version_with_alias(name, parts["alias"])
    return if_exists(lambda client: client.get_model_version(name, parts["number"]))


def version_with_alias(name: str, alias: str) -> ModelVersion | None:
    """Return the version of the registered model with this alias; None if there is none."""
    return if_exists(lambda client: client.get_model_version_by_alias(name, alias))


def existing_version(name: str, number: int) -> ModelVersion | None:
    """Return a version by its number; None if the version or its files were deleted."""
    version = lookup_version(str(number), name=name)
    if version is None:
        return None
    with mlflow_errors():
        return version if mlflow.artifacts.list_artifacts(version_uri(version)) else None


def if_exists(read: Callable[[MlflowClient], T]) -> T | None:
    """Return what ``read`` returns; None when the store has no such model, version or alias."""
    client = connect()
    with mlflow_errors():
        try:
            return read(client)
        except MlflowException as error:
            if error.error_code not in MISSING:
                raise
            return None


def version_uri(version: ModelVersion) -> str:
    """Return the address of a version, such as ``models:/video-classifier/3``."""
    return f"models:/{version.name}/{version.version}"


def version_title(version: ModelVersion) -> str:
    """Return a version for people, such as ``video-classifier version 3 @champion``."""
    aliases = "".join(f" @{alias}" for alias in sorted(version.aliases))
    return f"{version.name} version {version.version}{aliases}"


def version_file(version: ModelVersion, filename: str) -> Path:
    """Return the path of a file of a version, such as ``model.keras``.

    Raises:
        PipelineError: the version has no such file.
    """
    uri = f"{version_uri(version)}/artifacts"
    connect()
    with mlflow_errors():
        files = mlflow.artifacts.list_artifacts(uri)
        if filename in [Path(file.path).name for file in files]:
            return Path(mlflow.artifacts.download_artifacts(f"{uri}/{filename}"))
    raise PipelineError(
        f"MLflow at {shown_uri()}: {version_title(version)} has no file {filename}. Its files were "
        f"deleted, or older code registered it. Register it again with: vidpipe repro. {RESTORE}"
    )


def recorded_records(version: ModelVersion) -> list[VideoRecord] | None:
    """Return the catalog and the decode facts that the run of a version recorded.

    None when the run has no catalog or is gone. Facts are None when it has no decode index.
    """
    with tempfile.TemporaryDirectory() as folder:
        catalog = _recorded_file(version, CATALOG, Path(folder))
        if catalog is None:
            return None
        index = _recorded_file(version, DECODE_INDEX, Path(folder))
        return read_catalog(catalog) if index is None else read_decoded(catalog, index)


def refuse_other_task(version: ModelVersion, task_type: str) -> None:
    """Refuse a version whose run recorded another ``task.type``.

    Raises:
        PipelineError: it did. A run that is gone, or recorded none, is accepted.
    """
    run_id = version.run_id
    run = if_exists(lambda client: client.get_run(run_id)) if run_id else None
    recorded = None if run is None else run.data.params.get("task.type")
    if recorded not in (None, task_type):
        raise PipelineError(
            f"{version_title(version)}: expected a model for {task_type} (task.type), as all "
            f"versions of one registered model have one task. Received: a model for {recorded}. "
            "Set register.name in params.yaml to another name, and run: vidpipe repro"
        )


def trained_on(version: ModelVersion) -> TrainingVideos | None:
    """Return the videos that a version was trained on; None without their catalog.

    Videos of the validation split are included, because they chose the epoch and the
    calibration; quarantined videos too.
    """
    with tempfile.TemporaryDirectory() as folder:
        catalog = _recorded_file(version, CATALOG, Path(folder))
        if catalog is None:
            return None
        rows = [row for row in read_csv(catalog) if row["split"] in ("train", "val")]
    return TrainingVideos(
        frozenset(row["sha256"] for row in rows if row["sha256"]),
        frozenset(row["group"] for row in rows if row["group"]),
    )


def _recorded_file(version: ModelVersion, filename: str, folder: Path) -> Path | None:
    """Copy a table of the run of a version into ``folder``; None if the run has no such table."""
    if not version.run_id or not has_data(version.run_id, filename):
        return None
    with mlflow_errors():
        copied = mlflow.artifacts.download_artifacts(
            run_id=version.run_id, artifact_path=f"{DATA}/{filename}", dst_path=str(folder)
        )
    return Path(copied)


def export_version(version: ModelVersion, folder: Path) -> None:
    """Write a version as files that need no MLflow: Keras model, metadata and SavedModel.

    Raises:
        PipelineError: ``folder`` is a file, or holds anything but an earlier export, which is
            replaced.
    """
    content = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    if (folder.exists() and not folder.is_dir()) or content not in ([], _EXPORTED):
        received = f"a folder with {', '.join(content[:5])}" if content else "a file"
        raise PipelineError(
            f"{folder}: expected a folder that is new, empty or an earlier export, which is "
            f"replaced. Received: {received}"
        )
    if not folder.exists():
        output_file(folder)
    from pipeline.model.saving import export_saved_model, load_model  # imports TensorFlow

    with replacing_folder(folder) as exported:
        for file in (MODEL.name, MODEL_METADATA.name):
            shutil.copy(version_file(version, file), exported / file)
        export_saved_model(load_model(exported / MODEL.name), exported / _SAVED_MODEL)

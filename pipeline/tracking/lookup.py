"""From what people call a run or a version to the run and what it was evaluated to."""

import re
import time
from dataclasses import dataclass
from pathlib import Path

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from pipeline.base.errors import PipelineError
from pipeline.tracking.scores import EVALUATION, SETTINGS
from pipeline.tracking.store import EXPERIMENT, MISSING, connect, mlflow_errors, shown_uri

# models:/name/3, name/3, models:/name@alias, name@alias, @alias
_VERSION = re.compile(r"(?:models:/)?(?P<name>[^/:@]+)?(?:/(?P<version>\d+)|@(?P<alias>[^/:@]+))")
_RUN_ID = re.compile(r"(?:runs:/)?(?P<run_id>[0-9a-f]{32})")


@dataclass(frozen=True)
class FoundRun:
    """A run, and what to call it.

    Attributes:
        params: that made the model, and ``evaluate.*`` of its last evaluation.
    """

    run_id: str
    title: str
    params: dict[str, str]


def find_run_of_version(text: str, *, model_name: str) -> FoundRun | None:
    """Return the run of a registered version; None where ``text`` names no version.

    Args:
        text: ``name/3``, ``models:/name/3``, ``name@alias`` or ``@alias``.
        model_name: of the registered model that ``@alias`` is looked up in.

    Raises:
        PipelineError: it is a version or an alias that does not exist, or its run is gone.
    """
    found = _VERSION.fullmatch(text)
    if found is None:
        return None
    name = found["name"] or model_name
    client = connect()
    with mlflow_errors():
        try:
            version = (
                client.get_model_version(name, found["version"])
                if found["version"]
                else client.get_model_version_by_alias(name, found["alias"])
            )
        except MlflowException as error:
            if error.error_code not in MISSING:
                raise
            if _is_clear(text):
                raise PipelineError(f"MLflow at {shown_uri()} has no {text}.") from None
            return None  # a branch may be called feature/3
        run = _get_run(client, version.run_id) if version.run_id else None
    if run is None:
        raise PipelineError(f"{_title(version)}: its run {version.run_id} is gone.")
    return _found(run, f"{_title(version)}, run {run.info.run_name}")


def find_run_by_name(text: str) -> FoundRun | None:
    """Return the run with this id (also as ``runs:/id``) or name; None if there is none.

    Raises:
        PipelineError: several runs have the name.
    """
    client = connect()
    if as_id := _RUN_ID.fullmatch(text):
        with mlflow_errors():
            run = _get_run(client, as_id["run_id"])
        return _found(run, _run_title(run)) if run else None
    quote = '"' if "'" in text else "'"
    if quote in text:
        raise PipelineError(f"a run named {text} cannot be searched for: give its id.")
    with mlflow_errors():
        experiment = client.get_experiment_by_name(EXPERIMENT)
        if experiment is None:
            return None
        runs = client.search_runs(
            [experiment.experiment_id], f"attributes.run_name = {quote}{text}{quote}"
        )
    if len(runs) > 1:
        listed = ", ".join(f"{run.info.run_id} of {_started(run)}" for run in runs[:10])
        raise PipelineError(f"{len(runs)} runs are named {text}. Give the id of one: {listed}")
    return _found(runs[0], _run_title(runs[0])) if runs else None


def download_evaluation(run_id: str, name: str, folder: Path) -> Path:
    """Copy ``evaluation/<name>`` of a run into ``folder``; return where it is.

    Raises:
        PipelineError: the run has no such file, or the store cannot be read.
    """
    path = f"{EVALUATION}/{name}"
    client = connect()
    with mlflow_errors():
        if path not in [file.path for file in client.list_artifacts(run_id, EVALUATION)]:
            raise PipelineError(
                f"Run {run_id} has no {path}: it was not evaluated, or before such files were "
                "kept. Check its model out and run: dvc repro --force --single-item evaluate"
            )
        return Path(
            mlflow.artifacts.download_artifacts(
                run_id=run_id, artifact_path=path, dst_path=str(folder)
            )
        )


def _is_clear(text: str) -> bool:
    return text.startswith(("models:/", "@"))


def _get_run(client: MlflowClient, run_id: str) -> Run | None:
    try:
        return client.get_run(run_id)
    except MlflowException as error:
        if error.error_code not in MISSING:
            raise
        return None


def _found(run: Run, title: str) -> FoundRun:
    settings = {key: value for key, value in run.data.tags.items() if key.startswith(SETTINGS)}
    return FoundRun(run.info.run_id, title, {**run.data.params, **settings})


def _title(version: ModelVersion) -> str:
    aliases = "".join(f" @{alias}" for alias in sorted(version.aliases))
    return f"{version.name} version {version.version}{aliases}"


def _run_title(run: Run) -> str:
    return f"run {run.info.run_name} of {_started(run)}"


def _started(run: Run) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(run.info.start_time / 1000))

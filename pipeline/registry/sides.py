"""The sides of a comparison: an evaluated model by the name of a version, run or git revision."""

import re
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import mlflow
import yaml
from mlflow.entities import Run

from pipeline.common.errors import PipelineError
from pipeline.common.paths import PARAMS, PREDICTIONS, TABLES
from pipeline.common.settings import flatten_as_text
from pipeline.evaluation.predictions import Predictions
from pipeline.registry.versions import find_version, lookup_version, version_title
from pipeline.tasks.settings import TaskSection
from pipeline.tracking.provenance import git_output
from pipeline.tracking.results import EVALUATION, SETTINGS
from pipeline.tracking.runs import existing_run
from pipeline.tracking.store import EXPERIMENT, connect, mlflow_errors

WORKSPACE = "workspace"  # the name that DVC uses too

_RUN_ID = re.compile(r"(?:runs:/)?(?P<run_id>[0-9a-f]{32})")


@dataclass(frozen=True)
class Side:
    """An evaluated model: its title, its predictions of the test videos, its params.

    Attributes:
        params: dotted key -> value as JSON.
    """

    title: str
    predictions: Predictions
    params: dict[str, str]


def find_side(text: str, *, name: str) -> Side:
    """Return the evaluated model that ``text`` names; the first of these that exists.

    1. ``workspace``: the results in eval/.
    2. A registered version: ``3``, ``@champion``, ``name@alias``, ``name/3``, ``models:/name/3``.
    3. A git revision: ``HEAD~1``, a branch, a tag, a commit.
    4. A run of MLflow: its id or its name.

    Args:
        name: of the registered model, for a version without it.

    Raises:
        PipelineError: none of them exists, or it has no predictions.
    """
    if text == WORKSPACE:
        return _side(WORKSPACE, PREDICTIONS, _params(PARAMS.read_text(encoding="utf-8")))
    if text.startswith(("@", "models:/")):  # nothing but a version
        find_version(text, name=name)
    if version := lookup_version(text, name=name):
        title = version_title(version)
        run = existing_run(version.run_id)
        if run is None:
            raise PipelineError(f"{title}: its run {version.run_id} is gone.")
        return _side_of_run(run, f"{title}, run {run.info.run_name}")
    if not text.startswith("-") and (
        commit := git_output("rev-parse", "--verify", "--quiet", f"{text}^{{commit}}")
    ):
        return _side_of_commit(commit)
    if run := _find_run(text):
        return _side_of_run(run, f"run {run.info.run_name} of {_started(run)}")
    raise PipelineError(
        f"Expected {WORKSPACE}, a registered version (3, @champion, {name}/3), a git revision "
        f"(HEAD~1), or the id or name of a run of MLflow. Received: {text}"
    )


def _find_run(text: str) -> Run | None:
    """Return the run with this id, also as ``runs:/id``, or with this name."""
    if as_id := _RUN_ID.fullmatch(text):
        return existing_run(as_id["run_id"])
    quote = '"' if "'" in text else "'"
    if quote in text:
        raise PipelineError(f"MLflow cannot search for a run with the name {text}. Give its id.")
    client = connect()
    with mlflow_errors():
        experiment = client.get_experiment_by_name(EXPERIMENT)
        if experiment is None:
            return None
        runs = client.search_runs(
            [experiment.experiment_id], f"attributes.run_name = {quote}{text}{quote}"
        )
    if len(runs) > 1:
        ids = ", ".join(f"{run.info.run_id} of {_started(run)}" for run in runs[:10])
        raise PipelineError(f"{len(runs)} runs have the name {text}. Give the id of one: {ids}")
    return runs[0] if runs else None


def _started(run: Run) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(run.info.start_time / 1000))


def _side_of_run(run: Run, title: str) -> Side:
    settings = {key: value for key, value in run.data.tags.items() if key.startswith(SETTINGS)}
    run_id, folder = run.info.run_id, f"{EVALUATION}/{TABLES.name}"
    path = f"{folder}/{PREDICTIONS.name}"
    client = connect()
    with tempfile.TemporaryDirectory() as temporary:
        with mlflow_errors():
            if path not in [file.path for file in client.list_artifacts(run_id, folder)]:
                raise PipelineError(
                    f"Run {run_id} has no {path}: its model was not evaluated. Check its model "
                    "out and run: dvc repro --force --single-item register"
                )
            copied = mlflow.artifacts.download_artifacts(
                run_id=run_id, artifact_path=path, dst_path=temporary
            )
        return _side(title, Path(copied), {**run.data.params, **settings})


def _side_of_commit(commit: str) -> Side:
    title = git_output("show", "--no-patch", "--format=commit %h: %s", commit) or commit
    content = git_output("show", f"{commit}:./{PREDICTIONS}") or _read_from_dvc(commit)
    if content is None:
        raise PipelineError(
            f"{title!r}: neither git nor DVC has its {PREDICTIONS}. Commit the results of each "
            "run: git add dvc.lock params.yaml eval models. Or compare with a version, such as "
            "@champion, or with a run."
        )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, PREDICTIONS.name)
        path.write_text(content, encoding="utf-8")
        return _side(title, path, _params(git_output("show", f"{commit}:./{PARAMS}") or ""))


def _read_from_dvc(commit: str) -> str | None:
    """Return the predictions of a commit from DVC's cache, where dvc.yaml keeps them there."""
    import dvc.api  # takes a second
    from dvc.exceptions import DvcException

    try:
        return str(dvc.api.read(str(PREDICTIONS), rev=commit, encoding="utf-8"))
    except (DvcException, FileNotFoundError):
        return None


def _side(title: str, predictions: Path, params: dict[str, str]) -> Side:
    task_type = params.get("task.type", TaskSection().type)
    return Side(title, Predictions.read_csv(predictions, task_type=task_type), params)


def _params(text: str) -> dict[str, str]:
    return flatten_as_text(yaml.safe_load(text) or {})

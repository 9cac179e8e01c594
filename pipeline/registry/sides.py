"""The sides of a comparison: evaluated models, found by the names that users give them."""

import re
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import yaml
from mlflow.entities import Run

from pipeline.common.errors import PipelineError
from pipeline.common.paths import CATALOG, DECODE_INDEX, PARAMS, PREDICTIONS, TABLES
from pipeline.common.settings import flatten_as_text
from pipeline.evaluation.predictions import Predictions
from pipeline.registry.versions import find_version, lookup_version, version_title
from pipeline.tasks.settings import TaskSection
from pipeline.tracking.evaluations import (
    EVALUATION,
    digest_of_test_data,
    evaluation_file,
    recorded_evaluations,
)
from pipeline.tracking.provenance import git_output
from pipeline.tracking.runs import existing_run
from pipeline.tracking.store import EXPERIMENT, connect, mlflow_errors

_RUN_ID = re.compile(r"(?:runs:/)?(?P<run_id>[0-9a-f]{32})")


@dataclass(frozen=True)
class Side:
    """An evaluated model: its title, its predictions of the test videos, its params.

    Attributes:
        params: dotted key -> value as JSON.
        test_data: digest of the test videos; None when unknown.
    """

    title: str
    predictions: Predictions
    params: dict[str, str]
    test_data: str | None = None


def find_side(text: str, *, name: str, test_data: str | None = None) -> Side:
    """Return the evaluated model that ``text`` names.

    Names are tried in this order:

    1. ``workspace``, the name that DVC uses too: the results in eval/.
    2. A registered version: ``3``, ``@champion``, ``name@alias``, ``name/3``, ``models:/name/3``.
    3. A git revision: ``HEAD~1``, a branch, a tag, a commit.
    4. A run of MLflow: its id or its name.

    Args:
        name: of the registered model, for a version without it.
        test_data: digest of the test videos to prefer among the evaluations of a run; otherwise
            its last one.

    Raises:
        PipelineError: none of them exists, or it has no predictions.
    """
    if text == "workspace":
        digest = None
        with suppress(PipelineError):  # the tables are missing or being built
            digest = digest_of_test_data(CATALOG, DECODE_INDEX)
        params = PARAMS.read_text(encoding="utf-8")
        return _side(text, PREDICTIONS, params, test_data=digest)
    if text.startswith(("@", "models:/")):  # can only be a version, so a missing one is an error
        find_version(text, name=name)
    if version := lookup_version(text, name=name):
        title = version_title(version)
        run = existing_run(version.run_id)
        if run is None:
            raise PipelineError(
                f"{title}: its run {version.run_id} was deleted. Restore the run, or name another "
                "version."
            )
        return _side_of_run(run, f"{title}, run {run.info.run_name}", test_data)
    if not text.startswith("-") and (
        commit := git_output("rev-parse", "--verify", "--quiet", f"{text}^{{commit}}")
    ):
        return _side_of_commit(commit)
    if run := _find_run(text):
        return _side_of_run(run, f"run {run.info.run_name} of {_started(run)}", test_data)
    raise PipelineError(
        f"Expected workspace, a registered version (3, @champion, {name}/3), a git revision "
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


def _side_of_run(run: Run, title: str, test_data: str | None) -> Side:
    run_id = run.info.run_id
    evaluations = recorded_evaluations(run_id)
    if not evaluations:
        raise PipelineError(
            f"Run {run_id} has no {EVALUATION}: its model was not evaluated. Check its model out "
            "and run: dvc repro --force --single-item register"
        )
    on_test_data = [one for one in evaluations if one.test_data == test_data]
    evaluation = next(iter(on_test_data or evaluations))
    if evaluation is not evaluations[0]:
        title += f", evaluation of {evaluation.time[:16].replace('T', ' ')} UTC"
    with tempfile.TemporaryDirectory() as folder:
        predictions = evaluation_file(
            run_id, evaluation, f"{TABLES.name}/{PREDICTIONS.name}", Path(folder)
        )
        params = {**run.data.params, **evaluation.settings}
        return _side(title, predictions, params, test_data=evaluation.test_data)


def _side_of_commit(commit: str) -> Side:
    title = git_output("show", "--no-patch", "--format=commit %h: %s", commit) or commit
    content = git_output("show", f"{commit}:./{PREDICTIONS}") or _read_from_dvc(commit)
    if content is None:
        raise PipelineError(
            f"{title!r}: neither git nor DVC has its {PREDICTIONS}. Commit the results of each "
            "run: git add '*dvc.lock' params.yaml eval models. Or compare with a version, such as "
            "@champion, or with a run."
        )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, PREDICTIONS.name)
        path.write_text(content, encoding="utf-8")
        return _side(title, path, git_output("show", f"{commit}:./{PARAMS}") or "")


def _read_from_dvc(commit: str) -> str | None:
    """Return the predictions of a commit from DVC's cache, where dvc.yaml keeps them there."""
    import dvc.api  # takes a second
    from dvc.exceptions import DvcException

    try:
        return str(dvc.api.read(str(PREDICTIONS), rev=commit, encoding="utf-8"))
    except (DvcException, FileNotFoundError):
        return None


def _side(
    title: str, predictions: Path, params: dict[str, str] | str, *, test_data: str | None = None
) -> Side:
    """Read a side; ``params`` may be the text of params.yaml."""
    if isinstance(params, str):
        params = flatten_as_text(yaml.safe_load(params) or {})
    task_type = params.get("task.type", TaskSection().type)
    return Side(title, Predictions.read_csv(predictions, task_type=task_type), params, test_data)

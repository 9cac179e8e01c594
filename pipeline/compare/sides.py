"""The two sides of a comparison, by whatever name they are asked for."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import yaml

from pipeline.base.dotted import flat_params
from pipeline.base.errors import PipelineError
from pipeline.base.paths import PREDICTIONS
from pipeline.evaluation.predictions import Predictions
from pipeline.tracking.lookup import (
    FoundRun,
    download_evaluation,
    find_run_by_name,
    find_run_of_version,
)
from pipeline.tracking.provenance import git_output

WORKSPACE = "workspace"  # as DVC calls it

_PARAMS = Path("params.yaml")


@dataclass(frozen=True)
class Side:
    """An evaluated model: what it is called, what it said, what made it.

    Attributes:
        params: dotted key -> value, as in JSON.
    """

    title: str
    predictions: Predictions
    params: dict[str, str]


def find_side(asked: str, *, model_name: str) -> Side:
    """Find what ``asked`` names; the first of these that there is.

    1. ``workspace``: what lies in the folder.
    2. A registered version: ``name/3``, ``models:/name/3``, ``name@alias``, ``@champion``.
    3. A git revision: ``HEAD~1``, a branch, a tag, a commit.
    4. A run of MLflow: its id or its name.

    Args:
        asked: by the user.
        model_name: of the registered model that ``@champion`` is looked up in.

    Raises:
        PipelineError: there is none of them, or it has no predictions.
    """
    if asked == WORKSPACE:
        return Side("workspace", Predictions.read_csv(PREDICTIONS), _flat(_PARAMS.read_text()))
    if run := find_run_of_version(asked, model_name=model_name):
        return _side_of_run(run)
    if not asked.startswith("-") and (
        commit := git_output("rev-parse", "--verify", "--quiet", f"{asked}^{{commit}}")
    ):
        return _side_of_commit(commit)
    if run := find_run_by_name(asked):
        return _side_of_run(run)
    raise PipelineError(
        f"expected {WORKSPACE}, a registered version ({model_name}/3, @champion), a git "
        f"revision (HEAD~1), or the id or name of a run of MLflow. Received: {asked}"
    )


def _side_of_run(run: FoundRun) -> Side:
    with tempfile.TemporaryDirectory() as folder:
        path = download_evaluation(run.run_id, PREDICTIONS.name, Path(folder))
        return Side(run.title, Predictions.read_csv(path), run.params)


def _side_of_commit(commit: str) -> Side:
    title = git_output("show", "--no-patch", "--format=commit %h: %s", commit) or commit
    content = git_output("show", f"{commit}:./{PREDICTIONS}") or _kept_by_dvc(commit)
    if content is None:
        raise PipelineError(
            f"{title!r}: neither git nor DVC has {PREDICTIONS} of it. Commit results as they come: "
            "git add dvc.lock params.yaml eval models. Or compare with a version, such as "
            "@champion, or with a run in MLflow."
        )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, PREDICTIONS.name)
        path.write_text(content, encoding="utf-8")
        predictions = Predictions.read_csv(path)
    return Side(title, predictions, _flat(git_output("show", f"{commit}:./{_PARAMS}") or ""))


def _kept_by_dvc(commit: str) -> str | None:
    """Read the predictions where dvc.yaml lets DVC's cache keep them instead of git."""
    # Here, because it takes a second and is rarely needed.
    import dvc.api
    from dvc.exceptions import DvcException

    try:
        return str(dvc.api.read(str(PREDICTIONS), rev=commit, encoding="utf-8"))
    except (DvcException, FileNotFoundError):
        return None


def _flat(params_yaml: str) -> dict[str, str]:
    return flat_params(yaml.safe_load(params_yaml) or {})

"""A registered version made once more from its commit, and compared with what was registered."""

import logging
import math
import socket
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import mlflow
from dvc.repo import Repo

from pipeline.base.errors import PipelineError
from pipeline.base.files import read_json
from pipeline.base.paths import METRICS, MODEL
from pipeline.lineage.reproduction import restore_data, restore_params, train_again
from pipeline.lineage.trace import Trace
from pipeline.lineage.weights import WeightsComparison, compare_weights
from pipeline.lineage.worktree import worktree_at
from pipeline.tracking.provenance import UNKNOWN, git_output
from pipeline.tracking.store import connect, mlflow_errors

logger = logging.getLogger(__name__)

_RELATIVE, _ABSOLUTE = 1e-5, 1e-6  # another processor may round the last digits otherwise


@dataclass(frozen=True)
class Rebuilt:
    """What came out.

    metrics: name -> (registered, rebuilt); None: there is no such metric on that side.
    same_machine: whether the same weights are to be expected.
    remarks: what else to know, as sentences.
    """

    metrics: Mapping[str, tuple[float | None, float | None]]
    weights: WeightsComparison
    same_machine: bool
    remarks: tuple[str, ...]

    @property
    def other_metrics(self) -> list[str]:
        return [name for name, (a, b) in self.metrics.items() if not _agree(a, b)]

    @property
    def is_same(self) -> bool:
        """Whether the metrics are the same, and on the same machine the weights too."""
        return not self.other_metrics and (self.weights.are_same or not self.same_machine)


def rebuild(found: Trace, *, keep: Path | None = None) -> Rebuilt:
    """Make the model of a version again in a worktree at its commit, and compare.

    Args:
        found: of the version.
        keep: folder that the worktree stays in.

    Raises:
        PipelineError: commit or data cannot be had, a stage fails, or the registered model
            cannot be read.
    """
    if found.git_commit == UNKNOWN:
        raise PipelineError(
            f"{found.name} version {found.version}: its commit was not recorded, because it was "
            "trained outside a git repository."
        )
    with worktree_at(found.git_commit, keep=keep) as root, tempfile.TemporaryDirectory() as folder:
        registered = _registered_model(found, Path(folder))
        remarks = [*_remarks(found), *_params_remark(root, found)]
        remarks.append(restore_data(root, found, has_remote=_has_remote()))
        train_again(root)
        return Rebuilt(
            metrics=_side_by_side(found.metrics, read_json(root / METRICS)),
            weights=compare_weights(registered, root / MODEL),
            same_machine=found.host == socket.gethostname(),
            remarks=tuple(remarks),
        )


def _registered_model(found: Trace, folder: Path) -> Path:
    uri = f"models:/{found.name}/{found.version}"
    connect()
    with mlflow_errors():
        copied = mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(folder))
    models = list(Path(copied).rglob(f"*{MODEL.suffix}"))
    if len(models) != 1:
        raise PipelineError(f"{uri}: expected one {MODEL.suffix} file, found {len(models)}.")
    return models[0]


def _remarks(found: Trace) -> Iterator[str]:
    if found.git_dirty != "false":
        yield (
            "Files had changes that were not committed when it was trained (or nobody looked); "
            "code is rebuilt as committed."
        )
    if found.recreated:
        yield "Its run was made from files afterwards; it may have been trained at another commit."
    if git_output("diff", "--quiet", found.git_commit, "--", "requirements.txt") is None:
        yield "requirements.txt was another one at its commit; the packages of today are used."


def _params_remark(root: Path, found: Trace) -> Iterator[str]:
    changed = restore_params(root, found.params)
    if changed:
        shown = ", ".join(f"{key} = {here}" for key, (_, here) in changed.items())
        yield f"Params that were not as committed are taken from its run: {shown}."


def _has_remote() -> bool:
    with closing(Repo()) as repo:
        return bool(repo.config["core"].get("remote"))


def _side_by_side(
    registered: Mapping[str, float], rebuilt: Mapping[str, float]
) -> dict[str, tuple[float | None, float | None]]:
    names = sorted(registered.keys() | rebuilt.keys())
    return {name: (registered.get(name), rebuilt.get(name)) for name in names}


def _agree(a: float | None, b: float | None) -> bool:
    if a is None or b is None:
        return False
    return math.isclose(a, b, rel_tol=_RELATIVE, abs_tol=_ABSOLUTE)

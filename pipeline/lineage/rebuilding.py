"""A registered version made once more from its commit, and compared with what was registered."""

import logging
import math
import socket
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import mlflow

from pipeline.base.errors import PipelineError
from pipeline.base.files import read_json
from pipeline.base.paths import METRICS, MODEL
from pipeline.lineage.objects import has_remote
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

    metrics: name -> (registered, rebuilt), of those that both have: the code that evaluates may
        have become another one after the training.
    same_machine: whether the same weights are to be expected.
    remarks: what else to know, as sentences.
    """

    metrics: Mapping[str, tuple[float, float]]
    weights: WeightsComparison
    same_machine: bool
    remarks: tuple[str, ...]

    @property
    def other_metrics(self) -> list[str]:
        return [name for name, (a, b) in self.metrics.items() if not _agree(a, b)]

    @property
    def is_same(self) -> bool:
        """Whether the metrics are the same, and on the same machine the weights too.

        Where no metric can be compared, the weights have to tell.
        """
        weights_matter = self.same_machine or not self.metrics
        return not self.other_metrics and (self.weights.are_same or not weights_matter)


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
        remarks.append(restore_data(root, found, has_remote=has_remote()))
        train_again(root)
        metrics = read_json(root / METRICS)
        remarks += _metrics_remarks(found.metrics, metrics)
        return Rebuilt(
            metrics={
                name: (found.metrics[name], metrics[name])
                for name in sorted(found.metrics.keys() & metrics.keys())
            },
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


def _metrics_remarks(
    registered: Mapping[str, float], rebuilt: Mapping[str, float]
) -> Iterator[str]:
    for side, names in (
        ("registered", registered.keys() - rebuilt.keys()),
        ("rebuilt", rebuilt.keys() - registered.keys()),
    ):
        if names:
            yield (
                f"Metrics that only the {side} model has, and that are not compared: "
                f"{', '.join(sorted(names))}."
            )


def _agree(a: float, b: float) -> bool:
    return math.isclose(a, b, rel_tol=_RELATIVE, abs_tol=_ABSOLUTE)

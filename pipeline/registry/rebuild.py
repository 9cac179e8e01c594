"""Train a registered version again from its commit, params and data, and compare.

A git worktree holds the commit, so that uncommitted files of the working tree cannot be part of
the result. DVC provides the data by the digests that the run recorded. Metrics are compared with
the evaluation of the run on the same test videos, whatever it was evaluated on later.
"""

import io
import math
import socket
import tempfile
import zipfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import mlflow
import numpy as np
import yaml
from dvc.repo import Repo
from mlflow.entities.model_registry import ModelVersion
from numpy.typing import NDArray

from pipeline.common.command import run_python
from pipeline.common.errors import PipelineError
from pipeline.common.files import read_json
from pipeline.common.paths import CATALOG, DECODE_INDEX, DVC_LOCK, METRICS, MODEL, PARAMS
from pipeline.common.settings import flatten_as_text, value_from_text
from pipeline.registry.show import DATA_STAGES, Trace, trace
from pipeline.registry.versions import version_uri
from pipeline.tracking.evaluations import Evaluation, digest_of_test_data
from pipeline.tracking.provenance import UNKNOWN, git_output
from pipeline.tracking.store import connect, mlflow_errors

_RELATIVE, _ABSOLUTE = 1e-5, 1e-6  # tolerance of metrics: another processor rounds differently
_SIDE_INPUTS = "data.side_inputs"  # its keys are the columns of a run
# Variables that belong to another store, or to the repository that this runs in.
_NOT_INHERITED = ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "DVC_ROOT")


class WeightsComparison(NamedTuple):
    """Weight arrays of two models: number, equal to the last bit, largest difference (or inf)."""

    arrays: int
    same: int
    largest_difference: float


@dataclass(frozen=True)
class Rebuilt:
    """A rebuilt model beside the registered one.

    Attributes:
        metrics: name -> (recorded, rebuilt), of those that both have; recorded by the evaluation
            on the same test videos.
        is_same_machine: whether equal weights are expected.
    """

    title: str
    metrics: Mapping[str, tuple[float, float]]
    weights: WeightsComparison
    is_same_machine: bool
    remarks: tuple[str, ...] = ()

    @property
    def different_metrics(self) -> list[str]:
        return [
            name
            for name, pair in self.metrics.items()
            if not math.isclose(*pair, rel_tol=_RELATIVE, abs_tol=_ABSOLUTE)
        ]

    @property
    def is_same(self) -> bool:
        """Whether the metrics are equal, and the weights where that is expected or all there is."""
        weights_matter = self.is_same_machine or not self.metrics
        has_same_weights = self.weights.same == self.weights.arrays
        return not self.different_metrics and (has_same_weights or not weights_matter)

    def lines(self) -> list[str]:
        """Return the result as text."""
        different, weights = self.different_metrics, self.weights
        return [
            f"{self.title}: {'the same' if self.is_same else 'DIFFERENT'} when rebuilt.",
            *(f"  {remark}" for remark in self.remarks),
            f"  Metrics: {len(self.metrics) - len(different)} of {len(self.metrics)} equal.",
            *(
                "    {}: {:.6g} recorded, {:.6g} rebuilt".format(name, *self.metrics[name])
                for name in different
            ),
            f"  Weights: {weights.same} of {weights.arrays} arrays equal to the last bit (largest "
            f"difference {weights.largest_difference:.3g})."
            + ("" if self.is_same_machine else " Another machine trained the version."),
        ]


def rebuild(version: ModelVersion, *, keep: Path | None = None) -> Rebuilt:
    """Train and evaluate a version again in a worktree at its commit, and compare.

    Args:
        keep: new folder for the worktree, which stays; None for a temporary one.

    Raises:
        PipelineError: the commit or the data is unavailable, or a stage fails.
    """
    origin = trace(version)
    if origin.git_commit == UNKNOWN:
        raise PipelineError(f"{origin.title}: trained outside a git repository, without a commit.")
    with worktree_at(origin.git_commit, keep=keep) as root, tempfile.TemporaryDirectory() as folder:
        connect()
        with mlflow_errors():
            mlflow.artifacts.download_artifacts(version_uri(version), dst_path=folder)
        remarks = []
        if origin.git_dirty != "false" or origin.is_recreated:
            remarks.append("Its code may differ from its commit: see vidpipe show.")
        if git_output("diff", "--quiet", origin.git_commit, "--", "requirements.txt") is None:
            remarks.append("requirements.txt has changed since; the packages of today are used.")
        if changed := restore_params(root, origin.params):
            remarks.append(f"Params of its run that differ from its commit: {', '.join(changed)}.")
        remarks.append(_restore_data(root, origin))
        registered: Mapping[str, float] = {}
        if evaluation := _evaluation_here(root, origin):
            restore_params(root, evaluation.settings)
            registered = evaluation.scores
        else:
            remarks.append("Its run has no evaluation on these test videos: no metric is compared.")
        _dvc(root, "repro", "--force", "--single-item", "train", "evaluate")
        metrics = read_json(root / METRICS)
        if registered and (unmatched := sorted(metrics.keys() ^ registered.keys())):
            remarks.append(f"Metrics of one side only, not compared: {', '.join(unmatched)}.")
        common = sorted(metrics.keys() & registered.keys())
        models = [_saved_model(place) for place in (Path(folder), root / MODEL.parent)]
        return Rebuilt(
            title=f"{origin.title} at commit {origin.git_commit[:10]}",
            metrics={name: (registered[name], metrics[name]) for name in common},
            weights=compare_weights(*models),
            is_same_machine=origin.host == socket.gethostname(),
            remarks=tuple(remarks),
        )


@contextmanager
def worktree_at(commit: str, *, keep: Path | None = None) -> Iterator[Path]:
    """Check out a commit into a git worktree with the DVC cache and remotes of this repository."""
    if git_output("rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}") is None:
        raise PipelineError(
            f"This clone does not have the commit {commit}. Get it with: git fetch --all (in CI: "
            "check out the whole history), or fetch it from the clone that trained."
        )
    with tempfile.TemporaryDirectory(prefix="rebuild-") as temporary:
        root = (keep or Path(temporary, "repo")).absolute()
        if git_output("worktree", "add", "--quiet", "--detach", str(root), commit) is None:
            raise PipelineError(f"{root}: git cannot add a worktree there. Expected a new folder.")
        try:
            with (
                closing(Repo()) as here,
                closing(Repo(str(root))) as there,
                there.config.edit("local") as config,
            ):
                config["cache"]["dir"] = str(here.cache.local_cache_dir)
                for name, remote in here.config["remote"].items():  # with absolute paths
                    config["remote"][name] = dict(remote)
                if default := here.config["core"].get("remote"):
                    config["core"]["remote"] = default
            yield root
        finally:
            if keep is None:
                git_output("worktree", "remove", "--force", str(root))


def _saved_model(folder: Path) -> Path:
    """Return the model in ``folder``; older code saved it under another name."""
    models = sorted(folder.rglob(f"*{MODEL.suffix}"))
    if not models:
        raise PipelineError(
            f"{folder}: expected a {MODEL.suffix} file, received none. Its files may have been "
            "deleted from the store; register the model again with: vidpipe repro"
        )
    return models[0]


def restore_params(root: Path, recorded: Mapping[str, str]) -> list[str]:
    """Set params.yaml to the values that a run recorded; return the keys that differed.

    A run knows what it was trained with, also where that was never committed
    (``dvc exp run -S``). Values are compared, not texts: a run has 10.0 for 10.
    """
    path = root / PARAMS
    params = yaml.safe_load(path.read_text(encoding="utf-8"))
    changed = []
    for key, committed in flatten_as_text(params).items():
        if key.startswith(_SIDE_INPUTS):
            continue
        value = value_from_text(recorded.get(key, committed))
        if value != value_from_text(committed):
            *parents, last = key.split(".")
            section = params
            for parent in parents:
                section = section[parent]
            section[last] = value
            changed.append(key)
    columns = {
        key.removeprefix(f"{_SIDE_INPUTS}."): kind
        for key, kind in recorded.items()
        if key.startswith(f"{_SIDE_INPUTS}.")
    }
    is_recorded = columns or _SIDE_INPUTS in recorded
    if is_recorded and columns != params["data"].get("side_inputs", {}):
        params["data"]["side_inputs"] = columns
        changed.append(_SIDE_INPUTS)
    if changed:
        path.write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")
    return changed


def _restore_data(root: Path, origin: Trace) -> str:
    """Get catalog, frames and clips by their digests, or build them; return which."""
    lock, data = root / DVC_LOCK, origin.data
    committed = lock.read_bytes() if lock.exists() else None
    with closing(Repo(str(root))) as repo:
        get = "pull" if repo.config["core"].get("remote") else "checkout"
    if all(output.digest != UNKNOWN for output in data.values()):
        stages = {}
        for name, stage in DATA_STAGES.items():
            out = {"path": data[name].path, "hash": "md5", "md5": data[name].digest}
            stages[stage] = {"cmd": f"python -m pipeline.stages.{stage}", "outs": [out]}
        lock.write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}), encoding="utf-8")
        _dvc(root, get, "--allow-missing", *stages, accept=range(256))
        if all((root / output.path).exists() for output in data.values()):
            return "Data: the recorded catalog, frames and clips, from DVC."
    lock.unlink(missing_ok=True)
    if committed is not None:
        lock.write_bytes(committed)
    _dvc(root, get, "--allow-missing", accept=range(256))
    _dvc(root, "repro", DATA_STAGES["clips"])
    built = yaml.safe_load(lock.read_text(encoding="utf-8"))["stages"]
    other = [
        data[name].path
        for name, stage in DATA_STAGES.items()
        if data[name].digest not in str(built[stage]["outs"])
    ]
    result = f"DIFFERENT from the record: {', '.join(other)}" if other else "equal to the record"
    return f"Data: built from the videos, {result}."


def _evaluation_here(root: Path, origin: Trace) -> Evaluation | None:
    """Return the evaluation on the test videos of the worktree, if possible at its commit."""
    if not origin.evaluations:
        return None
    test_data = digest_of_test_data(root / CATALOG, root / DECODE_INDEX)
    here = [one for one in origin.evaluations if one.test_data == test_data]
    at_its_commit = [one for one in here if one.git_commit == origin.git_commit]
    return next(iter(at_its_commit or here), None)


def _dvc(root: Path, *arguments: str, accept: Collection[int] = (0,)) -> None:
    run_python("dvc", *arguments, cwd=root, accept=accept, without=_NOT_INHERITED)


def compare_weights(registered: Path, rebuilt: Path) -> WeightsComparison:
    """Compare the weights of two .keras files array by array."""
    a, b = _read_weights(registered), _read_weights(rebuilt)
    differences = [
        np.abs(a[name].astype(float) - b[name]).max(initial=0)
        if name in a and name in b and a[name].shape == b[name].shape
        else math.inf
        for name in a.keys() | b.keys()
    ]
    same = sum(np.array_equal(a[name], b[name]) for name in a.keys() & b.keys())
    return WeightsComparison(len(differences), same, float(max(differences, default=0)))


def _read_weights(path: Path) -> dict[str, NDArray[Any]]:
    """Return the arrays of a .keras file by their path in it, without those of the optimizer."""
    arrays: dict[str, NDArray[Any]] = {}

    def collect(name: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Dataset) and not name.startswith("optimizer/"):
            arrays[name] = item[()]

    with (
        zipfile.ZipFile(path) as archive,
        h5py.File(io.BytesIO(archive.read("model.weights.h5")), "r") as weights,
    ):
        weights.visititems(collect)
    return arrays

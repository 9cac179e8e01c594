"""Train a registered version again from its commit, params and data, and compare.

A git worktree holds the commit, so that uncommitted files of the working tree cannot be part of
the result. DVC provides the data by the digests that the run recorded.
"""

import io
import logging
import math
import socket
import subprocess
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
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
from pipeline.common.paths import DVC_LOCK, METRICS, MODEL, PARAMS
from pipeline.common.settings import flatten_as_text, value_from_text
from pipeline.registry.show import DATA_STAGES, Trace, trace
from pipeline.registry.versions import version_uri
from pipeline.tracking.provenance import UNKNOWN, git_output
from pipeline.tracking.store import connect, mlflow_errors

logger = logging.getLogger(__name__)

_RELATIVE, _ABSOLUTE = 1e-5, 1e-6  # tolerance of metrics: another processor rounds differently
# Variables that belong to another store, or to the repository that this runs in.
_NOT_INHERITED = ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "DVC_ROOT")


class WeightsComparison(NamedTuple):
    """Number of weight arrays of two models, of these equal to the last bit, and the distance.

    largest_difference: of two arrays; infinite when one has no counterpart.
    """

    arrays: int
    same: int
    largest_difference: float


@dataclass(frozen=True)
class Rebuilt:
    """A rebuilt model beside the registered one.

    Attributes:
        metrics: name -> (registered, rebuilt), of those that both have.
        weights: as ``compare_weights``.
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
            for name, (registered, rebuilt) in self.metrics.items()
            if not math.isclose(registered, rebuilt, rel_tol=_RELATIVE, abs_tol=_ABSOLUTE)
        ]

    @property
    def is_same(self) -> bool:
        """Whether the metrics are equal, and the weights where that is expected or all there is."""
        weights_matter = self.is_same_machine or not self.metrics
        has_same_weights = self.weights.same == self.weights.arrays
        return not self.different_metrics and (has_same_weights or not weights_matter)

    def lines(self) -> list[str]:
        """Return the result as text."""
        equal = len(self.metrics) - len(self.different_metrics)
        lines = [f"{self.title}: {'the same' if self.is_same else 'DIFFERENT'} when rebuilt."]
        lines += [f"  {remark}" for remark in self.remarks]
        lines.append(f"  Metrics: {equal} of {len(self.metrics)} equal.")
        for name in self.different_metrics:
            registered, rebuilt = self.metrics[name]
            lines.append(f"    {name}: {registered:.6g} registered, {rebuilt:.6g} rebuilt")
        machine = "" if self.is_same_machine else " Another machine trained the version."
        lines.append(
            f"  Weights: {self.weights.same} of {self.weights.arrays} arrays equal to the last bit "
            f"(largest difference {self.weights.largest_difference:.3g}).{machine}"
        )
        return lines


def rebuild(version: ModelVersion, *, keep: Path | None = None) -> Rebuilt:
    """Train and evaluate a version again in a worktree at its commit, and compare.

    Args:
        version: of a registered model.
        keep: new folder for the worktree, which stays; None for a temporary one.

    Raises:
        PipelineError: the commit or the data is unavailable, a stage fails, or the registered
            model cannot be read.
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
            remarks.append("It may be trained from other code than its commit: see vidpipe show.")
        if git_output("diff", "--quiet", origin.git_commit, "--", "requirements.txt") is None:
            remarks.append("requirements.txt has changed since; the packages of today are used.")
        if changed := restore_params(root, origin.params):
            remarks.append(f"Params of its run that differ from its commit: {', '.join(changed)}.")
        remarks.append(_restore_data(root, origin))
        _dvc(root, "repro", "--force", "--single-item", "train", "evaluate")
        metrics = read_json(root / METRICS)
        if unmatched := sorted(metrics.keys() ^ origin.metrics.keys()):
            remarks.append(f"Metrics of one side only, not compared: {', '.join(unmatched)}.")
        models = [
            next(place.rglob(f"*{MODEL.suffix}")) for place in (Path(folder), root / MODEL.parent)
        ]
        common = sorted(metrics.keys() & origin.metrics.keys())
        return Rebuilt(
            title=f"{origin.title} at commit {origin.git_commit[:10]}",
            metrics={name: (origin.metrics[name], metrics[name]) for name in common},
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
        _git("worktree", "add", "--quiet", "--detach", str(root), commit)
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
                _git("worktree", "remove", "--force", str(root))


def restore_params(root: Path, recorded: Mapping[str, str]) -> list[str]:
    """Set params.yaml to the values that a run recorded; return the keys that differed.

    A run knows what it was trained with, also where that was never committed
    (``dvc exp run -S``). Values are compared, not texts: a run has 10.0 for 10.
    """
    params = yaml.safe_load((root / PARAMS).read_text(encoding="utf-8"))
    committed = {key: value_from_text(text) for key, text in flatten_as_text(params).items()}
    values = {key: value_from_text(text) for key, text in recorded.items() if key in committed}
    changed = [key for key, value in values.items() if value != committed[key]]
    for key in changed:
        *sections, last = key.split(".")
        section = params
        for part in sections:
            section = section[part]
        section[last] = values[key]
    if changed:
        text = yaml.safe_dump(params, sort_keys=False)
        (root / PARAMS).write_text(text, encoding="utf-8")
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
        _dvc(root, get, "--allow-missing", *stages, must_succeed=False)
        if all((root / output.path).exists() for output in data.values()):
            return "Data: the recorded catalog, frames and clips, from DVC."
        lock.unlink()
    if committed is not None:
        lock.write_bytes(committed)
    _dvc(root, get, "--allow-missing", must_succeed=False)
    _dvc(root, "repro", DATA_STAGES["clips"])
    built = yaml.safe_load(lock.read_text(encoding="utf-8"))["stages"]
    other = [
        data[name].path
        for name, stage in DATA_STAGES.items()
        if data[name].digest not in str(built[stage]["outs"])
    ]
    if other:
        return f"Data: built from the videos, DIFFERENT from the record: {', '.join(other)}."
    return "Data: built from the videos, equal to the record."


def compare_weights(registered: Path, rebuilt: Path) -> WeightsComparison:
    """Compare the weights of two .keras files array by array."""
    a, b = _read_weights(registered), _read_weights(rebuilt)
    names = a.keys() | b.keys()
    differences = [
        np.abs(a[name].astype(float) - b[name]).max(initial=0)
        if name in a and name in b and a[name].shape == b[name].shape
        else math.inf
        for name in names
    ]
    same = sum(name in a and name in b and np.array_equal(a[name], b[name]) for name in names)
    return WeightsComparison(len(names), same, float(max(differences, default=0)))


def _read_weights(path: Path) -> dict[str, NDArray[Any]]:
    """Return the arrays of a .keras file by their path in it, without those of the optimizer."""
    arrays: dict[str, NDArray[Any]] = {}

    def collect(name: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Dataset) and not name.startswith("optimizer/"):
            arrays[name] = item[()]

    with zipfile.ZipFile(path) as archive:
        content = io.BytesIO(archive.read("model.weights.h5"))
    with h5py.File(content, "r") as weights:
        weights.visititems(collect)
    return arrays


def _dvc(root: Path, *arguments: str, must_succeed: bool = True) -> None:
    accepted = (0,) if must_succeed else range(256)
    run_python("dvc", *arguments, cwd=root, accept=accepted, without=_NOT_INHERITED)


def _git(*arguments: str) -> None:
    process = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    if process.returncode:
        raise PipelineError(f"git {arguments[0]}: {process.stderr.strip()}")

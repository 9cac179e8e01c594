"""Data and model of a version once more, in a worktree at its commit."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import yaml

from pipeline.base.dotted import flat_params, parsed_value
from pipeline.base.tools import run_python
from pipeline.lineage.trace import STAGES, Trace
from pipeline.tracking.provenance import UNKNOWN

_LOCK = "dvc.lock"
_PARAMS = "params.yaml"
# Of another store, or of the repository that this runs in.
_NOT_INHERITED = ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "DVC_ROOT")
_ANY = range(256)  # what is missing afterwards is looked at


def restore_params(root: Path, recorded: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Give params.yaml the values that the run recorded; return what differed.

    A run knows what it was trained with, also where that was never committed
    (``dvc exp run -S``). Values are compared, not texts: the run has 10.0 for 10.

    Returns:
        Dotted key -> (at the commit, recorded), as in JSON.
    """
    path = root / _PARAMS
    params = yaml.safe_load(path.read_text(encoding="utf-8"))
    committed = flat_params(params)
    changed = {
        key: (committed[key], value)
        for key, value in recorded.items()
        if key in committed and parsed_value(committed[key]) != parsed_value(value)
    }
    for key, (_, value) in changed.items():
        *sections, name = key.split(".")
        section = params
        for part in sections:
            section = section[part]
        section[name] = parsed_value(value)
    if changed:
        path.write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")
    return changed


def restore_data(root: Path, found: Trace, *, has_remote: bool) -> str:
    """Bring catalog, frames and clips into the worktree: from DVC, or from the videos.

    Returns:
        A sentence that says which.

    Raises:
        PipelineError: neither is possible; what DVC says of it is on stderr.
    """
    lock = root / _LOCK
    at_commit = lock.read_bytes() if lock.exists() else None
    get = "pull" if has_remote else "checkout"
    if all(data.digest != UNKNOWN for data in found.data.values()):
        lock.write_text(yaml.safe_dump(_lock_of(found)), encoding="utf-8")
        _dvc(root, get, "--allow-missing", *STAGES.values(), accept=_ANY)
        if all((root / data.path).exists() for data in found.data.values()):
            return "Data: the recorded catalog, frames and clips, from DVC."
        lock.unlink()
    if at_commit is not None:
        lock.write_bytes(at_commit)
    _dvc(root, get, "--allow-missing", accept=_ANY)
    _dvc(root, "repro", STAGES["clips"])
    other = [
        data.path
        for what, data in found.data.items()
        if _digest(root, STAGES[what], data.path) != data.digest
    ]
    if other:
        return f"Data: rebuilt from the videos, and NOT as recorded: {', '.join(other)}."
    return "Data: rebuilt from the videos, as recorded."


def train_again(root: Path) -> None:
    """Run train and evaluate in the worktree, whatever DVC thinks of them.

    Nothing is registered, and the run goes to a store in the worktree.
    """
    _dvc(root, "repro", "--force", "--single-item", "train", "evaluate")


def _dvc(root: Path, *arguments: str, accept: Collection[int] = (0,)) -> None:
    run_python("dvc", *arguments, cwd=root, accept=accept, without=_NOT_INHERITED)


def _lock_of(found: Trace) -> dict[str, Any]:
    """Return a dvc.lock that knows nothing but the recorded outputs."""
    stages = {
        STAGES[what]: {
            "cmd": f"python -m pipeline.stages.{STAGES[what]}",
            "outs": [{"path": data.path, "hash": "md5", "md5": data.digest}],
        }
        for what, data in found.data.items()
    }
    return {"schema": "2.0", "stages": stages}


def _digest(root: Path, stage: str, path: str) -> str:
    content = yaml.safe_load((root / _LOCK).read_text(encoding="utf-8"))
    outputs = content["stages"].get(stage, {}).get("outs", [])
    return next((str(out.get("md5")) for out in outputs if out["path"] == path), UNKNOWN)

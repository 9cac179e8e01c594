"""Git and DVC as a retraining needs them."""

import json
import logging
import tempfile
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import yaml
from dvc.exceptions import DvcException
from dvc.repo import Repo
from filelock import FileLock, Timeout

from pipeline.base.errors import PipelineError
from pipeline.base.paths import CATALOG, METRICS
from pipeline.base.tools import run_python
from pipeline.catalog.records import CatalogEntry, read_catalog
from pipeline.lineage.objects import open_objects
from pipeline.tracking.provenance import UNKNOWN, committed_data, git_output

logger = logging.getLogger(__name__)

_LOCK = Path(".dvc/tmp/retrain.lock")
_DVC_LOCK = Path("dvc.lock")
_PIPELINE = "dvc.yaml"  # at the root; that of the demo set runs only where this one wants it


@contextmanager
def one_retraining(*, wait: bool) -> Iterator[None]:
    """Let one retraining at a time work in this folder.

    Raises:
        PipelineError: another one is at work, and this one is not to wait for it.
    """
    _LOCK.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(_LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if not wait:
            raise PipelineError(
                "Another retraining is at work in this folder. Wait for its end, or start this "
                "one with: make retrain WAIT=yes"
            ) from None
        logger.info("Another retraining is at work in this folder; waiting for its end.")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def outdated_stages() -> list[str]:
    """Return the stages that would run, as far as that is known before the first of them has.

    What is missing on disk, and is in DVC as dvc.lock has it, is not outdated: a fresh clone
    is looked through in seconds, without a download.

    Raises:
        PipelineError: dvc.yaml or dvc.lock cannot be read.
    """
    try:
        with closing(Repo()) as repo, repo.lock:
            wanted = _with_upstream(repo)
            # Not a dry run of dvc repro: it wants the files of a stage that would run.
            return sorted(
                stage.addressing
                for stage in wanted
                if stage.changed(allow_missing=True, upstream=list(wanted))
            )
    except DvcException as error:
        raise PipelineError(f"DVC: {error}") from error


def changed_stages() -> list[str]:
    """Return the stages whose entry in dvc.lock is not the committed one, in its order."""
    here = _stages(_DVC_LOCK.read_text(encoding="utf-8") if _DVC_LOCK.exists() else "")
    committed = _stages(git_output("show", f"HEAD:./{_DVC_LOCK}") or "")
    return [name for name, entry in here.items() if committed.get(name) != entry]


def has_remote() -> bool:
    """Tell whether DVC has a default remote."""
    with closing(Repo()) as repo:
        return bool(repo.config["core"].get("remote"))


def pull(*, only: Collection[Path] | None = None) -> None:
    """Get the data sources as committed, and the outputs that are not on disk.

    Outputs that are there stay: a stage that was killed has left some, and goes on from them.

    Args:
        only: of the outputs, these.
    """
    wanted = None if only is None else {path.absolute() for path in only}
    with closing(Repo()) as repo:
        targets = [
            str(out)
            for out in repo.index.outs
            if out.use_cache
            and out.hash_info
            and (
                out.stage.is_data_source
                or (not out.exists and (wanted is None or Path(out.fs_path) in wanted))
            )
        ]
    if targets:
        run_python("dvc", "pull", "--allow-missing", *targets)


def push() -> None:
    """Upload data and run-cache to the default remote."""
    run_python("dvc", "push", "--run-cache")


def committed_catalog() -> list[CatalogEntry]:
    """Return the catalog of dvc.lock at HEAD; no rows, and a warning, if nobody has it."""
    digest = committed_data("catalog", CATALOG).md5
    if digest == UNKNOWN:
        return []
    with open_objects() as objects:
        content = objects.content(digest)
    if content is None:
        logger.warning("The catalog at the last commit is not to be had: all counts as added.")
        return []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, CATALOG.name)
        path.write_bytes(content)
        return read_catalog(path)


def committed_metrics() -> dict[str, float]:
    """Return eval/metrics.json at HEAD; empty if it is not there."""
    text = git_output("show", f"HEAD:./{METRICS.as_posix()}")
    return {} if text is None else {key: float(value) for key, value in json.loads(text).items()}


def _with_upstream(repo: Repo) -> set[Any]:
    """Return the stages of the pipeline, and those that make what they depend on."""
    graph = repo.index.graph  # arrows point upstream
    found: set[Any] = set()
    to_visit = [stage for stage in graph if stage.path_in_repo == _PIPELINE]
    while to_visit:
        stage = to_visit.pop()
        if stage not in found:
            found.add(stage)
            to_visit += graph.successors(stage)
    return found


def _stages(lock: str) -> dict[str, Any]:
    content = yaml.safe_load(lock) or {}
    return dict(content.get("stages", {}))

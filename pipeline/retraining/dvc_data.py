"""What DVC knows of the pipeline: outdated stages, remote data, and data of the last commit.

DVC's Python API is used where its command line has no answer: ``dvc status`` needs all files on
disk, and ``dvc pull`` of a fresh clone fails on outputs that nobody pushed.
"""

import json
import tempfile
from collections.abc import Collection, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import yaml
from dvc.dependency import ParamsDependency
from dvc.exceptions import DvcException
from dvc.lock import LockError
from dvc.repo import Repo
from dvc.rwlock import rwlock
from dvc_data.hashfile.build import build
from dvc_data.hashfile.tree import Tree

from pipeline.common.command import run_python
from pipeline.common.errors import PipelineError
from pipeline.common.paths import CATALOG, DVC_LOCK, METRICS
from pipeline.common.records import VideoRecord, read_catalog
from pipeline.registry.dvc_objects import open_objects
from pipeline.tracking.provenance import UNKNOWN, committed_data, git_output

_PIPELINE = "dvc.yaml"  # at the root; the demo's own pipeline runs only when this one needs it
_ANY_CODE = range(256)


def outdated_stages() -> list[str]:
    """Return the stages that would run, as far as known before the first of them has run.

    An output that is missing on disk is up to date if DVC has it as in dvc.lock, so a fresh
    clone is checked in seconds, without a download.

    Raises:
        PipelineError: dvc.yaml or dvc.lock cannot be read.
    """
    try:
        with closing(Repo()) as repo, repo.lock:
            stages = stages_with_upstream(repo)
            return sorted(stage.addressing for stage in stages if _is_outdated(stage, stages))
    except DvcException as error:
        raise PipelineError(f"DVC: {error}") from error


def stages_with_upstream(repo: Repo) -> set[Any]:
    """Return the stages of the pipeline and those that produce their dependencies."""
    graph = repo.index.graph  # arrows point upstream
    stages: set[Any] = set()
    to_visit = [stage for stage in graph if stage.path_in_repo == _PIPELINE]
    while to_visit:
        stage = to_visit.pop()
        if stage not in stages:
            stages.add(stage)
            to_visit += graph.successors(stage)
    return stages


def _is_outdated(stage: Any, stages: Collection[Any]) -> bool:
    # Not `dvc repro --dry`: it needs the files of a stage that would run.
    if stage.changed(allow_missing=True, upstream=list(stages)):
        return True
    if stage.is_data_source:
        return False
    outs = [out for upstream in stages for out in upstream.outs]
    return any(
        _locked_hash(dep.fs_path, outs) != dep.hash_info.value
        for dep in stage.deps
        if not isinstance(dep, ParamsDependency) and not dep.exists
    )


def _locked_hash(path: str, outs: Collection[Any]) -> str | None:
    """Return the hash of a path that is an output or lies in one; None if it is in none.

    DVC itself skips a missing path within an output, such as data/my/videos after
    ``dvc add data/my``.
    """
    for out in outs:
        if path == out.fs_path:
            return str(out.hash_info.value)
        if out.fs.isin(path, out.fs_path):
            if not out.is_dir_checksum or out.get_dir_cache() is None:  # fetches only the list
                return None
            content = out.get_obj(filter_info=path)
            return None if content is None else str(content.hash_info.value)
    return None


def has_remote() -> bool:
    """Whether DVC has a default remote in this repository."""
    with closing(Repo()) as repo:
        return bool(repo.config["core"].get("remote"))


def pull(*, only: Collection[Path] | None = None) -> None:
    """Get the data sources as committed, and the outputs that are missing on disk.

    Outputs on disk stay: a stage that was killed continues from them. An output that DVC does
    not have is built again; a data source cannot be.

    Args:
        only: restricts the outputs to these.

    Raises:
        PipelineError: DVC does not have a data source, or files of it exist only here.
    """
    wanted = None if only is None else {str(path.absolute()) for path in only}
    with closing(Repo()) as repo:
        outs = sorted(
            (
                out
                for stage in stages_with_upstream(repo)
                for out in stage.outs
                if out.use_cache and out.hash_info
            ),
            key=str,
        )
        sources = [out for out in outs if out.stage.is_data_source]
        for source in sources:
            if unsaved := list(_unsaved_files(source)):  # before DVC suggests --force
                raise PipelineError(
                    f"{source}: {len(unsaved)} of its files are not in DVC, the first is "
                    f"{unsaved[0]}. Add and commit them: dvc add {source} && git add {source}.dvc "
                    "&& git commit"
                )
        missing = [
            str(out)
            for out in outs
            if out not in sources and not out.exists and (wanted is None or out.fs_path in wanted)
        ]
        names = [str(source) for source in sources]
    if names and run_python("dvc", "pull", *names, accept=_ANY_CODE):
        raise PipelineError(
            f"DVC's remote: expected all files of {', '.join(names)} as committed. The lines above "
            "say what is missing. Upload it from the clone that has it: dvc push"
        )
    if missing:
        run_python("dvc", "pull", "--run-cache", "--allow-missing", *missing)


def push() -> None:
    """Upload data and the run-cache to the default remote."""
    run_python("dvc", "push", "--run-cache")


def _unsaved_files(source: Any) -> Iterator[str]:
    """Yield the files of a data source on disk whose content is not in DVC's cache."""
    if not source.exists:
        return
    place = (source.cache, source.fs_path, source.fs, source.hash_name)
    _, _, on_disk = build(*place, ignore=source.dvcignore, dry_run=True)
    if on_disk.hash_info == source.hash_info:
        return
    entries = on_disk if isinstance(on_disk, Tree) else [((), None, on_disk.hash_info)]
    for key, _, info in entries:
        if info and not source.cache.exists(info.value):
            yield "/".join((str(source), *key))


def changed_stages() -> list[str]:
    """Return the stages whose entry in dvc.lock differs from HEAD, in the order of dvc.lock."""
    here = DVC_LOCK.read_text(encoding="utf-8") if DVC_LOCK.exists() else ""
    committed = git_output("show", f"HEAD:./{DVC_LOCK}") or ""
    now, before = ((yaml.safe_load(lock) or {}).get("stages", {}) for lock in (here, committed))
    return [name for name, entry in now.items() if before.get(name) != entry]


def committed_catalog() -> list[VideoRecord] | None:
    """Return the catalog of dvc.lock at HEAD.

    Returns:
        No records when dvc.lock at HEAD has no catalog; None when DVC does not have the file.
    """
    digest = committed_data("catalog", CATALOG).md5
    if digest == UNKNOWN:
        return []
    with open_objects() as objects:
        content = objects.content(digest)
    if content is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, CATALOG.name)
        path.write_bytes(content)
        return read_catalog(path)


def committed_metrics() -> dict[str, float]:
    """Return eval/metrics.json at HEAD; empty when it is not committed."""
    text = git_output("show", f"HEAD:./{METRICS.as_posix()}")
    return {} if text is None else {key: float(value) for key, value in json.loads(text).items()}


def restore_outputs() -> tuple[list[str], list[str]]:
    """Check out the last good outputs of stages that failed or did not run.

    A stage deletes its outputs before it runs. DVC's cache has the last good ones, metrics that
    git tracks included. Outputs that match dvc.lock and outputs with ``persist`` (decode continues
    from its own) stay as they are.

    Returns:
        Paths that were restored, and paths that were missing and could not be. Both are empty
        when another DVC process works on the same outputs.
    """
    restored: list[str] = []
    lost: list[str] = []
    try:
        with closing(Repo()) as repo, repo.lock:
            outs = [
                out
                for stage in sorted(stages_with_upstream(repo), key=lambda stage: stage.addressing)
                for out in stage.outs
                if out.hash_info and not stage.is_data_source and _differs(out)
            ]
            hardlink = repo.config["core"].get("hardlink_lock", False)
            paths = [out.fs_path for out in outs]
            with rwlock(repo.tmp_dir, repo.fs, "vidpipe repro", [], paths, hardlink):
                for out in outs:
                    (restored if _check_out(repo, out) else lost).append(str(out))
    except LockError:
        return [], []
    except DvcException as error:
        raise PipelineError(f"DVC: {error}") from error
    return restored, lost


def _differs(out: Any) -> bool:
    """Whether an output on disk is not the one of dvc.lock."""
    if out.persist:
        return not out.exists
    return not out.exists or bool(out.changed_checksum())


def _check_out(repo: Repo, out: Any) -> bool:
    """Check an output out of the cache; return whether the cache has it."""
    cache = repo.cache.local
    link_types = cache.cache_types
    if not out.use_cache:  # the run-cache has it; a copy and no link, because git tracks the file
        out.use_cache = True
        cache.cache_types = ["copy"]
    try:
        if out.changed_cache():
            return False
        out.checkout(force=True)
    finally:
        cache.cache_types = link_types
    return True

"""Which stages a retraining would run, told without a download."""

from collections.abc import Collection
from contextlib import closing
from typing import Any

from dvc.dependency import ParamsDependency
from dvc.exceptions import DvcException
from dvc.repo import Repo

from pipeline.base.errors import PipelineError

_PIPELINE = "dvc.yaml"  # at the root; that of the demo set runs only where this one wants it


def outdated_stages() -> list[str]:
    """Return the stages that would run, as far as that is known before the first of them has.

    What is missing on disk, and is in DVC as dvc.lock has it, is not outdated: a fresh clone
    is looked through in seconds.

    Raises:
        PipelineError: dvc.yaml or dvc.lock cannot be read.
    """
    try:
        with closing(Repo()) as repo, repo.lock:
            stages = with_upstream(repo)
            return sorted(stage.addressing for stage in stages if _is_outdated(stage, stages))
    except DvcException as error:
        raise PipelineError(f"DVC: {error}") from error


def with_upstream(repo: Repo) -> set[Any]:
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


def _is_outdated(stage: Any, stages: Collection[Any]) -> bool:
    # Not a dry run of dvc repro: it wants the files of a stage that would run.
    if stage.changed(allow_missing=True, upstream=list(stages)):
        return True
    if stage.is_data_source:
        return False
    outs = [out for one in stages for out in one.outs]
    return any(
        _hash_in_dvc(dep.fs_path, outs) != dep.hash_info.value
        for dep in stage.deps
        if not isinstance(dep, ParamsDependency) and not dep.exists
    )


def _hash_in_dvc(path: str, outs: Collection[Any]) -> str | None:
    """Return the hash of a path that is an output, or lies in one; None if nobody has it.

    DVC itself passes over what is missing and lies within an output, such as data/my/videos
    after ``dvc add data/my``.
    """
    for out in outs:
        if path == out.fs_path:
            return str(out.hash_info.value)
        if out.fs.isin(path, out.fs_path):
            if not out.is_dir_checksum or out.get_dir_cache() is None:  # fetches a list, no file
                return None
            found = out.get_obj(filter_info=path)
            return None if found is None else str(found.hash_info.value)
    return None

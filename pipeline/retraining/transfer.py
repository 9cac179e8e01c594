"""Data from DVC's remote and back to it."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from dvc.repo import Repo
from dvc_data.hashfile.build import build
from dvc_data.hashfile.tree import Tree

from pipeline.base.errors import PipelineError
from pipeline.base.tools import run_python
from pipeline.retraining.outdated import with_upstream

_ANY = range(256)  # exit codes


def pull(*, only: Collection[Path] | None = None) -> None:
    """Get the data sources of the pipeline as committed, and the outputs that are not on disk.

    Outputs that are there stay: a stage that was killed has left some, and goes on from them.
    An output that DVC does not have is made again; a data source cannot be.

    Args:
        only: of the outputs, these.

    Raises:
        PipelineError: DVC does not have a data source, or has another one than lies here.
    """
    wanted = None if only is None else {str(path.absolute()) for path in only}
    with closing(Repo()) as repo:
        outs = sorted(_cached_outs(repo), key=str)
        sources = [out for out in outs if out.stage.is_data_source]
        for source in sources:
            _refuse_unsaved(source)
        missing = [
            str(out)
            for out in outs
            if out not in sources and not out.exists and (wanted is None or out.fs_path in wanted)
        ]
        names = [str(source) for source in sources]
    if names:
        _pull_sources(names)
    if missing:
        run_python("dvc", "pull", "--run-cache", "--allow-missing", *missing)


def push() -> None:
    """Upload data, and the run-cache if any stage has one, to the default remote."""
    run_python("dvc", "push", "--run-cache")


def _cached_outs(repo: Repo) -> Iterator[Any]:
    for stage in with_upstream(repo):
        yield from (out for out in stage.outs if out.use_cache and out.hash_info)


def _pull_sources(names: Sequence[str]) -> None:
    if run_python("dvc", "pull", *names, accept=_ANY):
        raise PipelineError(
            f"DVC's remote: expected all of {', '.join(names)} as committed; see above for what "
            "it lacks. Upload it from the clone that has it, with: dvc push"
        )


def _refuse_unsaved(source: Any) -> None:
    """Refuse to replace files that only this folder has, before DVC advises to force it."""
    unsaved = list(_unsaved(source))
    if unsaved:
        raise PipelineError(
            f"{source}: {len(unsaved)} of its files are not in DVC, such as {unsaved[0]}. Add and "
            f"commit them first: dvc add {source} && git add {source}.dvc && git commit"
        )


def _unsaved(source: Any) -> Iterator[str]:
    """Yield the files of a data source on disk whose content DVC's cache does not have."""
    if not source.exists:
        return
    _, _, found = build(
        source.cache,
        source.fs_path,
        source.fs,
        source.hash_name,
        ignore=source.dvcignore,
        dry_run=True,
    )
    if found.hash_info == source.hash_info:
        return
    entries = found if isinstance(found, Tree) else [((), None, found.hash_info)]
    for key, _, info in entries:
        if info and not source.cache.exists(info.value):
            yield "/".join((str(source), *key))

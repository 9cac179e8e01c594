"""A commit in a folder of its own, which shares DVC's cache and remotes with the repository."""

import logging
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from dvc.repo import Repo

from pipeline.base.errors import PipelineError
from pipeline.tracking.provenance import git_output

logger = logging.getLogger(__name__)


@contextmanager
def worktree_at(commit: str, *, keep: Path | None = None) -> Iterator[Path]:
    """Check a commit out into a git worktree; remove it afterwards unless it is to be kept.

    Args:
        commit: full or abbreviated.
        keep: an empty or new folder that the worktree is made in, and stays in.

    Raises:
        PipelineError: this clone does not have the commit, or ``keep`` cannot be used.
    """
    if git_output("rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}") is None:
        raise PipelineError(
            f"This clone does not have the commit {commit}. Get it with: git fetch --all "
            "(in CI: check out the whole history), or fetch it from the clone that trained."
        )
    with tempfile.TemporaryDirectory(prefix="rebuild-") as temporary:
        folder = (keep or Path(temporary, "repo")).absolute()
        _git("worktree", "add", "--quiet", "--detach", str(folder), commit)
        try:
            _share_data(Path(), folder)
            yield folder
        finally:
            if keep is None:
                _git("worktree", "remove", "--force", str(folder))
            else:
                logger.info("Kept in %s; git worktree remove --force %s", folder, folder)


def _share_data(here: Path, there: Path) -> None:
    """Give the worktree the cache and the remotes of today, their relative paths resolved."""
    with closing(Repo(str(here))) as repo:
        cache = repo.cache.local_cache_dir
        remotes: dict[str, dict[str, Any]] = {
            name: dict(settings) for name, settings in repo.config["remote"].items()
        }
        default = repo.config["core"].get("remote")
    with closing(Repo(str(there))) as repo, repo.config.edit("local") as config:
        config["cache"]["dir"] = str(cache)
        config["remote"].update(remotes)
        if default:
            config["core"]["remote"] = default


def _git(*arguments: str) -> None:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise PipelineError(f"git {arguments[0]}: {done.stderr.strip()}")

"""What a run was made from: the commit of the code, the digests of the data."""

import subprocess
from pathlib import Path
from typing import NamedTuple

import yaml

from pipeline.base.paths import CATALOG, CLIPS, FRAMES, METRICS, MODEL

UNKNOWN = "unknown"

_LOCK = Path("dvc.lock")
# What the stages and DVC themselves write says nothing about the code that ran.
_WRITTEN_BY_A_RUN = (METRICS.parent, MODEL.parent)
_STAGES = {"catalog": CATALOG, "decode": FRAMES, "extract": CLIPS}


class LockedData(NamedTuple):
    """The output of a stage, as dvc.lock records it."""

    path: Path
    md5: str  # of a folder with the suffix .dir, as DVC writes it; "unknown" if it has none


def provenance_tags() -> dict[str, str]:
    """Return the tags of a run or a model version that say what it was made from.

    ``git.commit``, ``git.branch`` and ``git.dirty`` (tracked files differ from the commit,
    other than those that the pipeline writes); ``dvc.catalog``, ``dvc.decode`` and
    ``dvc.extract`` (path and md5 of what these stages made, from dvc.lock, which DVC writes
    after each stage; a stage that was run by hand is not in it).
    """
    return {**_git_tags(), **{f"dvc.{stage}": _shown(stage) for stage in _STAGES}}


def clips_data() -> LockedData:
    """Return what dvc.lock has of the clips."""
    return locked_data("extract", CLIPS)


def locked_data(stage: str, path: Path) -> LockedData:
    """Return what dvc.lock has of ``path``, an output of ``stage``."""
    return _locked(_LOCK.read_text(encoding="utf-8") if _LOCK.exists() else "", stage, path)


def committed_data(stage: str, path: Path) -> LockedData:
    """Return what dvc.lock at HEAD has of ``path``, an output of ``stage``."""
    return _locked(git_output("show", f"HEAD:./{_LOCK}") or "", stage, path)


def has_other_clips() -> bool:
    """Tell whether the clips are known here and at HEAD, and are not the same."""
    committed = committed_data("extract", CLIPS)
    return UNKNOWN not in (committed.md5, clips_data().md5) and committed != clips_data()


def git_output(*arguments: str) -> str | None:
    """Return what git prints, or None without git, a repository or a commit."""
    try:
        done = subprocess.run(
            ["git", "--no-optional-locks", *arguments], capture_output=True, text=True, check=False
        )
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _locked(lock: str, stage: str, path: Path) -> LockedData:
    content = yaml.safe_load(lock) or {}
    outputs = content.get("stages", {}).get(stage, {}).get("outs", [])
    found = [output for output in outputs if Path(output["path"]) == path]
    return LockedData(path, str(found[0].get("md5", UNKNOWN)) if found else UNKNOWN)


def _shown(stage: str) -> str:
    data = locked_data(stage, _STAGES[stage])
    return f"{data.path} {data.md5}"


def _git_tags() -> dict[str, str]:
    exclusions = [
        ":(exclude,glob)**/dvc.lock",
        *(f":(exclude){path}" for path in _WRITTEN_BY_A_RUN),
    ]
    changes = git_output("status", "--porcelain", "--untracked-files=no", "--", ".", *exclusions)
    return {
        "git.commit": git_output("rev-parse", "--verify", "HEAD") or UNKNOWN,
        "git.branch": git_output("rev-parse", "--abbrev-ref", "HEAD") or UNKNOWN,
        "git.dirty": UNKNOWN if changes is None else str(bool(changes)).lower(),
    }

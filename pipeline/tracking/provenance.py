"""The provenance of a run: its commit, the differences from it, the digests of its data."""

import json
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from pipeline.common.paths import (
    CATALOG,
    CLIPS,
    DECODE_ATTEMPT,
    DVC_LOCK,
    FRAMES,
    METRICS,
    MODEL,
    PARAMS,
)
from pipeline.common.settings import flatten, short_names
from pipeline.common.tables import markdown_code, markdown_escape, markdown_table

UNKNOWN = "unknown"
CHANGED_PARAMS = "params.changed"

# Files that a run or DVC writes: a change of them is not a change of the code.
_WRITTEN_BY_A_RUN = (METRICS.parent, MODEL.parent, DECODE_ATTEMPT)
_STAGES = {"catalog": CATALOG, "decode": FRAMES, "extract": CLIPS}
_DATA_SECTIONS = ("data.", "catalog.", "decode.", "extract.")
_LONGEST_NAME = 120  # characters; the list of runs shows about half of it


class LockedData(NamedTuple):
    """The output of a stage in dvc.lock.

    Attributes:
        path: of the output.
        md5: ends with .dir for a folder, as DVC writes it; ``unknown`` without a record.
    """

    path: Path
    md5: str


def provenance_tags() -> dict[str, str]:
    """Return tags with the commit and the data of a run or a model version.

    The tags are ``git.commit``, ``git.branch``, ``git.dirty`` (true if tracked files other than
    outputs of the pipeline differ from the commit), and ``dvc.catalog``, ``dvc.decode``,
    ``dvc.extract`` (path and md5 of the output, from dvc.lock).
    """
    exclusions = [
        ":(exclude,glob)**/dvc.lock",
        *(f":(exclude){path}" for path in _WRITTEN_BY_A_RUN),
    ]
    changes = git_output("status", "--porcelain", "--untracked-files=no", "--", ".", *exclusions)
    data = {stage: locked_data(stage, path) for stage, path in _STAGES.items()}
    return {
        "git.commit": git_output("rev-parse", "--verify", "HEAD") or UNKNOWN,
        "git.branch": git_output("rev-parse", "--abbrev-ref", "HEAD") or UNKNOWN,
        "git.dirty": UNKNOWN if changes is None else str(bool(changes)).lower(),
        **{f"dvc.{stage}": f"{output.path} {output.md5}" for stage, output in data.items()},
    }


def locked_data(stage: str, path: Path) -> LockedData:
    """Return the record of ``path``, an output of ``stage``, in dvc.lock."""
    lock = DVC_LOCK.read_text(encoding="utf-8") if DVC_LOCK.exists() else ""
    return _recorded_output(lock, stage, path)


def committed_data(stage: str, path: Path) -> LockedData:
    """Return the record of ``path``, an output of ``stage``, in dvc.lock at HEAD."""
    return _recorded_output(git_output("show", f"HEAD:./{DVC_LOCK}") or "", stage, path)


def git_output(*arguments: str) -> str | None:
    """Return the stripped output of a git command; None when it fails or git is missing.

    Text in another encoding is converted if the commit declares it; otherwise its characters
    become U+FFFD.
    """
    command = ["git", "--no-optional-locks", "-c", "i18n.logOutputEncoding=UTF-8", *arguments]
    try:
        process = subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", check=False
        )
    except OSError:
        return None
    return process.stdout.strip() if process.returncode == 0 else None


@dataclass(frozen=True)
class ChangedParam:
    """A param that differs from the commit.

    Attributes:
        key: dotted key.
        short: shortest ending of the key that identifies it.
        committed: value at the commit as JSON; None when the key was not there.
        current: value as JSON.
    """

    key: str
    short: str
    committed: str | None
    current: str


@dataclass(frozen=True)
class Changes:
    """Differences of params, data and code from the commit at HEAD.

    Attributes:
        params: in the order of params.yaml.
        has_other_clips: whether the clips differ although no param of the data does.
        is_code_changed: whether files of ``pipeline`` differ.
        commit: abbreviated; empty without git or a commit.
        subject: first line of the commit message.
    """

    params: Sequence[ChangedParam] = ()
    has_other_clips: bool = False
    is_code_changed: bool = False
    commit: str = ""
    subject: str = ""

    @property
    def run_name(self) -> str:
        """Return the name of a run: the differences, else the commit, without git the time."""
        if not self.commit:
            return time.strftime("train %Y-%m-%d %H:%M:%S")
        parts = [f"{param.short}={param.current}" for param in self.params]
        if self.has_other_clips:
            parts.append("other data")
        name = ", ".join(parts) or self.subject
        if self.is_code_changed:
            name += " + changed code"
        return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"

    @property
    def tags(self) -> dict[str, str]:
        """Return tags to search runs by: ``tags.`params.changed` LIKE '%learning_rate%'``."""
        keys = ", ".join(param.key for param in self.params)
        return {CHANGED_PARAMS: keys} if self.commit else {}

    @property
    def markdown(self) -> str:
        """Return the differences for the note of a run."""
        if not self.commit:
            return "No commit: not in a git repository."
        lines = [f"Commit {markdown_code(self.commit)}: {markdown_escape(self.subject)}", ""]
        if self.is_code_changed:
            lines += ["The code differs from the commit.", ""]
        if self.has_other_clips:
            lines += ["The clips differ from those at the commit.", ""]
        if self.params:
            rows = [
                [markdown_code(text or "") for text in (param.key, param.committed, param.current)]
                for param in self.params
            ]
            lines += markdown_table(("param", "at the commit", "in this run"), rows)
        else:
            lines += ["All params are those of the commit."]
        return "\n".join(lines)


def find_changes(params: Mapping[str, Any]) -> Changes:
    """Compare params, data and code with the commit at HEAD.

    Args:
        params: section -> key -> value. Sections that the committed params.yaml lacks are
            ignored.
    """
    commit = git_output("rev-parse", "--short", "--verify", "HEAD")
    if not commit:
        return Changes()
    changed_params = _changed_params(params)
    is_data_changed = any(param.key.startswith(_DATA_SECTIONS) for param in changed_params)
    clips = {locked_data("extract", CLIPS).md5, committed_data("extract", CLIPS).md5}
    return Changes(
        params=changed_params,
        has_other_clips=len(clips) == 2 and UNKNOWN not in clips and not is_data_changed,
        is_code_changed=bool(git_output("status", "--porcelain", "-uno", "--", "pipeline")),
        commit=commit,
        subject=git_output("show", "--no-patch", "--format=%s", "HEAD") or "",
    )


def _changed_params(params: Mapping[str, Any]) -> list[ChangedParam]:
    text = git_output("show", f"HEAD:./{PARAMS}")
    if text is None:
        return []
    content = yaml.safe_load(text) or {}
    committed = flatten(content)
    # Through JSON, so that tuples compare equal to the lists of a file.
    common_sections = {key: params[key] for key in params if key in content}
    current = flatten(json.loads(json.dumps(common_sections)))
    keys = [key for key in current if key not in committed or committed[key] != current[key]]
    names = short_names(keys, list(current))
    return [
        ChangedParam(
            key=key,
            short=names[key],
            committed=_value_text(committed[key]) if key in committed else None,
            current=_value_text(current[key]),
        )
        for key in keys
    ]


def _value_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _recorded_output(lock: str, stage: str, path: Path) -> LockedData:
    content = yaml.safe_load(lock) or {}
    outputs = content.get("stages", {}).get(stage, {}).get("outs", [])
    md5s = [output.get("md5", UNKNOWN) for output in outputs if Path(output["path"]) == path]
    return LockedData(path, str(md5s[0]) if md5s else UNKNOWN)

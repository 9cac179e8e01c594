"""What a run changes, against the commit that it stands on: in its name, its tags and its note."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from pipeline.base.dotted import flat_values, short_names
from pipeline.tracking.markdown import code, plain, shown, table
from pipeline.tracking.provenance import git_output, has_other_clips

CHANGED_PARAMS = "params.changed"

_LONGEST_NAME = 120  # characters; the list of runs shows about half of it
_DATA_SECTIONS = ("data.", "catalog.", "decode.", "extract.")


@dataclass(frozen=True)
class ChangedParam:
    """A param that is not as committed. Values look as in JSON; None: not there."""

    key: str
    short: str  # the shortest end of the key that is clear
    committed: str | None
    here: str


@dataclass(frozen=True)
class Changes:
    """What differs from the commit at HEAD.

    Attributes:
        params: in the order of params.yaml.
        has_other_clips: whether the videos gave other clips although no param asks for them.
        is_code_changed: whether files of ``pipeline`` are not as committed.
        commit: abbreviated; empty without git or a commit.
        subject: first line of the message of the commit.
    """

    params: Sequence[ChangedParam] = ()
    has_other_clips: bool = False
    is_code_changed: bool = False
    commit: str = ""
    subject: str = ""

    @property
    def run_name(self) -> str:
        """Name what is different, or the commit where nothing is, or the time without git."""
        if not self.commit:
            return time.strftime("train %Y-%m-%d %H:%M:%S")
        parts = [f"{param.short}={param.here}" for param in self.params]
        if self.has_other_clips:
            parts.append("other data")
        name = ", ".join(parts) or self.subject
        if self.is_code_changed:
            name += " + changed code"
        return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"

    @property
    def tags(self) -> dict[str, str]:
        """Tags to filter runs by: ``tags.`params.changed` LIKE '%learning_rate%'``."""
        keys = ", ".join(param.key for param in self.params)
        return {CHANGED_PARAMS: keys} if self.commit else {}

    @property
    def markdown(self) -> str:
        """What differs, as Markdown."""
        if not self.commit:
            return "No commit: not in a git repository."
        lines = [f"Commit {code(self.commit)}: {plain(self.subject)}", ""]
        if self.is_code_changed:
            lines += ["The code was changed after it.", ""]
        if self.has_other_clips:
            lines += ["The videos gave other clips than at the commit.", ""]
        if self.params:
            rows = [(code(p.key), shown(p.committed), shown(p.here)) for p in self.params]
            lines += table(("param", "at the commit", "here"), rows)
        else:
            lines += ["All params are those of the commit."]
        return "\n".join(lines)


def find_changes(params: Mapping[str, Any]) -> Changes:
    """Compare with HEAD; sections that either side lacks do not count.

    Args:
        params: section -> key -> value.
    """
    commit = git_output("rev-parse", "--short", "--verify", "HEAD")
    if not commit:
        return Changes()
    changed = _changed_params(params)
    asks_for_others = any(param.key.startswith(_DATA_SECTIONS) for param in changed)
    return Changes(
        params=changed,
        has_other_clips=has_other_clips() and not asks_for_others,
        is_code_changed=bool(git_output("status", "--porcelain", "-uno", "--", "pipeline")),
        commit=commit,
        subject=git_output("show", "--no-patch", "--format=%s", "HEAD") or "",
    )


def _changed_params(params: Mapping[str, Any]) -> list[ChangedParam]:
    text = git_output("show", "HEAD:./params.yaml")
    if text is None:
        return []
    content = yaml.safe_load(text) or {}
    committed = flat_values(content)
    # As lists and not tuples, as read from a file.
    known = json.loads(json.dumps({key: params[key] for key in params if key in content}))
    here = flat_values(known)
    keys = [key for key in here if key not in committed or committed[key] != here[key]]
    names = short_names(keys, [*here])
    return [
        ChangedParam(
            key=key,
            short=names[key],
            committed=_as_json(committed[key]) if key in committed else None,
            here=_as_json(here[key]),
        )
        for key in keys
    ]


def _as_json(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)

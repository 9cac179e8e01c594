"""The report of a retraining, as Markdown that GitHub and GitLab show."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.retraining.data_changes import DataChanges
from pipeline.tracking.markdown import code, plain, table

_SHOWN = 20  # videos in a list
_PICTURE = re.compile(r"!\[([^\]]*)\]\(([^)]*)\)")
_MARKS = {"ok": "ok", "warn": "**warning**", "fail": "**failed**", "unknown": "not known"}


@dataclass(frozen=True)
class RetrainReport:
    """All that the report says.

    commit: that the retraining started from; abbreviated.
    ran: stages that came out otherwise than at the commit.
    data: against the catalog at the commit.
    is_catalog_lost: whether that catalog is not to be had, so that all counts as added.
    findings: of the data check: ``status``, ``name``, ``sentence``.
    metrics, committed_metrics: of the test videos; empty when there are none.
    gate: ``eval/promotion.md``; empty when it did not come to that.
    pictures: title -> path relative to the report.
    pushed: what became of the data: a sentence.
    """

    headline: str
    commit: str
    ran: Sequence[str]
    data: DataChanges
    is_catalog_lost: bool
    findings: Sequence[Mapping[str, Any]]
    metrics: Mapping[str, float]
    committed_metrics: Mapping[str, float]
    gate: str
    pictures: Mapping[str, Path]
    pushed: str

    def markdown(self) -> str:
        return "\n".join(self._lines()) + "\n"

    def _lines(self) -> Iterator[str]:
        yield f"# {plain(self.headline)}"
        yield ""
        ran = ", ".join(self.ran) or "none"
        yield f"From commit {code(self.commit)}. Stages with another result: {ran}. {self.pushed}"
        yield from self._data()
        yield from self._check()
        yield from self._metrics()
        if self.gate:
            yield from ("", "## Gate", "", _below(self.gate))
        for title, path in self.pictures.items():
            yield from ("", f"## {title}", "", f"![{title}]({path.as_posix()})")

    def _data(self) -> Iterator[str]:
        yield from ("", "## Data", "")
        if not self.data:
            yield "The videos and their labels are those of the commit."
            return
        if self.is_catalog_lost:
            yield "**The catalog of the commit is not to be had, so every video counts as added.**"
            yield ""
        rows = [
            (plain(label), *(str(count) for count in counts))
            for label, counts in self.data.by_class.items()
        ]
        yield from table(("class", "added", "removed", "changed", "now"), rows)
        for title, names in (("Added", self.data.added), ("Removed", self.data.removed)):
            yield from _listed(title, [code(name) for name in names])
        changed = [f"{code(name)}: {plain(what)}" for name, what in self.data.changed.items()]
        yield from _listed("Changed", changed)

    def _check(self) -> Iterator[str]:
        if self.findings:
            yield from ("", "## Data check", "")
            yield from table(
                ("", "check", ""),
                [
                    (_MARKS[one["status"]], one["name"], plain(one["sentence"]))
                    for one in self.findings
                ],
            )

    def _metrics(self) -> Iterator[str]:
        if not self.metrics:
            return
        yield from ("", "## Test videos", "")
        rows = []
        for name, now in self.metrics.items():
            before = self.committed_metrics.get(name)
            change = "" if before is None else f"{now - before:+.4g}"
            rows.append((name.replace("_", " "), _number(before), _number(now), change))
        yield from table(("metric", "at the commit", "now", "change"), rows)


def without_pictures(markdown: str) -> str:
    """Name the pictures of a report where it cannot show them: away from their files."""
    return _PICTURE.sub(r"`eval/\2`, in the artifact of the job.", markdown)


def _listed(title: str, items: Sequence[str]) -> Iterator[str]:
    if not items:
        return
    yield from ("", f"<details><summary>{title}: {len(items)}</summary>", "")
    yield from (f"- {item}" for item in items[:_SHOWN])
    if len(items) > _SHOWN:
        yield f"- and {len(items) - _SHOWN} more"
    yield from ("", "</details>")


def _below(markdown: str) -> str:
    """Make the headings of a document two levels smaller."""
    lines = (f"##{line}" if line.startswith("#") else line for line in markdown.splitlines())
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"

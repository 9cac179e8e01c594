"""The report of a retraining, as Markdown that GitHub and GitLab show."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.common.findings import Finding
from pipeline.common.records import VideoRecord
from pipeline.common.tables import markdown_code, markdown_escape, markdown_table
from pipeline.tasks.targets import Targets

_SHOWN = 20  # videos in a list
_PICTURE = re.compile(r"!\[([^\]]*)\]\(([^)]*)\)")
_MARKS = {"ok": "ok", "warn": "**warning**", "fail": "**failed**", "unknown": "unknown"}


@dataclass(frozen=True)
class DataChanges:
    """The differences of two catalogs, by names of videos (or segments).

    Attributes:
        added, removed: sorted.
        changed: name -> what changed: content, target, split or group.
        by_stratum: stratum (for classes: the class) -> added, removed, changed, now.
    """

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: dict[str, str]
    by_stratum: dict[str, tuple[int, int, int, int]]

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)


def data_changes(
    before: Sequence[VideoRecord], now: Sequence[VideoRecord], targets: Targets
) -> DataChanges:
    """Compare two catalogs by the names of their rows.

    A row that changed counts for the stratum that it has now.
    """
    old = {record.name: record for record in before}
    new = {record.name: record for record in now}
    added = sorted(new.keys() - old.keys())
    removed = sorted(old.keys() - new.keys())
    changed = {
        name: difference
        for name in sorted(new.keys() & old.keys())
        if (difference := _difference(old[name], new[name]))
    }

    def count(records: Sequence[VideoRecord]) -> Counter[str]:
        return Counter(targets.strata([record.target for record in records]))

    counts = (
        count([new[name] for name in added]),
        count([old[name] for name in removed]),
        count([new[name] for name in changed]),
        count(now),
    )
    return DataChanges(
        added=tuple(added),
        removed=tuple(removed),
        changed=changed,
        by_stratum={
            stratum: (
                counts[0][stratum],
                counts[1][stratum],
                counts[2][stratum],
                counts[3][stratum],
            )
            for stratum in sorted({*count(before), *counts[3]})
        },
    )


def _difference(old: VideoRecord, new: VideoRecord) -> str:
    parts = ["content"] if old.sha256 != new.sha256 else []
    parts += [
        f"{field} {before} -> {now}"
        for field in ("target", "split", "group")
        if (before := getattr(old, field)) != (now := getattr(new, field))
    ]
    return ", ".join(parts)


@dataclass(frozen=True)
class RetrainReport:
    """The content of ``eval/retrain.md``.

    Attributes:
        headline: the result in one sentence.
        commit: that the retraining started from, abbreviated.
        ran: stages whose result differs from the commit.
        data: the difference from the catalog of the commit.
        is_catalog_lost: whether DVC does not have that catalog, so that every video counts as
            added.
        findings: of the data check.
        metrics, committed_metrics: of the test videos; empty when there are none.
        gate: ``eval/promotion.md``; empty when nothing was judged.
        pictures: title -> path relative to the report.
        pushed: whether data was pushed, as a sentence.
    """

    headline: str
    commit: str
    ran: Sequence[str]
    data: DataChanges
    is_catalog_lost: bool
    findings: Sequence[Finding]
    metrics: Mapping[str, float]
    committed_metrics: Mapping[str, float]
    gate: str
    pictures: Mapping[str, Path]
    pushed: str

    def markdown(self) -> str:
        return "\n".join(self._lines()) + "\n"

    def _lines(self) -> Iterator[str]:
        yield f"# {markdown_escape(self.headline)}"
        yield ""
        yield (
            f"From commit {markdown_code(self.commit)}. Stages with another result: "
            f"{', '.join(self.ran) or 'none'}. {self.pushed}"
        ).rstrip()
        yield from self._data()
        if self.findings:
            yield from ("", "## Data check", "")
            rows = [
                (_MARKS[finding.status], finding.name, markdown_escape(finding.sentence))
                for finding in self.findings
            ]
            yield from markdown_table(("", "check", ""), rows)
        yield from self._metrics()
        if self.gate:
            # Its headings become two levels smaller.
            lines = [f"##{line}" if line[:1] == "#" else line for line in self.gate.splitlines()]
            yield from ("", "## Gate", "", "\n".join(lines))
        for title, path in self.pictures.items():
            yield from ("", f"## {title}", "", f"![{title}]({path.as_posix()})")

    def _data(self) -> Iterator[str]:
        yield from ("", "## Data", "")
        if not self.data:
            yield "The videos and their labels are those of the commit."
            return
        if self.is_catalog_lost:
            yield "**DVC does not have the catalog of the commit: every video counts as added.**"
            yield ""
        rows = [
            (markdown_escape(stratum), *map(str, counts))
            for stratum, counts in self.data.by_stratum.items()
        ]
        yield from markdown_table(("target", "added", "removed", "changed", "now"), rows)
        yield from _details("Added", [markdown_code(name) for name in self.data.added])
        yield from _details("Removed", [markdown_code(name) for name in self.data.removed])
        changed = self.data.changed.items()
        yield from _details(
            "Changed",
            [
                f"{markdown_code(name)}: {markdown_escape(difference)}"
                for name, difference in changed
            ],
        )

    def _metrics(self) -> Iterator[str]:
        if not self.metrics:
            return
        rows = []
        for name, now in self.metrics.items():
            before = self.committed_metrics.get(name)
            cells = ("", "") if before is None else (f"{before:.4g}", f"{now - before:+.4g}")
            rows.append((name.replace("_", " "), cells[0], f"{now:.4g}", cells[1]))
        yield from ("", "## Test videos", "")
        yield from markdown_table(("metric", "at the commit", "now", "change"), rows)


def without_pictures(markdown: str) -> str:
    """Replace the pictures of a report by their paths, for places that cannot show them."""
    return _PICTURE.sub(r"`eval/\2`, in the artifact of the job.", markdown)


def _details(title: str, items: Sequence[str]) -> Iterator[str]:
    if not items:
        return
    yield from ("", f"<details><summary>{title}: {len(items)}</summary>", "")
    yield from (f"- {item}" for item in items[:_SHOWN])
    if len(items) > _SHOWN:
        yield f"- and {len(items) - _SHOWN} more"
    yield from ("", "</details>")

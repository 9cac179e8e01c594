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

_SHOWN = 20  # videos in a list, rows in a table
_PICTURE = re.compile(r"^!\[(?:\\.|[^\\\]])*\]\(([^)]*)\)$", re.MULTILINE)
_MARKS = {"ok": "ok", "warn": "**warning**", "fail": "**failed**", "unknown": "unknown"}


@dataclass(frozen=True)
class DataChanges:
    """The differences of two catalogs, by names of videos (or segments).

    Attributes:
        added, removed: sorted.
        changed: name -> what changed: content, target, split or group.
        by_stratum: stratum (for classes: the class) -> added, removed, changed, now.
    """

    added: Sequence[str]
    removed: Sequence[str]
    changed: Mapping[str, str]
    by_stratum: Mapping[str, Sequence[int]]

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
    changed = {}
    for name in sorted(new.keys() & old.keys()):
        parts = ["content"] if old[name].sha256 != new[name].sha256 else []
        for field in ("target", "split", "group"):
            values = getattr(old[name], field), getattr(new[name], field)
            if values[0] != values[1]:
                parts.append(f"{field} {values[0]} -> {values[1]}")
        if parts:
            changed[name] = ", ".join(parts)

    # Of both data sets together: the ranges of numbers depend on all of them.
    everything = [record.target for record in (*before, *now)]
    stratum_of = dict(zip(everything, targets.strata(everything), strict=True))

    def count(records: Sequence[VideoRecord]) -> Counter[str]:
        return Counter(stratum_of[record.target] for record in records)

    counts = [
        count([new[name] for name in added]),
        count([old[name] for name in removed]),
        count([new[name] for name in changed]),
        count(now),
    ]
    strata = sorted({*count(before), *counts[3]})
    by_stratum = {stratum: [counter[stratum] for counter in counts] for stratum in strata}
    return DataChanges(added, removed, changed, by_stratum)


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
        stages = ", ".join(self.ran) or "none"
        start = f"From commit {markdown_code(self.commit)}. Stages with another result: {stages}."
        yield from (
            f"# {markdown_escape(self.headline)}",
            "",
            f"{start} {markdown_escape(self.pushed)}".rstrip(),
        )
        yield from self._data()
        if self.findings:
            yield from ("", "## Data check", "")
            rows = [
                (_MARKS[finding.status], *map(markdown_escape, (finding.name, finding.sentence)))
                for finding in self.findings
            ]
            yield from markdown_table(("", "check", ""), rows)
        if self.metrics:
            metric_rows = []
            for name, now in self.metrics.items():
                old = self.committed_metrics.get(name)
                cells = ("", "") if old is None else (f"{old:.4g}", f"{now - old:+.4g}")
                metric = markdown_escape(name.replace("_", " "))
                metric_rows.append((metric, cells[0], f"{now:.4g}", cells[1]))
            yield from ("", "## Test videos", "")
            yield from markdown_table(("metric", "at the commit", "now", "change"), metric_rows)
        if self.gate:
            # Its headings become two levels smaller.
            lines = [f"##{line}" if line[:1] == "#" else line for line in self.gate.splitlines()]
            yield from ("", "## Gate", "", "\n".join(lines))
        for title, path in self.pictures.items():
            title = markdown_escape(title)
            yield from ("", f"## {title}", "", f"![{title}]({path.as_posix()})")

    def _data(self) -> Iterator[str]:
        yield from ("", "## Data", "")
        if not self.data:
            yield "The videos and their labels are those of the commit."
            return
        if self.is_catalog_lost:
            yield "**DVC does not have the catalog of the commit: every video counts as added.**"
            yield ""
        strata = sorted(self.data.by_stratum.items(), key=lambda item: -sum(item[1][:3]))
        rows = [
            (markdown_escape(stratum), *map(str, counts)) for stratum, counts in strata[:_SHOWN]
        ]
        yield from markdown_table(("target", "added", "removed", "changed", "now"), rows)
        if len(strata) > _SHOWN:
            yield from ("", f"The first {_SHOWN} of {len(strata):,} rows, most changes first.")
        lists = {
            "Added": [markdown_code(name) for name in self.data.added],
            "Removed": [markdown_code(name) for name in self.data.removed],
            "Changed": [
                f"{markdown_code(name)}: {markdown_escape(difference)}"
                for name, difference in self.data.changed.items()
            ],
        }
        for title, items in lists.items():
            if items:
                yield from ("", f"<details><summary>{title}: {len(items)}</summary>", "")
                yield from (f"- {item}" for item in items[:_SHOWN])
                if len(items) > _SHOWN:
                    yield f"- and {len(items) - _SHOWN} more"
                yield from ("", "</details>")


def without_pictures(markdown: str) -> str:
    """Replace the pictures of a report by their paths, for places that cannot show them."""
    return _PICTURE.sub(r"`eval/\1`, in the artifact of the job.", markdown)

"""What changed from one catalog to the next. Pure functions."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.catalog.records import CatalogEntry


@dataclass(frozen=True)
class DataChanges:
    """Names of videos (or parts of them), in order.

    changed: name -> what is another: content, label, split or group.
    by_class: label -> (added, removed, changed, now).
    """

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: dict[str, str]
    by_class: dict[str, tuple[int, int, int, int]]

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)


def data_changes(before: Sequence[CatalogEntry], now: Sequence[CatalogEntry]) -> DataChanges:
    """Compare two catalogs by the names of their rows.

    A row that changed counts for the class that it has now.
    """
    old = {entry.name: entry for entry in before}
    new = {entry.name: entry for entry in now}
    added = sorted(new.keys() - old.keys())
    removed = sorted(old.keys() - new.keys())
    changed = {
        name: what
        for name in sorted(new.keys() & old.keys())
        if (what := _difference(old[name], new[name]))
    }
    counts = (
        Counter(new[name].label for name in added),
        Counter(old[name].label for name in removed),
        Counter(new[name].label for name in changed),
        Counter(entry.label for entry in now),
    )
    labels = sorted({entry.label for entry in (*before, *now)})
    return DataChanges(
        added=tuple(added),
        removed=tuple(removed),
        changed=changed,
        by_class={
            label: (counts[0][label], counts[1][label], counts[2][label], counts[3][label])
            for label in labels
        },
    )


def _difference(old: CatalogEntry, new: CatalogEntry) -> str:
    parts = []
    if old.sha256 != new.sha256:
        parts.append("content")
    parts += [
        f"{field} {was} -> {now}"
        for field, was, now in (
            ("label", old.label, new.label),
            ("split", old.split, new.split),
            ("group", old.group, new.group),
        )
        if was != now
    ]
    return ", ".join(parts)

"""Labels: are they sound, and are they those of before?"""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from pipeline.catalog.records import SPLITS, CatalogEntry
from pipeline.datacheck.dataset import Content, DataSet, content
from pipeline.datacheck.finding import Finding, Threshold, judged

_SHOWN = 5  # names in a sentence
# One is enough: such labels contradict each other, whatever the rest is like.
_ANY = Threshold(warn=1, fail=1)
_ANY_WARNS = Threshold(warn=1, fail=None)


def check_spelling(now: DataSet) -> Finding:
    """Look for labels that differ only by case, spaces, hyphens or underscores."""
    spellings: dict[str, set[str]] = defaultdict(set)
    for label in now.label_counts:
        spellings["".join(filter(str.isalnum, label.casefold())) or label].add(label)
    alike = [" and ".join(sorted(labels)) for labels in spellings.values() if len(labels) > 1]
    sentence = (
        f"Classes that may be the same one: {_listed(alike)}."
        if alike
        else f"{len(spellings)} classes, no two spelt alike."
    )
    return judged("spelling of labels", len(alike), _ANY_WARNS, sentence)


def check_splits(now: DataSet) -> Finding:
    """Look for classes without a video in some split."""
    there = {(entry.label, entry.split) for entry in now.entries}
    missing = [
        f"{label} in {split}"
        for label in sorted(now.label_counts)
        for split in SPLITS
        if (label, split) not in there
    ]
    sentence = (
        f"No video of {_listed(missing)}. Another catalog.seed draws another split."
        if missing
        else "Every class has videos in every split."
    )
    return judged("splits", len(missing), _ANY_WARNS, sentence)


def check_contradictions(now: DataSet) -> Finding:
    """Look for copies of a video that have different labels."""
    contradicted = [rows for rows in _copies(now.entries) if len({row.label for row in rows}) > 1]
    shown = [", ".join(f"{row.name} is {row.label}" for row in rows) for rows in contradicted]
    sentence = (
        f"The same video under different labels: {_listed(shown)}."
        if contradicted
        else "No video has two labels."
    )
    return judged("contradictions", len(contradicted), _ANY, sentence)


def check_duplicates(now: DataSet, threshold: Threshold) -> Finding:
    """Measure the share of rows that are a copy of another row."""
    copies = _copies(now.entries)
    surplus = sum(len(rows) - 1 for rows in copies)
    first = f", such as {copies[0][0].name} and {copies[0][1].name}" if copies else ""
    sentence = f"{surplus} of {len(now.entries)} videos are copies of another{first}."
    return judged("duplicates", surplus / len(now.entries), threshold, sentence)


def check_relabelled(now: DataSet, before: DataSet, threshold: Threshold) -> Finding:
    """Measure the share of the videos that were there before and have another label now."""
    was = {content(entry): entry.label for entry in before.entries}
    stayed = [entry for entry in now.entries if entry.sha256 and content(entry) in was]
    changed = [entry for entry in stayed if entry.label != was[content(entry)]]
    shown = [f"{row.name} was {was[content(row)]} and is {row.label}" for row in changed]
    details = f": {_listed(shown)}" if shown else ""
    sentence = f"{len(changed)} of {len(stayed)} videos of before have another label{details}."
    return judged("relabelled", len(changed) / max(len(stayed), 1), threshold, sentence)


def check_new_classes(now: DataSet, before: DataSet, threshold: Threshold) -> Finding:
    """Count classes that the champion does not know."""
    new = sorted(now.label_counts.keys() - before.label_counts.keys())
    sentence = f"New: {_listed(new)}." if new else "No class is new."
    return judged("new classes", len(new), threshold, sentence)


def check_vanished_classes(now: DataSet, before: DataSet, threshold: Threshold) -> Finding:
    """Count classes that the champion knows and the data no longer has."""
    gone = sorted(before.label_counts.keys() - now.label_counts.keys())
    sentence = f"Gone: {_listed(gone)}." if gone else "No class is gone."
    return judged("vanished classes", len(gone), threshold, sentence)


def check_balance(now: DataSet, before: DataSet, threshold: Threshold) -> Finding:
    """Measure the share of videos that would have to change class to restore the balance.

    That is the total variation distance of the two distributions of classes.
    """
    new, old = now.label_counts, before.label_counts
    shifts = {
        label: new[label] / new.total() - old[label] / old.total()
        for label in sorted(new.keys() | old.keys())
    }
    distance = sum(map(abs, shifts.values())) / 2
    most = max(shifts, key=lambda label: abs(shifts[label]))
    sentence = (
        f"The shares of classes moved by {distance:.1%}, most that of {most}: "
        f"{old[most] / old.total():.1%} before, {new[most] / new.total():.1%} now."
    )
    return judged("class balance", distance, threshold, sentence)


def _copies(entries: Iterable[CatalogEntry]) -> list[list[CatalogEntry]]:
    by_content: dict[Content, list[CatalogEntry]] = defaultdict(list)
    for entry in entries:
        if entry.sha256:
            by_content[content(entry)].append(entry)
    return [rows for rows in by_content.values() if len(rows) > 1]


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return "; ".join(names[:_SHOWN]) + more

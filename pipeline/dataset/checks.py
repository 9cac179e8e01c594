"""Check a data set before training: class names, copies, drift since the champion.

The catalog stage already refuses copies with different targets, and splits that lack a class.

Drift is the Kolmogorov-Smirnov statistic (``scipy.stats.ks_2samp``): the largest difference of two
cumulative distributions, 0 (equal) to 1 (no overlap). Unlike the population stability index it
needs no bins.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import ks_2samp

from pipeline.common.findings import Finding, Status
from pipeline.common.records import DecodeFacts, VideoRecord
from pipeline.common.side_inputs import SideInputKind
from pipeline.common.tables import shorten_list
from pipeline.dataset.names import alike_names
from pipeline.tasks.targets import Targets


@dataclass(frozen=True)
class Limits:
    """The lowest values at which a check warns and fails; None for never."""

    warn: float
    fail: float | None

    def finding(self, name: str, value: float, sentence: str) -> Finding:
        """Return the finding with the status that follows from ``value``."""
        status: Status = "ok"
        threshold = self.warn
        if self.fail is not None and value >= self.fail:
            status, threshold = "fail", self.fail
        elif value >= self.warn:
            status = "warn"
        return Finding(name, status, sentence, round(value, 6), threshold)


# Counts of classes or of videos.
SPELLING = Limits(warn=1, fail=None)
NEW_CLASSES = Limits(warn=1, fail=None)
VANISHED_CLASSES = Limits(warn=1, fail=1)
# Fractions of videos.
DUPLICATES = Limits(warn=0.01, fail=0.1)
NEW_CATEGORIES = Limits(warn=0.05, fail=None)
RELABELLED = Limits(warn=0.01, fail=0.2)
BALANCE = Limits(warn=0.1, fail=0.3)  # total variation distance of the class distributions
DRIFT = Limits(warn=0.2, fail=0.5)  # Kolmogorov-Smirnov statistic

_DRIFT_P_VALUE = 0.01  # with a larger p-value, the difference may be chance


def check_data(
    now: Sequence[VideoRecord],
    before: Sequence[VideoRecord] | None,
    targets: Targets,
    side_inputs: Mapping[str, SideInputKind] | None = None,
) -> list[Finding]:
    """Return the results of all checks. What every split must have of the targets is a class.

    Args:
        now: decoded records, at least one.
        before: records that the champion was trained on. None if they are unknown: the checks
            that compare are then left out. Without their facts, drift is unknown.
        side_inputs: ``data.side_inputs``.
    """
    kinds = side_inputs or {}
    quantities = [
        *_QUANTITIES,
        *(_side_number(column) for column in kinds if kinds[column] == "number"),
    ]
    if targets.number(now[0].target) is not None:
        quantities.append(
            _Quantity(targets.columns[0], "target", lambda one, _: targets.number(one.target))
        )
    classes_now = _classes(now, targets)
    findings = [_check_spelling(classes_now), _check_duplicates(now)]
    if before is not None:
        classes_before = _classes(before, targets)
        findings += [
            *_check_classes(classes_now, classes_before),
            _check_balance(classes_now, classes_before),
            _check_relabelled(now, before),
            *_check_drift(now, before, quantities),
            *(
                _check_categories(column, now, before)
                for column, kind in kinds.items()
                if kind == "category"
            ),
        ]
    return findings


def _classes(records: Sequence[VideoRecord], targets: Targets) -> list[str]:
    """Return the classes of all records, several of a record with several labels."""
    own = targets.required_strata([record.target for record in records])
    return [name for names in own for name in names]


def _check_spelling(classes: Sequence[str]) -> Finding:
    """Find classes whose names differ only by case, spaces, hyphens or underscores."""
    alike = [" and ".join(names) for names in alike_names(classes)]
    sentence = (
        f"Names that may mean the same class: {shorten_list(alike, separator='; ')}."
        if alike
        else f"{len(set(classes))} classes with distinct names."
    )
    return SPELLING.finding("spelling of labels", len(alike), sentence)


def _check_duplicates(now: Sequence[VideoRecord]) -> Finding:
    """Measure the fraction of videos that are copies of another one."""
    copies = _copies(now)
    surplus = sum(len(records) - 1 for records in copies)
    example = f", such as {copies[0][0].name} and {copies[0][1].name}" if copies else ""
    sentence = f"{surplus} of {len(now)} videos are copies of another{example}."
    return DUPLICATES.finding("duplicates", surplus / len(now), sentence)


def _check_classes(now: Sequence[str], before: Sequence[str]) -> Iterator[Finding]:
    """Find classes that are new, and classes that have vanished."""
    new = sorted(set(now) - set(before))
    sentence = f"New: {shorten_list(new, separator='; ')}." if new else "No class is new."
    yield NEW_CLASSES.finding("new classes", len(new), sentence)
    vanished = sorted(set(before) - set(now))
    names = shorten_list(vanished, separator="; ")
    sentence = f"Vanished: {names}." if vanished else "No class has vanished."
    yield VANISHED_CLASSES.finding("vanished classes", len(vanished), sentence)


def _check_balance(now: Sequence[str], before: Sequence[str]) -> Finding:
    """Measure the total variation distance of the class distributions.

    With one class a video, it is the fraction of videos that must change class to restore the old
    distribution.
    """
    new, old = Counter(now), Counter(before)
    shifts = {
        target: new[target] / new.total() - old[target] / old.total()
        for target in sorted(new.keys() | old.keys())
    }
    distance = sum(map(abs, shifts.values())) / 2
    most = max(shifts, key=lambda target: abs(shifts[target]))
    sentence = (
        f"The class distribution moved by {distance:.1%}, most for {most}: "
        f"{old[most] / old.total():.1%} before, {new[most] / new.total():.1%} now."
    )
    return BALANCE.finding("class balance", distance, sentence)


def _check_relabelled(now: Sequence[VideoRecord], before: Sequence[VideoRecord]) -> Finding:
    """Measure the fraction of the videos in both data sets whose label changed."""
    old_target = {record.content: record.target for record in before}
    kept = [record for record in now if record.sha256 and record.content in old_target]
    changed = [record for record in kept if record.target != old_target[record.content]]
    examples = [
        f"{record.name} was {old_target[record.content]} and is {record.target}"
        for record in changed
    ]
    details = f": {shorten_list(examples, separator='; ')}" if examples else ""
    sentence = f"{len(changed)} of {len(kept)} earlier videos have another label{details}."
    return RELABELLED.finding("relabelled", len(changed) / max(len(kept), 1), sentence)


def _check_categories(
    column: str, now: Sequence[VideoRecord], before: Sequence[VideoRecord]
) -> Finding:
    """Measure the fraction of videos with a category that the champion does not know."""
    known = {record.extra[column] for record in before if column in record.extra}
    if not known:
        return Finding(f"new {column}", "unknown", "Not recorded for the champion.")
    new = Counter(record.extra[column] for record in now if record.extra[column] not in known)
    details = f", such as {shorten_list(sorted(new))}" if new else ""
    sentence = f"{new.total()} of {len(now)} videos have a new category{details}."
    return NEW_CATEGORIES.finding(f"new {column}", new.total() / len(now), sentence)


def _copies(records: Sequence[VideoRecord]) -> list[list[VideoRecord]]:
    by_content: dict[object, list[VideoRecord]] = defaultdict(list)
    for record in records:
        if record.sha256:
            by_content[record.content].append(record)
    return [copies for copies in by_content.values() if len(copies) > 1]


@dataclass(frozen=True)
class _Quantity:
    """A number that describes a decoded video, None where it is unknown."""

    name: str
    unit: str
    value: Callable[[VideoRecord, DecodeFacts], float | None]

    def known_values(self, records: Sequence[VideoRecord]) -> list[float]:
        values = (self.value(record, record.facts) for record in records if record.facts)
        return [value for value in values if value is not None]


def _side_length(_: VideoRecord, facts: DecodeFacts) -> float | None:
    """Return the side of the square with as many pixels as the picture."""
    size = facts.upright_size
    return None if size is None else float((size[0] * size[1]) ** 0.5)


def _aspect_ratio(_: VideoRecord, facts: DecodeFacts) -> float | None:
    size = facts.upright_size
    return None if size is None else size[0] / size[1]


_QUANTITIES = (
    _Quantity("duration", "s", lambda record, _: record.seconds),
    _Quantity("frame rate", "fps", lambda _, facts: facts.source_fps),
    _Quantity("size", "pixels, side of a square", _side_length),
    _Quantity("shape", "width / height", _aspect_ratio),
    _Quantity("brightness", "of 1", lambda _, facts: facts.brightness),
)


def _side_number(column: str) -> _Quantity:
    def value(record: VideoRecord, _: DecodeFacts) -> float | None:
        with suppress(ValueError):  # empty, or another column of the same name
            return float(record.extra.get(column, ""))
        return None

    return _Quantity(column, "side input", value)


def _check_drift(
    now: Sequence[VideoRecord], before: Sequence[VideoRecord], quantities: Sequence[_Quantity]
) -> Iterator[Finding]:
    """Compare all videos with the earlier ones, and then the new videos alone.

    A few new videos hardly change the distribution of all videos, although they may come from a
    faulty source. The findings of new videos warn and never fail.
    """
    earlier = {record.content for record in before}
    arrived = [record for record in now if record.content not in earlier]
    for quantity in quantities:
        yield _drift(quantity, now, before, DRIFT)
        if arrived and len(arrived) < len(now):
            finding = _drift(quantity, arrived, before, replace(DRIFT, fail=None))
            yield replace(finding, name=f"{quantity.name}, new videos")


def _drift(
    quantity: _Quantity,
    now: Sequence[VideoRecord],
    before: Sequence[VideoRecord],
    limits: Limits,
) -> Finding:
    new, old = quantity.known_values(now), quantity.known_values(before)
    if not new or not old:
        sentence = "Not recorded for the champion." if new else "Unknown for every video."
        return Finding(quantity.name, "unknown", sentence)
    test = ks_2samp(new, old)
    statistic = float(test.statistic)
    medians = (
        f"median {np.median(old):.4g} before, {np.median(new):.4g} now "
        f"({quantity.unit}; {len(old)} and {len(new)} videos)"
    )
    if test.pvalue >= _DRIFT_P_VALUE:
        sentence = f"{medians}; the difference may be chance."
        return Finding(quantity.name, "ok", sentence, round(statistic, 6), limits.warn)
    return limits.finding(quantity.name, statistic, f"{medians}.")

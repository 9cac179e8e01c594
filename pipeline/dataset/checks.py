"""Check a data set before training: labels, splits, copies, and drift since the champion's data.

Drift is the statistic of Kolmogorov and Smirnov (``scipy.stats.ks_2samp``): the largest
difference of two cumulative distributions, 0 (equal) to 1 (no overlap). Unlike the population
stability index it needs no bins.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import ks_2samp

from pipeline.common.findings import Finding, Status
from pipeline.common.records import SPLITS, VideoRecord
from pipeline.common.tables import shorten_list


@dataclass(frozen=True)
class Limits:
    """The values from which a check warns and fails; None: never."""

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
MISSING_IN_SPLIT = Limits(warn=1, fail=None)
CONTRADICTIONS = Limits(warn=1, fail=1)
NEW_CLASSES = Limits(warn=1, fail=None)
VANISHED_CLASSES = Limits(warn=1, fail=1)
# Fractions of videos.
DUPLICATES = Limits(warn=0.01, fail=0.1)
RELABELLED = Limits(warn=0.01, fail=0.2)
BALANCE = Limits(warn=0.1, fail=0.3)  # total variation distance of the class distributions
DRIFT = Limits(warn=0.2, fail=0.5)  # statistic of Kolmogorov and Smirnov

_DRIFT_P_VALUE = 0.01  # a larger p value: chance explains the difference


def check_data(now: Sequence[VideoRecord], before: Sequence[VideoRecord] | None) -> list[Finding]:
    """Return the results of all checks.

    Args:
        now: decoded records, at least one; the target of each is a class.
        before: the data that the champion was trained on. None: it is unknown, and the checks
            that compare are left out. Without facts, drift is unknown.
    """
    findings = [
        _check_spelling(now),
        _check_splits(now),
        _check_contradictions(now),
        _check_duplicates(now),
    ]
    if before is not None:
        findings += [
            _check_new_classes(now, before),
            _check_vanished_classes(now, before),
            _check_balance(now, before),
            _check_relabelled(now, before),
            *_check_drift(now, before),
        ]
    return findings


def _check_spelling(now: Sequence[VideoRecord]) -> Finding:
    """Find classes whose names differ only by case, spaces, hyphens or underscores."""
    spellings: dict[str, set[str]] = defaultdict(set)
    for record in now:
        letters = "".join(filter(str.isalnum, record.target.casefold()))
        spellings[letters or record.target].add(record.target)
    alike = [" and ".join(sorted(names)) for names in spellings.values() if len(names) > 1]
    sentence = (
        f"Names that may mean the same class: {shorten_list(alike, separator='; ')}."
        if alike
        else f"{len(spellings)} classes with distinct names."
    )
    return SPELLING.finding("spelling of labels", len(alike), sentence)


def _check_splits(now: Sequence[VideoRecord]) -> Finding:
    """Find classes without a video in some split."""
    present = {(record.target, record.split) for record in now}
    missing = [
        f"{target} in {split}"
        for target in sorted({record.target for record in now})
        for split in SPLITS
        if (target, split) not in present
    ]
    sentence = (
        f"No video of {shorten_list(missing, separator='; ')}. Another catalog.seed gives "
        "another split."
        if missing
        else "Every class has videos in every split."
    )
    return MISSING_IN_SPLIT.finding("splits", len(missing), sentence)


def _check_contradictions(now: Sequence[VideoRecord]) -> Finding:
    """Find copies of a video with different labels."""
    contradictory = [
        ", ".join(f"{record.name} is {record.target}" for record in copies)
        for copies in _copies(now)
        if len({record.target for record in copies}) > 1
    ]
    sentence = (
        f"The same video with different labels: {shorten_list(contradictory, separator='; ')}."
        if contradictory
        else "No video has two labels."
    )
    return CONTRADICTIONS.finding("contradictions", len(contradictory), sentence)


def _check_duplicates(now: Sequence[VideoRecord]) -> Finding:
    """Measure the fraction of the videos that are a copy of another one."""
    copies = _copies(now)
    surplus = sum(len(records) - 1 for records in copies)
    example = f", such as {copies[0][0].name} and {copies[0][1].name}" if copies else ""
    sentence = f"{surplus} of {len(now)} videos are copies of another{example}."
    return DUPLICATES.finding("duplicates", surplus / len(now), sentence)


def _check_new_classes(now: Sequence[VideoRecord], before: Sequence[VideoRecord]) -> Finding:
    new = sorted({record.target for record in now} - {record.target for record in before})
    sentence = f"New: {shorten_list(new, separator='; ')}." if new else "No class is new."
    return NEW_CLASSES.finding("new classes", len(new), sentence)


def _check_vanished_classes(now: Sequence[VideoRecord], before: Sequence[VideoRecord]) -> Finding:
    vanished = sorted({record.target for record in before} - {record.target for record in now})
    sentence = (
        f"Vanished: {shorten_list(vanished, separator='; ')}."
        if vanished
        else "No class has vanished."
    )
    return VANISHED_CLASSES.finding("vanished classes", len(vanished), sentence)


def _check_balance(now: Sequence[VideoRecord], before: Sequence[VideoRecord]) -> Finding:
    """Measure the fraction of videos that must change class to restore the old distribution.

    This is the total variation distance of the two distributions of classes.
    """
    new, old = (Counter(record.target for record in records) for records in (now, before))
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


def _copies(records: Sequence[VideoRecord]) -> list[list[VideoRecord]]:
    by_content: dict[object, list[VideoRecord]] = defaultdict(list)
    for record in records:
        if record.sha256:
            by_content[record.content].append(record)
    return [copies for copies in by_content.values() if len(copies) > 1]


@dataclass(frozen=True)
class _Quantity:
    """A number that is known of a video, such as its duration."""

    name: str
    unit: str
    value: Callable[[VideoRecord], float | None]

    def values(self, records: Sequence[VideoRecord]) -> list[float]:
        known = (self.value(record) for record in records)
        return [value for value in known if value is not None]


def _frame_rate(record: VideoRecord) -> float | None:
    return None if record.facts is None else record.facts.source_fps


def _brightness(record: VideoRecord) -> float | None:
    return None if record.facts is None else record.facts.brightness


def _side_length(record: VideoRecord) -> float | None:
    """Return the side of the square with as many pixels as the picture."""
    size = record.facts.upright_size if record.facts else None
    return None if size is None else float((size[0] * size[1]) ** 0.5)


def _aspect_ratio(record: VideoRecord) -> float | None:
    size = record.facts.upright_size if record.facts else None
    return None if size is None else size[0] / size[1]


_QUANTITIES = (
    _Quantity("duration", "s", lambda record: record.seconds),
    _Quantity("frame rate", "fps", _frame_rate),
    _Quantity("size", "pixels, side of a square", _side_length),
    _Quantity("shape", "width / height", _aspect_ratio),
    _Quantity("brightness", "of 1", _brightness),
)


def _check_drift(now: Sequence[VideoRecord], before: Sequence[VideoRecord]) -> Iterator[Finding]:
    """Compare all videos with the earlier ones, and then the new videos alone.

    A few new videos that differ from all others hardly move the whole distribution, yet show
    that something is wrong with the source. Their own findings warn and never fail.
    """
    earlier = {record.content for record in before}
    arrived = [record for record in now if record.content not in earlier]
    for quantity in _QUANTITIES:
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
    new, old = quantity.values(now), quantity.values(before)
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
        sentence = f"{medians}; chance explains the difference."
        return Finding(quantity.name, "ok", sentence, round(statistic, 6), limits.warn)
    return limits.finding(quantity.name, statistic, f"{medians}.")

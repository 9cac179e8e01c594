"""Each check on data sets of a few rows, with values worked out by hand."""

import numpy as np
import pytest

from pipeline.catalog.records import CatalogEntry
from pipeline.data_check import _table
from pipeline.datacheck.checking import CheckRules, check_data
from pipeline.datacheck.dataset import DataSet
from pipeline.datacheck.drift import check_drift
from pipeline.datacheck.finding import Finding, Threshold
from pipeline.datacheck.labels import (
    check_balance,
    check_contradictions,
    check_duplicates,
    check_new_classes,
    check_relabelled,
    check_spelling,
    check_splits,
    check_vanished_classes,
)
from pipeline.evaluation.data_summary import DescribedVideo

LIMIT = Threshold(warn=0.1, fail=0.3)
NEVER = Threshold(None, None)


def rows(*labels, first=0, split="train"):
    """One row a label; the content of row 3 is "3"."""
    return [
        CatalogEntry(f"{n}.mp4", label, split, str(n), None, None, str(n))
        for n, label in enumerate(labels, start=first)
    ]


def described(entry, seconds=2.0, size=(64, 48)):
    return DescribedVideo(
        label=entry.label,
        split=entry.split,
        status="ok",
        frames=20,
        codec="h264",
        size=size,
        fps=30.0,
        is_variable_rate=False,
        seconds=seconds,
    )


def lasting(*seconds, first=0):
    """A data set of one class whose videos last so long."""
    entries = rows(*["left"] * len(seconds), first=first)
    videos = {
        row.name: described(row, seconds=length)
        for row, length in zip(entries, seconds, strict=True)
    }
    return DataSet(entries, videos, {row.name: 0.5 for row in entries})


@pytest.mark.parametrize(
    ("value", "threshold", "status"),
    [
        (0.09, LIMIT, "ok"),
        (0.1, LIMIT, "warn"),
        (0.3, LIMIT, "fail"),
        (1.0, NEVER, "ok"),
        (1.0, Threshold(0.1, None), "warn"),
        (1.0, LIMIT.warning_only, "warn"),
    ],
)
def test_thresholds(value, threshold, status):
    assert threshold.status(value) == status


def test_labels_that_differ_only_by_case_or_space_are_told():
    found = check_spelling(DataSet(rows("left", "Left", "le-ft", "right")))
    assert found.status == "warn"
    assert "Left and le-ft and left" in found.sentence
    assert check_spelling(DataSet(rows("left", "right", "!", "?"))).status == "ok"


def test_a_class_that_misses_in_a_split():
    entries = rows("a", "a", "b") + rows("a", "b", first=3, split="val")
    found = check_splits(DataSet([*entries, *rows("a", first=5, split="test")]))
    assert (found.status, found.value) == ("warn", 1)
    assert "No video of b in test." in found.sentence


def test_copies_and_copies_with_two_labels():
    a, b, c, d = rows("left", "left", "right", "right")
    copy = CatalogEntry("copy.mp4", "left", "train", "g", None, None, a.sha256)
    part = CatalogEntry("0.mp4", "right", "train", "g", 1.0, None, a.sha256)
    found = check_duplicates(DataSet([a, b, c, d, copy, part]), LIMIT)
    assert (found.status, found.value) == ("warn", pytest.approx(1 / 6, abs=1e-6))
    assert found.sentence == "1 of 6 videos are copies of another, such as 0.mp4 and copy.mp4."
    assert check_contradictions(DataSet([a, copy, part])).status == "ok"
    wrong = CatalogEntry("copy.mp4", "right", "train", "g", None, None, a.sha256)
    found = check_contradictions(DataSet([a, b, wrong]))
    assert found.status == "fail"
    assert "0.mp4 is left, copy.mp4 is right" in found.sentence


def test_files_that_are_no_files_are_not_copies():
    fifos = [CatalogEntry(f"{n}", "left", "train", "g", None, None, "") for n in range(2)]
    assert check_duplicates(DataSet(fifos), LIMIT).value == 0


def test_new_and_vanished_classes():
    before, now = DataSet(rows("a", "b", "c")), DataSet(rows("b", "c", "d", "e"))
    found = check_new_classes(now, before, Threshold(1, None))
    assert (found.status, found.value, found.sentence) == ("warn", 2, "New: d; e.")
    found = check_vanished_classes(now, before, Threshold(1, 1))
    assert (found.status, found.value, found.sentence) == ("fail", 1, "Gone: a.")


def test_balance_is_the_share_that_would_have_to_change_class():
    before = DataSet(rows(*"aabb"))  # 1/2, 1/2
    now = DataSet(rows(*"aaab"))  # 3/4, 1/4
    found = check_balance(now, before, LIMIT)
    assert (found.status, found.value) == ("warn", 0.25)
    assert "most that of a: 50.0% before, 75.0% now" in found.sentence
    assert check_balance(now, now, LIMIT).value == 0


def test_labels_that_changed_are_counted_among_the_videos_that_stayed():
    before = DataSet(rows("left", "left", "right", "right"))
    now = DataSet([*rows("left", "right", "right"), *rows("left", first=9)])
    found = check_relabelled(now, before, LIMIT)
    assert (found.status, found.value) == ("fail", pytest.approx(1 / 3, abs=1e-6))
    assert "1.mp4 was left and is right" in found.sentence
    assert check_relabelled(DataSet(rows("left", first=9)), before, LIMIT).value == 0


def by_name(findings) -> dict[str, Finding]:
    return {finding.name: finding for finding in findings}


def test_drift_is_the_largest_difference_of_the_cumulative_distributions():
    before = lasting(*np.linspace(1, 2, 40))
    now = lasting(*np.linspace(1, 2, 40)[:20], *np.linspace(3, 4, 20))
    found = by_name(check_drift(now, before, LIMIT))
    assert (found["duration"].status, found["duration"].value) == ("fail", 0.5)
    assert "1.5 before" in found["duration"].sentence
    assert found["frame rate"].value == found["brightness"].value == found["size"].value == 0


def test_pictures_on_their_side_are_drift():
    entries = rows(*["left"] * 40)
    lying, standing = (
        DataSet(entries, {row.name: described(row, size=size) for row in entries})
        for size in ((64, 48), (48, 64))
    )
    found = by_name(check_drift(standing, lying, LIMIT))
    assert (found["size"].status, found["size"].value) == ("ok", 0)
    assert (found["shape"].status, found["shape"].value) == ("fail", 1)
    assert "median 1.333 before, 0.75 now (width / height;" in found["shape"].sentence


def test_chance_is_no_drift():
    found = by_name(check_drift(lasting(1, 2, 3), lasting(2, 3, 4), LIMIT))["duration"]
    assert found.status == "ok"
    assert found.value == pytest.approx(1 / 3, abs=1e-6)
    assert "chance explains the difference" in found.sentence


def test_new_videos_alone_are_compared_and_only_warn():
    before = lasting(*np.linspace(1, 2, 200))
    seconds = [*np.linspace(1, 2, 200), *np.linspace(8, 9, 10)]
    found = by_name(check_drift(lasting(*seconds), before, LIMIT))
    assert found["duration"].status == "ok"
    assert (found["duration, new videos"].status, found["duration, new videos"].value) == (
        "warn",
        1.0,
    )


def test_what_was_not_recorded_is_unknown():
    before = DataSet(rows("left", "left"))
    found = by_name(check_drift(lasting(1, 2), before, LIMIT))
    assert found["brightness"].status == "unknown"
    assert found["brightness"].sentence == "Not recorded for the champion."


RULES = CheckRules(*[LIMIT] * 6)


def test_without_a_champion_only_what_needs_no_comparison_is_checked():
    now = lasting(1, 2)
    assert [finding.name for finding in check_data(now, None, RULES)] == [
        "spelling of labels", "splits", "contradictions", "duplicates",
    ]  # fmt: skip
    assert len(list(check_data(now, now, RULES))) == 13


def test_the_table_is_aligned():
    found = check_new_classes(DataSet(rows("a", "b")), DataSet(rows("a")), Threshold(1, None))
    ok = check_splits(DataSet(rows("a")))
    assert _table([found, ok])[0] == "  WARN  new classes       1  New: b."
    assert _table([found, ok])[1].startswith("  WARN  splits            2  No video of a in val")

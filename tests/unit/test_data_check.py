"""Each check on data sets of a few rows, with values computed by hand."""

from dataclasses import replace

import numpy as np
import pytest

from pipeline.common.records import DecodeFacts, VideoRecord
from pipeline.dataset.checks import check_data
from pipeline.tasks.targets import Targets, targets_of


def rows(*labels, first=0, split="train"):
    """One row a label; the content of row 3 is "3"."""
    return [
        VideoRecord(f"{n}.mp4", label, split, str(n), sha256=str(n))
        for n, label in enumerate(labels, start=first)
    ]


def decoded(records, seconds=2.0, size=(64, 48)):
    facts = DecodeFacts(
        key="key",
        frames=20,
        width=size[0],
        height=size[1],
        source_fps=30.0,
        source_seconds=seconds,
        brightness=0.5,
    )
    return [replace(record, facts=facts) for record in records]


def of_durations(*seconds, first=0):
    """Videos of one class with these durations."""
    records = rows(*["left"] * len(seconds), first=first)
    return [
        record
        for row, length in zip(records, seconds, strict=True)
        for record in decoded([row], seconds=float(length))
    ]


CLASSES = targets_of("classification")


def statuses(now, before, task_type):
    findings = check_data(rows(*now), rows(*before, first=1000), targets_of(task_type))
    return {finding.name: (finding.status, finding.sentence) for finding in findings}


def test_more_numbers_move_ranges_and_lose_no_class():
    numbers = np.random.default_rng(0).uniform(size=220).astype(str)
    checks = statuses(numbers, numbers[:200], "regression")
    assert checks["vanished classes"][0] == checks["new classes"][0] == "ok"
    assert checks["class balance"][0] == "ok"


def test_drift_of_numbers_is_measured_by_value():
    checks = [
        {
            finding.name: finding.status
            for finding in check_data(
                decoded(rows(*map(str, now))),
                decoded(rows(*map(str, range(100)), first=1000)),
                targets_of("regression"),
            )
        }
        for now in (range(0, 100, 2), range(90, 190))
    ]
    assert [check["value"] for check in checks] == ["ok", "fail"]


def test_the_classes_of_several_labels_are_the_labels():
    before = ["a", "b", "a|b|c", ""] * 5
    checks = statuses([*before[:2], "a|b", "b|c", "a|z"] * 4, before, "multilabel")
    assert checks["vanished classes"] == ("ok", "No class has vanished.")
    assert checks["new classes"] == ("warn", "New: z.")


def test_targets_that_are_not_classes_have_no_class_checks_to_fail():
    class Numbers(Targets):
        columns = ("value",)

        def read(self, cells, *, where):  # noqa: ARG002
            return cells["value"]

    findings = check_data(rows("0.1", "0.2"), rows("0.3", "0.4"), Numbers())
    status = {finding.name: finding.status for finding in findings}
    for name in ("spelling of labels", "new classes", "vanished classes", "class balance"):
        assert status[name] == "ok"
    assert status["relabelled"] == "fail"


def finding(name, now, before=None):
    return {finding.name: finding for finding in check_data(now, before, CLASSES)}[name]


def test_classes_that_differ_only_by_case_or_separators():
    result = finding("spelling of labels", rows("left", "Left", "le-ft", "right"))
    assert (result.status, result.value, result.threshold) == ("warn", 1, 1)
    assert "Left and le-ft and left" in result.sentence
    assert finding("spelling of labels", rows("left", "right", "!", "?")).status == "ok"


def test_copies_of_a_video_are_counted():
    a, b, c, d = rows("left", "left", "right", "right")
    copy = replace(a, video="copy.mp4")
    part = replace(a, target="right", start_seconds=1.0)
    result = finding("duplicates", [a, b, c, d, copy, part])
    assert (result.status, result.value) == ("fail", pytest.approx(1 / 6, abs=1e-6))
    assert result.sentence == "1 of 6 videos are copies of another, such as 0.mp4 and copy.mp4."


@pytest.mark.parametrize(
    ("n_copies", "status", "threshold"), [(0, "ok", 0.01), (1, "warn", 0.01), (10, "fail", 0.1)]
)
def test_the_threshold_is_the_exceeded_one_or_the_first(n_copies, status, threshold):
    records = rows(*["left"] * 100)
    copies = [replace(records[0], video=f"copy{n}.mp4") for n in range(n_copies)]
    result = finding("duplicates", records[: 100 - n_copies] + copies)
    assert (result.status, result.threshold) == (status, threshold)
    assert result.value == n_copies / 100


def test_paths_that_are_not_files_are_not_copies():
    fifos = [VideoRecord(f"{n}", "left", "train", "g") for n in range(2)]
    assert finding("duplicates", fifos).value == 0


def test_new_and_vanished_classes():
    before, now = rows("a", "b", "c"), rows("b", "c", "d", "e")
    result = finding("new classes", now, before)
    assert (result.status, result.value, result.sentence) == ("warn", 2, "New: d; e.")
    result = finding("vanished classes", now, before)
    assert (result.status, result.value, result.sentence) == ("fail", 1, "Vanished: a.")


def test_balance_is_the_fraction_that_would_have_to_change_class():
    before = rows(*"aabb")  # 1/2, 1/2
    now = rows(*"aaab")  # 3/4, 1/4
    result = finding("class balance", now, before)
    assert (result.status, result.value) == ("warn", 0.25)
    assert "most for a: 50.0% before, 75.0% now" in result.sentence
    assert finding("class balance", now, now).value == 0


def test_changed_labels_are_counted_among_the_videos_of_both_data_sets():
    before = rows("left", "left", "right", "right")
    now = [*rows("left", "right", "right"), *rows("left", first=9)]
    result = finding("relabelled", now, before)
    assert (result.status, result.value) == ("fail", pytest.approx(1 / 3, abs=1e-6))
    assert "1.mp4 was left and is right" in result.sentence
    assert finding("relabelled", rows("left", first=9), before).value == 0


def test_drift_is_the_largest_difference_of_the_cumulative_distributions():
    before = of_durations(*np.linspace(1, 2, 40))
    now = of_durations(*np.linspace(1, 2, 40)[:20], *np.linspace(3, 4, 20))
    result = finding("duration", now, before)
    assert (result.status, result.value, result.threshold) == ("fail", 0.5, 0.5)
    assert "1.5 before" in result.sentence
    for name in ("frame rate", "brightness", "size"):
        assert finding(name, now, before).value == 0


def test_portrait_instead_of_landscape_is_drift():
    records = rows(*["left"] * 40)
    landscape, portrait = decoded(records, size=(64, 48)), decoded(records, size=(48, 64))
    size = finding("size", portrait, landscape)
    assert (size.status, size.value) == ("ok", 0)
    shape = finding("shape", portrait, landscape)
    assert (shape.status, shape.value) == ("fail", 1)
    assert "median 1.333 before, 0.75 now (width / height;" in shape.sentence


def test_a_difference_that_chance_explains_is_not_drift():
    result = finding("duration", of_durations(1, 2, 3), of_durations(2, 3, 4))
    assert result.status == "ok"
    assert result.value == pytest.approx(1 / 3, abs=1e-6)
    assert "the difference may be chance" in result.sentence


def test_new_videos_alone_are_compared_and_only_warn():
    before = of_durations(*np.linspace(1, 2, 200))
    now = of_durations(*np.linspace(1, 2, 200), *np.linspace(8, 9, 10))
    assert finding("duration", now, before).status == "ok"
    result = finding("duration, new videos", now, before)
    assert (result.status, result.value, result.threshold) == ("warn", 1.0, 0.2)


def test_facts_that_were_not_recorded_are_unknown():
    result = finding("brightness", of_durations(1, 2), rows("left", "left"))
    assert (result.status, result.value) == ("unknown", None)
    assert result.sentence == "Not recorded for the champion."
    result = finding("brightness", rows("left"), rows("left"))
    assert (result.status, result.sentence) == ("unknown", "Unknown for every video.")


def test_without_a_champion_only_checks_without_a_comparison_run():
    now = of_durations(1, 2)
    assert [finding.name for finding in check_data(now, None, CLASSES)] == [
        "spelling of labels", "duplicates",
    ]  # fmt: skip
    assert len(check_data(now, now, CLASSES)) == 11


def test_side_inputs_drift_too():
    """A number by its distribution, a category by values that the champion does not know."""

    def with_cells(ages, sites):
        records = rows(*["left"] * len(ages))
        return [
            replace(record, extra={"age": str(age), "site": site})
            for record, age, site in zip(decoded(records), ages, sites, strict=True)
        ]

    before = with_cells(range(20), ["Rom"] * 20)
    now = with_cells(range(100, 120), ["Rom"] * 18 + ["Ulm", "Bonn"])
    kinds = {"age": "number", "site": "category"}
    targets = targets_of("classification")
    findings = {finding.name: finding for finding in check_data(now, before, targets, kinds)}
    assert (findings["age"].status, findings["age"].value) == ("fail", 1.0)
    assert (findings["new site"].status, findings["new site"].value) == ("warn", 0.1)
    assert "Bonn" in findings["new site"].sentence
    unrecorded = [replace(record, extra={}) for record in before]
    findings = {finding.name: finding for finding in check_data(now, unrecorded, targets, kinds)}
    assert findings["age"].status == findings["new site"].status == "unknown"

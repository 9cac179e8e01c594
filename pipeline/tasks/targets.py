"""How each task reads its targets from the labels, and what every split must contain.

The data stages import this module and ``intervals.py`` only, so an edit of a task's model, scores
or charts does not rerun them.
"""

import json
import math
import unicodedata
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar

from pipeline.common.errors import PipelineError
from pipeline.common.numbers import finite_number
from pipeline.common.paths import CATALOG, DECODE_INDEX
from pipeline.common.records import SPLITS, Split, VideoRecord
from pipeline.tasks.intervals import (
    ClipFrames,
    Interval,
    LabelledIntervals,
    clip_text,
    read_clip_text,
    read_intervals,
)

if TYPE_CHECKING:  # it imports this module
    from pipeline.tasks.settings import TaskSection

# Ranges of numbers by which splits are stratified.
_MAX_RANGES = 5
_MIN_IN_RANGE = 20  # videos


class Targets(ABC):
    """The targets of one task, as text.

    Attributes:
        columns: of the labels table, besides ``video``.
        several_rows: whether a video may have several rows, which ``combine`` combines.
        class_folders: whether a folder name can be a target.
        covers_videos: whether the clips of a video contain all of its frames, each once.
        stratum_name: what messages call a stratum.
    """

    columns: ClassVar[tuple[str, ...]]
    several_rows: ClassVar[bool] = False
    class_folders: ClassVar[bool] = False
    covers_videos: ClassVar[bool] = False
    stratum_name: ClassVar[str] = "stratum"

    def configured(self, section: "TaskSection") -> "Targets":  # noqa: ARG002
        """Return the targets for settings that change how the labels are read."""
        return self

    @abstractmethod
    def read(self, cells: Mapping[str, str], *, where: str) -> str:
        """Return the target of a row as the text that the catalog stores.

        Args:
            cells: stripped cells of ``columns``.
            where: file and line, for messages.

        Raises:
            PipelineError: a cell is not valid.
        """

    def combine(self, targets: Sequence[str], *, where: Sequence[str]) -> str:
        """Return the target of a video from those of its rows, for ``several_rows``.

        Args:
            where: file and line of each row, for messages.

        Raises:
            PipelineError: the rows contradict each other.
        """
        raise NotImplementedError

    def of_clip(self, target: str, clip: ClipFrames) -> str:  # noqa: ARG002
        """Return the target of a clip from that of its video."""
        return target

    def of_video(self, target: str) -> str:
        """Return the target of a video from that of one of its clips."""
        return target

    def number(self, target: str) -> float | None:  # noqa: ARG002
        """Return the target as a number; None if it is none."""
        return None

    def text(self, target: str) -> str:
        """Return a target as pages show it."""
        return target

    def strata(self, targets: Sequence[str]) -> list[str]:
        """Return the stratum of each target, by which videos are counted and shown."""
        return ["all"] * len(targets)

    def split_strata(self, targets: Sequence[str]) -> list[tuple[str, ...]]:
        """Return the strata of each target that computed splits divide: none, one or several."""
        return [(stratum,) for stratum in self.strata(targets)]

    def required_strata(self, targets: Sequence[str]) -> list[tuple[str, ...]]:
        """Return the strata of each target that every split must have: none, one or several."""
        return self.split_strata(targets)

    def check_splits(self, records: Sequence[VideoRecord]) -> None:
        """Refuse splits without a video of some stratum. Quarantined videos do not count.

        Args:
            records: all records of the catalog; they may be decoded.

        Raises:
            PipelineError: a split lacks a stratum.
        """
        usable: Counter[tuple[str, Split]] = Counter()
        quarantined: dict[tuple[str, Split], list[VideoRecord]] = defaultdict(list)
        strata = self.required_strata([record.target for record in records])
        for record, own in zip(records, strata, strict=True):
            if record.split is None:  # only some official folds use it
                continue
            for stratum in own:
                if record.facts is None or record.is_usable:
                    usable[stratum, record.split] += 1
                else:
                    quarantined[stratum, record.split].append(record)
        names = sorted({stratum for own in strata for stratum in own})
        is_any = len(names) == 1  # a video, of whatever kind
        missing = [
            f"{'any kind' if is_any else f'{self.stratum_name} {name!r}'} in {split}"
            f"{_reason(quarantined[name, split])}"
            for name in names
            for split in SPLITS
            if not usable[name, split]
        ]
        if not missing:
            return
        remedy = (
            f"Repair or replace these videos ({DECODE_INDEX} has the reasons), or remove the "
            f"{self.stratum_name} from the labels. Then run: vidpipe repro"
            if any(quarantined.values())
            else "Add videos, or correct the given splits: the column split of the labels table, "
            "or the folders of splits."
        )
        raise PipelineError(
            f"Splits: no usable video of {'; '.join(missing)}. Expected "
            f"{'one' if is_any else f'each {self.stratum_name}'} in {', '.join(SPLITS)}. {remedy}"
        )

    def check_decoded(self, records: Sequence[VideoRecord], *, fps: float) -> None:  # noqa: ARG002
        """Refuse targets that the decoded videos contradict, and splits as ``check_splits``.

        Args:
            records: with facts.
            fps: frames kept per second of video.

        Raises:
            PipelineError: names a video.
        """
        self.check_splits(records)

    def has_target(self, record: VideoRecord, *, fps: float) -> bool:  # noqa: ARG002
        """Return whether the kept frames of a usable video have a target; as ``check_decoded``."""
        return True


def _reason(quarantined: Sequence[VideoRecord]) -> str:
    if not quarantined:
        return ""
    first = quarantined[0]
    assert first.facts is not None
    return f" ({len(quarantined)} quarantined, such as {first.name}: {first.facts.reason})"


class ClassTargets(Targets):
    """One class name a video."""

    columns = ("label",)
    class_folders = True
    stratum_name = "class"

    def read(self, cells: Mapping[str, str], *, where: str) -> str:
        if not cells["label"]:
            raise PipelineError(f"{where}: the column label is empty. Name the class.")
        return cells["label"]

    def strata(self, targets: Sequence[str]) -> list[str]:
        return list(targets)

    def check_splits(self, records: Sequence[VideoRecord]) -> None:
        """Refuse fewer than two classes, or a split without a usable video of some class."""
        classes = {record.target for record in records}
        if len(classes) < 2:
            raise PipelineError(
                "The labels have too few classes. Expected at least two classes. Received: "
                f"{', '.join(classes) or 'none'}. Add videos of another class."
            )
        super().check_splits(records)


class LabelSetTargets(Targets):
    """Any number of labels a video, separated by ``|``; an empty cell is a video without labels."""

    columns = ("labels",)
    stratum_name = "label"

    def read(self, cells: Mapping[str, str], *, where: str) -> str:
        labels = [label.strip() for label in cells["labels"].split("|")] if cells["labels"] else []
        if "" in labels:
            raise PipelineError(
                f"{where}: labels must be names separated by single |. "
                f"Received: {cells['labels']!r}. Correct the cell."
            )
        if len(set(labels)) < len(labels):
            raise PipelineError(
                f"{where}: labels must not contain a name twice. Received: {cells['labels']!r}. "
                "Correct the cell."
            )
        return join_labels(labels)

    def strata(self, targets: Sequence[str]) -> list[str]:
        """Return the label if there is one, ``no label``, or ``2 labels`` and so on."""
        return [_stratum(split_labels(target)) for target in targets]

    def split_strata(self, targets: Sequence[str]) -> list[tuple[str, ...]]:
        """Return the labels of each target."""
        return [tuple(split_labels(target)) for target in targets]

    def check_splits(self, records: Sequence[VideoRecord]) -> None:
        """Refuse labels that do not occur, or a split without a usable video of some label."""
        if not any(record.target for record in records):
            raise PipelineError(
                "The column labels is empty in every row. Expected at least one label. Correct the "
                "labels table."
            )
        super().check_splits(records)


class NumberTargets(Targets):
    """One number a video."""

    columns = ("value",)
    stratum_name = "range"

    def read(self, cells: Mapping[str, str], *, where: str) -> str:
        if finite_number(cells["value"]) is None:
            raise PipelineError(
                f"{where}: value must be a finite number such as 12.5. "
                f"Received: {cells['value']!r}. Correct the cell or delete the row."
            )
        return cells["value"]

    def number(self, target: str) -> float:
        return float(target)

    def strata(self, targets: Sequence[str]) -> list[str]:
        """Return the range of each value: up to five ranges with equal numbers of videos."""
        values = [float(target) for target in targets]
        ordered = sorted(values)
        n_ranges = max(1, min(_MAX_RANGES, len(ordered) // _MIN_IN_RANGE))
        starts = sorted({ordered[len(ordered) * n // n_ranges] for n in range(n_ranges)})
        lasts = [
            max(value for value in ordered if upper is None or value < upper)
            for upper in [*starts[1:], None]
        ]
        names = [f"{start:.4g} to {last:.4g}" for start, last in zip(starts, lasts, strict=True)]
        return [names[bisect_right(starts, value) - 1] for value in values]

    def required_strata(self, targets: Sequence[str]) -> list[tuple[str, ...]]:
        """Require a video in every split, of any range."""
        return [("any value",)] * len(targets)


@dataclass(frozen=True)
class FrameTargets(Targets):
    """Labelled intervals of a video, see ``intervals.py``.

    Attributes:
        background: label of the frames outside all intervals; empty: they are unlabelled.
    """

    columns = ("start_seconds", "end_seconds", "label")
    several_rows = True
    covers_videos = True
    stratum_name = "label"

    background: str = ""

    def configured(self, section: "TaskSection") -> "FrameTargets":
        return FrameTargets(section.background)

    def read(self, cells: Mapping[str, str], *, where: str) -> str:
        """Return the interval of a row; empty seconds are the start and the end of the video."""
        if self.background and not any(cells.values()):
            return ""
        label = cells["label"]
        if not label:
            remedy = "" if self.background else ", or name it in task.background"
            raise PipelineError(
                f"{where}: the column label is empty. Expected the label of the interval. Name it, "
                f"or delete the row: frames outside all intervals are unlabelled{remedy}."
            )
        if "|" in label:
            raise PipelineError(
                f"{where}: label must be a name without |. Received: {label!r}. Rename the label."
            )
        start = read_seconds(cells["start_seconds"], "start_seconds", where=where) or 0.0
        end = read_seconds(cells["end_seconds"], "end_seconds", where=where)
        end = math.inf if end is None else end
        if end <= start:
            raise PipelineError(
                f"{where}: end_seconds must be greater than start_seconds. "
                f"Received: start_seconds={start:g}, end_seconds={end:g}. Correct the cells."
            )
        return Interval(start, end, label).text

    def combine(self, targets: Sequence[str], *, where: Sequence[str]) -> str:
        """Return the intervals of all rows of a video, in their order."""
        located = sorted(
            (interval, place)
            for target, place in zip(targets, where, strict=True)
            for interval in read_intervals(target).intervals
        )
        for (one, place), (other, other_place) in pairwise(located):
            if other.start < one.end:
                raise PipelineError(
                    f"{other_place}: the interval {other.text!r} overlaps {one.text!r} of {place}. "
                    "Expected intervals in seconds that do not overlap; the end is exclusive. "
                    "Correct one of them."
                )
        return LabelledIntervals(tuple(interval for interval, _ in located), self.background).text

    def of_clip(self, target: str, clip: ClipFrames) -> str:
        return clip_text(target, clip)

    def of_video(self, target: str) -> str:
        clip = read_clip_text(target)
        return target if clip is None else clip[1]

    def strata(self, targets: Sequence[str]) -> list[str]:
        """Return the label if there is one, or ``2 labels`` and so on."""
        return [_stratum(read_intervals(target).labels) for target in targets]

    def split_strata(self, targets: Sequence[str]) -> list[tuple[str, ...]]:
        """Return the labels of each video."""
        return [tuple(read_intervals(target).labels) for target in targets]

    def check_splits(self, records: Sequence[VideoRecord]) -> None:
        """Refuse fewer than two labels, or a split without a usable video of some label."""
        labels = {label for record in records for label in read_intervals(record.target).labels}
        if len(labels) < 2:
            raise PipelineError(
                "The labels have too few names. Expected at least two labels. Received: "
                f"{', '.join(labels) or 'none'}. Label other intervals, or set task.background."
            )
        super().check_splits(records)

    def check_decoded(self, records: Sequence[VideoRecord], *, fps: float) -> None:
        """Refuse an interval beyond the end of its video, and a video without a labelled frame.

        An interval may end up to one kept frame after the video. Every split must have a frame of
        each label. A video that is kept in spite of damage may end before its intervals; before
        the first one, it has no target.
        """
        super().check_decoded(records, fps=fps)
        kept: set[tuple[str, Split | None]] = set()  # labels of frames, with their split
        for record in records:
            if record.facts is None or not record.is_usable:
                continue
            labelled, seconds = read_intervals(record.target), record.seconds
            own = self._kept_labels(record, fps)
            kept.update((label, record.split) for label in own)
            if record.facts.status == "damaged":
                continue
            for interval in labelled.intervals:
                last = interval.start if math.isinf(interval.end) else interval.end - 1 / fps
                if seconds is not None and last > seconds:
                    raise PipelineError(
                        f"{CATALOG}, {record.name}: the interval {interval.text!r} is beyond the "
                        f"end of the video. Expected seconds up to {seconds:.4g}, its duration. "
                        "Correct the labels table."
                    )
            if not own:
                raise PipelineError(
                    f"{CATALOG}, {record.name}: no frame is labelled. Expected an interval with a "
                    f"frame at {fps:g} frames per second. Received: {record.target or 'none'}. "
                    "Correct the labels table, or raise decode.fps."
                )
        labels = {label for record in records for label in read_intervals(record.target).labels}
        missing = [
            f"{label!r} in {split}"
            for label in sorted(labels)
            for split in SPLITS
            if (label, split) not in kept
        ]
        if missing:
            raise PipelineError(
                f"Splits: no frame of label {'; '.join(missing)}. Expected frames of each label in "
                f"{', '.join(SPLITS)} at {fps:g} frames per second. Add videos, correct the labels "
                "table, or raise decode.fps."
            )

    def has_target(self, record: VideoRecord, *, fps: float) -> bool:
        return bool(self._kept_labels(record, fps))

    def _kept_labels(self, record: VideoRecord, fps: float) -> set[str]:
        assert record.facts is not None
        labelled = read_intervals(record.target)
        return set(labelled.frame_labels(fps, range(record.facts.frames))) - {""}


def read_seconds(text: str, column: str, *, where: str) -> float | None:
    """Return the seconds in a cell, 0 or more; None if it is empty.

    Raises:
        PipelineError: the cell has no such number.
    """
    seconds = finite_number(text)
    if text and (seconds is None or seconds < 0):
        raise PipelineError(
            f"{where}: {column} must be a number, 0 or more. Received: {text!r}. Correct the cell."
        )
    return seconds


def _stratum(labels: Sequence[str]) -> str:
    return labels[0] if len(labels) == 1 else f"{len(labels)} labels" if labels else "no label"


class CaptionTargets(Targets):
    """A description of the video in words; several rows of a video are references."""

    columns = ("caption",)
    several_rows = True
    stratum_name = "caption"

    def read(self, cells: Mapping[str, str], *, where: str) -> str:
        if not caption_words(cells["caption"]):
            raise PipelineError(
                f"{where}: the column caption must have a word. Received: {cells['caption']!r}. "
                "Describe the video or delete the row."
            )
        return join_references([cells["caption"]])

    def combine(self, targets: Sequence[str], *, where: Sequence[str]) -> str:  # noqa: ARG002
        return join_references([caption for each in targets for caption in split_references(each)])

    def text(self, target: str) -> str:
        """Return the references, separated by a bar."""
        return " | ".join(split_references(target))

    def split_strata(self, targets: Sequence[str]) -> list[tuple[str, ...]]:
        """Return no strata: captions divide videos at random."""
        return [()] * len(targets)

    def required_strata(self, targets: Sequence[str]) -> list[tuple[str, ...]]:
        """Require a video in every split, with any caption."""
        return [("any caption",)] * len(targets)


def caption_words(text: str) -> list[str]:
    """Return the words of a caption: lower case, without punctuation.

    An apostrophe is deleted, so that "dog's" is "dogs". Every other character that is not a
    letter, mark or digit (Unicode categories L, M and N) separates words.
    """
    kept = [
        character if unicodedata.category(character)[0] in "LMN" else " "
        for character in text.lower()
        if character not in "'\u2019"
    ]
    return "".join(kept).split()


def split_references(target: str) -> list[str]:
    """Return the captions of a target of ``CaptionTargets``."""
    references: list[str] = json.loads(target)
    return references


def join_references(captions: Sequence[str]) -> str:
    """Return the target of a video with these captions."""
    return json.dumps(captions, ensure_ascii=False)


def split_labels(target: str) -> list[str]:
    """Return the labels of a target of ``LabelSetTargets``."""
    return target.split("|") if target else []


def join_labels(labels: Sequence[str]) -> str:
    """Return the target of these labels, in alphabetical order."""
    return "|".join(sorted(labels))


_TARGETS: dict[str, Targets] = {
    "caption": CaptionTargets(),
    "classification": ClassTargets(),
    "multilabel": LabelSetTargets(),
    "regression": NumberTargets(),
    "frames": FrameTargets(),
}


def targets_of(task_type: str) -> Targets:
    """Return the ``Targets`` of a task."""
    return _TARGETS[task_type]


def target_types() -> list[str]:
    """Return the values of ``task.type``."""
    return sorted(_TARGETS)


def register_targets(task_type: str, targets: Targets) -> None:
    """Register the targets of a task; ``task.register_task`` registers the task."""
    _TARGETS[task_type] = targets

"""How each task reads its targets from the labels, and what every split must contain.

The data stages import no other module of this package, so an edit of a task's model, scores or
charts does not rerun them.
"""

import json
import math
import unicodedata
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import ClassVar

from pipeline.common.errors import PipelineError
from pipeline.common.paths import DECODE_INDEX
from pipeline.common.records import SPLITS, Split, VideoRecord

# Ranges of numbers by which splits are stratified.
_MAX_RANGES = 5
_MIN_IN_RANGE = 20  # videos


class Targets(ABC):
    """The targets of one task, as text.

    Attributes:
        columns: of the labels table, besides ``video``.
        several_rows: whether a video may have several rows, which ``combine`` combines.
        class_folders: whether a folder name can be a target.
        stratum_name: what messages call a stratum.
    """

    columns: ClassVar[tuple[str, ...]]
    several_rows: ClassVar[bool] = False
    class_folders: ClassVar[bool] = False
    stratum_name: ClassVar[str] = "stratum"

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
            assert record.split is not None
            for stratum in own:
                if record.facts is None or record.is_usable:
                    usable[stratum, record.split] += 1
                else:
                    quarantined[stratum, record.split].append(record)
        names = sorted({stratum for own in strata for stratum in own})
        missing = [
            f"{self.stratum_name} {name!r} in {split}{_reason(quarantined[name, split])}"
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
            else "Add videos, or correct the column split of the labels table."
        )
        raise PipelineError(
            f"Splits: no usable video of {'; '.join(missing)}. Expected each {self.stratum_name} "
            f"in {', '.join(SPLITS)}. {remedy}"
        )


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
        counts = [len(split_labels(target)) for target in targets]
        return [
            target if count == 1 else f"{count} labels" if count else "no label"
            for target, count in zip(targets, counts, strict=True)
        ]

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
        try:
            is_finite = math.isfinite(float(cells["value"]))
        except ValueError:
            is_finite = False
        if not is_finite:
            raise PipelineError(
                f"{where}: value must be a finite number such as 12.5. "
                f"Received: {cells['value']!r}. Correct the cell or delete the row."
            )
        return cells["value"]

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

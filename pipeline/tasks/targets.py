"""How each task reads its targets from the labels, and what every split must contain.

The data stages import no other module of this package, so an edit of a task's model, scores or
charts does not rerun them.
"""

from abc import ABC, abstractmethod
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import ClassVar

from pipeline.common.errors import PipelineError
from pipeline.common.paths import DECODE_INDEX
from pipeline.common.records import SPLITS, Split, VideoRecord


class Targets(ABC):
    """The targets of one task, as text.

    Attributes:
        columns: of the labels table, besides ``video``.
        class_folders: whether a folder name can be a target.
        stratum_name: what messages call a stratum.
    """

    columns: ClassVar[tuple[str, ...]]
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

    def strata(self, targets: Sequence[str]) -> list[str]:
        """Return the stratum of each target, by which videos are counted and shown."""
        return ["all"] * len(targets)

    def split_strata(self, targets: Sequence[str]) -> list[tuple[str, ...]]:
        """Return the strata of each target that every split must have: none, one or several."""
        return [(stratum,) for stratum in self.strata(targets)]

    def check_splits(self, records: Sequence[VideoRecord]) -> None:
        """Refuse splits without a video of some stratum. Quarantined videos do not count.

        Args:
            records: all records of the catalog; they may be decoded.

        Raises:
            PipelineError: a split lacks a stratum.
        """
        usable: Counter[tuple[str, Split]] = Counter()
        quarantined: dict[tuple[str, Split], list[VideoRecord]] = defaultdict(list)
        strata = self.split_strata([record.target for record in records])
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


_TARGETS: dict[str, Targets] = {"classification": ClassTargets()}


def targets_of(task_type: str) -> Targets:
    """Return the ``Targets`` of a task."""
    return _TARGETS[task_type]


def target_types() -> list[str]:
    """Return the values of ``task.type``."""
    return sorted(_TARGETS)


def register_targets(task_type: str, targets: Targets) -> None:
    """Register the targets of a task; ``task.register_task`` registers the task."""
    _TARGETS[task_type] = targets

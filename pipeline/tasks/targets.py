"""How each task reads its targets from the labels, and what every split must contain.

The data stages import no other module of this package, so an edit of a task's model, scores or
charts does not rerun them.
"""

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import ClassVar

from pipeline.common.errors import PipelineError
from pipeline.common.records import SPLITS, VideoRecord


class Targets(ABC):
    """The targets of one task, as text.

    Attributes:
        columns: of the labels table, besides ``video``.
        class_folders: whether a folder name can be a target.
    """

    columns: ClassVar[tuple[str, ...]]
    class_folders: ClassVar[bool] = False

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
        """Return the stratum of each target; computed splits have similar shares of each."""
        return ["all"] * len(targets)

    def check_splits(self, records: Sequence[VideoRecord]) -> None:
        """Refuse splits that a model cannot be trained or tested on.

        Raises:
            PipelineError: a split lacks videos.
        """
        for split in SPLITS:
            if not any(record.split == split for record in records):
                raise PipelineError(
                    f"The {split} split has no video. Add videos, or change catalog.val_share, "
                    "catalog.test_share or catalog.seed."
                )


class ClassTargets(Targets):
    """One class name a video."""

    columns = ("label",)
    class_folders = True

    def read(self, cells: Mapping[str, str], *, where: str) -> str:
        if not cells["label"]:
            raise PipelineError(f"{where}: the column label is empty. Name the class.")
        return cells["label"]

    def strata(self, targets: Sequence[str]) -> list[str]:
        return list(targets)

    def check_splits(self, records: Sequence[VideoRecord]) -> None:
        """Refuse fewer than two classes, or a split without a video of some class."""
        counts: dict[str, dict[str, int]] = defaultdict(lambda: dict.fromkeys(SPLITS, 0))
        for record in records:
            assert record.split is not None
            counts[record.target][record.split] += 1
        if len(counts) < 2:
            raise PipelineError(
                "The labels have too few classes. Expected at least two classes. Received: "
                f"{', '.join(counts) or 'none'}. Add videos of another class."
            )
        for label, by_split in sorted(counts.items()):
            for split, count in by_split.items():
                if count == 0:
                    raise PipelineError(
                        f"Class {label!r} has no video in the {split} split ("
                        + ", ".join(f"{by_split[name]} in {name}" for name in SPLITS)
                        + "). Add videos or groups of this class, raise catalog.val_share or "
                        "catalog.test_share, try another catalog.seed, or give the splits in a "
                        "column of the labels table."
                    )


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

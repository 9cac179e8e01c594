"""Official folds of a data set: the columns fold_1, fold_2, ... of the labels table."""

import re
from collections.abc import Iterable, Sequence
from typing import get_args

from pipeline.common.errors import PipelineError
from pipeline.common.records import FoldPart, VideoRecord, fold_columns

_PARTS: tuple[FoldPart, ...] = get_args(FoldPart)
_SIMPLIFIED = re.compile(r"fold0*([1-9][0-9]*)")


def meant_fold(simplified: str) -> str:
    """Return the column of a fold that a name means; empty if it means none.

    Args:
        simplified: the name without case, spaces, hyphens and underscores.

    >>> meant_fold("fold1"), meant_fold("folds")
    ('fold_1', '')
    """
    match = _SIMPLIFIED.fullmatch(simplified)
    return f"fold_{match[1]}" if match else ""


def check_fold_columns(columns: Iterable[str], *, where: str) -> list[str]:
    """Return the columns of folds, by number; refuse a single one and a gap in the numbers.

    Args:
        where: file and line of the header, for messages.
    """
    folds = fold_columns(columns)
    expected = [f"fold_{number + 1}" for number in range(max(2, len(folds)))]
    if folds and folds != expected:
        raise PipelineError(
            f"{where}: expected official folds in the columns {', '.join(expected)}, counted from "
            f"1 without a gap, at least two. Received: {', '.join(folds)}. Rename the columns."
        )
    return folds


def read_fold_part(text: str, column: str, *, where: str) -> FoldPart:
    """Return the part in a cell.

    Raises:
        PipelineError: it is another text.
    """
    part = next((part for part in _PARTS if part == text), None)
    if part is None:
        raise PipelineError(
            f"{where}: {column} must be train, test or empty (the fold does not use the video). "
            f"Received: {text}. Correct the cell."
        )
    return part


def check_fold_parts(records: Sequence[VideoRecord], *, table: str) -> None:
    """Refuse a fold without a training or a test video.

    Args:
        table: path of the table, for messages.
    """
    for number in range(len(records[0].folds)):
        parts = {record.folds[number] for record in records}
        if missing := {"train", "test"} - parts:
            raise PipelineError(
                f"{table}: no row has {' and '.join(sorted(missing))} in fold_{number + 1}. "
                "Expected videos of both in every official fold. Correct the column or delete it."
            )


def check_fold_groups(records: Sequence[VideoRecord]) -> None:
    """Refuse a fold that trains and tests with one group.

    Args:
        records: with groups.
    """
    first: dict[tuple[int, str], VideoRecord] = {}
    for record in records:
        for number, part in enumerate(record.folds):
            if not part:
                continue
            other = first.setdefault((number, record.group), record)
            if other.folds[number] != part:
                raise PipelineError(
                    f"fold_{number + 1}: {other.name} ({other.folds[number]}) and {record.name} "
                    f"({part}) are in one group, {record.group} (the same group in the labels, the "
                    "same file, or copies of a file). Expected both in train or both in test. "
                    "Correct the fold or the group in the labels table."
                )

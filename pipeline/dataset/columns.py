"""The columns of a table of labels: which ones are required, and names that are misspelt."""

from collections.abc import Collection, Iterable, Sequence

from pipeline.common.csv_columns import (
    check_columns,
    check_repeated,
    check_spelling,
    simplified,
)
from pipeline.common.errors import PipelineError
from pipeline.dataset.names import clean_text
from pipeline.dataset.official_folds import check_fold_columns, meant_fold
from pipeline.tasks.targets import Targets

PROPOSED_GROUP = "proposed_group"  # of ``vidpipe labels``; a note for the user, otherwise ignored
OPTIONAL_COLUMNS = ("split", "group", "start_seconds", "end_seconds")  # unless of the target

# Column -> names that other tools give it, simplified.
_OTHER_NAMES = {
    "video": ("clip", "file", "filename", "filepath", "path", "videofile", "videoname",
              "videopath"),
    "label": ("action", "activity", "category", "class", "classname", "labelname", "target"),
    "labels": ("tags",),
    "caption": ("description", "sentence", "text"),
}  # fmt: skip


def read_header(
    where: str, header: Sequence[str], targets: Targets, side_inputs: Collection[str] = ()
) -> list[str]:
    """Return the names of the columns; refuse a header that would be misread.

    Args:
        where: file and line of the header, for messages.
        side_inputs: columns of ``data.side_inputs``.

    Raises:
        PipelineError: a column is missing, misspelt or repeated.
    """
    if in_both := [column for column in targets.columns if column in side_inputs]:
        raise PipelineError(
            f"data.side_inputs.{in_both[0]}: expected a column other than that of the target. "
            f"Received: {in_both[0]}. Remove it."
        )
    required = ("video", *targets.columns)
    optional = [column for column in OPTIONAL_COLUMNS if column not in required]
    columns = [clean_text(cell, where=where) for cell in header]
    check_columns(where, columns, (*required, *optional, PROPOSED_GROUP))
    folds = {column: meant_fold(simplified(column)) or column for column in columns}
    check_spelling(where, columns, folds)
    check_repeated(where, columns)
    missing = [column for column in required if column not in columns]
    if missing:
        raise PipelineError(
            f"{where}: missing {', '.join(missing)}. Expected the columns "
            f"{','.join(required)} and optionally {','.join(optional)}. "
            f"Received: {','.join(columns) or 'an empty line'}.{rename_remedy(columns, missing)}"
        )
    check_fold_columns(columns, where=where)
    if missing := [column for column in side_inputs if column not in columns]:
        raise PipelineError(
            f"{where}: missing {', '.join(missing)}. Expected a column for each of "
            f"data.side_inputs. Received: {','.join(columns)}. Add it, or correct data.side_inputs."
        )
    return columns


def rename_remedy(columns: Iterable[str], missing: Iterable[str]) -> str:
    """Return a sentence that names columns which may be the missing ones; empty if there are none.

    >>> rename_remedy(["File name", "class"], ["video", "label"])
    ' Rename File name to video and class to label.'
    """
    pairs = [
        f"{column} to {wanted}"
        for wanted in missing
        for column in columns
        if simplified(column) in _OTHER_NAMES.get(wanted, ())
    ]
    return f" Rename {' and '.join(pairs)}." if pairs else ""


def may_name_videos(columns: Iterable[str]) -> bool:
    """Return whether a column seems to hold paths of videos, whatever its spelling."""
    return any(simplified(column) in ("video", *_OTHER_NAMES["video"]) for column in columns)

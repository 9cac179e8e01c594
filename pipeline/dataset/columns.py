"""The columns of a table of labels: which ones are required, and names that are misspelt."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

from pipeline.common.errors import PipelineError
from pipeline.dataset.names import clean_text, simplified
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
    columns = column_names(where, header, (*required, *optional, PROPOSED_GROUP))
    folds = {column: meant_fold(simplified(column)) or column for column in columns}
    _check_spelling(where, columns, folds)
    _check_repeated(where, columns)
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


def column_names(where: str, header: Sequence[str], known: Iterable[str]) -> list[str]:
    """Return the names of the columns, in order.

    Args:
        where: file and line of the header, for messages.
        known: columns that are used; the others are not checked.

    Raises:
        PipelineError: a known column is misspelt or repeated.
    """
    columns = [clean_text(cell, where=where) for cell in header]
    spellings = {simplified(column): column for column in known}
    meant = {column: spellings.get(simplified(column), column) for column in columns}
    _check_spelling(where, columns, meant)
    _check_repeated(where, [column for column in columns if column in spellings.values()])
    return columns


def _check_spelling(where: str, columns: Sequence[str], meant: Mapping[str, str]) -> None:
    if wrong := [column for column in dict.fromkeys(columns) if meant[column] != column]:
        ending, verb = ("", "differs") if len(wrong) == 1 else ("s", "differ")
        raise PipelineError(
            f"{where}: unknown column{ending} {', '.join(map(repr, wrong))}. Expected "
            f"{', '.join(repr(meant[column]) for column in wrong)}, which {verb} only in case, "
            f"spaces, hyphens or underscores. Received: {','.join(columns)}. Rename the "
            f"column{ending}: names are lower case."
        )


def _check_repeated(where: str, columns: Sequence[str]) -> None:
    repeated = [name for name, count in Counter(filter(None, columns)).items() if count > 1]
    if repeated:
        raise PipelineError(
            f"{where}: expected each column once. Received several columns "
            f"{', '.join(map(repr, repeated))}. Rename or delete all but one."
        )


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

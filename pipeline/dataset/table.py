"""Read a table of labels: a csv file with a row for each video."""

import logging
import os
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from pipeline.common.csv_columns import cells_by_column
from pipeline.common.csv_text import csv_lines
from pipeline.common.errors import PipelineError
from pipeline.common.records import SPLITS, Split, VideoRecord, fold_columns
from pipeline.common.side_inputs import SideInputKind, clean_side_input
from pipeline.dataset.columns import OPTIONAL_COLUMNS, PROPOSED_GROUP, read_header
from pipeline.dataset.folders import check_folder, path_remedy
from pipeline.dataset.names import clean_text, split_named
from pipeline.dataset.official_folds import check_fold_parts, read_fold_part
from pipeline.tasks.targets import Targets, read_seconds

logger = logging.getLogger(__name__)


def read_table(
    videos: Path, table: Path, targets: Targets, side_inputs: Mapping[str, SideInputKind]
) -> list[VideoRecord]:
    """Read a csv file: video, the columns of the target, optional columns, others as extra."""
    columns, rows = read_table_rows(table, targets, side_inputs)
    known = (
        "",
        "video",
        *targets.columns,
        *OPTIONAL_COLUMNS,
        PROPOSED_GROUP,
        *fold_columns(columns),
    )
    if others := [column for column in columns if column not in known]:
        logger.info("%s: kept as properties of the videos: %s", table, ", ".join(others))
    cells = {row["video"] for _, row in rows}
    located = [(where, _read_row(where, row, videos, targets, cells)) for where, row in rows]
    for where, record in located:
        for column, kind in side_inputs.items():
            cell = record.extra[column]
            clean_side_input(kind, cell, where=where, column=column, remedy="Correct the cell.")
    if targets.several_rows:
        located = _combine_rows(located, targets)
    _check_rows(located, videos)
    return [record for _, record in located]


def read_table_rows(
    table: Path, targets: Targets, side_inputs: Collection[str] = ()
) -> tuple[list[str], list[tuple[str, dict[str, str]]]]:
    """Return the columns of a table and its rows: file and line, and stripped cells by column.

    Raises:
        PipelineError: the file is not a csv file with the columns of the targets.
    """
    try:
        lines = csv_lines(table)
        where, header = next(lines, (f"{table}, line 1", []))
        columns = read_header(where, header, targets, side_inputs)
        rows = [(where, cells_by_column(where, cells, columns)) for where, cells in lines]
    except FileNotFoundError:
        raise PipelineError(
            f"data.labels: expected a file inside data.videos. Received: {table} (no such path)"
        ) from None
    except IsADirectoryError:
        raise PipelineError(
            f"data.labels: expected a csv file. Received: {table} (a folder)"
        ) from None
    if not rows:
        raise PipelineError(f"{table}: no row below the header. Expected one row per video.")
    return columns, rows


def _read_row(
    where: str,
    row: Mapping[str, str],
    videos: Path,
    targets: Targets,
    labelled: Collection[str],
) -> VideoRecord:
    if not row["video"]:
        raise PipelineError(f"{where}: the column video is empty. Name the file.")
    start, end = (
        None
        if column in targets.columns
        else read_seconds(row.get(column, ""), column, where=where)
        for column in ("start_seconds", "end_seconds")
    )
    if end is not None and end <= (start or 0):
        raise PipelineError(
            f"{where}: end_seconds must be greater than start_seconds. "
            f"Received: start_seconds={start or 0:g}, end_seconds={end:g}"
        )

    def name(column: str) -> str:
        return clean_text(row.get(column, ""), where=f"{where}, column {column}")

    folds = fold_columns(row)
    known = ("", "video", *targets.columns, *OPTIONAL_COLUMNS, PROPOSED_GROUP, *folds)
    return VideoRecord(
        video=relative_video(where, row["video"], videos, labelled),
        target=targets.read({column: name(column) for column in targets.columns}, where=where),
        split=_split(where, row.get("split", "")),
        group=name("group"),
        start_seconds=start,
        end_seconds=end,
        folds=tuple(read_fold_part(row[column], column, where=where) for column in folds),
        # A cell may contain line breaks; the catalog has one line per video.
        extra={
            column: unicodedata.normalize("NFC", " ".join(cell.split()))
            for column, cell in row.items()
            if column not in known
        },
    )


def _split(where: str, text: str) -> Split | None:
    split = next((split for split in SPLITS if split == text), None)
    if text and split is None:
        meant = split_named(text)
        remedy = f"Write {meant}." if meant else "Correct the cell."
        raise PipelineError(
            f"{where}: split must be train, val or test. Received: {text}. {remedy}"
        )
    return split


def relative_video(where: str, video: str, videos: Path, labelled: Collection[str] = ()) -> str:
    """Return a cell of the column video relative to ``videos``.

    Args:
        labelled: videos of other rows.

    Raises:
        PipelineError: the path is outside that folder, where DVC tracks no file.
    """
    path = Path(video)
    if path.is_absolute() and path.is_relative_to(videos.absolute()):
        path = path.relative_to(videos.absolute())
    if path.is_absolute() or ".." in path.parts:
        remedy = path_remedy(video, videos, labelled)
        raise PipelineError(
            f"{where}: video must be a path inside data.videos ({videos}). Received: {video}."
            f"{remedy or ' Move the video there, and name its path there.'}"
        )
    return path.as_posix()


def _combine_rows(
    located: Sequence[tuple[str, VideoRecord]], targets: Targets
) -> list[tuple[str, VideoRecord]]:
    """Combine the rows of each video into one record, with the place of the first row."""
    rows_by_name: dict[str, list[tuple[str, VideoRecord]]] = {}
    for where, record in located:
        rows_by_name.setdefault(record.name, []).append((where, record))
    combined = []
    for (first_place, first), *others in rows_by_name.values():
        expected = _shared_cells(first)
        for where, record in others:
            cells = _shared_cells(record)
            for column, cell in cells.items():
                if cell != expected[column]:
                    raise PipelineError(
                        f"{where}: {column} must be the same in all rows of {record.name}. "
                        f"Received: {cell or 'nothing'}, but {expected[column] or 'nothing'} in "
                        f"{first_place}. Correct one of them."
                    )
        target = targets.combine(
            [first.target, *(record.target for _, record in others)],
            where=[first_place, *(where for where, _ in others)],
        )
        combined.append((first_place, replace(first, target=target)))
    return combined


def _shared_cells(record: VideoRecord) -> dict[str, str]:
    """Return the cells that are the same in all rows of a video, by column."""
    folds = {f"fold_{number}": part for number, part in enumerate(record.folds, start=1)}
    return {"split": record.split or "", "group": record.group, **folds, **record.extra}


def _check_rows(located: Sequence[tuple[str, VideoRecord]], videos: Path) -> None:
    """Refuse folders that DVC skips, missing files, repeated rows, and a split in some rows."""
    folders: dict[Path, str] = {}  # with the place of the first row
    for where, record in located:
        for parent in (Path(record.video), *Path(record.video).parents[:-1]):
            folders.setdefault(parent, where)
    for folder, where in sorted(folders.items()):  # a folder before its subfolders
        if os.path.isdir(videos / folder):  # noqa: PTH112  # False for a name that is too long
            check_folder(videos / folder, where=f"{where}: {videos / folder}")
    missing = [
        (where, record.video)
        for where, record in located
        if not os.path.exists(videos / record.video)  # noqa: PTH110
    ]
    if missing:
        where, video = missing[0]
        labelled = {record.video for _, record in located}
        for separator in ";\t|":
            start = video.partition(separator)[0]
            if start not in ("", video) and os.path.exists(videos / start):  # noqa: PTH110
                raise PipelineError(
                    f"{where}: {video!r} seems to be several cells, separated by {separator!r}. "
                    f"Expected commas between cells, as in {start},... Write a comma there, and "
                    "quote a cell that contains one."
                )
        more = f" Rows with missing files: {len(missing)}." if len(missing) > 1 else ""
        raise PipelineError(
            f"{where}: video {video!r} does not exist under {videos}."
            f"{path_remedy(video, videos, labelled) or ' Add the file or delete the row.'}{more}"
        )
    first: dict[str, str] = {}
    for where, record in located:
        if record.name in first:
            raise PipelineError(
                f"{where}: {record.name} already has a row, {first[record.name]}. Delete one."
            )
        first[record.name] = where
    if any(record.split for _, record in located):
        for where, record in located:
            if record.split is None and not any(record.folds):
                raise PipelineError(
                    f"{where}: split is empty, but other rows have one. Give every row a split, "
                    "or none: the catalog stage then splits by group. Only a video of an official "
                    "fold (fold_1, fold_2, ...) may have none."
                )
    check_fold_parts([record for _, record in located], table=located[0][0].rsplit(", line", 1)[0])

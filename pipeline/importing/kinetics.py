"""Kinetics: clips of YouTube videos. Some are always missing, because videos were deleted.

The csv files of the splits have the columns ``label,youtube_id,time_start,time_end,split``; those
of test videos may have no ``label``. The clip of seconds 1 to 11 is ``<id>_000001_000011.mp4``.
"""

from collections.abc import Mapping

from pipeline.common.csv_text import likely_columns
from pipeline.common.errors import PipelineError
from pipeline.common.tables import count_of
from pipeline.dataset.names import split_named
from pipeline.importing.missing import MissingVideos
from pipeline.importing.source import Source, csv_rows
from pipeline.importing.table import Imported, Row

_COLUMNS = ("youtube_id", "time_start", "time_end", "split")


def read_kinetics(source: Source, task: str | None) -> Imported:  # noqa: ARG001
    """Return the clips that are there, with their classes, splits and YouTube ids as groups."""
    paths = [
        path
        for path in source.require(
            r".+\.csv",
            "train.csv with the columns label,youtube_id,time_start,time_end,split",
            "It is in the annotations of https://github.com/cvdfoundation/kinetics-dataset.",
        )
        if set(_COLUMNS) <= set(likely_columns(path))
    ]
    if not paths:
        raise PipelineError(
            f"{source.folders[0]}: no csv file has the columns label,{','.join(_COLUMNS)}. Get the "
            "annotations from https://github.com/cvdfoundation/kinetics-dataset."
        )
    missing = MissingVideos(source.folders[0], are_normal=True)
    rows: dict[str, Row] = {}
    n_unlabelled = 0
    for path in paths:
        for where, cells in csv_rows(path, _COLUMNS, ["label"]):
            stem, label = _stem(where, cells), cells.get("label", "")
            split = split_named(cells["split"])
            if split is None:
                raise PipelineError(
                    f"{where}: split must be train, val, validate or test. Received: "
                    f"{cells['split']!r}. Correct the line, or remove the file."
                )
            if not label:
                n_unlabelled += 1
                continue
            video = source.video_with_stem(stem, where=where)
            if missing.check(video, stem, where=where) is None:
                continue
            assert video is not None
            row = Row(video.name, video, where, {"label": label}, split, cells["youtube_id"])
            other = rows.setdefault(row.video, row)
            if (other.cells, other.split) != (row.cells, row.split):
                raise PipelineError(
                    f"{where}: the clip {stem} is {label}, {split}. Expected "
                    f"{other.cells['label']}, {other.split}, as in {other.where}. Delete one line."
                )
    notes = missing.notes()
    if n_unlabelled:
        notes.append(f"Left out: {count_of(n_unlabelled, 'line')} without a label.")
    return Imported("classification", list(rows.values()), notes)


def _stem(where: str, cells: Mapping[str, str]) -> str:
    try:
        start, end = (int(float(cells[name])) for name in ("time_start", "time_end"))
    except (ValueError, OverflowError):
        start, end = -1, -1
    if not 0 <= start <= end or not cells["youtube_id"]:
        raise PipelineError(
            f"{where}: expected a youtube_id and seconds such as 1,11. Received: "
            f"{cells['youtube_id']},{cells['time_start']},{cells['time_end']}. Correct the line."
        )
    return f"{cells['youtube_id']}_{start:06d}_{end:06d}"

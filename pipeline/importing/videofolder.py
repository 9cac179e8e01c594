"""``videofolder`` of Hugging Face: videos beside ``metadata.csv``, ``.jsonl`` or ``.parquet``.

The column ``file_name`` is a path relative to the metadata file. Folders ``train``, ``validation``
and ``test`` are splits. Without metadata, the folder of a video is its class.
"""

import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.common.csv_text import likely_columns
from pipeline.common.errors import PipelineError
from pipeline.common.records import Split
from pipeline.common.video_files import VIDEO_SUFFIXES
from pipeline.dataset.names import split_named
from pipeline.importing.captions import caption_rows
from pipeline.importing.missing import MissingVideos
from pipeline.importing.source import Source, csv_rows, numbered_lines, safe_name
from pipeline.importing.table import Imported, Row

_METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")

# Columns of metadata files by task, and their columns of the labels table.
_COLUMNS: dict[str, dict[str, str]] = {
    "classification": {"label": "label"},
    "multilabel": {"labels": "labels"},
    "regression": {"value": "value"},
    "caption": {"caption": "caption", "text": "caption"},
}


def read_videofolder(source: Source, task: str | None) -> Imported:
    """Return the videos with the column of the task; by default the first that is there."""
    paths = [path for path in source.files if path.name in _METADATA]  # one a split, or one
    if not paths:
        return _read_class_folders(source, task)
    missing = MissingVideos(source.folders[0], are_normal=False)
    rows: list[Row] = []
    column = ""
    for path in paths:
        for where, entry in _entries(path, task):
            if not column:
                task, column = _column_of(where, entry, task)
            name = safe_name(str(entry.get("file_name") or ""), where=where)
            video = path.parent / name
            relative = _relative(source, video)
            # A name that is too long is not a file.
            path_or_none = video if os.path.isfile(video) else None  # noqa: PTH113
            if missing.check(path_or_none, relative.as_posix(), where=where) is None:
                continue
            split, group = _split_of(relative), str(entry.get("group") or "")
            for text in _texts(where, entry, column, task or ""):
                cells = {_COLUMNS[task or ""][column]: text}
                rows.append(Row(relative.as_posix(), video, where, cells, split, group))
    notes = missing.notes()
    notes.append(f"The column {column} is the target of the task {task}.")
    if task == "caption":
        rows, more = caption_rows(rows)
        notes += more
    return Imported(task or "", rows, notes)


def _read_class_folders(source: Source, task: str | None) -> Imported:
    if task not in (None, "classification"):
        raise PipelineError(
            f"{source.folders[0]}: no file metadata.csv, metadata.jsonl or metadata.parquet in it "
            f"or below it. Folders are classes. Add the file, or leave out --task {task}."
        )
    rows = []
    for video in source.files:
        if video.suffix.lower() not in VIDEO_SUFFIXES:
            continue
        relative = _relative(source, video)
        if relative.parent.name == "" or split_named(relative.parent.name):
            raise PipelineError(
                f"{video}: expected the video in a folder of its class, as in train/dog/1.mp4, or "
                "a metadata file. Received: neither. Move it, or add metadata.csv."
            )
        cells = {"label": relative.parent.name}
        rows.append(Row(relative.as_posix(), video, str(video), cells, _split_of(relative)))
    if not rows:
        raise PipelineError(
            f"{source.folders[0]}: no video in it or below it. Expected videos in folders of their "
            "class, or a metadata file. Name another folder."
        )
    return Imported("classification", rows)


def _relative(source: Source, video: Path) -> Path:
    folder = next(folder for folder in source.folders if video.is_relative_to(folder))
    return video.relative_to(folder)


def _split_of(relative: Path) -> Split | None:
    return next(filter(None, map(split_named, relative.parts[:-1])), None)


def _entries(path: Path, task: str | None) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the entries of a metadata file, each with its place for messages."""
    if path.suffix == ".csv":
        targets = _target_columns(task)
        header = likely_columns(path)
        first = next((n for n, column in enumerate(targets) if column in header), len(targets))
        yield from csv_rows(path, ["file_name"], [*targets[: first + 1], "group"])
        return
    if path.suffix == ".parquet":
        import pandas as pd

        try:
            table = pd.read_parquet(path)
        except (OSError, ValueError) as error:
            raise PipelineError(
                f"{path}: expected a parquet file. Received: {error}. Get the file again."
            ) from None
        located = [(f"{path}, row {n}", row) for n, row in enumerate(table.to_dict("records"), 1)]
    else:
        located = [(where, _json_line(where, line)) for where, line in numbered_lines(path)]
    for where, entry in located:
        if not isinstance(entry, dict) or not isinstance(entry.get("file_name"), str):
            raise PipelineError(
                f"{where}: expected an entry with file_name. Received: {str(entry)[:80]}. Correct "
                "it."
            )
        yield where, entry


def _json_line(where: str, line: str) -> Any:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        raise PipelineError(
            f"{where}: expected a JSON object. Received: {error.msg}. Correct the line."
        ) from None


def _column_of(where: str, entry: Mapping[str, Any], task: str | None) -> tuple[str, str]:
    """Return the task and its column of the metadata."""
    for name in [task] if task else _COLUMNS:
        for column in _COLUMNS[name]:
            if column in entry:
                return name, column
    raise PipelineError(
        f"{where}: expected one of the columns {', '.join(_target_columns(task))}. Received: "
        f"{', '.join(map(str, entry))}. Rename the column of the target."
    )


def _target_columns(task: str | None) -> list[str]:
    """Return the columns that may hold the target, the preferred one first."""
    return [column for name in ([task] if task else _COLUMNS) for column in _COLUMNS[name]]


def _texts(where: str, entry: Mapping[str, Any], column: str, task: str) -> list[str]:
    """Return the cells of a video: one, or one for each of its captions."""
    value: Any = entry.get(column)
    if hasattr(value, "tolist"):  # an array of parquet
        value = value.tolist()
    if isinstance(value, float) and math.isnan(value):
        value = None
    if isinstance(value, list) and task == "multilabel":
        return ["|".join(map(str, value))]
    if isinstance(value, list) and task == "caption":
        return [str(text) for text in value]
    if value is None and task == "multilabel":
        return [""]
    if value is None or isinstance(value, list | dict):
        raise PipelineError(
            f"{where}: {column} must be one value for the task {task}. Received: "
            f"{'nothing' if value is None else str(value)[:80]}. Correct it."
        )
    return [str(value)]

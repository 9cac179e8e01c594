"""Read the labels of a data set: one folder per class, or a table."""

import csv
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.common.errors import PipelineError
from pipeline.common.records import SPLITS, VIDEO_SUFFIXES, Split, VideoRecord
from pipeline.dataset.settings import DataSection
from pipeline.tasks.targets import Targets

logger = logging.getLogger(__name__)

LABELS_TABLE = "labels.csv"  # inside data.videos

_OPTIONAL_COLUMNS = ("split", "group", "start_seconds", "end_seconds")

_Row = dict[str, str | None]


def read_labels(data: DataSection, targets: Targets) -> list[VideoRecord]:
    """Read the videos and their targets, from a table or from class folders.

    ``data.labels`` is the path of the table, relative to ``data.videos``. If it is empty, the table
    is ``labels.csv`` in ``data.videos``. Without such a file, the folders are the classes.

    Raises:
        PipelineError: the labels are missing or not valid.
    """
    videos = Path(data.videos)
    if not videos.is_dir():
        received = "a file" if videos.exists() else "no such path"
        raise PipelineError(f"data.videos: expected a folder. Received: {videos} ({received})")
    if data.labels:
        path = Path(data.labels)
        if path.is_absolute():
            # DVC watches <data.videos>/<data.labels>.
            raise PipelineError(
                f"data.labels: expected a path relative to data.videos, such as ../{path.name}. "
                f"Received: {data.labels}"
            )
        table = videos / path
    else:
        table = videos / LABELS_TABLE
        if not table.is_file():
            return _read_class_folders(videos, targets)
    return _read_table(videos, table, targets)


def _read_class_folders(videos: Path, targets: Targets) -> list[VideoRecord]:
    """Read ``<class>/**/<video>``: the first folder below ``videos`` is the class.

    Hidden files and files without the suffix of a video are ignored.
    """
    if not targets.class_folders:
        raise PipelineError(
            f"{videos / LABELS_TABLE}: no such file. The task needs a table with the columns "
            f"video,{','.join(targets.columns)}. Add it, or name another one in data.labels."
        )
    records: list[VideoRecord] = []
    n_ignored = 0
    for path in sorted(videos.rglob("*")):
        relative = path.relative_to(videos)
        if any(part.startswith(".") for part in relative.parts) or path.is_dir():
            continue
        if path.suffix.lower() not in VIDEO_SUFFIXES:
            n_ignored += 1
            continue
        if len(relative.parts) == 1:
            raise PipelineError(
                f"{path}: the video is not in a class folder. Expected "
                f"{videos}/<class>/{path.name}. Move it, or label the videos in "
                f"{videos / LABELS_TABLE}."
            )
        name = str(path)
        if name != name.encode("utf-8", "ignore").decode("utf-8") or "\r" in name:
            raise PipelineError(
                f"{name!a}: the name is not UTF-8 or contains a carriage return. Rename the file."
            )
        cells = {targets.columns[0]: relative.parts[0]}
        records.append(VideoRecord(relative.as_posix(), targets.read(cells, where=str(path))))
    if not records:
        raise PipelineError(
            f"{videos}: no video found. Expected {videos}/<class>/<video> with a suffix such as "
            f".mp4, .mkv, .avi or .webm. Received: {n_ignored} other files"
        )
    if n_ignored:
        logger.warning("%s: ignored %d files without the suffix of a video", videos, n_ignored)
    filled = {record.video.split("/", 1)[0] for record in records}
    for folder in sorted(videos.iterdir()):
        if folder.is_dir() and not folder.name.startswith(".") and folder.name not in filled:
            raise PipelineError(
                f"{folder}: the class folder has no video. Add videos or remove the folder."
            )
    return records


def _read_table(videos: Path, table: Path, targets: Targets) -> list[VideoRecord]:
    """Read a csv file: video, the columns of the target, optional columns, others as extra."""
    required = ("video", *targets.columns)
    try:
        with table.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.DictReader(lines)
            columns = reader.fieldnames or []
            missing = [column for column in required if column not in columns]
            if missing:
                raise PipelineError(
                    f"{table}, line 1: missing {', '.join(missing)}. Expected the columns "
                    f"{','.join(required)} and optionally {','.join(_OPTIONAL_COLUMNS)}. "
                    f"Received: {','.join(columns) or 'an empty file'}"
                )
            rows = [(f"{table}, line {reader.line_num}", row) for row in reader]
    except FileNotFoundError:
        raise PipelineError(
            f"data.labels: expected a file inside data.videos. Received: {table} (no such path)"
        ) from None
    except IsADirectoryError:
        raise PipelineError(
            f"data.labels: expected a csv file. Received: {table} (a folder)"
        ) from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise PipelineError(
            f"{table}: expected a csv file in UTF-8. Received: {error}. Save it as UTF-8."
        ) from None
    if not rows:
        raise PipelineError(f"{table}: no row below the header. Expected one row per video.")
    records = [_read_row(where, row, videos, targets) for where, row in rows]
    _check_rows([where for where, _ in rows], records, videos)
    return records


def _read_row(where: str, row: _Row, videos: Path, targets: Targets) -> VideoRecord:
    video = _cell(row, "video")
    if not video:
        raise PipelineError(f"{where}: the column video is empty. Name the file.")
    start, end = _seconds(where, row, "start_seconds"), _seconds(where, row, "end_seconds")
    if end is not None and end <= (start or 0):
        raise PipelineError(
            f"{where}: end_seconds must be greater than start_seconds. "
            f"Received: start_seconds={start or 0:g}, end_seconds={end:g}"
        )
    cells = {column: _cell(row, column) for column in targets.columns}
    known = ("video", *targets.columns, *_OPTIONAL_COLUMNS)
    return VideoRecord(
        video=_relative_video(where, video, videos),
        target=targets.read(cells, where=where),
        split=_split(where, _cell(row, "split")),
        group=_cell(row, "group"),
        start_seconds=start,
        end_seconds=end,
        # A cell may contain line breaks; the catalog has one line per video.
        extra={
            column: " ".join((cell or "").split())
            for column, cell in row.items()
            if column and column not in known
        },
    )


def _cell(row: Mapping[str, str | None], column: str) -> str:
    return (row.get(column) or "").strip()


def _split(where: str, text: str) -> Split | None:
    split = next((split for split in SPLITS if split == text), None)
    if text and split is None:
        raise PipelineError(f"{where}: split must be train, val or test. Received: {text}")
    return split


def _seconds(where: str, row: _Row, column: str) -> float | None:
    text = _cell(row, column)
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise PipelineError(f"{where}: {column} must be a number, 0 or more. Received: {text}")
    return seconds


def _relative_video(where: str, video: str, videos: Path) -> str:
    """Return ``video`` relative to ``videos``. DVC tracks no file outside that folder."""
    path = Path(video)
    if path.is_absolute() and path.is_relative_to(videos.absolute()):
        path = path.relative_to(videos.absolute())
    if path.is_absolute() or ".." in path.parts:
        raise PipelineError(
            f"{where}: video must be a path inside data.videos ({videos}). Received: {video}"
        )
    return path.as_posix()


def _check_rows(places: Sequence[str], records: Sequence[VideoRecord], videos: Path) -> None:
    """Refuse missing files, repeated rows, and a split in some rows only."""
    located = list(zip(places, records, strict=True))
    missing = [
        (where, record.video) for where, record in located if not (videos / record.video).exists()
    ]
    if missing:
        where, video = missing[0]
        more = f" Rows with missing files: {len(missing)}." if len(missing) > 1 else ""
        raise PipelineError(
            f"{where}: video {video!r} does not exist under {videos}. Add the file or delete "
            f"the row.{more}"
        )
    first: dict[str, str] = {}
    for where, record in located:
        if record.name in first:
            raise PipelineError(
                f"{where}: {record.name} already has a row, {first[record.name]}. Delete one."
            )
        first[record.name] = where
    without_split = [where for where, record in located if record.split is None]
    if without_split and len(without_split) < len(records):
        raise PipelineError(
            f"{without_split[0]}: split is empty, but other rows have one. Give every row a "
            "split, or none: the catalog stage then splits by group."
        )

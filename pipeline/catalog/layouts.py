"""The layouts in which people keep labelled videos: class folders, or a table."""

import csv
import logging
from pathlib import Path
from typing import get_args

from pipeline.base.errors import PipelineError
from pipeline.catalog.records import LabelledVideo, Split

logger = logging.getLogger(__name__)

# fmt: off
VIDEO_SUFFIXES = frozenset({
    ".3g2", ".3gp", ".asf", ".avi", ".divx", ".f4v", ".flv", ".m2ts", ".m4v", ".mkv", ".mov",
    ".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".ogm", ".ogv", ".ts", ".vob", ".webm", ".wmv",
})
# fmt: on
_REQUIRED_COLUMNS = ("video", "label")
_OPTIONAL_COLUMNS = ("split", "group", "start_seconds", "end_seconds")


def read_folders(videos: Path) -> list[LabelledVideo]:
    """Read ``<class>/**/<video>``: the first folder below ``videos`` names the class.

    Files that are no videos by their suffix, and everything hidden, are left out.

    Raises:
        PipelineError: the folder is missing or holds no video, a class folder is empty, or
            a video lies outside every class folder.
    """
    _check_folder(videos)
    found: list[LabelledVideo] = []
    others = 0
    for path in sorted(videos.rglob("*")):
        relative = path.relative_to(videos)
        if any(part.startswith(".") for part in relative.parts) or path.is_dir():
            continue
        if path.suffix.lower() not in VIDEO_SUFFIXES:
            others += 1
            continue
        if len(relative.parts) == 1:
            raise PipelineError(
                f"{path}: expected each video inside a folder named after its class, as in "
                f"{videos}/<class>/{path.name}, found it beside them. Move it, or set "
                "data.layout to csv."
            )
        _check_name(path)
        found.append(LabelledVideo(video=relative.as_posix(), label=relative.parts[0]))
    if not found:
        raise PipelineError(
            f"{videos}: no video found. Expected {videos}/<class>/<video> with a suffix such as "
            f".mp4, .mkv, .avi or .webm; found {others} other files."
        )
    if others:
        logger.warning("%s: left out %d files whose suffix is not a video's", videos, others)
    _check_no_empty_class(videos, found)
    return found


def read_table(videos: Path, labels: Path) -> list[LabelledVideo]:
    """Read a csv with columns ``video,label[,split,group,start_seconds,end_seconds]``.

    ``video`` is a path inside ``videos``. Other columns come along as ``extra``.

    Raises:
        PipelineError: a file is missing, a column is missing, or a row is wrong; the message
            names the row by its line in the file.
    """
    _check_folder(videos)
    try:
        with labels.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.DictReader(lines)
            _check_columns(labels, list(reader.fieldnames or []))
            rows = [(f"{labels}, line {reader.line_num}", row) for row in reader]
    except FileNotFoundError:
        raise PipelineError(f"{labels}: no such file (data.labels).") from None
    except IsADirectoryError:
        raise PipelineError(
            f"{labels}: data.labels must be a csv file when data.layout is csv, found a folder."
        ) from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise PipelineError(f"{labels}: not a csv file in UTF-8 ({error}).") from None
    if not rows:
        raise PipelineError(f"{labels}: no row below the header. Expected one row a video.")
    found = [_read_row(where, row, videos) for where, row in rows]
    _check_files_exist(videos, rows, found)
    _check_once_each(rows, found)
    _check_split_everywhere_or_nowhere(rows, found)
    return found


def _check_folder(videos: Path) -> None:
    if not videos.is_dir():
        found = "a file" if videos.exists() else "nothing"
        raise PipelineError(
            f"{videos}: data.videos must be a folder of videos, found {found} there."
        )


def _check_name(path: Path) -> None:
    is_utf8 = str(path) == str(path).encode("utf-8", "ignore").decode("utf-8")
    if not is_utf8 or "\r" in str(path):
        raise PipelineError(
            f"{str(path)!a}: the name is not UTF-8 or holds a carriage return. Rename the file."
        )


def _check_no_empty_class(videos: Path, found: list[LabelledVideo]) -> None:
    filled = {video.label for video in found}
    for folder in sorted(videos.iterdir()):
        if folder.is_dir() and not folder.name.startswith(".") and folder.name not in filled:
            raise PipelineError(
                f"{folder}: a class folder without a video. Add videos or remove the folder."
            )


def _check_columns(labels: Path, columns: list[str]) -> None:
    missing = [column for column in _REQUIRED_COLUMNS if column not in columns]
    if missing:
        raise PipelineError(
            f"{labels}: expected columns video,label and optionally "
            f"{','.join(_OPTIONAL_COLUMNS)} in the first line; missing {', '.join(missing)}. "
            f"Received: {','.join(columns) or 'an empty file'}"
        )


def _read_row(where: str, row: dict[str, str | None], videos: Path) -> LabelledVideo:
    cells = {column: (row.get(column) or "").strip() for column in _REQUIRED_COLUMNS}
    for column, value in cells.items():
        if not value:
            raise PipelineError(f"{where}: the column {column} is empty.")
    start, end = (
        _read_seconds(where, row, "start_seconds"),
        _read_seconds(where, row, "end_seconds"),
    )
    if end is not None and end <= (start or 0):
        raise PipelineError(
            f"{where}: end_seconds must come after start_seconds. "
            f"Received: start_seconds={start or 0:g}, end_seconds={end:g}"
        )
    return LabelledVideo(
        video=_inside(where, cells["video"], videos),
        label=cells["label"],
        split=_read_split(where, row),
        group=(row.get("group") or "").strip() or None,
        start_seconds=start,
        end_seconds=end,
        extra=_extra(row),
    )


def _extra(row: dict[str, str | None]) -> dict[str, str]:
    """Return the cells of columns that have a name, and not one that means something here."""
    known = (*_REQUIRED_COLUMNS, *_OPTIONAL_COLUMNS)
    return {
        column: " ".join((cell or "").split())  # a catalog has one line a video
        for column, cell in row.items()
        if column and column not in known
    }


def _read_split(where: str, row: dict[str, str | None]) -> Split | None:
    value = (row.get("split") or "").strip()
    if not value:
        return None
    for split in get_args(Split):
        if value == split:
            return split  # type: ignore[no-any-return]
    raise PipelineError(f"{where}: split must be train, val or test. Received: {value}")


def _read_seconds(where: str, row: dict[str, str | None], column: str) -> float | None:
    text = (row.get(column) or "").strip()
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise PipelineError(f"{where}: {column} must be a number, 0 or more. Received: {text}")
    return seconds


def _inside(where: str, video: str, videos: Path) -> str:
    """Return ``video`` relative to ``videos``; DVC tracks nothing outside that folder."""
    path = Path(video)
    if path.is_absolute() and path.is_relative_to(videos.absolute()):
        path = path.relative_to(videos.absolute())
    if path.is_absolute() or ".." in path.parts:
        raise PipelineError(
            f"{where}: video must be a path inside data.videos ({videos}). Received: {video}"
        )
    return path.as_posix()


def _check_files_exist(
    videos: Path, rows: list[tuple[str, dict[str, str | None]]], found: list[LabelledVideo]
) -> None:
    missing = [
        (where, video.video)
        for (where, _), video in zip(rows, found, strict=True)
        if not (videos / video.video).exists()
    ]
    if missing:
        where, video = missing[0]
        more = f" ({len(missing) - 1} more rows name missing files)" if len(missing) > 1 else ""
        raise PipelineError(
            f"{where}: {video} is not in {videos}. Add the file or remove the row.{more}"
        )


def _check_once_each(
    rows: list[tuple[str, dict[str, str | None]]], found: list[LabelledVideo]
) -> None:
    seen: dict[str, str] = {}
    for (where, _), video in zip(rows, found, strict=True):
        if video.name in seen:
            raise PipelineError(f"{where}: {video.name} stands already in {seen[video.name]}.")
        seen[video.name] = where


def _check_split_everywhere_or_nowhere(
    rows: list[tuple[str, dict[str, str | None]]], found: list[LabelledVideo]
) -> None:
    without = [where for (where, _), video in zip(rows, found, strict=True) if video.split is None]
    if without and len(without) < len(found):
        raise PipelineError(
            f"{without[0]}: split is empty, but other rows have one. Give every row a split, "
            "or none and let the catalog stage split by group."
        )

"""The record of a video, which gains fields from catalog to clip, and its two tables.

The catalog, ``data/catalog/catalog.csv``, holds the labels. The decode index,
``data/frames/index.csv``, holds the facts of each video, or why it was quarantined.
"""

import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Literal, get_args

from pydantic import TypeAdapter

from pipeline.common.errors import PipelineError
from pipeline.common.files import csv_rows, write_csv

# Increase it when a field of DecodeFacts is added or computed differently. Videos are decoded
# again; models are not affected.
FACTS_VERSION = 3

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)

# What a video is in an official fold of its data set; empty: the fold does not use it.
FoldPart = Literal["", "train", "test"]

DecodeStatus = Literal["ok", "damaged", "quarantined"]

_NO_CELLS: Mapping[str, str] = {}  # one for all records

# Prefix of catalog columns that come from columns of the labels unknown to the pipeline.
_EXTRA = "extra."


@dataclass(frozen=True, slots=True)
class DecodeFacts:
    """What decoding found in a video. Fields after ``reason`` are None when unknown.

    To add a fact: add a field here, compute it in ``video/reading.py``, increase FACTS_VERSION.

    Attributes:
        key: name of the video's file in the frame store.
        frames: number of frames kept; 0 when the video is quarantined.
        reason: why the video is quarantined, or the damage of a video that is kept.
        container: FFmpeg's name; ``picture`` for a picture file, ``pictures`` for a folder.
        width, height: of the coded picture, before rotation. Of a picture file: upright.
        rotation: degrees counter-clockwise that turn the coded picture upright.
        source_fps: measured, ``data.image_fps`` for a folder; None for a single frame.
        is_variable_rate: None when the timestamps do not tell.
        source_seconds: from the first frame to the end of the last one; None for a picture.
        source_frames: number of frames found in the file; None for a segment of a Matroska file,
            of which ``source_fps`` and ``is_variable_rate`` are those around the segment.
        claimed_seconds, claimed_frames: according to the container header.
        brightness: mean of all kept pixels and channels, 0 (black) to 1 (white).
    """

    key: str
    frames: int = 0
    reason: str = ""
    container: str | None = None
    codec: str | None = None
    width: int | None = None
    height: int | None = None
    rotation: int | None = None
    is_hdr: bool | None = None
    source_fps: float | None = None
    is_variable_rate: bool | None = None
    source_seconds: float | None = None
    source_frames: int | None = None
    claimed_seconds: float | None = None
    claimed_frames: int | None = None
    brightness: float | None = None

    def __post_init__(self) -> None:
        for name in ("container", "codec"):  # one string for all videos
            if (text := getattr(self, name)) is not None:
                object.__setattr__(self, name, sys.intern(text))

    @property
    def status(self) -> DecodeStatus:
        """Return the status; ``damaged`` means that the frames before the damage are kept."""
        if not self.frames:
            return "quarantined"
        return "damaged" if self.reason else "ok"

    @property
    def upright_size(self) -> tuple[int, int] | None:
        """Return width and height after rotation; None when unknown."""
        if not self.width or not self.height:
            return None
        is_turned = round((self.rotation or 0) / 90) % 2 == 1
        return (self.height, self.width) if is_turned else (self.width, self.height)


@dataclass(frozen=True, slots=True)
class VideoRecord:
    """A video, or a segment of one: one row of the labels.

    Attributes:
        video: path relative to ``data.videos``, with ``/``: of a video file, a picture file, or a
            folder of numbered pictures.
        target: the answer that the model learns, as text; see ``tasks/targets.py``.
        split: None until the catalog stage assigns one. It stays None for a video that only
            some official folds use.
        group: videos of one group are always in the same split; empty until assigned.
        start_seconds, end_seconds: the segment, since the first frame; None for no bound.
        sha256: of the file's bytes, or of the names and bytes of the pictures in a folder;
            empty when there is neither.
        folds: part of the video in each official fold of the data set, such as ``("train",
            "test", "")``; all records have the same number, mostly none.
        extra: cells of the other columns of the labels, by column. All records have the same
            columns.
        facts: None until the video is decoded.
    """

    video: str
    target: str
    split: Split | None = None
    group: str = ""
    start_seconds: float | None = None
    end_seconds: float | None = None
    sha256: str = ""
    folds: tuple[FoldPart, ...] = ()
    extra: Mapping[str, str] = field(default_factory=lambda: _NO_CELLS)
    facts: DecodeFacts | None = None

    @property
    def name(self) -> str:
        """Return path and segment, a W3C media fragment: ``match.mp4#t=1.5,4``."""
        if self.start_seconds is None and self.end_seconds is None:
            return self.video
        start = "" if self.start_seconds is None else _exact(self.start_seconds)
        end = "" if self.end_seconds is None else f",{_exact(self.end_seconds)}"
        return f"{self.video}#t={start}{end}"

    @property
    def content(self) -> tuple[str, float | None, float | None]:
        """Return what identifies the frames: the hash of the file and the segment."""
        return self.sha256, self.start_seconds, self.end_seconds

    @property
    def is_usable(self) -> bool:
        """Return whether decoding kept frames of the video."""
        return self.facts is not None and self.facts.frames > 0

    @property
    def seconds(self) -> float | None:
        """Return the duration of the segment or of the whole video; None when unknown."""
        source = None if self.facts is None else self.facts.source_seconds
        if source is None:
            return None
        end = source if self.end_seconds is None else min(self.end_seconds, source)
        return max(end - (self.start_seconds or 0.0), 0.0)


def _exact(seconds: float) -> str:
    return repr(float(seconds)).removesuffix(".0")


_CATALOG_COLUMNS = ("video", "target", "split", "group", "start_seconds", "end_seconds", "sha256")
_FOLD = re.compile(r"fold_([1-9][0-9]*)")
_FACT_COLUMNS = tuple(column.name for column in fields(DecodeFacts) if column.name != "reason")

# They convert cells to the types of the fields and ignore other columns.
_RECORD, _FACTS = TypeAdapter(VideoRecord), TypeAdapter(DecodeFacts)
_FOLD_PARTS = TypeAdapter(tuple[FoldPart, ...])


def fold_columns(columns: Iterable[str]) -> list[str]:
    """Return the columns of official folds, by number.

    >>> fold_columns(["video", "fold_2", "fold_1", "folds"])
    ['fold_1', 'fold_2']
    """
    return sorted(filter(_FOLD.fullmatch, columns), key=lambda column: int(column[5:]))


def write_catalog(path: Path, records: Iterable[VideoRecord]) -> None:
    """Write the catalog sorted by video: the same videos give the same bytes.

    Official folds follow, as ``fold_1``, ``fold_2`` and so on, then extra columns, as
    ``extra.<column>``.
    """
    ordered = sorted(records, key=lambda row: (row.video, row.start_seconds or 0, row.name))
    extra = [_EXTRA + column for column in (ordered[0].extra if ordered else ())]
    folds = [f"fold_{number + 1}" for number in range(len(ordered[0].folds) if ordered else 0)]
    rows = (
        {column: getattr(record, column) for column in _CATALOG_COLUMNS}
        | dict(zip(folds, record.folds, strict=True))
        | {_EXTRA + column: cell for column, cell in record.extra.items()}
        for record in ordered
    )
    write_csv(path, [*_CATALOG_COLUMNS, *folds, *extra], rows)


def read_catalog(path: Path) -> list[VideoRecord]:
    """Read a file of ``write_catalog``.

    Raises:
        PipelineError: the file is missing.
    """
    if not path.exists():
        raise PipelineError(f"{path}: no such file. Build it with: dvc repro catalog")
    return [_record(row) for row in csv_rows(path)]


def _record(row: Mapping[str, str]) -> VideoRecord:
    extra = {
        sys.intern(column.removeprefix(_EXTRA)): cell
        for column, cell in row.items()
        if column.startswith(_EXTRA)
    }
    return replace(
        _RECORD.validate_python(_without_empty(row) | {"target": sys.intern(row["target"])}),
        folds=_FOLD_PARTS.validate_python([row[column] for column in fold_columns(row)]),
        extra=extra or _NO_CELLS,
    )


def write_decode_index(path: Path, records: Iterable[VideoRecord]) -> None:
    """Write name, status and facts of decoded records, sorted by name."""
    rows = map(_index_row, sorted(records, key=lambda record: record.name))
    write_csv(path, ["name", "status", "reason", *_FACT_COLUMNS], rows)


def _index_row(record: VideoRecord) -> dict[str, object]:
    assert record.facts is not None
    facts = {column: getattr(record.facts, column) for column in ("reason", *_FACT_COLUMNS)}
    return {"name": record.name, "status": record.facts.status, **facts}


def read_decoded(catalog: Path, index: Path) -> list[VideoRecord]:
    """Read the catalog and add the facts of the decode index.

    Raises:
        PipelineError: a file is missing, or the index lacks a row of the catalog.
    """
    records = read_catalog(catalog)
    names = {record.name for record in records}
    rows = csv_rows(index) if index.exists() else ()
    facts = {
        row["name"]: _FACTS.validate_python(_without_empty(row))
        for row in rows
        if row["name"] in names
    }
    missing = [record.name for record in records if record.name not in facts]
    if missing:
        raise PipelineError(
            f"{index}: expected a row for each of the {len(records)} rows of {catalog}; "
            f"{len(missing)} are missing, the first is {missing[0]}. Run: dvc repro decode"
        )
    for number, record in enumerate(records):  # in place: a second list needs memory
        records[number] = replace(record, facts=facts[record.name])
    return records


def _without_empty(row: Mapping[str, str]) -> dict[str, str]:
    """Return the cells that are not empty: an empty cell stands for the default of its field."""
    return {column: cell for column, cell in row.items() if cell}

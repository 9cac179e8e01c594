"""Look at a folder of videos: its labels, its task, and the facts of a sample of its videos."""

import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import zstandard

from pipeline.common.csv_columns import check_columns, simplified
from pipeline.common.csv_text import csv_lines, likely_columns
from pipeline.common.errors import PipelineError
from pipeline.common.records import DecodeFacts, VideoRecord
from pipeline.common.video_files import is_video, size_bytes
from pipeline.compute.isolated import Failure
from pipeline.compute.settings import ComputeSection
from pipeline.dataset.columns import (
    OPTIONAL_COLUMNS,
    may_name_videos,
    rename_remedy,
)
from pipeline.dataset.layouts import LABELS_TABLE, read_labels
from pipeline.dataset.names import clean_text
from pipeline.dataset.settings import DataSection
from pipeline.importing.datasets import DATA_SETS, recognise
from pipeline.tasks.targets import Targets, target_types, targets_of
from pipeline.video.batch import for_each_video
from pipeline.video.ffmpeg_errors import UNEXPECTED_ERRORS, describe
from pipeline.video.opening import VideoError
from pipeline.video.reading import FrameReader, Segment
from pipeline.video.settings import DecodeSection

_MAX_PROBED = 200  # videos whose packets are scanned
_MAX_TIMED = 8  # videos that are decoded as the decode stage does, for the estimates
_MAX_TIMED_SECONDS = 60.0  # a longer one is not decoded
_TOUCHING_SECONDS = 0.25  # between labelled intervals that follow each other


@dataclass(frozen=True)
class Probe:
    """What one video of the sample contains.

    Attributes:
        facts: None if the video cannot be read.
        reason: why it cannot be read; empty if it can.
        decode_seconds: time that decoding took; None if it was not timed.
        frames: number of frames that were decoded for this.
        compression: size of these frames in the frame store, compared with their pixels.
    """

    record: VideoRecord
    facts: DecodeFacts | None = None
    reason: str = ""
    decode_seconds: float | None = None
    frames: int = 0
    compression: float = 0.0

    @property
    def seconds(self) -> float | None:
        """Return the duration of the video or of its labelled segment; None when unknown."""
        return replace(self.record, facts=self.facts).seconds


@dataclass(frozen=True)
class Inspection:
    """A folder of videos.

    Attributes:
        labels: value of ``data.labels``.
        task_type: the task of the labels.
        is_task_guessed: whether their columns decided it.
        n_bytes: size of all videos.
        probes: of an evenly spread sample of the videos.
    """

    folder: Path
    labels: str
    task_type: str
    is_task_guessed: bool
    records: Sequence[VideoRecord]
    n_bytes: int
    probes: Sequence[Probe]

    @property
    def targets(self) -> Targets:
        return targets_of(self.task_type)

    @property
    def has_table(self) -> bool:
        return bool(self.labels) or (self.folder / LABELS_TABLE).is_file()

    @property
    def readable(self) -> list[Probe]:
        return [probe for probe in self.probes if probe.facts is not None]

    @property
    def unreadable(self) -> list[Probe]:
        return [probe for probe in self.probes if probe.facts is None]


def inspect_folder(
    folder: Path, *, task_type: str | None, decode: DecodeSection, compute: ComputeSection
) -> Inspection:
    """Read the labels of a folder, and probe a sample of its videos.

    Args:
        task_type: None: the task that the columns of the table fit.
        decode: settings of the frames, for the time and the size of decoded videos.
        compute: the number of processes.

    Raises:
        PipelineError: the folder is not a data set, or no video of the sample can be read.
    """
    labels = _find_table(folder, task_type)
    is_task_guessed = task_type is None
    data = DataSection(videos=str(folder), labels="" if labels == LABELS_TABLE else labels)
    try:
        task_type = task_type or _guess_task(folder, labels)
        records = read_labels(data, targets_of(task_type))
    except PipelineError:
        known = None if labels else recognise(folder)
        if known is None:
            if not labels and folder.is_dir():
                _check_misnamed_columns(folder)
            raise
        name, file = known
        raise PipelineError(
            f"{folder}: this looks like {DATA_SETS[name].title} ({file}). "
            f"Run: vidpipe import {name} {shlex.quote(str(folder))}"
        ) from None
    videos = list(dict.fromkeys(record.video for record in records))
    n_bytes = sum(size_bytes(folder / video) for video in videos)
    chosen = _spread(records, _MAX_PROBED)
    probes = _probe(folder, chosen, _spread(chosen, _MAX_TIMED), decode, compute)
    inspection = Inspection(
        folder, data.labels, task_type, is_task_guessed, records, n_bytes, probes
    )
    if not inspection.readable:
        first = inspection.unreadable[0]
        raise PipelineError(
            f"{folder}: no video can be read. The first one, {first.record.video}: {first.reason}. "
            "Convert the videos to a format that FFmpeg reads, such as mp4 with H.264."
        )
    return inspection


def _find_table(folder: Path, task_type: str | None) -> str:
    """Return the name of the table of labels in a folder; empty for class folders.

    Args:
        task_type: of several tables, the one with its columns is meant.

    Raises:
        PipelineError: several tables could be meant.
    """
    if (folder / LABELS_TABLE).is_file():
        return LABELS_TABLE
    tables = {
        name: columns for name, columns in _csv_files(folder) if "video" in map(simplified, columns)
    }
    if len(tables) > 1:
        targets = targets_of(task_type).columns if task_type else ()
        fitting = [name for name, columns in tables.items() if targets and {*targets} <= {*columns}]
        renamable = [name for name, columns in tables.items() if rename_remedy(columns, targets)]
        for meant in (fitting, renamable):
            if len(meant) == 1:
                return meant[0]
        raise PipelineError(
            f"{folder}: expected one table with the column video. Received: {', '.join(tables)}. "
            f"Choose one with --task, or rename the one to use to {LABELS_TABLE}."
        )
    return next(iter(tables), "")


def _csv_files(folder: Path) -> list[tuple[str, list[str]]]:
    """Return the names of the csv files in a folder, with their columns."""
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    return [
        (path.name, likely_columns(path))
        for path in paths
        if path.suffix.lower() == ".csv" and path.is_file()
    ]


def _check_misnamed_columns(folder: Path) -> None:
    """Refuse a table whose columns have other names, if the videos are in no class folders."""
    if any(is_video(path) for path in folder.iterdir() if path.is_file()):
        for name, columns in _csv_files(folder):
            if may_name_videos(columns):
                _guess_task(folder, name)


def _guess_task(folder: Path, labels: str) -> str:
    """Return the task whose target columns the table has; the one with most columns."""
    if not labels:
        return "classification"
    table = folder / labels
    where, header = next(csv_lines(table), (f"{table}, line 1", []))
    names = {cell.strip() for cell in header}
    required = {name: targets_of(name).columns for name in target_types()}
    fitting = [name for name, columns in required.items() if names.issuperset(["video", *columns])]
    if not fitting:
        task_columns = [column for columns in required.values() for column in columns]
        columns = [clean_text(cell, where=where) for cell in header]
        check_columns(where, columns, ["video", *task_columns, *OPTIONAL_COLUMNS])
        missing = dict.fromkeys(name for name in ["video", *task_columns] if name not in columns)
        raise PipelineError(
            f"{where}: expected the column video and those of a task: "
            f"{'; '.join(','.join(own) for own in required.values())}. Received: "
            f"{','.join(columns) or 'an empty line'}.{rename_remedy(columns, missing)} "
            "docs/tasks.md has the tasks."
        )
    if "frames" in fitting and not _intervals_touch(folder, labels):
        fitting.remove("frames")  # segments of long videos, each a video of its own
    return max(fitting, key=lambda name: (len(required[name]), name == "classification"))


def _intervals_touch(folder: Path, labels: str) -> bool:
    """Return whether most labelled intervals begin where another one of the video ends."""
    data = DataSection(videos=str(folder), labels=labels)
    records = read_labels(data, targets_of("classification"))
    ordered = sorted(records, key=lambda record: (record.video, record.start_seconds or 0.0))
    pairs = [(a, b) for a, b in pairwise(ordered) if a.video == b.video]
    touching = [
        a.end_seconds is not None
        and b.start_seconds is not None
        and abs(b.start_seconds - a.end_seconds) <= _TOUCHING_SECONDS
        for a, b in pairs
    ]
    return sum(touching) > len(touching) / 2


def _spread(records: Sequence[VideoRecord], count: int) -> list[VideoRecord]:
    count = min(count, len(records))
    return [records[index * len(records) // count] for index in range(count)]


def _probe(
    folder: Path,
    records: Sequence[VideoRecord],
    timed: Sequence[VideoRecord],
    decode: DecodeSection,
    compute: ComputeSection,
) -> list[Probe]:
    """Read the videos in processes of their own, which may block or die."""
    decode = decode.model_copy(update={"max_seconds": sys.float_info.max})  # may be proposed
    names = {record.name for record in timed}
    results = for_each_video(
        partial(_probe_video, folder=folder, timed=names, decode=decode),
        records,
        videos=folder,
        decode=decode,
        compute=compute.model_copy(update={"engine": "local"}),
        title="inspect",
    )
    probes = {
        record.name: Probe(record, reason=result.reason) if isinstance(result, Failure) else result
        for record, result in results
    }
    return [probes[record.name] for record in records]


def _probe_video(
    record: VideoRecord, *, folder: Path, timed: set[str], decode: DecodeSection
) -> Probe:
    segment = Segment(record.start_seconds, record.end_seconds)
    path = folder / record.video
    reader = FrameReader(path, decode, segment=segment, select=lambda count: [0][:count])
    try:
        for _ in reader.numbered():
            break
        facts = reader.facts
        seconds = replace(record, facts=facts).seconds
        if record.name not in timed or seconds is None or seconds > _MAX_TIMED_SECONDS:
            return Probe(record, facts)
        started = time.perf_counter()
        frames = np.stack(list(FrameReader(path, decode, segment=segment)))
    except VideoError as error:
        return Probe(record, reason=error.reason)
    except UNEXPECTED_ERRORS as error:
        return Probe(record, reason=describe(error))
    stored = zstandard.ZstdCompressor(level=1).compress(frames.data)
    elapsed = time.perf_counter() - started
    return Probe(
        record,
        facts,
        decode_seconds=elapsed,
        frames=len(frames),
        compression=len(stored) / frames.nbytes,
    )

"""Predict video files with a model on disk: names of videos, answers, output as text."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from glob import glob, has_magic
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.common.csv_columns import cells_by_column, check_columns, check_repeated
from pipeline.common.csv_text import csv_lines
from pipeline.common.errors import PipelineError
from pipeline.common.paths import MODEL, MODEL_METADATA
from pipeline.common.side_inputs import SideArrays, SideInput, side_values
from pipeline.common.tables import printable, table_csv, valid_unicode
from pipeline.common.video_files import join_numbered_pictures
from pipeline.serving.request import RequestOptions, ServingConfig, VideoRequest

if TYPE_CHECKING:
    from pipeline.clips.sampling import Clip
    from pipeline.tasks.task import Task

Answer = Mapping[str, Any]

_VIDEOS_AT_ONCE = 16
_SHOWN = 3  # classes in a table of several videos
_SHOWN_ALONE = 10  # classes in a table of one video
_EXPECTED = "Expected files with a suffix such as .mp4, .mkv, .webm or .jpg."


def named_videos(names: Iterable[str]) -> list[Path]:
    """Return the videos that the names select, each once, in the order of the names.

    A name is a file, a folder (its videos at any depth, without hidden ones), or a pattern with
    ``*``, ``?``, ``[...]`` or ``**``. A folder of numbered pictures is one video. A file that does
    not exist is returned, because opening it gives the error.

    Raises:
        PipelineError: there is no name, a folder has no video, or a pattern matches none.
    """
    videos = list(dict.fromkeys(video for name in names for video in _videos_of(name)))
    if not videos:
        raise PipelineError("No video given. Name at least one: vidpipe predict a.mp4 folder/")
    return videos


class LocalModel:
    """A model on disk that predicts video files in this process."""

    def __init__(self, folder: Path, config: ServingConfig) -> None:
        """Load ``model.keras`` and ``model.json`` of ``folder``, as ``Scorer.load``."""
        from pipeline.serving.scorer import Scorer

        self._scorer = Scorer.load(folder / MODEL.name, folder / MODEL_METADATA.name, config)
        self.task: Task = self._scorer.task

    def predict(
        self,
        videos: Sequence[Path],
        options: RequestOptions | None = None,
        given: Sequence[Mapping[str, str]] | None = None,
    ) -> Iterator[dict[str, Any]]:
        """Yield the answer for each video: as ``Scorer.score``, or ``{"error": reason}``.

        Args:
            given: ``given_side_inputs`` of the videos, for a model that reads some.

        Raises:
            PipelineError: a side input is missing or not valid, the frames cannot be written to
                TMPDIR, or a process cannot start.
        """
        requests = video_requests(videos, given, self._scorer.side_inputs)
        for chunk in chunks_of(requests):
            yield from self.answer(chunk, options)

    def answer(
        self, requests: Sequence[VideoRequest], options: RequestOptions | None = None
    ) -> list[dict[str, Any]]:
        """Return the answers for a chunk of requests, as ``predict``."""
        options = replace(options or RequestOptions(), keep_going=True)
        try:
            answers = self._scorer.score(requests, options)
        except OSError as error:
            raise PipelineError(
                f"Decoding failed: {error}. If the disk is full, make room in TMPDIR, which "
                "holds the frames, or set it to another folder."
            ) from error
        for answer in answers:
            if answer["error"] is None:
                del answer["error"]
        return answers

    def seen_clips(self, video: Path, options: RequestOptions | None = None) -> "list[Clip]":
        """Return the clips whose outputs the answer combines; [] for an unusable video."""
        request = VideoRequest(video, str(video))
        return self._scorer.combined_clips(request, options or RequestOptions())


def chunks_of(requests: Sequence[VideoRequest]) -> list[Sequence[VideoRequest]]:
    """Return the requests that a model answers together, in order."""
    starts = range(0, len(requests), _VIDEOS_AT_ONCE)
    return [requests[start : start + _VIDEOS_AT_ONCE] for start in starts]


def video_requests(
    videos: Sequence[Path],
    given: Sequence[Mapping[str, str]] | None,
    side_inputs: Sequence[SideInput],
) -> list[VideoRequest]:
    """Return a request for each video.

    Args:
        given: ``given_side_inputs`` of the videos, for a model that reads some.
        side_inputs: of the model.

    Raises:
        PipelineError: a side input is missing or not valid.
    """
    requests = []
    for video, cells in zip(videos, given or [{}] * len(videos), strict=True):
        values: SideArrays = {}
        if os.path.exists(video):  # noqa: PTH110  (otherwise, decoding says so)
            values = side_values(
                side_inputs,
                cells,
                where=str(video),
                remedy="Give it with --side COLUMN=VALUE, or in --side-table, with one value a "
                "video.",
            )
        requests.append(VideoRequest(video, str(video), side_inputs=values))
    return requests


def given_side_inputs(
    videos: Sequence[Path], values: Sequence[str], table: Path | None
) -> list[dict[str, str]]:
    """Return the side inputs of each video, by column.

    Args:
        values: of all videos, such as ``age=34``; they come before those of the table.
        table: csv file with the column ``video``, such as the labels table. A video has the row
            with the longest path that its own path ends with. Of several rows of a video, the
            cells count that are equal.

    Raises:
        PipelineError: a value is not ``COLUMN=VALUE``, or the table is not valid.
    """
    rows = {} if table is None else _read_side_table(table)
    for_all = {}
    for value in values:
        column, separator, cell = value.partition("=")
        if not separator or not column.strip():
            raise PipelineError(f"--side: expected COLUMN=VALUE such as age=34. Received: {value}")
        for_all[column.strip()] = cell

    def row_of(video: Path) -> dict[str, str]:
        parts = video.absolute().parts
        endings = (Path(*parts[start:]).as_posix() for start in range(len(parts)))
        return next((rows[ending] for ending in endings if ending in rows), {})

    return [{**row_of(video), **for_all} for video in videos]


def _read_side_table(table: Path) -> dict[str, dict[str, str]]:
    """Return the cells of a csv file by video, those that are equal in all rows of the video."""
    rows: dict[str, dict[str, str]] = {}
    try:
        lines = csv_lines(table)
        where, header = next(lines, (f"{table}, line 1", []))
        columns = [column.strip() for column in header]
        check_columns(where, columns, ["video"])
        check_repeated(where, columns)
        if "video" not in columns:
            raise PipelineError(
                f"{where}: expected a column video. Received: "
                f"{','.join(columns) or 'an empty line'}. Add it, or rename the column of paths."
            )
        for where, cells in lines:
            row = cells_by_column(where, cells, columns)
            if not (video := row.pop("video")):
                raise PipelineError(f"{where}: the column video is empty. Name the file.")
            name = Path(video).as_posix()
            rows[name] = dict(rows.get(name, row).items() & row.items())
    except OSError as error:
        raise PipelineError(
            f"--side-table: expected a csv file in UTF-8. Received: {table} ({error})"
        ) from None
    return rows


def as_table(videos: Sequence[Path], answers: Sequence[Answer], task: "Task") -> str:
    """Return a line for each video, and one for each timeline segment below its video.

    ``unsure`` at the end of a line: the answer is below the model's confidence threshold.
    """
    shown = _SHOWN_ALONE if len(videos) == 1 else _SHOWN
    names, rows, ends = [], [], []
    for video, answer in zip(videos, answers, strict=True):
        for part in _parts(answer):
            is_segment = "start_seconds" in part
            names.append(
                f"  {part['start_seconds']:.1f} to {part['end_seconds']:.1f} s"
                if is_segment
                else printable(str(video))
            )
            rows.append([] if "error" in part else task.answer_line(part, shown=shown))
            unsure = "unsure" if part.get("confident") is False else ""
            ends.append(f"error: {printable(part['error'])}" if "error" in part else unsure)
    name_width = max(map(len, names))
    widths = [max(map(len, column)) for column in zip_longest(*rows, fillvalue="")]
    lines = []
    for name, cells, end in zip(names, rows, ends, strict=True):
        padded = [cell.ljust(width) for cell, width in zip(cells, widths, strict=False)]
        lines.append("  ".join([name.ljust(name_width), *padded, end]).rstrip())
    return "\n".join(lines) + "\n"


def as_csv(videos: Sequence[Path], answers: Sequence[Answer], task: "Task") -> str:
    """Return a csv row for each video, and one for each timeline segment below its video.

    Columns: ``video``, ``start_seconds`` and ``end_seconds`` if there is a timeline, those of
    ``Task.answer_cells``, ``confident`` (true or false) if the model has a threshold, ``error``.
    """
    rows: list[dict[str, str]] = []
    for video, answer in zip(videos, answers, strict=True):
        for part in _parts(answer):
            row = {"video": valid_unicode(str(video)), "error": part.get("error", "")}
            if "start_seconds" in part:
                row |= {key: f"{part[key]:.6f}" for key in ("start_seconds", "end_seconds")}
            if part.get("confident") is not None:
                row["confident"] = "true" if part["confident"] else "false"
            if "error" not in part:
                row |= task.answer_cells(part)
            rows.append(row)
    used = dict.fromkeys(column for row in rows for column in row)
    first, last = ("video", "start_seconds", "end_seconds"), ("confident", "error")
    cells = [column for column in used if column not in (*first, *last)]
    columns = [column for column in (*first, *cells, *last) if column in used]
    return table_csv(columns, rows)


def as_json(videos: Sequence[Path], answers: Sequence[Answer], task: "Task") -> str:  # noqa: ARG001
    """Return a JSON list with an object for each video: the answer of a server, or ``error``."""
    rows = [
        {"video": valid_unicode(str(video)), **answer}
        for video, answer in zip(videos, answers, strict=True)
    ]
    return json.dumps(rows, indent=2, ensure_ascii=False) + "\n"


def _videos_of(name: str) -> Iterator[Path]:
    path = Path(name)
    if not name.strip():
        return
    if os.path.isdir(path):  # noqa: PTH112  (False for a name that is too long)
        videos = _videos_in_folder(path)
        if not videos:
            raise PipelineError(f"{path}: no video in this folder. {_EXPECTED}")
        yield from videos
    elif has_magic(name) and not os.path.exists(path):  # noqa: PTH110
        matches = map(Path, sorted(glob(name, recursive=True)))  # noqa: PTH207  # absolute patterns
        videos = [
            video
            for match in matches
            for video in (_videos_in_folder(match) if match.is_dir() else [match])
        ]
        if not videos:
            raise PipelineError(f"{name}: no video matches the pattern. {_EXPECTED}")
        yield from videos
    else:
        yield path


def _videos_in_folder(folder: Path) -> list[Path]:
    return join_numbered_pictures(
        path
        for path in folder.rglob("*")
        if path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )


def _parts(answer: Answer) -> list[Answer]:
    """Return the answer for the video, then those for its timeline segments."""
    return [answer, *answer.get("timeline", ())]

"""Read what evaluate and decode wrote: scores, tables, audits, suspects and stored frames."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.common.bootstrap import Resampling, Score
from pipeline.common.errors import PipelineError
from pipeline.common.files import read_csv, read_json
from pipeline.common.findings import Finding
from pipeline.common.records import VideoRecord
from pipeline.evaluation.audits import DoubtfulLabel
from pipeline.evaluation.near_duplicates import NearDuplicate
from pipeline.evaluation.predictions import Predictions
from pipeline.evaluation.slices import Slice
from pipeline.video.store import load_frames, read_frame_settings, stored_path

_Row = TypeVar("_Row")

_LOW, _HIGH = "_low", "_high"  # endings of the columns of an interval
_LONG_NUMBER = re.compile(r"-?\d+\.\d{4,}")


@dataclass(frozen=True)
class Cell:
    """A cell of a table of the review: its text, and its interval, if it has one."""

    text: str
    interval: str = ""

    @property
    def is_number(self) -> bool:
        """Whether to align it right."""
        return re.fullmatch(r"-?[\d.]+", self.text) is not None


@dataclass(frozen=True)
class ShownTable:
    """A table of the evaluation, intervals joined with their column."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]

    @property
    def has_intervals(self) -> bool:
        return any(cell.interval for row in self.rows for cell in row)


class StoredFrames:
    """The frames of the frame store, by name of the video."""

    def __init__(self, folder: Path, records: Sequence[VideoRecord]) -> None:
        """Open a frame store.

        Args:
            folder: of the frame store.
            records: with facts.
        """
        self._folder, self._decode = folder, read_frame_settings(folder)
        self._records = {record.name: record for record in records if record.is_usable}

    @property
    def fps(self) -> float:
        """Frames kept per second of video."""
        return self._decode.fps

    def frames(self, video: str) -> NDArray[np.uint8]:
        """Return uint8 [N, H, W, 3], RGB.

        Raises:
            PipelineError: there are no frames of this video, or they cannot be read.
        """
        record = self._records.get(video)
        if record is None or record.facts is None:
            raise PipelineError(
                f"{self._folder}: no frames of {video}, which eval/ names. Run: dvc repro"
            )
        return load_frames(stored_path(self._folder, record.facts.key), self._decode)

    def frame_at(self, video: str, seconds: float) -> NDArray[np.uint8]:
        """Return the frame uint8 [H, W, 3] nearest to ``seconds`` in the file."""
        frames = self.frames(video)
        start = self._records[video].start_seconds or 0.0
        index = round((seconds - start) * self.fps)
        nearest: NDArray[np.uint8] = frames[min(max(index, 0), len(frames) - 1)]
        return nearest


def read_scores(metrics: Path, intervals: Path) -> dict[str, Score]:
    """Return the scores by name, with their intervals."""
    ends = _read_json(intervals)
    return {
        name: Score(float(value), tuple(ends[name]) if ends.get(name) else None)
        for name, value in _read_json(metrics).items()
    }


def read_audits(path: Path) -> list[Finding]:
    """Return the audits in the order of the file."""
    return [Finding(**audit) for audit in _read_json(path)]


def read_tables(folder: Path, predictions: Predictions) -> list[ShownTable]:
    """Read the tables of the task."""
    # Only names and titles are taken from here, so one resampled test set is enough.
    resampling = Resampling(predictions.resampling_groups, samples=1, confidence=0.5, seed=0)
    tables = predictions.task.tables(predictions.targets, predictions.outputs, resampling)
    return [read_table(folder / f"{table.name}.csv", title=table.title) for table in tables]


def read_table(path: Path, *, title: str) -> ShownTable:
    """Read a table; ``<column>_low`` and ``<column>_high`` become the interval of a column."""
    rows: list[Mapping[str, str]] = _read_rows(path, dict)
    columns = list(rows[0]) if rows else []
    ends = {column + end for column in columns for end in (_LOW, _HIGH)}
    shown = [column for column in columns if column not in ends]

    def cell(row: Mapping[str, str], column: str) -> Cell:
        low, high = (row.get(column + end, "") for end in (_LOW, _HIGH))
        return Cell(_shorten(row[column]), f"{_shorten(low)} to {_shorten(high)}" if low else "")

    return ShownTable(title, shown, [[cell(row, column) for column in shown] for row in rows])


def read_slices(path: Path) -> list[Slice]:
    """Return the slices, worst first."""
    return _read_rows(path, lambda row: _parse(Slice, row))


def read_near_duplicates(path: Path) -> list[NearDuplicate]:
    """Return the pairs, closest first."""
    return _read_rows(path, lambda row: _parse(NearDuplicate, row))


def read_doubtful_labels(path: Path) -> list[DoubtfulLabel]:
    """Return the doubtful labels, most doubtful first."""
    return _read_rows(path, lambda row: _parse(DoubtfulLabel, row))


def read_history(path: Path) -> list[dict[str, float]]:
    """Return one row an epoch, by column."""
    return _read_rows(path, lambda row: {column: float(cell) for column, cell in row.items()})


def _parse(row_type: type[_Row], row: Mapping[str, str]) -> _Row:
    """Read the columns of a dataclass whose fields are text and numbers."""
    columns: Any = fields(row_type)  # type: ignore[arg-type]
    return row_type(**{column.name: column.type(row[column.name]) for column in columns})


def _read_rows(path: Path, parse: Callable[[Mapping[str, str]], _Row]) -> list[_Row]:
    try:
        return [parse(row) for row in read_csv(path)]
    except FileNotFoundError:
        raise _missing(path) from None
    except (KeyError, TypeError, ValueError) as error:
        raise PipelineError(
            f"{path}: not in the format that evaluate writes ({error!r}). Run: dvc repro evaluate"
        ) from None


def _read_json(path: Path) -> Any:
    try:
        return read_json(path)
    except FileNotFoundError:
        raise _missing(path) from None
    except json.JSONDecodeError as error:
        raise PipelineError(f"{path}: not valid JSON ({error}). Run: dvc repro evaluate") from None


def _missing(path: Path) -> PipelineError:
    return PipelineError(f"{path}: no such file. Run: dvc repro evaluate")


def _shorten(text: str) -> str:
    """Round a number with more than three decimals; keep other text, such as the name 0.5."""
    return f"{float(text):.3f}" if _LONG_NUMBER.fullmatch(text) else text

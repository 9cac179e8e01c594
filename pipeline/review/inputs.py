"""Read the results of evaluate and the stored frames of decode."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.common.bootstrap import Resampling, Score
from pipeline.common.errors import PipelineError
from pipeline.common.files import read_json
from pipeline.common.findings import Finding
from pipeline.common.records import DecodeFacts, VideoRecord
from pipeline.common.tables import read_table_csv
from pipeline.evaluation.predictions import Predictions
from pipeline.video.store import (
    load_frames,
    read_frame_settings,
    stored_path,
)

_Row = TypeVar("_Row")

_LOW, _HIGH = "_low", "_high"  # endings of the columns of an interval
_LONG_NUMBER = re.compile(r"-?\d+\.\d{4,}")


@dataclass(frozen=True)
class Cell:
    """A cell of a table: its text and its interval (empty when it has none)."""

    text: str
    interval: str = ""

    @property
    def is_number(self) -> bool:
        """Return whether the cell is aligned right."""
        return re.fullmatch(r"-?[\d.]+", self.text) is not None


@dataclass(frozen=True)
class ShownTable:
    """A table of the evaluation, with intervals in the cells of their column.

    Attributes:
        rows: the first ones.
        n_rows: number of rows of the file ``path``.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    n_rows: int
    path: Path

    @property
    def has_intervals(self) -> bool:
        return any(cell.interval for row in self.rows for cell in row)


class StoredFrames:
    """The frames of the frame store, by name of the video."""

    def __init__(self, folder: Path, records: Sequence[VideoRecord]) -> None:
        """Open the frame store ``folder`` of ``records``, which have facts."""
        self._folder, self._decode = folder, read_frame_settings(folder)
        self._records = {record.name: record for record in records if record.is_usable}

    @property
    def fps(self) -> float:
        return self._decode.fps

    def frames(
        self, video: str, choose: Callable[[int], Sequence[int]]
    ) -> tuple[NDArray[np.uint8], float]:
        """Return some frames, uint8 [n, H, W, 3], RGB, and their number per second of video.

        Args:
            choose: takes the number of frames of the video, returns the indices of those to read.

        Raises:
            PipelineError: there are no frames of this video, or they cannot be read.
        """
        facts = self._facts(video)
        indices = choose(facts.frames)
        frames = load_frames(self._path(facts), self._decode, indices)
        return frames, self.fps * len(indices) / facts.frames

    def frame_at(self, video: str, seconds: float) -> NDArray[np.uint8]:
        """Return the frame uint8 [H, W, 3] nearest to ``seconds`` in the file.

        Raises:
            PipelineError: as for ``frames``.
        """
        facts = self._facts(video)
        start = self._records[video].start_seconds or 0.0
        index = min(max(round((seconds - start) * self.fps), 0), facts.frames - 1)
        nearest: NDArray[np.uint8] = load_frames(self._path(facts), self._decode, [index])[0]
        return nearest

    def _facts(self, video: str) -> DecodeFacts:
        record = self._records.get(video)
        if record is None or record.facts is None:
            raise PipelineError(
                f"{self._folder}: expected frames of {video}, a video of eval/. Received: none. "
                "Run: dvc repro"
            )
        return record.facts

    def _path(self, facts: DecodeFacts) -> Path:
        return stored_path(self._folder, facts.key)


def read_scores(metrics: Path, intervals: Path) -> dict[str, Score]:
    """Read the scores by name, with their intervals."""
    with _evaluate_errors(intervals):
        ends = read_json(intervals)
    with _evaluate_errors(metrics):
        return {
            name: Score(float(value), tuple(ends[name]) if ends.get(name) else None)
            for name, value in read_json(metrics).items()
        }


def read_audits(path: Path) -> list[Finding]:
    """Read the audits in the order of the file."""
    with _evaluate_errors(path):
        return [Finding(**audit) for audit in read_json(path)]


def read_tables(folder: Path, predictions: Predictions) -> list[ShownTable]:
    """Read the tables of the task."""
    # Only the names and titles of these tables are used, so one resample is enough.
    resampling = Resampling(predictions.resampling_groups, samples=1, confidence=0.5, seed=0)
    return [
        read_table(folder / f"{table.name}.csv", title=table.title, shown=table.shown)
        for table in predictions.tables(resampling)
    ]


def read_table(path: Path, *, title: str, shown: int) -> ShownTable:
    """Read ``shown`` rows; ``<column>_low`` and ``<column>_high`` become a column's interval."""
    with _evaluate_errors(path):
        rows = read_table_csv(path)
    columns = list(rows[0]) if rows else []
    ends = {column + end for column in columns for end in (_LOW, _HIGH)}
    columns = [column for column in columns if column not in ends]

    def cell(row: Mapping[str, str], column: str) -> Cell:
        low, high = (row.get(column + end, "") for end in (_LOW, _HIGH))
        return Cell(_shorten(row[column]), f"{_shorten(low)} to {_shorten(high)}" if low else "")

    cells = [[cell(row, column) for column in columns] for row in rows[:shown]]
    return ShownTable(title, columns, cells, len(rows), path)


def read_rows(path: Path, row_type: type[_Row]) -> list[_Row]:
    """Read a csv file, in its order, into a dataclass whose fields are text and numbers."""
    columns: Any = fields(row_type)  # type: ignore[arg-type]
    with _evaluate_errors(path):
        return [
            row_type(**{column.name: column.type(row[column.name]) for column in columns})
            for row in read_table_csv(path)
        ]


@contextmanager
def _evaluate_errors(path: Path) -> Iterator[None]:
    """Turn the errors of a missing or invalid file into a PipelineError."""
    try:
        yield
    except FileNotFoundError:
        raise PipelineError(f"{path}: no such file. Run: dvc repro evaluate") from None
    except (KeyError, TypeError, ValueError) as error:
        raise PipelineError(
            f"{path}: expected the format that evaluate writes. Received: {error!r}. "
            "Run: dvc repro evaluate"
        ) from None


def _shorten(text: str) -> str:
    """Round a number with more than three decimals; keep other text."""
    return f"{float(text):.3f}" if _LONG_NUMBER.fullmatch(text) else text

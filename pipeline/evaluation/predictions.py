"""What a model said about every video of a split, in memory and as a csv file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from pipeline.base import files
from pipeline.base.errors import PipelineError

# A softmax in float32 misses 1 by some 1e-7 times the square root of the number of classes.
ROW_SUM_TOLERANCE = 1e-4

_CLASS_PREFIX = "p_"
_COLUMNS = ("video", "group", "label", "predicted", "probability", "correct")


@dataclass(frozen=True, eq=False)
class Predictions:
    """One row a video (or a part of one: a path may occur twice).

    videos: path of each video, as in the catalog, length N.
    groups: group of each video, "" for a video without one, length N.
    labels: int64 [N], index of the actual class. Kept as a read-only copy.
    probabilities: float64 [N, C], each row sums to 1. Kept as a read-only copy.
    class_names: name of each class, length C.

    Raises:
        ValueError: the fields do not fit together, which is a mistake of the caller.
        PipelineError: the numbers are no probabilities, which is a mistake of the model.
    """

    videos: tuple[str, ...]
    groups: tuple[str, ...]
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        if not np.issubdtype(np.asarray(self.labels).dtype, np.integer):
            raise ValueError(f"labels: expected integers, got {np.asarray(self.labels).dtype}")
        # A frozen dataclass has no other way to set a field of its own.
        object.__setattr__(self, "labels", _read_only(np.array(self.labels, np.int64)))
        object.__setattr__(self, "probabilities", _read_only(np.array(self.probabilities, float)))
        self._check_shapes()
        self._check_labels_and_classes()
        self._check_probabilities()

    @property
    def predicted(self) -> NDArray[np.int64]:
        """int64 [N], the most probable class; of equals, the first."""
        most_probable: NDArray[np.int64] = np.argmax(self.probabilities, axis=1)
        return most_probable

    @property
    def units(self) -> tuple[str, ...]:
        """What is resampled for intervals: the group of each video, or else the video itself."""
        return tuple(
            f"group {group}" if group else f"video {video}"
            for video, group in zip(self.videos, self.groups, strict=True)
        )

    def write_csv(self, path: Path) -> None:
        """Write one line a video, in the order given.

        Columns: video, group, label, predicted, probability (of the predicted class),
        correct (true or false), and ``p_<class>`` for every class. Probabilities have nine
        significant digits, which tell every two float32 numbers apart: predicted classes
        and ties survive, and a log loss from the file is off by less than 1e-8.
        """
        class_columns = [_CLASS_PREFIX + name for name in self.class_names]
        rows = []
        for index, predicted in enumerate(self.predicted):
            shown = [f"{value:.9g}" for value in self.probabilities[index]]
            row: dict[str, object] = {
                "video": self.videos[index],
                "group": self.groups[index],
                "label": self.class_names[self.labels[index]],
                "predicted": self.class_names[predicted],
                "probability": shown[predicted],
                "correct": "true" if predicted == self.labels[index] else "false",
            }
            rows.append(row | dict(zip(class_columns, shown, strict=True)))
        files.write_csv(path, [*_COLUMNS, *class_columns], rows)

    @classmethod
    def read_csv(cls, path: Path) -> Self:
        """Read what ``write_csv`` wrote. Columns that follow from others are not read.

        Raises:
            PipelineError: the file is missing or is no table of predictions.
        """
        try:
            rows = files.read_csv(path)
        except FileNotFoundError:
            raise PipelineError(f"{path}: no such file. Run dvc repro evaluate.") from None
        class_names = _class_names(rows, path)
        columns = len(_COLUMNS) + len(class_names)
        numbers = {name: index for index, name in enumerate(class_names)}
        labels, probabilities = [], []
        for line, row in enumerate(rows, start=2):
            if None in row or None in row.values():
                raise PipelineError(
                    f"{path} line {line}: expected {columns} cells, as in the header."
                )
            if row["label"] not in numbers:
                raise PipelineError(
                    f"{path} line {line}: label must be one of {', '.join(class_names)}. "
                    f"Received: {row['label']!r}"
                )
            labels.append(numbers[row["label"]])
            cells = [row[_CLASS_PREFIX + name] for name in class_names]
            probabilities.append(_numbers(cells, where=f"{path} line {line}"))
        try:
            return cls(
                videos=tuple(row["video"] for row in rows),
                groups=tuple(row["group"] for row in rows),
                labels=np.array(labels, np.int64),
                probabilities=np.array(probabilities, np.float64),
                class_names=class_names,
            )
        except PipelineError as error:
            raise PipelineError(f"{path}: {error}") from None

    def _check_shapes(self) -> None:
        expected = (len(self.videos), len(self.class_names))
        if not self.videos:
            raise ValueError("videos: expected at least one, got none")
        if len(self.groups) != expected[0]:
            raise ValueError(f"groups: expected {expected[0]}, one a video, got {len(self.groups)}")
        if self.labels.shape != expected[:1]:
            raise ValueError(f"labels: expected shape {expected[:1]}, got {self.labels.shape}")
        if self.probabilities.shape != expected:
            raise ValueError(
                f"probabilities: expected shape {expected}, one row a video and one column "
                f"a class, got {self.probabilities.shape}"
            )

    def _check_labels_and_classes(self) -> None:
        n_classes = len(self.class_names)
        if len(set(self.class_names)) != n_classes:
            raise ValueError(f"class_names: expected no name twice, got {self.class_names}")
        outside = self.labels[(self.labels < 0) | (self.labels >= n_classes)]
        if outside.size:
            raise ValueError(f"labels: expected 0 to {n_classes - 1}, got {outside[0]}")

    def _check_probabilities(self) -> None:
        # Written so that a NaN fails it.
        within = (self.probabilities >= 0) & (self.probabilities <= 1 + ROW_SUM_TOLERANCE)
        sums = self.probabilities.sum(axis=1)
        bad = ~(within.all(axis=1) & (np.abs(sums - 1) <= ROW_SUM_TOLERANCE))
        if bad.any():
            first = int(np.argmax(bad))
            shown = ", ".join(f"{value:.6g}" for value in self.probabilities[first][:5])
            raise PipelineError(
                f"{self.videos[first]}: expected probabilities between 0 and 1 that sum to 1. "
                f"Received: {shown}{', ...' if len(self.class_names) > 5 else ''} "
                f"(sum {sums[first]:.6g}). NaN means that training diverged: "
                "lower train.learning_rate."
            )


def pool(parts: Sequence[Predictions]) -> Predictions:
    """Join predictions of different videos and the same classes, sorted by video."""
    videos = [video for part in parts for video in part.videos]
    groups = [group for part in parts for group in part.groups]
    order = sorted(range(len(videos)), key=videos.__getitem__)
    return Predictions(
        videos=tuple(videos[index] for index in order),
        groups=tuple(groups[index] for index in order),
        labels=np.concatenate([part.labels for part in parts])[order],
        probabilities=np.concatenate([part.probabilities for part in parts])[order],
        class_names=parts[0].class_names,
    )


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    array.setflags(write=False)
    return array


def _class_names(rows: Sequence[dict[str, str]], path: Path) -> tuple[str, ...]:
    if not rows:
        raise PipelineError(f"{path}: expected at least one line of predictions, found none.")
    columns = [column for column in rows[0] if column is not None]
    missing = [column for column in _COLUMNS if column not in columns]
    if missing:
        raise PipelineError(f"{path}: expected the columns {', '.join(missing)}; they are missing.")
    names = [column for column in columns if column not in _COLUMNS]
    if not names or not all(name.startswith(_CLASS_PREFIX) for name in names):
        raise PipelineError(
            f"{path}: expected a column {_CLASS_PREFIX}<class> for every class after "
            f"{_COLUMNS[-1]}. Received: {', '.join(names) or 'none'}"
        )
    return tuple(name.removeprefix(_CLASS_PREFIX) for name in names)


def _numbers(cells: Sequence[str], *, where: str) -> list[float]:
    try:
        return [float(cell) for cell in cells]
    except ValueError as error:
        raise PipelineError(f"{where}: expected numbers as probabilities: {error}.") from None

"""Outputs of a model for the videos of a split, in memory and as a csv file."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from pipeline.common.bootstrap import Resampling
from pipeline.common.errors import PipelineError
from pipeline.common.tables import read_table_csv, write_table_csv
from pipeline.tasks.targets import targets_of
from pipeline.tasks.task import Outputs, Table, Task, join_outputs, task_class

if TYPE_CHECKING:  # commands that only read predictions start without TensorFlow
    import keras

    from pipeline.clips.arrays import ClipArrays
    from pipeline.clips.batches import FrameOrder

_VIDEO_COLUMNS = ("video", "group")
_RIGHT = 0.5  # lowest video score of a right output


@dataclass(frozen=True, eq=False)
class Predictions:
    """The outputs of a model for N videos. A name may occur twice.

    Attributes:
        videos: name of each video, as in the catalog.
        groups: group of each video, empty when it has none.
        targets: target of each video, as text.
        outputs: float64 [N, ...], read-only.
        task: what the outputs mean.

    Raises:
        ValueError: the fields have different lengths.
        PipelineError: the task does not know a target, or an output is invalid.
    """

    videos: tuple[str, ...]
    groups: tuple[str, ...]
    targets: tuple[str, ...]
    outputs: Outputs
    task: Task

    def __post_init__(self) -> None:
        n_videos = len(self.videos)
        if not n_videos:
            raise ValueError("videos: expected at least one. Received: none")
        for name in ("groups", "targets", "outputs"):
            if (length := len(getattr(self, name))) != n_videos:
                raise ValueError(
                    f"{name}: expected {n_videos}, one for each video. Received: {length}"
                )
        outputs = np.array(self.outputs, np.float64)
        outputs.setflags(write=False)
        object.__setattr__(self, "outputs", outputs)  # the dataclass is frozen
        self.task.check_targets(self.targets)
        if invalid := self.task.find_invalid(outputs):
            index, reason = invalid
            raise PipelineError(f"{self.videos[index]}: {reason}.")

    @property
    def resampling_groups(self) -> tuple[str, ...]:
        """Return the resampling group of each video: its group, or the video itself."""
        return tuple(
            f"group {group}" if group else f"video {video}"
            for video, group in zip(self.videos, self.groups, strict=True)
        )

    @property
    def video_scores(self) -> NDArray[np.float64]:
        """Return float64 [N], the score of each output from 0 to 1; 1 is right."""
        return self.task.video_scores(self.targets, self.outputs)

    @property
    def is_right(self) -> NDArray[np.bool_]:
        """Return bool [N]: whether the score of each output is 0.5 or more."""
        return self.video_scores >= _RIGHT

    def rows(self, indices: Sequence[int]) -> Self:
        """Return these rows, in this order."""
        return replace(
            self,
            videos=tuple(self.videos[index] for index in indices),
            groups=tuple(self.groups[index] for index in indices),
            targets=tuple(self.targets[index] for index in indices),
            outputs=self.outputs[list(indices)],
        )

    def tables(self, resampling: Resampling) -> list[Table]:
        """Return the tables of the task, with the names of videos in rows about one."""
        tables = self.task.tables(self.targets, self.outputs, resampling)
        return [table.with_names(self.videos) for table in tables]

    def write_csv(self, path: Path) -> None:
        """Write one row a video: video, group, and ``Task.prediction_cells``."""
        rows = (
            {"video": video, "group": group, **self.task.prediction_cells(target, output)}
            for video, group, target, output in zip(
                self.videos, self.groups, self.targets, self.outputs, strict=True
            )
        )
        first = next(rows)
        write_table_csv(path, list(first), chain([first], rows))

    @classmethod
    def read_csv(cls, path: Path, *, task_type: str) -> Self:
        """Read a file of ``write_csv``.

        Raises:
            PipelineError: the file is missing or is not a table of predictions.
        """
        try:
            rows = read_table_csv(path)
        except FileNotFoundError:
            raise PipelineError(f"{path}: no such file. Run: dvc repro evaluate") from None
        if not rows:
            raise PipelineError(
                f"{path}: expected at least one row of predictions. Received: none. "
                "Run: dvc repro evaluate"
            )
        n_columns = sum(column is not None for column in rows[0])
        for line, row in enumerate(rows, start=2):
            # DictReader puts extra cells under None, and None into missing cells.
            if None in row or None in row.values():
                raise PipelineError(
                    f"{path}, line {line}: expected {n_columns} cells, as in the header. "
                    f"Received: {'more' if None in row else 'fewer'}. Run: dvc repro evaluate"
                )
        if not rows[0].keys() >= set(_VIDEO_COLUMNS):
            raise PipelineError(
                f"{path}: expected the columns {', '.join(_VIDEO_COLUMNS)}. "
                f"Received: {', '.join(rows[0])}. Run: dvc repro evaluate"
            )
        task, targets, outputs = task_class(task_type).read_predictions(
            [
                {column: cell for column, cell in row.items() if column not in _VIDEO_COLUMNS}
                for row in rows
            ],
            where=str(path),
        )
        try:
            return cls(
                videos=tuple(row["video"] for row in rows),
                groups=tuple(row["group"] for row in rows),
                targets=tuple(targets),
                outputs=outputs,
                task=task,
            )
        except PipelineError as error:
            raise PipelineError(f"{path}: {error}") from None


def predict_videos(
    model: "keras.Model",
    clips: "ClipArrays",
    task: Task,
    *,
    frame_order: "FrameOrder | None" = None,
) -> Predictions:
    """Predict the clips of every video and combine their outputs with ``task``.

    Args:
        frame_order: order of the real frames of each clip; as they are by default. The answers for
            frames are put back into the order of the frames.

    Raises:
        PipelineError: a clip has no real frame, or an output is invalid.
    """
    from pipeline.model.prediction import predict_arrays, restore_order

    outputs = predict_arrays(model, clips, frame_order=frame_order)
    if frame_order is not None and task.answers_frames:
        outputs = restore_order(outputs, clips.masks(), frame_order)
    return predictions_of_clips(clips, task, outputs)


def predictions_of_clips(clips: "ClipArrays", task: Task, clip_outputs: Outputs) -> Predictions:
    """Combine outputs [clips, ...] for the clips of every video with ``task``."""
    videos = clips.chosen(clips.first_of_videos())
    text = targets_of(task.type)
    return Predictions(
        videos=tuple(videos.names),
        groups=tuple(videos.groups),
        targets=tuple(text.of_video(target) for target in videos.targets),
        outputs=task.combine_clips(clip_outputs, clips.video_numbers()),
        task=task,
    )


def pool(parts: Sequence[Predictions]) -> Predictions:
    """Join predictions of different videos, sorted by video.

    The task is that of the first part. If the tasks differ, it is their union, without calibration.
    """
    task = parts[0].task
    if any(part.task != task for part in parts):
        for part in parts[1:]:
            task = task.union(part.task)
        task = task.without_calibration()
        parts = [
            replace(part, outputs=part.task.convert(part.outputs, task), task=task)
            for part in parts
        ]
    joined = Predictions(
        videos=tuple(video for part in parts for video in part.videos),
        groups=tuple(group for part in parts for group in part.groups),
        targets=tuple(target for part in parts for target in part.targets),
        outputs=join_outputs([part.outputs for part in parts]),
        task=task,
    )
    return joined.rows(sorted(range(len(joined.videos)), key=joined.videos.__getitem__))


def without(predictions: Predictions | None, videos: Collection[str]) -> Predictions | None:
    """Return the predictions without those of ``videos``; None when none is left."""
    if predictions is None:
        return None
    kept = [index for index, video in enumerate(predictions.videos) if video not in videos]
    return predictions.rows(kept) if kept else None


def on_same_videos(a: Predictions, b: Predictions) -> tuple[Predictions, Predictions]:
    """Return the predictions of both for their common videos, in the order of ``b``.

    Rows with the same name are paired in their order; they are left out when the two sides have
    different numbers of them. Targets and groups are those of ``b``, so that a corrected target
    counts for both. The task of both is the union of the two tasks.

    Raises:
        PipelineError: there is no common video.
    """
    rows_a, rows_b = _rows_by_video(a), _rows_by_video(b)
    pairs = [
        pair
        for video, rows in rows_b.items()
        if len(rows_a[video]) == len(rows)
        for pair in zip(rows_a[video], rows, strict=True)
    ]
    if not pairs:
        raise PipelineError(
            "Expected predictions of the same videos. Received: "
            f"{len(a.videos)} videos such as {a.videos[0]}, and {len(b.videos)} such as "
            f"{b.videos[0]}; no video is in both."
        )
    pairs.sort(key=lambda pair: pair[1])
    chosen_a, chosen_b = (list(rows) for rows in zip(*pairs, strict=True))
    task, common_b = b.task.union(a.task), b.rows(chosen_b)
    return (
        replace(common_b, outputs=a.task.convert(a.outputs[chosen_a], task), task=task),
        replace(common_b, outputs=b.task.convert(common_b.outputs, task), task=task),
    )


def _rows_by_video(predictions: Predictions) -> dict[str, list[int]]:
    rows: dict[str, list[int]] = defaultdict(list)
    for row, video in enumerate(predictions.videos):
        rows[video].append(row)
    return rows

"""The interface of a task: everything that depends on the kind of target.

``learn`` creates a task from the targets of the training split, ``calibrate`` fits it on the
validation split, and ``task_from_json`` reads the task that was saved with the model. A method
that is not abstract has a default for tasks without that feature.
"""
# ruff: noqa: ARG002  (a default ignores its arguments)

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pipeline.common.bootstrap import Interval, ResampledScore, Resampling, Score
from pipeline.common.errors import PipelineError
from pipeline.common.tables import count_of, shorten_list
from pipeline.tasks.settings import TaskSection

if TYPE_CHECKING:  # the command line imports this module and must start fast
    import keras
    import tensorflow as tf

    from pipeline.common.charts import Chart

_TEMPERATURES = np.geomspace(0.25, 8.0, 22)

StreamOutput: TypeAlias = "keras.KerasTensor | Sequence[keras.KerasTensor]"  # one stream
Outputs = NDArray[np.float64]  # [N, ...], outputs of the model for N clips or N videos
ScalarType = Literal["string", "double", "boolean", "strings", "doubles", "string to double"]
AnswerType = ScalarType | Mapping[str, ScalarType]  # a mapping: a list of objects with these fields


class Limit(NamedTuple):
    """An absolute check of the gate.

    kind: ``min`` if lower values are refused, ``max`` if higher ones are.
    default: the limit where ``promote.limits`` gives none.
    """

    kind: Literal["min", "max"]
    default: float


class ClipFeatures(NamedTuple):
    """The features that a head reads.

    clip: [B, G], features of each clip.
    steps: [B, T, S], states of the last recurrent layer, or frame features without one; zeros
        for padding. None unless ``Task.reads_steps``.
    mask: bool [B, T], True for a real frame, right-padded.
    """

    clip: "keras.KerasTensor"
    steps: "keras.KerasTensor | None"
    mask: "keras.KerasTensor"


@dataclass(frozen=True)
class Table:
    """A table of an evaluation: ``eval/tables/<name>.csv`` and a table of the review.

    A column with the columns ``<column>_low`` and ``<column>_high`` is shown with its interval.

    Attributes:
        shown: number of rows, the first ones, that reports show.
        videos: index of the video of each row; empty if a row is not about one video.
    """

    name: str
    title: str
    columns: Sequence[str]
    rows: Sequence[Mapping[str, str]]
    shown: int = 100
    videos: Sequence[int] = ()

    def with_names(self, names: Sequence[str]) -> "Table":
        """Return the table with the name of the video of each row in the first column."""
        if not self.videos:
            return self
        rows = [
            {"video": names[index], **row}
            for index, row in zip(self.videos, self.rows, strict=True)
        ]
        return replace(self, columns=("video", *self.columns), rows=rows)


@dataclass(frozen=True)
class LimitedValue:
    """A number that the gate compares with ``promote.limits``.

    Attributes:
        name: such as ``recall of run`` or ``calibration error``.
        value, interval: None when no test video shows it.
        videos, groups: number that it rests on.
    """

    name: str
    value: float | None
    interval: Interval | None
    videos: int
    groups: int

    @property
    def text(self) -> str:
        """The measurement, such as ``recall of run 0.800 [0.444, 0.975] on 10 videos``."""
        on_videos = f"on {count_of(self.videos, 'video')}"
        if self.value is None or self.interval is None:
            return f"{self.name} unknown {on_videos}"
        low, high = self.interval
        return f"{self.name} {self.value:.3f} [{low:.3f}, {high:.3f}] {on_videos}"


class BaselineClips(NamedTuple):
    """Clips as a baseline reads them.

    targets: of each of the N clips, as text.
    mask: bool [N, T], True for a real frame, right-padded.
    features: returns float32 [N, T, F], the features of each frame that the layers over time of
        the trained model read, zeros for padding.
    video_targets: target of each video, once, whatever the number of its clips.
    """

    targets: Sequence[str]
    mask: NDArray[np.bool_]
    features: Callable[[], NDArray[np.float32]]
    video_targets: Sequence[str]


class Guess(NamedTuple):
    """A line under a film strip: an answer, its score, and whether it is the target."""

    text: str
    score: float
    is_target: bool


@dataclass(frozen=True)
class LabelIssue:
    """A target that the outputs contradict.

    Attributes:
        index: of the target.
        suggested: the answer that the outputs suggest, as text.
        quality: 0 (certainly wrong) to 1 (certainly right).
    """

    index: int
    suggested: str
    quality: float


class Task(ABC):
    """The kind of target that a model predicts, and what was learnt about the targets.

    Attributes:
        type: value of ``task.type``.
        reads_steps: whether ``head`` reads ``ClipFeatures.steps``.
        answers_frames: whether outputs are [N, T, ...], an answer for each frame. A timeline then
            has one segment a frame.
        training_metric: name of the metric of ``metrics`` that training curves show.
        headline_metrics: keys of ``resampled_scores`` that are shown first.
        compared_metrics: keys of ``resampled_scores`` that compare two models; the first is the
            default of the gate.
        lower_is_better: keys of ``resampled_scores``; a lower value is better.
        limits: what the gate limits, keys of ``promote.limits``.
        calibrated_metrics: keys of ``resampled_scores`` that are also reported without calibration.
        video_score: name of the mean of ``video_scores``; a key of ``scores``.
        baselines: what each key of ``baseline_outputs`` predicts, for readers.
        headline_chart: name of the chart that reports show first; see ``charts``.
        metric_descriptions: meaning of each key of ``scores``, in the order of the review.
        answer_types: fields of ``answer`` for the model signature.
        segment_fields: the fields of ``answer`` that a timeline segment has.
    """

    type: ClassVar[str]
    reads_steps: ClassVar[bool] = False
    answers_frames: ClassVar[bool] = False
    training_metric: ClassVar[str]
    headline_metrics: ClassVar[tuple[str, ...]]
    compared_metrics: ClassVar[tuple[str, ...]]
    lower_is_better: ClassVar[frozenset[str]] = frozenset()
    limits: ClassVar[Mapping[str, Limit]] = {}
    calibrated_metrics: ClassVar[tuple[str, ...]] = ()
    video_score: ClassVar[str]
    baselines: ClassVar[Mapping[str, str]] = {}
    headline_chart: ClassVar[str] = ""
    metric_descriptions: ClassVar[Mapping[str, str]] = {}
    answer_types: ClassVar[Mapping[str, AnswerType]]
    segment_fields: ClassVar[tuple[str, ...]]

    # Learnt from the training split, and saved as JSON.

    @classmethod
    @abstractmethod
    def learn(cls, targets: Sequence[str], section: TaskSection) -> Self:
        """Learn about the targets of the training videos, such as the class names.

        Args:
            targets: ``ClipArrays.video_targets`` of the training split.
        """

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """Return the JSON object that ``from_json`` reads, without ``type``."""

    @classmethod
    @abstractmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read the result of ``to_json``."""

    def summary(self) -> str:
        """Describe the targets in one line, such as ``4 classes: left, right, up, down``."""
        return self.type

    # Training.

    def check_targets(self, targets: Sequence[str]) -> None:
        """Refuse targets of videos that the model does not know.

        Raises:
            PipelineError: a target is unknown.
        """
        self.encode(targets)

    @abstractmethod
    def encode(self, targets: Sequence[str]) -> NDArray[Any]:
        """Return the array [N, ...] that the loss compares outputs with.

        Raises:
            PipelineError: a target is unknown.
        """

    @property
    def mirror_names(self) -> Sequence[str]:
        """Return the names that ``flip_swaps`` may swap, in the order of their indices."""
        return ()

    def check_mirror(self, swaps: Sequence[Sequence[str]]) -> None:
        """Refuse ``train.augmentation.flip_swaps`` that the targets do not have.

        Raises:
            PipelineError: a name is unknown, or the task has no names.
        """
        unknown = [name for pair in swaps for name in pair if name not in self.mirror_names]
        if unknown:
            names = shorten_list(list(self.mirror_names))
            expected = f"pairs of {names}" if names else f"[], because task.type is {self.type}"
            raise PipelineError(
                f"params.yaml: train.augmentation.flip_swaps: expected {expected}. "
                f"Received: {unknown[0]}. Correct the names."
            )

    def mirrored(self, target: "tf.Tensor", swaps: Sequence[Sequence[str]]) -> "tf.Tensor":
        """Return the target of a clip mirrored left to right."""
        return target

    def mirrored_order(self, swaps: Sequence[Sequence[str]]) -> list[int]:
        """Return the index of each of ``mirror_names`` after the swaps."""
        order = list(range(len(self.mirror_names)))
        for pair in swaps:
            one, other = (list(self.mirror_names).index(name) for name in pair)
            order[one], order[other] = other, one
        return order

    @abstractmethod
    def stream_head(self, features: ClipFeatures) -> StreamOutput:
        """Return what one stream contributes to the outputs, such as logits [B, C], float32."""

    @abstractmethod
    def head(
        self, streams: Mapping[str, StreamOutput], mask: "keras.KerasTensor"
    ) -> "keras.KerasTensor":
        """Fuse the streams; return the outputs [B, ...] of the model, float32 in every precision.

        Args:
            streams: ``stream_head`` of each stream, by name.
            mask: bool [B, T], True for a real frame, right-padded.
        """

    def training_model(self, model: "keras.Model") -> "keras.Model":
        """Return the model that is fitted, with the layers of ``model`` and perhaps more inputs.

        Its output, before activations, is what ``loss`` reads. With several streams it is a dict:
        the output of each stream by name, which has a loss of its own, and ``fused``.

        Args:
            model: ends with ``head``; reads frames or frame features.
        """
        from pipeline.tasks.heads import training_model

        return training_model(model)

    def training_example(
        self, inputs: "dict[str, tf.Tensor]", target: "tf.Tensor", seed: "tf.Tensor"
    ) -> "tuple[dict[str, tf.Tensor], tf.Tensor]":
        """Return the inputs of ``training_model`` and the target for the loss, of one clip.

        Args:
            inputs: of the model.
            target: a row of ``encode``.
            seed: int32 [2], for random choices; another one in each epoch.
        """
        return inputs, target

    @abstractmethod
    def loss(
        self, *, label_smoothing: float, balanced_on: NDArray[Any] | None = None
    ) -> "keras.losses.Loss":
        """Return the loss of encoded targets and outputs of ``training_model``.

        Args:
            label_smoothing: ``train.label_smoothing``.
            balanced_on: encoded targets of the training clips for ``train.class_weights:
                balanced``; None for equal weights.

        Raises:
            PipelineError: the task has no such loss.
        """

    @abstractmethod
    def metrics(self) -> "list[keras.metrics.Metric]":
        """Return the metrics of training, ``training_metric`` among them.

        They read the outputs of ``training_model``, as the loss does.
        """

    # After training.

    def fusion_loss(self, encoded: NDArray[Any], outputs: "tf.Tensor") -> float:
        """Return the mean negative log-likelihood, by which the weights of streams are fitted.

        It is the lowest one of all temperatures, because only the ratio of the weights is fitted
        here: fused outputs get a temperature, or thresholds, later.

        Args:
            encoded: targets of clips for the loss; see ``training_example``.
            outputs: fused outputs of ``training_model`` for the clips.
        """
        loss = self.loss(label_smoothing=0.0)
        return min(float(loss(encoded, outputs / value)) for value in _TEMPERATURES)

    def calibrate(
        self,
        model: "keras.Model",
        outputs: Outputs,
        targets: Sequence[str],
        videos: NDArray[np.int64],
    ) -> Self:
        """Calibrate the model on validation videos, and return the calibrated task.

        Args:
            model: changed in place.
            outputs: of the uncalibrated model for validation clips.
            targets: of the validation videos.
            videos: int64 [clips], the number of the video of each clip.
        """
        return self

    def without_calibration(self) -> Self:
        """Return the task as before ``calibrate``."""
        return self

    def calibration(self, model: "keras.Model") -> dict[str, float]:
        """Return the calibration parameters, such as ``{"temperature": 1.2}``."""
        return {}

    def uncalibrated(self, model: "keras.Model") -> AbstractContextManager[None]:
        """Undo the calibration of ``model`` within a ``with`` block."""
        return nullcontext()

    def combine_clips(self, outputs: Outputs, videos: NDArray[np.int64]) -> Outputs:
        """Return the outputs of videos, float64 [videos, ...]: the mean over their clips.

        Args:
            outputs: float64 [clips, ...].
            videos: int64 [clips], the number of the video of each clip; every number from 0 up
                to the largest occurs.
        """
        return mean_by_video(outputs, videos)

    # Scores.

    def find_invalid(self, outputs: Outputs) -> tuple[int, str] | None:
        """Return the index of the first invalid output and the reason, or None."""
        is_finite = np.isfinite(outputs).reshape(len(outputs), -1).all(axis=1)
        if is_finite.all():
            return None
        return int(np.argmin(is_finite)), "expected finite numbers. Received: NaN or infinity"

    @abstractmethod
    def terms(self, targets: Sequence[str], outputs: Outputs) -> NDArray[np.float64]:
        """Return per-video terms float64 [N, K]; ``scores`` is a function of their sums."""

    @abstractmethod
    def scores(self, sums: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """Return an array [...] for each score from sums of terms [..., K]; NaN: undefined."""

    @abstractmethod
    def video_scores(self, targets: Sequence[str], outputs: Outputs) -> NDArray[np.float64]:
        """Return float64 [N]: the score of each output, 0 (wrong) to 1 (correct)."""

    def score_weights(self, targets: Sequence[str]) -> dict[str, NDArray[np.float64]]:
        """Return the weight of each video, float64 [N] with sum 1, in scores from 0 to 1.

        A score that is not named is unbounded. The intervals of the others need the weights: the
        mean recall of two classes, one of them with one video, rests on few videos.
        """
        return {self.video_score: np.full(len(targets), 1 / len(targets))}

    def resampled_scores(
        self, targets: Sequence[str], outputs: Outputs, resampling: Resampling
    ) -> dict[str, ResampledScore]:
        """Return each score, also of the resampled test sets.

        To add a score that is not a function of sums, such as average precision, extend the result.
        """
        terms = self.terms(targets, outputs)
        resampled = self.scores(resampling.sums(terms))
        return {
            name: ResampledScore(float(value), resampled[name])
            for name, value in self.scores(terms.sum(axis=0)).items()
        }

    def scores_with_intervals(
        self, targets: Sequence[str], outputs: Outputs, resampling: Resampling
    ) -> dict[str, Score]:
        """Return ``resampled_scores`` with their intervals."""
        weights = self.score_weights(targets)
        return {
            name: Score(
                value,
                resampling.bounded_interval(value, resampled, weights[name])
                if name in weights
                else resampling.interval(resampled),
            )
            for name, (value, resampled) in self.resampled_scores(
                targets, outputs, resampling
            ).items()
        }

    def other_scores(
        self, targets: Sequence[str], outputs: Outputs, resampling: Resampling
    ) -> dict[str, Score]:
        """Return other scores, which do not compare two models, such as coverage."""
        return {}

    def tables(
        self, targets: Sequence[str], outputs: Outputs, resampling: Resampling
    ) -> list[Table]:
        """Return the tables of an evaluation."""
        return []

    def charts(
        self, targets: Sequence[str], outputs: Outputs, videos: Sequence[str]
    ) -> "list[Chart]":
        """Return the charts of an evaluation; each becomes ``eval/plots/<name>.png``.

        Args:
            videos: name of each video.
        """
        return []

    def baseline_outputs(self, train: BaselineClips, test: BaselineClips) -> dict[str, Outputs]:
        """Return the outputs [test clips, ...] of each of ``baselines``."""
        return {}

    def length_baseline(
        self, frames: NDArray[np.int64], targets: Sequence[str], groups: Sequence[str]
    ) -> NDArray[np.float64] | None:
        """Return the video scores of a model that sees clip lengths only, cross-validated.

        Args:
            frames: int64 [clips], number of real frames.

        Returns:
            float64 [clips], NaN for a clip without a target; None when the task has no such
            baseline.
        """
        return None

    def constant_baseline(self, targets: Sequence[str]) -> float:
        """Return the mean video score of the best constant answer."""
        return 0.0

    def label_issues(self, targets: Sequence[str], outputs: Outputs) -> list[LabelIssue] | None:
        """Return doubtful targets, the most doubtful first; None without such a method."""
        return None

    # Two models, perhaps with other targets.

    def gain_unit(self, metric: str) -> float:
        """Return the size of a gain that ``promote.min_gain`` counts as 1."""
        return 1.0

    def union(self, other: "Task") -> Self:
        """Return a task with the targets of both, those of this task first."""
        return self

    def convert(self, outputs: Outputs, wanted: "Task") -> Outputs:
        """Return the outputs in the form of ``wanted``, a union with this task."""
        return outputs

    def limited_values(
        self, targets: Sequence[str], outputs: Outputs, resampling: Resampling
    ) -> dict[str, list[LimitedValue]]:
        """Return what each key of ``limits`` limits, such as the recalls of all classes.

        Each list has at least one value. Those that no test video shows are first, then the worst.
        """
        return {}

    # Predictions as text, and the review.

    @abstractmethod
    def prediction_cells(self, target: str, output: Outputs) -> dict[str, str]:
        """Return the cells of a row of predictions.csv, the same columns for every row."""

    @classmethod
    @abstractmethod
    def read_predictions(
        cls, rows: Sequence[Mapping[str, str]], *, where: str
    ) -> tuple[Self, list[str], Outputs]:
        """Read task, targets and outputs from rows of ``prediction_cells``.

        Args:
            where: name of the file, for messages.

        Raises:
            PipelineError: a column is missing or a cell is not valid.
        """

    def confidence(self, outputs: Outputs) -> NDArray[np.float64]:
        """Return float64 [N]: a confidence by which outputs can be ordered."""
        return np.zeros(len(outputs))

    def margins(self, outputs: Outputs) -> NDArray[np.float64] | None:
        """Return float64 [N]: how clear each answer is, such as its lead over the second best.

        None for a task whose outputs do not show it.
        """
        return None

    def explained_outputs(self, outputs: Outputs) -> NDArray[np.int64]:
        """Return int64 [N]: what Grad-CAM explains for each video.

        It is an index of the last axis of the outputs, which are summed over the axes before.
        """
        return np.zeros(len(outputs), np.int64)

    def shown_clip(self, outputs: Outputs, explained: int) -> int:
        """Return the index of the clip that the review shows of a video with several clips.

        Args:
            outputs: [clips, ...], of the clips of the video.
            explained: ``explained_outputs`` of the video; by default, the clip with the largest
                value of this output is shown.
        """
        by_output = outputs.reshape(len(outputs), -1, outputs.shape[-1]).sum(axis=1)
        return int(by_output[:, explained].argmax())

    def guesses(self, target: str, output: Outputs) -> list[Guess]:
        """Return the lines under a film strip, the best answer first."""
        return []

    def frame_labels(self, target: str, output: Outputs) -> tuple[list[str], list[str]] | None:
        """Return the actual and the predicted label of each frame of a video; empty: none.

        None for a task with ``answers_frames`` False.
        """
        return None

    # Serving.

    @abstractmethod
    def answer(self, output: Outputs, *, top_k: int) -> dict[str, Any]:
        """Return the JSON answer of a server for a video or a timeline segment.

        Args:
            output: of one video.
            top_k: number of classes to name; 0 for all.
        """

    def shift_seconds(self, answer: dict[str, Any], seconds: float) -> dict[str, Any]:
        """Return the answer with ``seconds`` added to its times."""
        return answer

    def is_confident(self, output: Outputs) -> bool | None:
        """Return whether the confidence reaches the fitted threshold; None without one."""
        return None

    @abstractmethod
    def answer_line(self, answer: Mapping[str, Any], *, shown: int) -> list[str]:
        """Return an answer as at most ``shown`` cells, and one that counts the others."""

    @abstractmethod
    def answer_cells(self, answer: Mapping[str, Any]) -> dict[str, str]:
        """Return the cells of an answer in a csv file."""

    @classmethod
    @abstractmethod
    def outputs_from_answers(
        cls, answers: Sequence[Mapping[str, Any]], targets: Sequence[str]
    ) -> tuple[Self, Outputs]:
        """Return task and outputs from full answers; targets unknown to the model are added.

        Raises:
            PipelineError: the answers are not valid outputs.
        """


def mean_by_video(outputs: Outputs, videos: NDArray[np.int64]) -> Outputs:
    """Return the mean of the outputs of each video; see ``Task.combine_clips``."""
    clips = np.bincount(videos)
    sums = np.zeros((len(clips), *outputs.shape[1:]))
    np.add.at(sums, videos, outputs)
    return sums / clips.reshape(-1, *[1] * (outputs.ndim - 1))


def join_outputs(parts: Sequence[Outputs]) -> Outputs:
    """Concatenate outputs [n, ...] of videos; shorter ones are padded with zeros on the right."""
    shape = np.max([part.shape[1:] for part in parts], axis=0).astype(int)
    joined = np.zeros((sum(map(len, parts)), *shape))
    row = 0
    for part in parts:
        joined[(slice(row, row + len(part)), *map(slice, part.shape[1:]))] = part
        row += len(part)
    return joined


# Imported when needed: data stages and the command line start without TensorFlow.
_MODULES = {
    "caption": ("pipeline.tasks.caption", "Caption"),
    "classification": ("pipeline.tasks.classification", "Classification"),
    "multilabel": ("pipeline.tasks.multilabel", "Multilabel"),
    "regression": ("pipeline.tasks.regression", "Regression"),
    "frames": ("pipeline.tasks.frames", "Frames"),
}
_REGISTERED: dict[str, type[Task]] = {}


def task_class(task_type: str) -> type[Task]:
    """Return the class of a value of ``task.type``."""
    if task_type not in _REGISTERED:
        module, name = _MODULES[task_type]
        _REGISTERED[task_type] = getattr(import_module(module), name)
    return _REGISTERED[task_type]


def register_task(task: type[Task]) -> None:
    """Register a task that is defined outside this package."""
    _REGISTERED[task.type] = task


def task_to_json(task: Task) -> dict[str, Any]:
    """Return the JSON object that ``task_from_json`` reads."""
    return {"type": task.type, **task.to_json()}


def task_from_json(value: Mapping[str, Any]) -> Task:
    """Read the result of ``task_to_json``."""
    content = {key: item for key, item in value.items() if key != "type"}
    return task_class(value["type"]).from_json(content)

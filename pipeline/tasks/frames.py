"""A label for each frame. Outputs are class probabilities [N, T, C], zeros for padding.

The clips of a video cover it without overlap. ``combine_clips`` joins their real frames, so an
output of a video has a row for each frame of the decode rate; shorter videos are padded with zeros.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from pipeline.common.bootstrap import Resampling
from pipeline.common.errors import PipelineError
from pipeline.common.tables import count_of, shorten_list
from pipeline.tasks.intervals import (
    Interval,
    LabelledIntervals,
    read_clip_text,
    read_intervals,
    runs,
)
from pipeline.tasks.settings import TaskSection
from pipeline.tasks.task import (
    AnswerType,
    BaselineClips,
    ClipFeatures,
    Guess,
    Limit,
    LimitedValue,
    Outputs,
    StreamOutput,
    Table,
    Task,
    join_outputs,
)

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from pipeline.common.charts import Chart
    from pipeline.tasks.frame_scores import ScoredVideo

logger = logging.getLogger(__name__)

UNLABELLED = -1  # as a class index; also padding

# A real frame has probabilities with the sum 1, up to the rounding of float32; padding has zeros.
_SUM_TOLERANCE = 1e-4

_PROBABILITY_PREFIX = "p_"  # of the columns of predictions.csv with class probabilities
_COLUMNS = ("actual", "predicted", "accuracy", "fps")  # of predictions.csv
_MAX_GUESSES = 6  # under a film strip
_MAX_BASELINE_FRAMES = 20_000  # on which the linear baseline is fitted


@dataclass(frozen=True)
class Frames(Task):
    """A label for each frame.

    Attributes:
        class_names: length C, in the order of the outputs.
        fps: frames per second of video that the outputs are for.
    """

    type: ClassVar[str] = "frames"
    reads_steps: ClassVar[bool] = True
    answers_frames: ClassVar[bool] = True
    training_metric: ClassVar[str] = "frame_accuracy"
    headline_metrics: ClassVar[tuple[str, ...]] = ("f1_50", "frame_accuracy")
    compared_metrics: ClassVar[tuple[str, ...]] = (
        "f1_50",
        "edit",
        "frame_accuracy",
        "macro_f1",
        "log_loss",
    )
    calibrated_metrics: ClassVar[tuple[str, ...]] = ("log_loss",)
    lower_is_better: ClassVar[frozenset[str]] = frozenset({"log_loss", "log_loss_uncalibrated"})
    limits: ClassVar[Mapping[str, Limit]] = {"class_recall": Limit("min", 0.5)}
    video_score: ClassVar[str] = "video_accuracy"
    headline_chart: ClassVar[str] = "timelines"
    baselines: ClassVar[Mapping[str, str]] = {
        "most_frequent": "the proportions of the classes among the labelled training frames",
        "cnn_alone": "each frame from its own features, by a linear model on the trained CNN",
    }
    metric_descriptions: ClassVar[Mapping[str, str]] = {
        "f1_50": "F1 of segments, matched from an intersection over union of 0.5",
        "f1_25": "F1 of segments, matched from 0.25",
        "f1_10": "F1 of segments, matched from 0.1",
        "edit": "1 - edit distance of the sequences of segments / length of the longer one, mean "
        "over the videos",
        "frame_accuracy": "proportion of labelled frames whose most probable class is correct",
        "macro_f1": "mean F1 of the classes, by frames",
        "log_loss": "mean of -ln(probability of the actual class of a frame); lower is better",
        "video_accuracy": "mean over the videos of their frame accuracy",
        "temperature": "divisor of the logits, fitted on the validation videos",
        "log_loss_uncalibrated": "log loss at temperature 1",
        "video_accuracy_frames_shuffled": "video accuracy with the frames of each clip shuffled",
        "video_accuracy_length_only": "accuracy of a model that predicts one class for a clip from "
        "its number of frames",
    }
    answer_types: ClassVar[Mapping[str, AnswerType]] = {
        "segments": {
            "start_seconds": "double",
            "end_seconds": "double",
            "label": "string",
            "confidence": "double",
        },
        "probabilities": "string to double",
    }
    segment_fields: ClassVar[tuple[str, ...]] = ("probabilities",)

    class_names: tuple[str, ...]
    fps: float

    # Learnt from the training split, and saved as JSON.

    @classmethod
    def learn(cls, targets: Sequence[str], section: TaskSection) -> Self:  # noqa: ARG003
        """Learn the class names, sorted, and the frames per second."""
        labels = {label for target in targets for label in read_intervals(target).labels}
        clip = read_clip_text(targets[0])
        assert clip is not None, "targets of clips"
        return cls(tuple(sorted(labels)), clip[0].fps)

    def to_json(self) -> dict[str, Any]:
        return {"class_names": list(self.class_names), "fps": self.fps}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        return cls(tuple(value["class_names"]), value["fps"])

    def summary(self) -> str:
        names = shorten_list(self.class_names, shown=10)
        n_classes = count_of(len(self.class_names), "class", "classes")
        return f"a label for each frame at {self.fps:g} fps, {n_classes}: {names}"

    # Training.

    def check_targets(self, targets: Sequence[str]) -> None:
        labels = {label for target in targets for label in read_intervals(target).labels}
        if unknown := sorted(labels - set(self.class_names)):
            raise PipelineError(
                f"Label {unknown[0]!r} is unknown to the model. Expected one of "
                f"{shorten_list(self.class_names)}. Run: dvc repro"
            )

    def encode(self, targets: Sequence[str]) -> NDArray[np.int64]:
        """Return int64 [N, T]: the class of each frame of a clip, -1 where it has no label."""
        self.check_targets(targets)
        rows = []
        for target in targets:
            content = read_clip_text(target)
            assert content is not None, "targets of clips"
            clip, _ = content
            row = np.full(clip.length, UNLABELLED, np.int64)
            row[: len(clip.frames)] = self._classes(target, clip.frames)
            rows.append(row)
        return np.stack(rows)

    @property
    def mirror_names(self) -> tuple[str, ...]:
        return self.class_names

    def mirrored(self, target: "tf.Tensor", swaps: Sequence[Sequence[str]]) -> "tf.Tensor":
        import tensorflow as tf

        classes = [*self.mirrored_order(swaps), UNLABELLED]  # -1 is the last index
        return tf.gather(tf.constant(classes, tf.int64), target % len(classes))

    def stream_head(self, features: ClipFeatures) -> "keras.KerasTensor":
        """Return logits of each frame, float32 [B, T, C]."""
        from pipeline.tasks.heads import class_logits

        return class_logits(features.steps, len(self.class_names))

    def head(
        self, streams: Mapping[str, StreamOutput], mask: "keras.KerasTensor"
    ) -> "keras.KerasTensor":
        """Return class probabilities float32 [B, T, C], zeros for padding."""
        from pipeline.tasks.heads import frame_probabilities, fuse

        return frame_probabilities(fuse(streams), mask)

    def loss(
        self, *, label_smoothing: float, balanced_on: NDArray[Any] | None = None
    ) -> "keras.losses.Loss":
        """Return the mean cross-entropy of the labelled frames of a batch.

        Balanced: a class has the weight N / (C x number of its frames), of N labelled frames.
        """
        from pipeline.tasks.heads import FrameCrossentropy

        weights = np.ones(len(self.class_names))
        if balanced_on is not None:
            counts = np.bincount(balanced_on[balanced_on >= 0], minlength=len(weights))
            weights = counts.sum() / (len(weights) * np.maximum(counts, 1))
        return FrameCrossentropy(weights.tolist(), label_smoothing)

    def metrics(self) -> "list[keras.metrics.Metric]":
        from pipeline.tasks.heads import FrameAccuracy

        return [FrameAccuracy(name=self.training_metric)]

    # After training.

    def calibrate(
        self,
        model: "keras.Model",
        outputs: Outputs,
        targets: Sequence[str],
        videos: NDArray[np.int64],
    ) -> Self:
        """Fit the temperature of ``model`` on the labelled frames."""
        from pipeline.tasks.calibration import fit_temperature
        from pipeline.tasks.heads import set_temperature

        scored = self._videos(targets, self.combine_clips(outputs, videos))
        probabilities = np.concatenate([video.probabilities[video.labels >= 0] for video in scored])
        labels = np.concatenate([video.labels[video.labels >= 0] for video in scored])
        temperature = fit_temperature(probabilities, labels, np.arange(len(labels)))
        set_temperature(model, temperature)
        logger.info("temperature %.3f", temperature)
        return self

    def calibration(self, model: "keras.Model") -> dict[str, float]:
        from pipeline.tasks.heads import temperature_of

        return {"temperature": temperature_of(model)}

    def uncalibrated(self, model: "keras.Model") -> AbstractContextManager[None]:
        from pipeline.tasks.heads import without_temperature

        return without_temperature(model)

    def combine_clips(self, outputs: Outputs, videos: NDArray[np.int64]) -> Outputs:
        """Join the real frames of the clips of each video: float64 [videos, longest video, C]."""
        parts: list[list[Outputs]] = [[] for _ in range(videos.max() + 1)]
        for output, video in zip(outputs, videos.tolist(), strict=True):
            parts[video].append(_real(output))
        return join_outputs([np.concatenate(frames)[None] for frames in parts])

    # Scores.

    def find_invalid(self, outputs: Outputs) -> tuple[int, str] | None:
        for index, output in enumerate(outputs):
            frames = output[: max(1, len(_real(output)))]
            sums = frames.sum(axis=1)
            # Comparisons with NaN are False.
            is_valid = (frames >= 0).all(axis=1) & (np.abs(sums - 1) <= _SUM_TOLERANCE)
            if not is_valid.all():
                first = int(np.argmin(is_valid))
                values = [f"{value:.6g}" for value in frames[first]]
                return index, (
                    f"frame {first}: expected probabilities between 0 and 1 with a sum of 1. "
                    f"Received: {shorten_list(values)}. NaN means that the training diverged. "
                    "Lower train.learning_rate"
                )
        return None

    def terms(self, targets: Sequence[str], outputs: Outputs) -> NDArray[np.float64]:
        from pipeline.tasks.frame_scores import score_terms

        return score_terms(self._videos(targets, outputs))

    def scores(self, sums: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        from pipeline.tasks.frame_scores import scores_from_sums

        return scores_from_sums(sums)

    def video_scores(self, targets: Sequence[str], outputs: Outputs) -> NDArray[np.float64]:
        """Return the frame accuracy of each video."""
        return np.array([video.accuracy for video in self._videos(targets, outputs)])

    def score_weights(self, targets: Sequence[str]) -> dict[str, NDArray[np.float64]]:
        """Return equal weights or, for scores of frames and segments, by labelled seconds.

        They are equal if the labelled seconds depend on the unknown lengths of the videos.
        """
        equal = np.full(len(targets), 1 / len(targets))
        seconds = np.array([_labelled_seconds(target) for target in targets])
        by_length = seconds / seconds.sum() if np.isfinite(seconds).all() else equal
        by_frames = ("frame_accuracy", "macro_f1", "f1_10", "f1_25", "f1_50")
        return {
            **dict.fromkeys(("edit", "video_accuracy"), equal),
            **dict.fromkeys(by_frames, by_length),
        }

    def tables(
        self, targets: Sequence[str], outputs: Outputs, resampling: Resampling
    ) -> list[Table]:
        """Return the scores of each class, by frames."""
        from pipeline.tasks.class_tables import score_counts, scores_table
        from pipeline.tasks.frame_scores import class_counts

        counts = class_counts(self.terms(targets, outputs))
        scores = score_counts(*counts, resampling=resampling)
        return [scores_table(scores, counts[0].sum(axis=0), self.class_names)]

    def charts(
        self, targets: Sequence[str], outputs: Outputs, videos: Sequence[str]
    ) -> "list[Chart]":
        from pipeline.tasks.frame_charts import timelines_chart

        pairs = [
            self.frame_labels(target, output)
            for target, output in zip(targets, outputs, strict=True)
        ]
        scores = self.video_scores(targets, outputs)
        return [timelines_chart(videos, pairs, scores, self.class_names, fps=self.fps)]

    def baseline_outputs(self, train: BaselineClips, test: BaselineClips) -> dict[str, Outputs]:
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        labels = self.encode(train.targets)
        is_labelled = labels >= 0
        counts = np.bincount(labels[is_labelled], minlength=len(self.class_names))
        constant = np.zeros((*test.mask.shape, len(self.class_names)))
        constant[test.mask] = counts / counts.sum()
        chosen = np.flatnonzero(is_labelled)
        if len(chosen) > _MAX_BASELINE_FRAMES:
            chosen = chosen[np.linspace(0, len(chosen) - 1, _MAX_BASELINE_FRAMES).astype(int)]
        if len(np.unique(labels.ravel()[chosen])) == 1:  # such as in a fold of cross-validation
            return {"most_frequent": constant, "cnn_alone": constant}
        features = train.features()
        linear = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        linear.fit(features.reshape(-1, features.shape[-1])[chosen], labels.ravel()[chosen])
        by_frame = np.zeros_like(constant)
        probabilities = np.zeros((test.mask.sum(), len(self.class_names)))
        probabilities[:, linear.classes_] = linear.predict_proba(test.features()[test.mask])
        by_frame[test.mask] = probabilities
        return {"most_frequent": constant, "cnn_alone": by_frame}

    def length_baseline(
        self, frames: NDArray[np.int64], targets: Sequence[str], groups: Sequence[str]
    ) -> NDArray[np.float64]:
        """Predict the most frequent class of each clip from its length, for all of its frames.

        Clips without a labelled frame are not fitted; their score is NaN.
        """
        from pipeline.tasks.length_baseline import predict_from_lengths

        shares = self._class_shares(targets)
        chosen = np.flatnonzero(shares.any(axis=1))
        predicted = predict_from_lengths(
            frames[chosen],
            shares[chosen].argmax(axis=1),
            [groups[index] for index in chosen.tolist()],
        )
        scores = np.full(len(targets), np.nan)
        scores[chosen] = shares[chosen, predicted]
        return scores

    def constant_baseline(self, targets: Sequence[str]) -> float:
        """Return the mean proportion of labelled frames of the best single class."""
        shares = self._class_shares(targets)
        return float(shares[shares.any(axis=1)].mean(axis=0).max())

    # Two models, perhaps with different classes and frame rates.

    def union(self, other: Task) -> Self:
        """Add the classes of ``other`` that this task does not have."""
        assert isinstance(other, Frames)
        return replace(
            self, class_names=tuple(dict.fromkeys((*self.class_names, *other.class_names)))
        )

    def convert(self, outputs: Outputs, wanted: Task) -> Outputs:
        """Return the probabilities of the classes of ``wanted`` at its frame rate.

        At another rate, a frame has the probabilities of the frame that is shown at its time.
        """
        assert isinstance(wanted, Frames)
        indices = [wanted.class_names.index(name) for name in self.class_names]
        parts = []
        for output in outputs:
            real = _real(output)
            n_frames = max(1, round(len(real) * wanted.fps / self.fps))
            shown = (np.arange(n_frames) * self.fps / wanted.fps + 1e-6).astype(int)
            converted = np.zeros((1, n_frames, len(wanted.class_names)))
            converted[0, :, indices] = real[np.minimum(shown, len(real) - 1)].T
            parts.append(converted)
        return join_outputs(parts)

    def limited_values(
        self, targets: Sequence[str], outputs: Outputs, resampling: Resampling
    ) -> dict[str, list[LimitedValue]]:
        """Return the recall of each class, by frames."""
        from pipeline.tasks.class_tables import recall_values
        from pipeline.tasks.frame_scores import class_counts

        actual, _, both = class_counts(self.terms(targets, outputs))
        return {"class_recall": recall_values(actual, both, self.class_names, resampling)}

    # Predictions as text, and the review.

    def prediction_cells(self, target: str, output: Outputs) -> dict[str, str]:
        """Return actual and predicted intervals, accuracy, fps, and the probabilities as columns.

        ``p_<class>`` has a number for each frame, separated by spaces. Nine significant digits
        distinguish any two float32 numbers, so predicted classes are preserved.
        """
        accuracy = float(self.video_scores([target], output[None])[0])
        columns = [" ".join(f"{value:.9g}" for value in column) for column in _real(output).T]
        return {
            "actual": target,
            "predicted": _intervals_text(self.answer(output, top_k=0)["segments"]),
            "accuracy": f"{accuracy:.6f}",
            "fps": repr(self.fps),
            **{
                _PROBABILITY_PREFIX + name: column
                for name, column in zip(self.class_names, columns, strict=True)
            },
        }

    @classmethod
    def read_predictions(
        cls, rows: Sequence[Mapping[str, str]], *, where: str
    ) -> tuple[Self, list[str], Outputs]:
        """Read actual, fps and ``p_<class>``; the other columns follow from them."""
        columns = [column for column in rows[0] if column.startswith(_PROBABILITY_PREFIX)]
        if not columns or rows[0].keys() != {*_COLUMNS, *columns}:
            raise PipelineError(
                f"{where}: expected the columns {', '.join(_COLUMNS)} and "
                f"{_PROBABILITY_PREFIX}<class> for every class. Received: "
                f"{shorten_list(list(rows[0]))}"
            )
        names = tuple(column.removeprefix(_PROBABILITY_PREFIX) for column in columns)
        parts = []
        for line, row in enumerate(rows, start=2):
            try:
                read_intervals(row["actual"])
                by_class = [[float(text) for text in row[column].split()] for column in columns]
                parts.append(np.array(by_class, np.float64).T[None])
                fps = float(row["fps"])
                if not 0 < fps < math.inf:
                    raise ValueError(f"fps={row['fps']!r}")
            except ValueError as error:
                raise PipelineError(
                    f"{where}, line {line}: expected intervals, a positive number in fps, and a "
                    f"number for each frame in every column {_PROBABILITY_PREFIX}<class>. "
                    f"Received: {error}. Run: dvc repro evaluate"
                ) from None
        task = cls(names, fps)
        return task, [row["actual"] for row in rows], join_outputs(parts)

    def confidence(self, outputs: Outputs) -> NDArray[np.float64]:
        """Return the mean over the frames of the probability of the predicted class."""
        return np.array([_real(output).max(axis=1).mean() for output in outputs])

    def margins(self, outputs: Outputs) -> NDArray[np.float64]:
        """Return the mean over the frames of the difference of the two highest probabilities."""
        ordered = [np.sort(_real(output), axis=1) for output in outputs]
        return np.array([(rows[:, -1] - rows[:, -2]).mean() for rows in ordered])

    def explained_outputs(self, outputs: Outputs) -> NDArray[np.int64]:
        """Return the index of the class with the largest sum over the frames."""
        return np.asarray(outputs.sum(axis=1).argmax(axis=1), np.int64)

    def guesses(self, target: str, output: Outputs) -> list[Guess]:
        """Return the first predicted segments.

        ``is_target``: at least half of the frames of the segment have its label.
        """
        labels = self._classes(target, range(len(_real(output))))
        guesses = []
        for segment in self.answer(output, top_k=0)["segments"][:_MAX_GUESSES]:
            start, stop = (
                round(segment[end] * self.fps) for end in ("start_seconds", "end_seconds")
            )
            is_right = labels[start:stop] == self.class_names.index(segment["label"])
            is_target = bool(is_right.mean() >= 0.5)
            text = _segment_text(segment).rpartition(" ")[0]
            guesses.append(Guess(text, segment["confidence"], is_target))
        return guesses

    def frame_labels(self, target: str, output: Outputs) -> tuple[list[str], list[str]]:
        real = _real(output)
        actual = read_intervals(target).frame_labels(self.fps, range(len(real)))
        return actual, [self.class_names[index] for index in real.argmax(axis=1)]

    # Serving.

    def answer(self, output: Outputs, *, top_k: int) -> dict[str, Any]:
        """Return the predicted segments, and the mean over the frames of each probability.

        The seconds of segments begin at the first frame. The ``top_k`` most probable classes are in
        falling order; all classes are in the order of the model.
        """
        real = _real(output)
        predicted = real.argmax(axis=1)
        means = real.mean(axis=0)
        named = range(len(means))
        if top_k:
            named = np.argsort(-means, kind="stable")[:top_k].tolist()
        return {
            "segments": [
                {
                    "start_seconds": start / self.fps,
                    "end_seconds": stop / self.fps,
                    "label": self.class_names[predicted[start]],
                    "confidence": float(real[start:stop, predicted[start]].mean()),
                }
                for start, stop in runs(predicted.tolist())
            ],
            "probabilities": {self.class_names[index]: float(means[index]) for index in named},
        }

    def shift_seconds(self, answer: dict[str, Any], seconds: float) -> dict[str, Any]:
        segments = [
            {**segment, **{key: segment[key] + seconds for key in ("start_seconds", "end_seconds")}}
            for segment in answer["segments"]
        ]
        return {**answer, "segments": segments}

    def answer_line(self, answer: Mapping[str, Any], *, shown: int) -> list[str]:
        """Return the segments of a video, or the most probable classes of a frame.

        A single cell has all segments.
        """
        if "segments" in answer and shown == 1:
            return [_intervals_text(answer["segments"])]
        if "segments" in answer:
            cells = [_segment_text(segment) for segment in answer["segments"]]
        else:
            ranked = sorted(answer["probabilities"].items(), key=lambda item: -item[1])
            cells = [f"{name} {probability:.4f}" for name, probability in ranked]
        more = len(cells) - shown
        return [*cells[:shown], f"and {more} more"] if more > 0 else cells

    def answer_cells(self, answer: Mapping[str, Any]) -> dict[str, str]:
        """Return the predicted intervals of a video, and ``p_<class>``."""
        cells = {}
        if "segments" in answer:
            cells["predicted"] = _intervals_text(answer["segments"])
        probabilities = answer["probabilities"].items()
        return cells | {_PROBABILITY_PREFIX + name: f"{value:.9f}" for name, value in probabilities}

    @classmethod
    def outputs_from_answers(
        cls, answers: Sequence[Mapping[str, Any]], targets: Sequence[str]
    ) -> tuple[Self, Outputs]:
        """Return the probabilities of the timeline, by class name."""
        labels = {label for target in targets for label in read_intervals(target).labels}
        timeline = answers[0]["timeline"]
        names = tuple(sorted(labels | timeline[0]["probabilities"].keys()))
        fps = len(timeline) / (timeline[-1]["end_seconds"] - timeline[0]["start_seconds"])
        parts = [
            [[row["probabilities"].get(name, 0.0) for name in names] for row in answer["timeline"]]
            for answer in answers
        ]
        return cls(names, fps), join_outputs([np.array([part], np.float64) for part in parts])

    def _classes(self, target: str, frames: range) -> NDArray[np.int64]:
        """Return int64 [frames]: class of each frame of a video, -1 where it has no label."""
        indices = {"": UNLABELLED} | {name: index for index, name in enumerate(self.class_names)}
        labels = read_intervals(target).frame_labels(self.fps, frames)
        return np.array([indices[label] for label in labels], np.int64)

    def _videos(self, targets: Sequence[str], outputs: Outputs) -> "list[ScoredVideo]":
        from pipeline.tasks.frame_scores import ScoredVideo

        reals = [_real(output) for output in outputs]
        return [
            ScoredVideo(self._classes(target, range(len(real))), real)
            for target, real in zip(targets, reals, strict=True)
        ]

    def _class_shares(self, targets: Sequence[str]) -> NDArray[np.float64]:
        """Return float64 [clips, C]: proportions of the labelled frames; zeros without any."""
        is_class = self.encode(targets)[:, :, None] == np.arange(len(self.class_names))
        counts = is_class.sum(axis=1)
        return np.asarray(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1), np.float64)


def _real(output: Outputs) -> Outputs:
    """Return the rows of the real frames of an output [T, C], those that are not zero."""
    is_real = (output != 0).any(axis=1)
    n_real = int(np.flatnonzero(is_real)[-1]) + 1 if is_real.any() else 0
    return np.asarray(output[:n_real])


def _labelled_seconds(target: str) -> float:
    """Return the labelled seconds of a video; infinity if they depend on its length."""
    content = read_intervals(target)
    if content.background:
        return math.inf
    return sum(interval.end - interval.start for interval in content.intervals)


def _intervals_text(segments: Sequence[Mapping[str, Any]]) -> str:
    intervals = [
        Interval(
            round(segment["start_seconds"], 3), round(segment["end_seconds"], 3), segment["label"]
        )
        for segment in segments
    ]
    return LabelledIntervals(tuple(intervals)).text


def _segment_text(segment: Mapping[str, Any]) -> str:
    start, end = segment["start_seconds"], segment["end_seconds"]
    return f"{start:.1f}-{end:.1f} s {segment['label']} {segment['confidence']:.2f}"

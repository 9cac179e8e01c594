"""Multi-label classification: any number of labels a video. Outputs are probabilities [N, L].

A label is predicted when its probability is 0.5 or more. The thresholds, fitted on the validation
videos, are a layer of the model; see ``heads.Thresholds``.
"""

import logging
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from pipeline.common.bootstrap import ResampledScore, Resampling
from pipeline.common.errors import PipelineError
from pipeline.common.tables import count_of, shorten_list
from pipeline.tasks.settings import TaskSection
from pipeline.tasks.targets import join_labels, split_labels
from pipeline.tasks.task import (
    BaselineClips,
    ClipFeatures,
    Guess,
    LabelIssue,
    Limit,
    LimitedValue,
    Outputs,
    ScalarType,
    StreamOutput,
    Table,
    Task,
)

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from pipeline.common.charts import Chart

logger = logging.getLogger(__name__)

THRESHOLD = 0.5  # lowest probability of a predicted label

_PROBABILITY_PREFIX = "p_"  # of the columns of predictions.csv with label probabilities
_COLUMNS = ("labels", "predicted", "correct")  # of predictions.csv
_MAX_GUESSES = 3  # under a film strip, besides predicted and actual labels


@dataclass(frozen=True)
class Multilabel(Task):
    """Any number of labels a video.

    Attributes:
        label_names: length L, in the order of the outputs.
    """

    type: ClassVar[str] = "multilabel"
    training_metric: ClassVar[str] = "label_accuracy"
    headline_metrics: ClassVar[tuple[str, ...]] = ("mean_average_precision", "micro_f1")
    compared_metrics: ClassVar[tuple[str, ...]] = (
        "mean_average_precision",
        "micro_f1",
        "macro_f1",
        "subset_accuracy",
    )
    limits: ClassVar[Mapping[str, Limit]] = {"label_recall": Limit("min", 0.5)}
    video_score: ClassVar[str] = "subset_accuracy"
    baselines: ClassVar[Mapping[str, str]] = {
        "prevalence": "the proportion of training videos with each label, for every video"
    }
    headline_chart: ClassVar[str] = "co_occurrence"
    metric_descriptions: ClassVar[Mapping[str, str]] = {
        "mean_average_precision": "mean area under the precision-recall curves of the labels",
        "micro_f1": "F1 of all labels of all videos together",
        "macro_f1": "mean F1 of the labels: each label counts the same",
        "subset_accuracy": "proportion of videos with exactly the right labels",
        "subset_accuracy_frames_shuffled": "subset accuracy with the frames of each clip shuffled",
        "subset_accuracy_length_only": "subset accuracy of a model whose only input is the number "
        "of frames",
    }
    answer_types: ClassVar[Mapping[str, ScalarType]] = {
        "labels": "strings",
        "probabilities": "string to double",
    }
    segment_fields: ClassVar[tuple[str, ...]] = ("probabilities",)

    label_names: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(set(self.label_names)) != len(self.label_names):
            raise ValueError(f"label_names: expected no name twice. Received: {self.label_names}")

    # Learnt from the training split, and saved as JSON.

    @classmethod
    def learn(cls, targets: Sequence[str], section: TaskSection) -> Self:  # noqa: ARG003
        """Learn the label names, sorted."""
        return cls(tuple(sorted({label for target in targets for label in split_labels(target)})))

    def to_json(self) -> dict[str, Any]:
        return {"label_names": list(self.label_names)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        return cls(tuple(value["label_names"]))

    def summary(self) -> str:
        return (
            f"{count_of(len(self.label_names), 'label')}, any number a video: "
            f"{shorten_list(self.label_names, shown=10)}"
        )

    # Training.

    def encode(self, targets: Sequence[str]) -> NDArray[np.float32]:
        """Return float32 [N, L]: 1 for each label of a video, otherwise 0."""
        indices = {name: index for index, name in enumerate(self.label_names)}
        encoded = np.zeros((len(targets), len(self.label_names)), np.float32)
        for row, target in enumerate(targets):
            for label in split_labels(target):
                if label not in indices:
                    raise PipelineError(
                        f"Label {label!r} is unknown to the model. Expected labels among "
                        f"{shorten_list(self.label_names)}. Run: dvc repro"
                    )
                encoded[row, indices[label]] = 1
        return encoded

    @property
    def mirror_names(self) -> tuple[str, ...]:
        return self.label_names

    def mirrored(self, target: "tf.Tensor", swaps: Sequence[Sequence[str]]) -> "tf.Tensor":
        import tensorflow as tf

        return tf.gather(target, self.mirrored_order(swaps), axis=-1)

    def stream_head(self, features: ClipFeatures) -> "keras.KerasTensor":
        """Return logits float32 [B, L]."""
        import keras

        return keras.layers.Dense(len(self.label_names), dtype="float32", name="labels")(
            features.clip
        )

    def head(
        self,
        streams: Mapping[str, StreamOutput],
        mask: "keras.KerasTensor",  # noqa: ARG002
    ) -> "keras.KerasTensor":
        """Return label probabilities float32 [B, L]."""
        from pipeline.tasks.heads import fuse, label_probabilities

        return label_probabilities(fuse(streams))

    def loss(
        self, *, label_smoothing: float, balanced_on: NDArray[Any] | None = None
    ) -> "keras.losses.Loss":
        """Return the binary cross-entropy.

        Balanced: the positives of a label have the weight (number of negatives) / (number of
        positives), so that both count the same. It is 1 for a label that all videos have, or none.
        """
        from pipeline.tasks.heads import WeightedBinaryCrossentropy

        weights = np.ones(len(self.label_names))
        if balanced_on is not None:
            positives = balanced_on.sum(axis=0)
            negatives = len(balanced_on) - positives
            is_varied = (positives > 0) & (negatives > 0)
            weights[is_varied] = negatives[is_varied] / positives[is_varied]
        return WeightedBinaryCrossentropy(weights.tolist(), label_smoothing)

    def metrics(self) -> "list[keras.metrics.Metric]":
        import keras

        def is_correct(
            y_true: "keras.KerasTensor", logits: "keras.KerasTensor"
        ) -> "keras.KerasTensor":
            return keras.ops.equal(y_true > 0, logits > 0)

        return [keras.metrics.MeanMetricWrapper(is_correct, name=self.training_metric)]

    # After training.

    def calibrate(
        self,
        model: "keras.Model",
        outputs: Outputs,
        targets: Sequence[str],
        videos: NDArray[np.int64],
    ) -> Self:
        """Fit the decision threshold of each label, and move it to 0.5 in the model.

        The threshold of a label has the highest F1 on the validation videos; of several, the one
        nearest to 0.5. A label with fewer than three positive videos keeps 0.5.
        """
        from pipeline.tasks.calibration import fit_threshold
        from pipeline.tasks.heads import set_thresholds

        actual = self.encode(targets) > 0
        by_video = self.combine_clips(outputs, videos)
        thresholds = [
            fit_threshold(by_video[:, index], actual[:, index])
            for index in range(len(self.label_names))
        ]
        set_thresholds(model, thresholds)
        named = zip(self.label_names, thresholds, strict=True)
        logger.info(
            "thresholds: %s", shorten_list([f"{name} {value:.3f}" for name, value in named])
        )
        return self

    def uncalibrated(self, model: "keras.Model") -> AbstractContextManager[None]:
        from pipeline.tasks.heads import without_thresholds

        return without_thresholds(model)

    # Scores.

    def find_invalid(self, outputs: Outputs) -> tuple[int, str] | None:
        is_valid = ((outputs >= 0) & (outputs <= 1)).all(axis=1)  # False for NaN
        if is_valid.all():
            return None
        first = int(np.argmin(is_valid))
        values = [f"{value:.6g}" for value in outputs[first]]
        return first, (
            f"expected probabilities between 0 and 1. Received: {shorten_list(values)}. NaN means "
            "that the training diverged. Lower train.learning_rate"
        )

    def terms(self, targets: Sequence[str], outputs: Outputs) -> NDArray[np.float64]:
        """Return for each video 1, is_exact, and is_actual, is_predicted and both of each label."""
        actual, predicted = self.encode(targets) > 0, outputs >= THRESHOLD
        totals = np.stack([np.ones(len(actual)), (actual == predicted).all(axis=1)], axis=1)
        return np.concatenate([totals, actual, predicted, actual & predicted], axis=1)

    def scores(self, sums: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        from pipeline.tasks.class_scores import mean_of_defined

        videos, exact = sums[..., 0], sums[..., 1]
        actual, predicted, both = np.split(sums[..., 2:], 3, axis=-1)
        with np.errstate(invalid="ignore"):  # 0 / 0: neither actual nor predicted anywhere
            f1 = 2 * both / (actual + predicted)
            micro = 2 * both.sum(axis=-1) / (actual.sum(axis=-1) + predicted.sum(axis=-1))
        return {
            "micro_f1": micro,
            "macro_f1": mean_of_defined(f1),
            "subset_accuracy": exact / videos,
        }

    def video_scores(self, targets: Sequence[str], outputs: Outputs) -> NDArray[np.float64]:
        """Return 1 where exactly the right labels are predicted, otherwise 0."""
        is_equal = (self.encode(targets) > 0) == (outputs >= THRESHOLD)
        return np.asarray(is_equal.all(axis=1), np.float64)

    def score_weights(self, targets: Sequence[str]) -> dict[str, NDArray[np.float64]]:
        """Weight the videos equally (subset accuracy), or by their labels (the other scores)."""
        actual = self.encode(targets).astype(np.float64)
        support = actual.sum(axis=0)
        by_label = (actual / np.maximum(support, 1)).sum(axis=1)
        equal = np.full(len(targets), 1 / len(targets))
        if not support.any():  # no video has a label
            return {"subset_accuracy": equal}
        return {
            "subset_accuracy": equal,
            "micro_f1": actual.sum(axis=1) / actual.sum(),
            **dict.fromkeys(("macro_f1", "mean_average_precision"), by_label / by_label.sum()),
        }

    def resampled_scores(
        self, targets: Sequence[str], outputs: Outputs, resampling: Resampling
    ) -> dict[str, ResampledScore]:
        """Add the mean average precision."""
        from pipeline.tasks.class_scores import mean_average_precision

        return {
            "mean_average_precision": mean_average_precision(
                self.encode(targets) > 0, outputs, resampling
            ),
            **super().resampled_scores(targets, outputs, resampling),
        }

    def tables(
        self, targets: Sequence[str], outputs: Outputs, resampling: Resampling
    ) -> list[Table]:
        from pipeline.tasks.class_tables import class_table
        from pipeline.tasks.co_occurrence import co_occurrence_table

        actual, predicted = self.encode(targets) > 0, outputs >= THRESHOLD
        return [
            class_table(actual, predicted, outputs, self.label_names, resampling),
            co_occurrence_table(actual, predicted, self.label_names),
        ]

    def charts(
        self,
        targets: Sequence[str],
        outputs: Outputs,
        videos: Sequence[str],  # noqa: ARG002
    ) -> "list[Chart]":
        from pipeline.tasks.class_charts import precision_recall_chart
        from pipeline.tasks.co_occurrence import co_occurrence_chart

        actual = self.encode(targets) > 0
        return [
            precision_recall_chart(actual, outputs, self.label_names),
            co_occurrence_chart(actual, outputs >= THRESHOLD, self.label_names),
        ]

    def baseline_outputs(self, train: BaselineClips, test: BaselineClips) -> dict[str, Outputs]:
        prevalence = self.encode(train.video_targets).mean(axis=0, dtype=np.float64)
        return {"prevalence": np.tile(prevalence, (len(test.targets), 1))}

    def length_baseline(
        self, frames: NDArray[np.int64], targets: Sequence[str], groups: Sequence[str]
    ) -> NDArray[np.float64]:
        """Predict the set of labels of each clip from its length; see ``predict_from_lengths``."""
        from pipeline.tasks.length_baseline import predict_from_lengths

        label_sets = np.array(targets)
        predicted = predict_from_lengths(frames, label_sets, groups)
        return np.asarray(predicted == label_sets, np.float64)

    def constant_baseline(self, targets: Sequence[str]) -> float:
        """Return the proportion of the most frequent set of labels."""
        _, counts = np.unique(np.array(targets), return_counts=True)
        return float(counts.max() / len(targets))

    def label_issues(self, targets: Sequence[str], outputs: Outputs) -> list[LabelIssue]:
        """Find doubtful targets by confident learning, one label against its absence at a time.

        The quality is the lowest over the labels. Source: Thyagarajan et al., Identifying
        Incorrect Annotations in Multi-Label Classification Data, 2022, arXiv 2211.13895.
        """
        from cleanlab.filter import find_label_issues

        actual = (self.encode(targets) > 0).astype(np.int64)
        probability_of_actual = np.where(actual == 1, outputs, 1 - outputs)
        is_doubtful = np.zeros(len(actual), np.bool_)
        for index in range(len(self.label_names)):
            if 0 < actual[:, index].sum() < len(actual):
                two_classes = np.stack([1 - outputs[:, index], outputs[:, index]], axis=1)
                issues = find_label_issues(
                    actual[:, index], two_classes, filter_by="confident_learning", n_jobs=1
                )
                is_doubtful |= issues & (probability_of_actual[:, index] < THRESHOLD)
        quality = probability_of_actual.min(axis=1)
        return [
            LabelIssue(int(row), self._predicted(outputs[row]) or "no label", float(quality[row]))
            for row in np.argsort(quality, kind="stable")
            if is_doubtful[row]
        ]

    # Two models, perhaps with different labels.

    def union(self, other: Task) -> Self:
        """Add the labels of ``other`` that this task does not have."""
        assert isinstance(other, Multilabel)
        return replace(
            self, label_names=tuple(dict.fromkeys((*self.label_names, *other.label_names)))
        )

    def convert(self, outputs: Outputs, wanted: Task) -> Outputs:
        """Return the probabilities of the labels of ``wanted``; 0 for unknown labels."""
        assert isinstance(wanted, Multilabel)
        converted = np.zeros((len(outputs), len(wanted.label_names)))
        converted[:, [wanted.label_names.index(name) for name in self.label_names]] = outputs
        return converted

    def limited_values(
        self, targets: Sequence[str], outputs: Outputs, resampling: Resampling
    ) -> dict[str, list[LimitedValue]]:
        """Return the recall of each label."""
        from pipeline.tasks.class_tables import recall_values

        actual, predicted = self.encode(targets) > 0, outputs >= THRESHOLD
        return {
            "label_recall": recall_values(actual, actual & predicted, self.label_names, resampling),
        }

    # Predictions as text, and the review.

    def prediction_cells(self, target: str, output: Outputs) -> dict[str, str]:
        """Return labels, predicted, correct, and ``p_<label>`` for each label."""
        predicted = self._predicted(output)
        return {
            "labels": target,
            "predicted": predicted,
            "correct": "true" if predicted == join_labels(split_labels(target)) else "false",
            **{
                _PROBABILITY_PREFIX + name: f"{value:.9g}"
                for name, value in zip(self.label_names, output, strict=True)
            },
        }

    @classmethod
    def read_predictions(
        cls, rows: Sequence[Mapping[str, str]], *, where: str
    ) -> tuple[Self, list[str], Outputs]:
        """Read labels and ``p_<label>``; the other columns follow from them."""
        columns = [column for column in rows[0] if column not in _COLUMNS]
        if len(columns) != len(rows[0]) - len(_COLUMNS) or not all(
            column.startswith(_PROBABILITY_PREFIX) for column in columns
        ):
            raise PipelineError(
                f"{where}: expected the columns {', '.join(_COLUMNS)} and a column "
                f"{_PROBABILITY_PREFIX}<label> for every label. Received: {', '.join(rows[0])}"
            )
        names = tuple(column.removeprefix(_PROBABILITY_PREFIX) for column in columns)
        outputs = []
        for line, row in enumerate(rows, start=2):
            try:
                outputs.append([float(row[column]) for column in columns])
            except ValueError as error:
                raise PipelineError(
                    f"{where}, line {line}: expected numbers as probabilities: {error}."
                ) from None
        return cls(names), [row["labels"] for row in rows], np.array(outputs, np.float64)

    def confidence(self, outputs: Outputs) -> NDArray[np.float64]:
        """Return the probability of the least certain decision about a label."""
        return np.asarray(np.maximum(outputs, 1 - outputs).min(axis=1), np.float64)

    def margins(self, outputs: Outputs) -> NDArray[np.float64]:
        """Return the distance of the least certain label to its threshold."""
        return np.asarray(np.abs(outputs - THRESHOLD).min(axis=1), np.float64)

    def explained_outputs(self, outputs: Outputs) -> NDArray[np.int64]:
        """Return the index of the most probable label."""
        return np.asarray(outputs.argmax(axis=1), np.int64)

    def guesses(self, target: str, output: Outputs) -> list[Guess]:
        """Return the most probable labels, at least three, with all predicted and actual ones."""
        actual = split_labels(target)
        return [
            Guess(self.label_names[index], float(output[index]), self.label_names[index] in actual)
            for rank, index in enumerate(np.argsort(-output, kind="stable").tolist())
            if rank < _MAX_GUESSES
            or output[index] >= THRESHOLD
            or self.label_names[index] in actual
        ]

    # Serving.

    def answer(self, output: Outputs, *, top_k: int) -> dict[str, Any]:
        """Return the predicted labels, and probabilities by label.

        All labels are in the order of the model; the ``top_k`` most probable are in falling order.
        """
        named = range(len(output))
        if top_k:
            named = np.argsort(-output, kind="stable")[:top_k].tolist()
        return {
            "labels": split_labels(self._predicted(output)),
            "probabilities": {self.label_names[index]: float(output[index]) for index in named},
        }

    def answer_line(self, answer: Mapping[str, Any], *, shown: int) -> list[str]:
        """Return the predicted labels with their probabilities, and the number of others."""
        probabilities = answer["probabilities"]
        cells = [f"{name} {probabilities[name]:.4f}" for name in answer["labels"][:shown]]
        more = len(answer["labels"]) - shown
        return [*(cells or ["no label"]), *([f"and {more} more"] if more > 0 else [])]

    def answer_cells(self, answer: Mapping[str, Any]) -> dict[str, str]:
        """Return predicted and ``p_<label>``, named as in predictions.csv."""
        return {
            "predicted": join_labels(answer["labels"]),
            **{
                _PROBABILITY_PREFIX + name: f"{probability:.9f}"
                for name, probability in answer["probabilities"].items()
            },
        }

    @classmethod
    def outputs_from_answers(
        cls, answers: Sequence[Mapping[str, Any]], targets: Sequence[str]
    ) -> tuple[Self, Outputs]:
        """Return probabilities by label name; 0 for labels unknown to the model."""
        known = {label for target in targets for label in split_labels(target)}
        names = tuple(sorted({*answers[0]["probabilities"], *known}))
        outputs = np.array(
            [[answer["probabilities"].get(name, 0.0) for name in names] for answer in answers],
            np.float64,
        )
        return cls(names), outputs

    def _predicted(self, output: Outputs) -> str:
        return join_labels(
            [
                name
                for name, value in zip(self.label_names, output, strict=True)
                if value >= THRESHOLD
            ]
        )

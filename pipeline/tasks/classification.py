"""Single-label classification: one class a video. Outputs are class probabilities [N, C].

Methods that a served model does not call import what they need (charts, scores, calibration), so
that a server starts without matplotlib and scikit-learn.
"""

import logging
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from pipeline.common.bootstrap import Resampling, Score
from pipeline.common.errors import PipelineError
from pipeline.common.tables import count_of, shorten_list
from pipeline.tasks.settings import TaskSection
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

# The sum of a float32 softmax differs from 1 by about 1e-7 times the square root of C.
_SUM_TOLERANCE = 1e-4

_PROBABILITY_PREFIX = "p_"  # of the columns of predictions.csv with class probabilities
_COLUMNS = ("label", "predicted", "probability", "correct")  # of predictions.csv

# k of the top-k accuracy: 2 for few classes, 5 for many.
_FEW_CLASSES = 10
_TOP_K, _TOP_K_OF_MANY = 2, 5

_MAX_GUESSES = 3  # under a film strip, besides the actual class


@dataclass(frozen=True)
class Classification(Task):
    """One class a video.

    Attributes:
        class_names: length C, in the order of the outputs.
        target_accuracy: as in ``TaskSection``.
        abstain_below: confidence threshold; an answer with a lower probability is not confident.
            None before calibration, and if no threshold reached ``target_accuracy``.
    """

    type: ClassVar[str] = "classification"
    training_metric: ClassVar[str] = "accuracy"
    headline_metrics: ClassVar[tuple[str, ...]] = ("accuracy", "macro_f1")
    compared_metrics: ClassVar[tuple[str, ...]] = (
        "macro_f1",
        "accuracy",
        "balanced_accuracy",
        "log_loss",
    )
    calibrated_metrics: ClassVar[tuple[str, ...]] = ("log_loss", "calibration_error")
    lower_is_better: ClassVar[frozenset[str]] = frozenset(
        (*calibrated_metrics, "log_loss_uncalibrated", "calibration_error_uncalibrated")
    )
    limits: ClassVar[Mapping[str, Limit]] = {
        "class_recall": Limit("min", 0.5),
        "calibration_error": Limit("max", 0.15),
    }
    video_score: ClassVar[str] = "accuracy"
    baselines: ClassVar[Mapping[str, str]] = {
        "most_frequent": "the proportions of the classes in training, for every video"
    }
    headline_chart: ClassVar[str] = "confusion"
    metric_descriptions: ClassVar[Mapping[str, str]] = {
        "accuracy": "proportion of videos whose most probable class is correct",
        "balanced_accuracy": "mean recall of the classes: each class counts the same",
        "macro_f1": "mean F1 of the classes",
        "mean_average_precision": "mean area under the precision-recall curves of the classes",
        "top_k_accuracy": "proportion of videos whose class is among the 2 most probable, or the 5 "
        "most probable of more than 10 classes",
        "log_loss": "mean of -ln(probability of the actual class); lower is better",
        "calibration_error": "mean gap between confidence and accuracy; lower is better",
        "temperature": "divisor of the logits, fitted on the validation videos",
        "log_loss_uncalibrated": "log loss at temperature 1",
        "calibration_error_uncalibrated": "calibration error at temperature 1",
        "coverage": "proportion of videos with a confident answer",
        "accuracy_covered": "accuracy of the confident answers",
        "accuracy_frames_shuffled": "accuracy with the frames of each clip shuffled",
        "accuracy_length_only": "accuracy of a model whose only input is the number of frames",
    }
    answer_types: ClassVar[Mapping[str, ScalarType]] = {
        "label": "string",
        "probability": "double",
        "probabilities": "string to double",
    }
    segment_fields: ClassVar[tuple[str, ...]] = ("probabilities",)

    class_names: tuple[str, ...]
    target_accuracy: float = TaskSection().target_accuracy
    abstain_below: float | None = None

    def __post_init__(self) -> None:
        if len(set(self.class_names)) != len(self.class_names):
            raise ValueError(f"class_names: expected no name twice. Received: {self.class_names}")

    # Learnt from the training split, and saved as JSON.

    @classmethod
    def learn(cls, targets: Sequence[str], section: TaskSection) -> Self:
        """Learn the class names, sorted."""
        return cls(tuple(sorted(set(targets))), section.target_accuracy)

    def to_json(self) -> dict[str, Any]:
        return {
            "class_names": list(self.class_names),
            "target_accuracy": self.target_accuracy,
            "abstain_below": self.abstain_below,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        return cls(**{**value, "class_names": tuple(value["class_names"])})

    def summary(self) -> str:
        names = shorten_list(self.class_names, shown=10)
        return f"{count_of(len(self.class_names), 'class', 'classes')}: {names}"

    # Training.

    def encode(self, targets: Sequence[str]) -> NDArray[np.int64]:
        """Return int64 [N]: the index of each class."""
        indices = {name: index for index, name in enumerate(self.class_names)}
        unknown = sorted(set(targets) - indices.keys())
        if unknown:
            raise PipelineError(
                f"Class {unknown[0]!r} is unknown to the model. Expected one of "
                f"{shorten_list(self.class_names)}. Run: dvc repro"
            )
        return np.array([indices[target] for target in targets], np.int64)

    @property
    def mirror_names(self) -> tuple[str, ...]:
        return self.class_names

    def mirrored(self, target: "tf.Tensor", swaps: Sequence[Sequence[str]]) -> "tf.Tensor":
        import tensorflow as tf

        return tf.gather(tf.constant(self.mirrored_order(swaps), tf.int64), target)

    def stream_head(self, features: ClipFeatures) -> "keras.KerasTensor":
        """Return logits float32 [B, C]."""
        from pipeline.tasks.heads import class_logits

        return class_logits(features.clip, len(self.class_names))

    def head(
        self,
        streams: Mapping[str, StreamOutput],
        mask: "keras.KerasTensor",  # noqa: ARG002
    ) -> "keras.KerasTensor":
        """Return class probabilities float32 [B, C]."""
        from pipeline.tasks.heads import class_probabilities, fuse

        return class_probabilities(fuse(streams))

    def loss(
        self, *, label_smoothing: float, balanced_on: NDArray[Any] | None = None
    ) -> "keras.losses.Loss":
        """Return the cross-entropy of labels int64 [B] and probabilities [B, C].

        Balanced: a class has the weight N / (C x number of its clips), so that every class counts
        the same.
        """
        import keras

        from pipeline.tasks.heads import WeightedCrossentropy

        if label_smoothing == 0 and balanced_on is None:
            return keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        weights = np.ones(len(self.class_names))
        if balanced_on is not None:
            counts = np.bincount(balanced_on, minlength=len(weights))
            weights = len(balanced_on) / (len(weights) * counts)
        return WeightedCrossentropy(weights.tolist(), label_smoothing)

    def metrics(self) -> "list[keras.metrics.Metric]":
        import keras

        return [keras.metrics.SparseCategoricalAccuracy(name=self.training_metric)]

    # After training.

    def calibrate(
        self,
        model: "keras.Model",
        outputs: Outputs,
        targets: Sequence[str],
        videos: NDArray[np.int64],
    ) -> Self:
        """Fit the temperature of ``model`` and the confidence threshold."""
        from pipeline.tasks.calibration import apply_temperature, fit_abstention, fit_temperature
        from pipeline.tasks.heads import set_temperature

        labels = self.encode(targets)
        temperature = fit_temperature(outputs, labels, videos)
        set_temperature(model, temperature)
        calibrated = self.combine_clips(apply_temperature(outputs, temperature), videos)
        abstain_below = fit_abstention(calibrated, labels, target_accuracy=self.target_accuracy)
        logger.info("temperature %.3f", temperature)
        if abstain_below is None:
            logger.warning(
                "No confidence threshold reaches task.target_accuracy, %g, on the validation "
                "videos: answers are not marked as confident or not.",
                self.target_accuracy,
            )
        else:
            logger.info("confidence threshold %g", abstain_below)
        return replace(self, abstain_below=abstain_below)

    def without_calibration(self) -> Self:
        return replace(self, abstain_below=None)

    def calibration(self, model: "keras.Model") -> dict[str, float]:
        from pipeline.tasks.heads import temperature_of

        return {"temperature": temperature_of(model)}

    def uncalibrated(self, model: "keras.Model") -> AbstractContextManager[None]:
        from pipeline.tasks.heads import without_temperature

        return without_temperature(model)

    # Scores.

    def find_invalid(self, outputs: Outputs) -> tuple[int, str] | None:
        # Comparisons with NaN are False.
        is_in_range = (outputs >= 0) & (outputs <= 1 + _SUM_TOLERANCE)
        sums = outputs.sum(axis=1)
        is_valid = is_in_range.all(axis=1) & (np.abs(sums - 1) <= _SUM_TOLERANCE)
        if is_valid.all():
            return None
        first = int(np.argmin(is_valid))
        values = [f"{value:.6g}" for value in outputs[first]]
        return first, (
            "expected probabilities between 0 and 1 with a sum of 1. Received: "
            f"{shorten_list(values)} (sum {sums[first]:.6g}). NaN means that the training "
            "diverged. Lower train.learning_rate"
        )

    def terms(self, targets: Sequence[str], outputs: Outputs) -> NDArray[np.float64]:
        from pipeline.tasks.class_scores import score_terms

        top_k = _TOP_K if len(self.class_names) <= _FEW_CLASSES else _TOP_K_OF_MANY
        return score_terms(self.encode(targets), outputs, top_k=top_k)

    def scores(self, sums: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        from pipeline.tasks.class_scores import scores_from_sums

        return scores_from_sums(sums, n_classes=len(self.class_names))

    def video_scores(self, targets: Sequence[str], outputs: Outputs) -> NDArray[np.float64]:
        """Return 1 where the most probable class is correct, otherwise 0."""
        return np.asarray(outputs.argmax(axis=1) == self.encode(targets), np.float64)

    def score_weights(self, targets: Sequence[str]) -> dict[str, NDArray[np.float64]]:
        """Return equal weights of the videos or, for means over classes, of the classes."""
        labels = self.encode(targets)
        by_class = 1 / np.bincount(labels)[labels]
        by_class /= by_class.sum()
        equal = np.full(len(targets), 1 / len(targets))
        return {
            **dict.fromkeys(("accuracy", "top_k_accuracy"), equal),
            **dict.fromkeys(("balanced_accuracy", "macro_f1", "mean_average_precision"), by_class),
        }

    def scores_with_intervals(
        self, targets: Sequence[str], outputs: Outputs, resampling: Resampling
    ) -> dict[str, Score]:
        from pipeline.tasks.class_scores import calibration_interval

        interval = calibration_interval(self.encode(targets), outputs, resampling)
        scores = super().scores_with_intervals(targets, outputs, resampling)
        value = scores["calibration_error"].value
        return {**scores, "calibration_error": Score(value, interval)}

    def other_scores(
        self, targets: Sequence[str], outputs: Outputs, resampling: Resampling
    ) -> dict[str, Score]:
        """Return mean average precision, coverage, and the accuracy of confident answers."""
        from pipeline.tasks.class_scores import mean_average_precision, one_hot

        is_class = one_hot(self.encode(targets), len(self.class_names))
        value, resampled = mean_average_precision(is_class, outputs, resampling)
        weights = self.score_weights(targets)["mean_average_precision"]
        interval = resampling.bounded_interval(value, resampled, weights)
        scores = {"mean_average_precision": Score(value, interval)}
        if self.abstain_below is not None:
            is_covered = outputs.max(axis=1) >= self.abstain_below
            scores["coverage"] = resampling.mean_score(is_covered)
            if is_covered.any():
                scores["accuracy_covered"] = resampling.mean_score(
                    self.video_scores(targets, outputs), where=is_covered
                )
        return scores

    def tables(
        self, targets: Sequence[str], outputs: Outputs, resampling: Resampling
    ) -> list[Table]:
        from pipeline.tasks.class_scores import one_hot
        from pipeline.tasks.class_tables import class_table, confusion_table

        labels = self.encode(targets)
        actual, predicted = (
            one_hot(indices, len(self.class_names)) for indices in (labels, outputs.argmax(axis=1))
        )
        return [
            class_table(actual, predicted, outputs, self.class_names, resampling),
            confusion_table(labels, outputs, self.class_names),
        ]

    def charts(
        self,
        targets: Sequence[str],
        outputs: Outputs,
        videos: Sequence[str],  # noqa: ARG002
    ) -> "list[Chart]":
        from pipeline.tasks.class_charts import (
            confusion_chart,
            precision_recall_chart,
            reliability_chart,
        )
        from pipeline.tasks.class_scores import one_hot

        labels = self.encode(targets)
        return [
            precision_recall_chart(
                one_hot(labels, len(self.class_names)), outputs, self.class_names
            ),
            confusion_chart(labels, outputs, self.class_names),
            reliability_chart(labels, outputs),
        ]

    def baseline_outputs(self, train: BaselineClips, test: BaselineClips) -> dict[str, Outputs]:
        counts = np.bincount(self.encode(train.video_targets), minlength=len(self.class_names))
        return {"most_frequent": np.tile(counts / counts.sum(), (len(test.targets), 1))}

    def length_baseline(
        self, frames: NDArray[np.int64], targets: Sequence[str], groups: Sequence[str]
    ) -> NDArray[np.float64]:
        """Predict the class of each clip from its length; see ``predict_from_lengths``."""
        from sklearn.model_selection import StratifiedGroupKFold

        from pipeline.tasks.length_baseline import MAX_FOLDS, predict_from_lengths

        labels = self.encode(targets)
        groups_of_class: dict[int, set[str]] = {}
        for label, group in zip(labels.tolist(), groups, strict=True):
            groups_of_class.setdefault(label, set()).add(group)
        n_folds = max(2, min(MAX_FOLDS, *map(len, groups_of_class.values())))
        folds = StratifiedGroupKFold(n_folds, shuffle=True, random_state=0)
        predicted = predict_from_lengths(frames, labels, groups, folds=folds)
        return np.asarray(predicted == labels, np.float64)

    def constant_baseline(self, targets: Sequence[str]) -> float:
        """Return the proportion of the most frequent class."""
        return float(np.bincount(self.encode(targets)).max() / len(targets))

    def label_issues(self, targets: Sequence[str], outputs: Outputs) -> list[LabelIssue]:
        """Find doubtful labels by confident learning.

        A label is doubtful when the probability of another class exceeds the average probability
        of that class over the videos that have it as label. The quality is the probability of the
        label. Source: Northcutt et al., Confident Learning: Estimating Uncertainty in Dataset
        Labels, 2021, arXiv 1911.00068.
        """
        from cleanlab.filter import find_label_issues
        from cleanlab.rank import get_label_quality_scores

        labels, predicted = self.encode(targets), outputs.argmax(axis=1)
        quality = get_label_quality_scores(labels, outputs, method="self_confidence")
        ranked = find_label_issues(
            labels,
            outputs,
            filter_by="confident_learning",
            return_indices_ranked_by="self_confidence",
            n_jobs=1,
        )
        return [
            LabelIssue(int(index), self.class_names[predicted[index]], float(quality[index]))
            for index in ranked
            if predicted[index] != labels[index]
        ]

    # Two models, perhaps with different classes.

    def union(self, other: Task) -> Self:
        """Add the classes of ``other`` that this task does not have."""
        assert isinstance(other, Classification)
        return replace(
            self, class_names=tuple(dict.fromkeys((*self.class_names, *other.class_names)))
        )

    def convert(self, outputs: Outputs, wanted: Task) -> Outputs:
        """Return the probabilities of the classes of ``wanted``; 0 for unknown classes."""
        assert isinstance(wanted, Classification)
        converted = np.zeros((len(outputs), len(wanted.class_names)))
        converted[:, [wanted.class_names.index(name) for name in self.class_names]] = outputs
        return converted

    def limited_values(
        self, targets: Sequence[str], outputs: Outputs, resampling: Resampling
    ) -> dict[str, list[LimitedValue]]:
        """Return the recall of each class and the calibration error."""
        from pipeline.tasks.class_scores import calibration_interval, one_hot
        from pipeline.tasks.class_tables import recall_values

        labels = self.encode(targets)
        actual, predicted = (
            one_hot(indices, len(self.class_names)) for indices in (labels, outputs.argmax(axis=1))
        )
        error = LimitedValue(
            name="calibration error",
            value=float(self.scores(self.terms(targets, outputs).sum(axis=0))["calibration_error"]),
            interval=calibration_interval(labels, outputs, resampling),
            videos=len(targets),
            groups=resampling.n_groups,
        )
        return {
            "class_recall": recall_values(actual, actual & predicted, self.class_names, resampling),
            "calibration_error": [error],
        }

    # Predictions as text, and the review.

    def prediction_cells(self, target: str, output: Outputs) -> dict[str, str]:
        """Return label, predicted, probability, correct, and ``p_<class>`` for each class.

        Nine significant digits distinguish any two float32 numbers, so predicted classes and
        ties are preserved. A log loss from the file differs by less than 1e-8.
        """
        probabilities = [f"{value:.9g}" for value in output]
        predicted = int(output.argmax())
        return {
            "label": target,
            "predicted": self.class_names[predicted],
            "probability": probabilities[predicted],
            "correct": "true" if self.class_names[predicted] == target else "false",
            **{
                _PROBABILITY_PREFIX + name: probability
                for name, probability in zip(self.class_names, probabilities, strict=True)
            },
        }

    @classmethod
    def read_predictions(
        cls, rows: Sequence[Mapping[str, str]], *, where: str
    ) -> tuple[Self, list[str], Outputs]:
        """Read label and ``p_<class>``; the other columns follow from them."""
        columns = [column for column in rows[0] if column not in _COLUMNS]
        missing = [column for column in _COLUMNS if column not in rows[0]]
        if missing:
            raise PipelineError(
                f"{where}: expected the columns {', '.join(missing)}. Received: "
                f"{shorten_list(list(rows[0]))}"
            )
        if not columns or not all(column.startswith(_PROBABILITY_PREFIX) for column in columns):
            raise PipelineError(
                f"{where}: expected a column {_PROBABILITY_PREFIX}<class> for every class after "
                f"{_COLUMNS[-1]}. Received: {shorten_list(columns) or 'none'}"
            )
        names = tuple(column.removeprefix(_PROBABILITY_PREFIX) for column in columns)
        targets, outputs = [], []
        for line, row in enumerate(rows, start=2):
            if row["label"] not in names:
                raise PipelineError(
                    f"{where}, line {line}: label must be one of {shorten_list(names)}. "
                    f"Received: {row['label']!r}"
                )
            targets.append(row["label"])
            try:
                outputs.append([float(row[column]) for column in columns])
            except ValueError as error:
                raise PipelineError(
                    f"{where}, line {line}: expected numbers as probabilities: {error}."
                ) from None
        return cls(names), targets, np.array(outputs, np.float64)

    def confidence(self, outputs: Outputs) -> NDArray[np.float64]:
        """Return the probability of the most probable class."""
        return np.asarray(outputs.max(axis=1), np.float64)

    def margins(self, outputs: Outputs) -> NDArray[np.float64]:
        """Return the difference of the two highest probabilities."""
        ordered = np.sort(np.pad(outputs, ((0, 0), (1, 0))), axis=1)  # 0 beside a single class
        return np.asarray(ordered[:, -1] - ordered[:, -2], np.float64)

    def explained_outputs(self, outputs: Outputs) -> NDArray[np.int64]:
        """Return the index of the most probable class."""
        return np.asarray(outputs.argmax(axis=1), np.int64)

    def guesses(self, target: str, output: Outputs) -> list[Guess]:
        """Return the three most probable classes, and the actual one if it is not among them."""
        order = np.argsort(-output, kind="stable").tolist()
        shown = order[:_MAX_GUESSES]
        shown += [index for index in order[_MAX_GUESSES:] if self.class_names[index] == target]
        return [
            Guess(self.class_names[index], float(output[index]), self.class_names[index] == target)
            for index in shown
        ]

    # Serving.

    def answer(self, output: Outputs, *, top_k: int) -> dict[str, Any]:
        """Return label, its probability, and probabilities by class.

        All classes are in the order of the model; the ``top_k`` most probable are in falling order.
        """
        best = int(output.argmax())
        named = range(len(output))
        if top_k:
            named = np.argsort(-output, kind="stable")[:top_k].tolist()
        return {
            "label": self.class_names[best],
            "probability": float(output[best]),
            "probabilities": {self.class_names[index]: float(output[index]) for index in named},
        }

    def is_confident(self, output: Outputs) -> bool | None:
        return None if self.abstain_below is None else bool(output.max() >= self.abstain_below)

    def answer_line(self, answer: Mapping[str, Any], *, shown: int) -> list[str]:
        """Return the most probable classes, such as ``run 0.9312``, and the number of others."""
        ranked = sorted(answer["probabilities"].items(), key=lambda item: -item[1])
        cells = [f"{name} {probability:.4f}" for name, probability in ranked[:shown]]
        more = len(ranked) - len(cells)
        return [*cells, f"and {more} more"] if more else cells

    def answer_cells(self, answer: Mapping[str, Any]) -> dict[str, str]:
        """Return predicted, probability and ``p_<class>``, named as in predictions.csv."""
        probabilities = answer["probabilities"]
        best = max(probabilities, key=lambda name: probabilities[name])
        return {
            "predicted": best,
            "probability": f"{probabilities[best]:.9f}",
            **{
                _PROBABILITY_PREFIX + name: f"{probability:.9f}"
                for name, probability in probabilities.items()
            },
        }

    @classmethod
    def outputs_from_answers(
        cls, answers: Sequence[Mapping[str, Any]], targets: Sequence[str]
    ) -> tuple[Self, Outputs]:
        """Return probabilities by class name; 0 for classes unknown to the model."""
        names = tuple(sorted({*answers[0]["probabilities"], *targets}))
        outputs = np.array(
            [[answer["probabilities"].get(name, 0.0) for name in names] for answer in answers],
            np.float64,
        )
        return cls(names), outputs

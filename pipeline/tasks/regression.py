"""Regression: one number a video. Outputs are numbers in the unit of the targets, [N, 1].

The mean and the standard deviation of the training targets are layers of the model: it is trained
on standardised numbers, and its outputs have the unit of the targets.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from pipeline.common.bootstrap import Resampling, Score
from pipeline.common.errors import PipelineError
from pipeline.tasks.settings import TaskSection
from pipeline.tasks.task import (
    BaselineClips,
    ClipFeatures,
    Guess,
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

COVERAGE = 0.9  # of the prediction intervals
_LEAST_ERROR = 0.1  # of the standard deviation of the targets, to weight streams

_COLUMNS = ("value", "predicted", "low", "high", "scale")  # of predictions.csv
_MAX_RESIDUALS = 10  # in the table of the largest errors


@dataclass(frozen=True)
class Regression(Task):
    """One number a video.

    Attributes:
        mean, deviation: mean and standard deviation of the training targets, or of the test
            targets where those are unknown.
        unit: of the targets, such as ``km/h``; may be empty.
        margin: half of the width of a prediction interval. None before calibration, and with too
            few validation videos.
    """

    type: ClassVar[str] = "regression"
    training_metric: ClassVar[str] = "mae"
    headline_metrics: ClassVar[tuple[str, ...]] = ("mae", "r2")
    compared_metrics: ClassVar[tuple[str, ...]] = ("mae", "rmse", "r2")
    lower_is_better: ClassVar[frozenset[str]] = frozenset({"mae", "rmse"})
    video_score: ClassVar[str] = "closeness"
    baselines: ClassVar[Mapping[str, str]] = {
        "mean": "the mean of the training targets, for every video",
        "median": "the median of the training targets, for every video",
    }
    headline_chart: ClassVar[str] = "scatter"
    metric_descriptions: ClassVar[Mapping[str, str]] = {
        "mae": "mean absolute error; lower is better",
        "rmse": "root of the mean squared error; lower is better",
        "r2": "proportion of the variance that the model explains; 0 is as good as the mean",
        "spearman": "correlation of the ranks of predicted and actual values",
        "closeness": "mean of 1 - |error| / standard deviation of the training targets, at least 0",
        "interval_coverage": "proportion of videos whose value is in the 90 % prediction interval",
        "closeness_frames_shuffled": "closeness with the frames of each clip shuffled",
        "closeness_length_only": "closeness of a model whose only input is the number of frames",
    }
    answer_types: ClassVar[Mapping[str, ScalarType]] = {
        "value": "double",
        "low": "double",
        "high": "double",
    }
    segment_fields: ClassVar[tuple[str, ...]] = ("value",)

    mean: float
    deviation: float
    unit: str = ""
    margin: float | None = None

    # Learnt from the training split, and saved as JSON.

    @classmethod
    def learn(cls, targets: Sequence[str], section: TaskSection) -> Self:
        """Learn mean and standard deviation.

        Raises:
            PipelineError: all targets are equal.
        """
        values = _values(targets)
        if values.min() == values.max():
            raise PipelineError(
                "The training targets have no variance. Expected different values. Received: "
                f"{targets[0]} for all {len(targets)} videos. Correct the labels table."
            )
        return cls(float(values.mean()), float(values.std()), section.unit)

    def to_json(self) -> dict[str, Any]:
        return {
            "mean": self.mean,
            "deviation": self.deviation,
            "unit": self.unit,
            "margin": self.margin,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        return cls(**value)

    def summary(self) -> str:
        spread = f"mean {self.mean:.4g}, standard deviation {self.deviation:.4g}"
        return f"a number{f' in {self.unit}' if self.unit else ''} ({spread} in training)"

    # Training.

    def encode(self, targets: Sequence[str]) -> NDArray[np.float32]:
        """Return float32 [N, 1], in the unit of the targets."""
        return _values(targets)[:, None].astype(np.float32)

    def stream_head(self, features: ClipFeatures) -> "keras.KerasTensor":
        """Return numbers float32 [B, 1], in the unit of the targets."""
        import keras

        standardised = keras.layers.Dense(1, dtype="float32", name="standardised")(features.clip)
        return keras.layers.Rescaling(self.deviation, self.mean, dtype="float32", name="value")(
            standardised
        )

    def head(
        self,
        streams: Mapping[str, StreamOutput],
        mask: "keras.KerasTensor",  # noqa: ARG002
    ) -> "keras.KerasTensor":
        """Return numbers float32 [B, 1], in the unit of the targets."""
        from pipeline.tasks.heads import fuse

        return fuse(streams)

    def loss(
        self, *, label_smoothing: float, balanced_on: NDArray[Any] | None = None
    ) -> "keras.losses.Loss":
        """Return the Huber loss of standardised numbers."""
        from pipeline.tasks.heads import StandardisedHuber

        if label_smoothing:
            raise PipelineError(
                "params.yaml: train.label_smoothing: expected 0, because task.type is regression. "
                f"Received: {label_smoothing:g}. Set it to 0."
            )
        if balanced_on is not None:
            raise PipelineError(
                "params.yaml: train.class_weights: expected none, because task.type is regression. "
                "Received: balanced. Set it to none."
            )
        return StandardisedHuber(self.deviation)

    def metrics(self) -> "list[keras.metrics.Metric]":
        import keras

        return [keras.metrics.MeanAbsoluteError(name=self.training_metric)]

    # After training.

    def fusion_loss(self, encoded: NDArray[Any], outputs: "tf.Tensor") -> float:
        """Return the negative log-likelihood of normal errors with the fitted deviation.

        The deviation is at least a tenth of that of the targets: a single video that happens to
        be right says little.
        """
        squared = np.square(np.asarray(outputs) - encoded).mean()
        return float(np.log(squared + (_LEAST_ERROR * self.deviation) ** 2) / 2)

    def calibrate(
        self,
        model: "keras.Model",  # noqa: ARG002
        outputs: Outputs,
        targets: Sequence[str],
        videos: NDArray[np.int64],
    ) -> Self:
        """Fit the margin of the prediction intervals by split conformal prediction.

        The margin is the k-th smallest absolute error of the n validation videos, where
        k = ceil(0.9 (n + 1)), so that an interval contains the value of a new video of the same
        kind with a probability of at least 0.9. Fewer than nine videos have no such k. Source:
        Lei et al., Distribution-Free Predictive Inference for Regression, 2018, arXiv 1604.04173.
        """
        errors = np.sort(np.abs(self.combine_clips(outputs, videos)[:, 0] - _values(targets)))
        k = math.ceil(COVERAGE * (len(errors) + 1))
        if k > len(errors):
            logger.warning(
                "%d validation videos are too few for prediction intervals; at least 9 are needed.",
                len(errors),
            )
            return replace(self, margin=None)
        logger.info("prediction intervals of ± %.4g %s", errors[k - 1], self.unit)
        return replace(self, margin=float(errors[k - 1]))

    def without_calibration(self) -> Self:
        return replace(self, margin=None)

    def calibration(self, model: "keras.Model") -> dict[str, float]:  # noqa: ARG002
        return {} if self.margin is None else {"interval_margin": self.margin}

    # Scores.

    def terms(self, targets: Sequence[str], outputs: Outputs) -> NDArray[np.float64]:
        """Return for each video 1, |error|, error ** 2, y, y ** 2 and closeness.

        y is the standardised target, so that sums of squares stay exact.
        """
        errors = self._errors(targets, outputs)
        actual = (_values(targets) - self.mean) / self.deviation
        return np.stack(
            [
                np.ones(len(errors)),
                np.abs(errors),
                errors**2,
                actual,
                actual**2,
                self.video_scores(targets, outputs),
            ],
            axis=1,
        )

    def scores(self, sums: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        videos, absolute, squared, actual, actual_squared, closeness = np.moveaxis(sums, -1, 0)
        variance = (actual_squared - actual**2 / videos) * self.deviation**2
        with np.errstate(divide="ignore", invalid="ignore"):  # all targets are equal
            r2 = np.where(variance > 0, 1 - squared / variance, np.nan)
        return {
            "mae": absolute / videos,
            "rmse": np.sqrt(squared / videos),
            "r2": r2,
            "closeness": closeness / videos,
        }

    def video_scores(self, targets: Sequence[str], outputs: Outputs) -> NDArray[np.float64]:
        """Return max(0, 1 - |error| / standard deviation of the training targets)."""
        return np.maximum(0.0, 1 - np.abs(self._errors(targets, outputs)) / self.deviation)

    def other_scores(
        self, targets: Sequence[str], outputs: Outputs, resampling: Resampling
    ) -> dict[str, Score]:
        """Return Spearman's rank correlation and the coverage of the prediction intervals."""
        from scipy.stats import rankdata

        actual, predicted = _values(targets), outputs[:, 0]

        def correlation(counts: NDArray[np.int32]) -> float:
            ranks = [rankdata(np.repeat(side, counts)) for side in (actual, predicted)]
            with np.errstate(divide="ignore", invalid="ignore"):  # all values are equal
                return float(np.corrcoef(*ranks)[0, 1])

        resampled = [correlation(row) for counts in resampling.video_counts() for row in counts]
        value = correlation(np.ones(len(actual), np.int32))
        scores = {"spearman": Score(value, resampling.interval(np.array(resampled)))}
        if self.margin is not None:
            is_inside = np.abs(self._errors(targets, outputs)) <= self.margin
            scores["interval_coverage"] = resampling.mean_score(is_inside)
        return scores

    def tables(
        self,
        targets: Sequence[str],
        outputs: Outputs,
        resampling: Resampling,  # noqa: ARG002
    ) -> list[Table]:
        errors = self._errors(targets, outputs)
        worst = np.argsort(-np.abs(errors), kind="stable")[:_MAX_RESIDUALS].tolist()
        rows = [
            {
                "actual": targets[index],
                "predicted": f"{outputs[index, 0]:.6g}",
                "error": f"{errors[index]:.6g}",
            }
            for index in worst
        ]
        columns = ("actual", "predicted", "error")
        return [Table("residuals", "Largest errors", columns, rows, videos=worst)]

    def charts(
        self,
        targets: Sequence[str],
        outputs: Outputs,
        videos: Sequence[str],  # noqa: ARG002
    ) -> "list[Chart]":
        from pipeline.tasks.regression_charts import residual_chart, scatter_chart

        actual, predicted = _values(targets), outputs[:, 0]
        return [
            scatter_chart(actual, predicted, margin=self.margin, unit=self.unit),
            residual_chart(actual, predicted, unit=self.unit),
        ]

    def baseline_outputs(self, train: BaselineClips, test: BaselineClips) -> dict[str, Outputs]:
        values = _values(train.video_targets)
        return {
            name: np.full((len(test.targets), 1), value)
            for name, value in (("mean", values.mean()), ("median", np.median(values)))
        }

    def length_baseline(
        self, frames: NDArray[np.int64], targets: Sequence[str], groups: Sequence[str]
    ) -> NDArray[np.float64]:
        """Predict the value of each clip from its length; see ``predict_from_lengths``."""
        from pipeline.tasks.length_baseline import predict_from_lengths

        predicted = predict_from_lengths(frames, _values(targets), groups)
        return self.video_scores(targets, predicted[:, None])

    def constant_baseline(self, targets: Sequence[str]) -> float:
        """Return the mean closeness of the median of the targets."""
        median = np.full((len(targets), 1), np.median(_values(targets)))
        return float(self.video_scores(targets, median).mean())

    # Two models.

    def gain_unit(self, metric: str) -> float:
        """Return 1 for r2, and ``deviation`` for the other metrics."""
        return 1.0 if metric == "r2" else self.deviation

    # Predictions as text, and the review.

    def prediction_cells(self, target: str, output: Outputs) -> dict[str, str]:
        """Return value, predicted, the prediction interval, and the scale of ``closeness``."""
        low, high = self._interval(output)
        return {
            "value": target,
            "predicted": f"{output[0]:.9g}",
            "low": "" if low is None else f"{low:.9g}",
            "high": "" if high is None else f"{high:.9g}",
            "scale": f"{self.deviation:.9g}",
        }

    @classmethod
    def read_predictions(
        cls, rows: Sequence[Mapping[str, str]], *, where: str
    ) -> tuple[Self, list[str], Outputs]:
        missing = [column for column in _COLUMNS if column not in rows[0]]
        if missing:
            raise PipelineError(
                f"{where}: expected the columns {', '.join(_COLUMNS)}. Received: "
                f"{', '.join(rows[0])}"
            )
        predicted = []
        for line, row in enumerate(rows, start=2):
            try:
                predicted.append([float(row["predicted"])])
                known = [float(cell) for cell in (row["value"], row["scale"], row["high"] or "0")]
            except ValueError:
                known = [math.nan]
            if not np.isfinite(known).all():
                received = ", ".join(f"{name}={row[name]!r}" for name in _COLUMNS)
                raise PipelineError(
                    f"{where}, line {line}: expected numbers in value, predicted and scale, and in "
                    f"high or nothing. Received: {received}. Run: dvc repro evaluate"
                )
        targets = [row["value"] for row in rows]
        margin = None
        if rows[0]["high"]:
            margin = float(rows[0]["high"]) - predicted[0][0]
        task = cls(float(_values(targets).mean()), float(rows[0]["scale"]), margin=margin)
        return task, targets, np.array(predicted, np.float64)

    def guesses(self, target: str, output: Outputs) -> list[Guess]:
        """Return the predicted value with its closeness."""
        closeness = float(self.video_scores([target], output[None])[0])
        return [Guess(self._text(float(output[0])), closeness, closeness >= 0.5)]

    # Serving.

    def answer(self, output: Outputs, *, top_k: int) -> dict[str, Any]:  # noqa: ARG002
        """Return the value and the prediction interval, None without one."""
        low, high = self._interval(output)
        return {"value": float(output[0]), "low": low, "high": high}

    def answer_line(self, answer: Mapping[str, Any], *, shown: int) -> list[str]:  # noqa: ARG002
        text = self._text(answer["value"])
        if answer["low"] is None:
            return [text]
        return [f"{text} ({answer['low']:.4g} to {answer['high']:.4g})"]

    def answer_cells(self, answer: Mapping[str, Any]) -> dict[str, str]:
        return {
            "predicted": f"{answer['value']:.9g}",
            "low": "" if answer["low"] is None else f"{answer['low']:.9g}",
            "high": "" if answer["high"] is None else f"{answer['high']:.9g}",
        }

    @classmethod
    def outputs_from_answers(
        cls, answers: Sequence[Mapping[str, Any]], targets: Sequence[str]
    ) -> tuple[Self, Outputs]:
        """Return the values; ``closeness`` is relative to the deviation of ``targets``."""
        values = _values(targets)
        task = cls(float(values.mean()), float(values.std()) or 1.0)
        return task, np.array([[answer["value"]] for answer in answers], np.float64)

    def _errors(self, targets: Sequence[str], outputs: Outputs) -> NDArray[np.float64]:
        return np.asarray(outputs[:, 0] - _values(targets), np.float64)

    def _interval(self, output: Outputs) -> tuple[float, float] | tuple[None, None]:
        if self.margin is None:
            return None, None
        return float(output[0]) - self.margin, float(output[0]) + self.margin

    def _text(self, value: float) -> str:
        return f"{value:.4g} {self.unit}".strip()


def _values(targets: Sequence[str]) -> NDArray[np.float64]:
    return np.array([float(target) for target in targets], np.float64)

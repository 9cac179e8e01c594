"""A second, minimal task: predict the mean brightness of a video, a number.

``register_brightness`` makes it known as ``task.type: brightness``. The labels table has a column
``value``. Tests run it through the pipeline to show that only ``tasks/`` depends on the task.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from pipeline.common.errors import PipelineError
from pipeline.tasks.settings import TaskSection
from pipeline.tasks.targets import Targets, register_targets
from pipeline.tasks.task import ClipFeatures, Outputs, Task, register_task

if TYPE_CHECKING:
    import keras


class BrightnessTargets(Targets):
    """One number a video."""

    columns = ("value",)

    def read(self, cells: Mapping[str, str], *, where: str) -> str:
        try:
            float(cells["value"])
        except ValueError:
            raise PipelineError(
                f"{where}: value must be a number. Received: {cells['value']!r}"
            ) from None
        return cells["value"]


@dataclass(frozen=True)
class Brightness(Task):
    """Outputs are [N, 1]: brightness minus its mean over the training split."""

    type = "brightness"
    training_metric = "mean_squared_error"
    headline_metrics = ("mean_squared_error", "closeness")
    compared_metrics = ("mean_squared_error",)
    lower_is_better = frozenset({"mean_squared_error"})
    video_score = "closeness"
    answer_types = {"value": "double"}  # noqa: RUF012
    segment_fields = ("value",)

    mean: float

    @classmethod
    def learn(cls, targets: Sequence[str], section: TaskSection) -> Self:  # noqa: ARG003
        return cls(float(np.mean([float(target) for target in targets])))

    def to_json(self) -> dict[str, Any]:
        return {"mean": self.mean}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        return cls(**value)

    def encode(self, targets: Sequence[str]) -> NDArray[np.float32]:
        return np.array([[float(target) - self.mean] for target in targets], np.float32)

    def stream_head(self, features: ClipFeatures) -> "keras.KerasTensor":
        import keras

        return keras.layers.Dense(1, dtype="float32", name="value")(features.clip)

    def head(self, streams, mask) -> "keras.KerasTensor":  # noqa: ARG002
        from pipeline.tasks.heads import fuse

        return fuse(streams)

    def loss(self, *, label_smoothing, balanced_on=None) -> "keras.losses.Loss":  # noqa: ARG002
        import keras

        return keras.losses.MeanSquaredError()

    def metrics(self) -> "list[keras.metrics.Metric]":
        import keras

        return [keras.metrics.MeanSquaredError(name=self.training_metric)]

    def terms(self, targets: Sequence[str], outputs: Outputs) -> NDArray[np.float64]:
        errors = self._errors(targets, outputs)
        return np.stack(
            [np.ones(len(errors)), errors**2, self.video_scores(targets, outputs)], axis=1
        )

    def scores(self, sums: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        videos, squares, closeness = np.moveaxis(sums, -1, 0)
        return {"mean_squared_error": squares / videos, "closeness": closeness / videos}

    def video_scores(self, targets: Sequence[str], outputs: Outputs) -> NDArray[np.float64]:
        return 1 / (1 + np.abs(self._errors(targets, outputs)))

    def prediction_cells(self, target: str, output: Outputs) -> dict[str, str]:
        return {"value": target, "predicted": f"{self._value(output):.9g}"}

    @classmethod
    def read_predictions(
        cls, rows: Sequence[Mapping[str, str]], *, where: str
    ) -> tuple[Self, list[str], Outputs]:
        if rows[0].keys() != {"value", "predicted"}:
            raise PipelineError(f"{where}: expected the columns value, predicted.")
        outputs = np.array([[float(row["predicted"])] for row in rows])
        return cls(mean=0.0), [row["value"] for row in rows], outputs

    def answer(self, output: Outputs, *, top_k: int) -> dict[str, Any]:  # noqa: ARG002
        return {"value": self._value(output)}

    def answer_line(self, answer: Mapping[str, Any], *, shown: int) -> list[str]:  # noqa: ARG002
        return [f"{answer['value']:.4f}"]

    def answer_cells(self, answer: Mapping[str, Any]) -> dict[str, str]:
        return {"predicted": f"{answer['value']:.9f}"}

    @classmethod
    def outputs_from_answers(
        cls,
        answers: Sequence[Mapping[str, Any]],
        targets: Sequence[str],  # noqa: ARG003
    ) -> tuple[Self, Outputs]:
        return cls(mean=0.0), np.array([[answer["value"]] for answer in answers])

    def convert(self, outputs: Outputs, wanted: Task) -> Outputs:
        assert isinstance(wanted, Brightness)
        return outputs + self.mean - wanted.mean

    def _value(self, output: Outputs) -> float:
        return float(output[0]) + self.mean

    def _errors(self, targets: Sequence[str], outputs: Outputs) -> NDArray[np.float64]:
        return outputs[:, 0] - self.encode(targets)[:, 0]


def register_brightness() -> None:
    """Make ``task.type: brightness`` known in this process."""
    register_targets("brightness", BrightnessTargets())
    register_task(Brightness)

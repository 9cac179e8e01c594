"""The section ``task`` of params.yaml."""

from pydantic import PositiveInt, field_validator

from pipeline.common.settings import OpenFraction, Section, Text
from pipeline.tasks.targets import target_types


class TaskSection(Section):
    """What the model is asked.

    Attributes:
        type: name of a task.
        top_k: k of the top-k accuracy.
        target_accuracy: accuracy wanted of confident answers. The confidence from which on it is
            reached on validation videos is fitted after training; answers below are marked.
    """

    type: Text = "classification"
    top_k: PositiveInt = 2
    target_accuracy: OpenFraction = 0.95

    @field_validator("type")
    @classmethod
    def _is_known(cls, value: str) -> str:
        if value not in target_types():
            raise ValueError(f"Input should be one of {', '.join(target_types())}")
        return value

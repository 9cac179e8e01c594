"""The section ``data_check`` of params.yaml."""

from typing import Self

from pydantic import model_validator

from pipeline.params.fields import NonNegative, Section


class ThresholdParams(Section):
    """From which value on a check warns or fails; null: never."""

    warn: NonNegative | None
    fail: NonNegative | None

    @model_validator(mode="after")
    def _warns_first(self) -> Self:
        if self.warn is not None and self.fail is not None and self.warn > self.fail:
            raise ValueError(f"warn must not be above fail (received {self.warn:g}, {self.fail:g})")
        return self


class DataCheckParams(Section):
    """What of the data warns before a training, or stops it."""

    balance: ThresholdParams
    drift: ThresholdParams
    duplicates: ThresholdParams
    new_classes: ThresholdParams
    relabelled: ThresholdParams
    vanished_classes: ThresholdParams

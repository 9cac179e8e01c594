"""Types that the sections of params.yaml are made of."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

# PyYAML reads "2e-3" as text, DVC as a number: these fields take either.
Share = Annotated[float, Field(strict=False, allow_inf_nan=False, gt=0, lt=1)]
Positive = Annotated[float, Field(strict=False, allow_inf_nan=False, gt=0)]
NonNegative = Annotated[float, Field(strict=False, allow_inf_nan=False, ge=0)]
Finite = Annotated[float, Field(strict=False, allow_inf_nan=False)]
Fraction = Annotated[float, Field(strict=False, allow_inf_nan=False, ge=0, le=1)]
BelowOne = Annotated[float, Field(strict=False, allow_inf_nan=False, ge=0, lt=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Side = Annotated[int, Field(ge=2, le=8192)]  # pixels; video files have no smaller ones
Text = Annotated[str, StringConstraints(min_length=1)]


class Section(BaseModel):
    """A part of params.yaml that knows no key but its own."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

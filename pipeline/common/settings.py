"""Building blocks of the sections of params.yaml, and parameters by dotted key."""

import json
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, StringConstraints

# PyYAML reads "2e-3" as text, DVC reads it as a number: these fields accept both.
_FLOAT = Field(strict=False, allow_inf_nan=False)
Finite = Annotated[float, _FLOAT]
Positive = Annotated[float, _FLOAT, Field(gt=0)]
NonNegative = Annotated[float, _FLOAT, Field(ge=0)]
Fraction = Annotated[float, _FLOAT, Field(ge=0, le=1)]
OpenFraction = Annotated[float, _FLOAT, Field(gt=0, lt=1)]
BelowOne = Annotated[float, _FLOAT, Field(ge=0, lt=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Text = Annotated[str, StringConstraints(min_length=1)]


class Section(BaseModel):
    """A section of params.yaml: frozen, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ComputeSection(Section):
    """Resources of the machine. Never changes a result, so no stage depends on it."""

    workers: NonNegativeInt = 0


def flatten(params: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested params to dotted keys.

    >>> flatten({"train": {"epochs": 3, "augmentation": {"flip": False}}})
    {'train.epochs': 3, 'train.augmentation.flip': False}
    """
    flat: dict[str, Any] = {}
    for key, value in params.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def flatten_as_text(params: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Flatten nested params to dotted keys, with values as JSON text (strings unquoted)."""
    return {
        key: value if isinstance(value, str) else json.dumps(value)
        for key, value in flatten(params, prefix).items()
    }


def value_from_text(text: str) -> Any:
    """Return the value that ``flatten_as_text`` writes as ``text``.

    >>> [value_from_text("0.5"), value_from_text("[1, 2]"), value_from_text("small_cnn")]
    [0.5, [1, 2], 'small_cnn']
    """
    try:
        return json.loads(text)
    except ValueError:
        return text


def short_names(keys: list[str], among: list[str]) -> dict[str, str]:
    """Return for each of ``keys`` the shortest ending that identifies it.

    An ending that only deeper keys share still identifies a key: beside
    train.fine_tuning.learning_rate, train.learning_rate is learning_rate. Two seeds are
    catalog.seed and train.seed.

    Args:
        keys: dotted keys.
        among: all dotted keys.
    """
    return {key: _short_name(key, among) for key in keys}


def _short_name(key: str, among: list[str]) -> str:
    parts = key.split(".")
    for count in range(1, len(parts)):
        ending = parts[-count:]
        rivals = [other.split(".") for other in among if other != key]
        if not any(len(other) <= len(parts) and other[-count:] == ending for other in rivals):
            return ".".join(ending)
    return key

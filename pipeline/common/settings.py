"""Base of the sections of params.yaml: types, error messages, params by dotted key."""

import json
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
)

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

_LONGEST_VALUE = 80  # characters of a received value in a message


class Section(BaseModel):
    """A section of params.yaml: frozen, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def describe_errors(error: ValidationError, settings: type[BaseModel]) -> str:
    """Return a sentence for each mistake: dotted key, rule, value received.

    Args:
        error: of the validation.
        settings: model that was validated; an unknown key is compared with its keys.
    """
    messages = []
    for detail in error.errors():
        key = ".".join(str(part) for part in detail["loc"]) or "content"
        message = f"{key}: {detail['msg'].removeprefix('Value error, ')}"
        if detail["type"] == "extra_forbidden":
            similar = _similar_key(detail["loc"], settings)
            message = f"{key}: unknown key. "
            message += (
                f"Did you mean {similar}?" if similar else "Remove it or correct its spelling"
            )
        elif detail["type"] == "missing":
            message = f"{key}: missing. Add this key"
        elif not isinstance(detail["input"], dict):
            message += f". Received: {detail['input']!r:.{_LONGEST_VALUE}}"
        messages.append(message)
    return "; ".join(messages)


def _similar_key(loc: Sequence[str | int], settings: type[BaseModel]) -> str:
    """Return the dotted key that is spelt most like an unknown one; "" if none is similar."""
    section: Any = settings
    for part in loc[:-1]:
        section = _keys(section).get(str(part))
    names = get_close_matches(str(loc[-1]).lower(), _keys(section), n=1)
    return ".".join([*map(str, loc[:-1]), *names]) if names else ""


def _keys(section: Any) -> dict[str, Any]:
    """Return the keys of a section, with the types of their values."""
    if not (isinstance(section, type) and issubclass(section, BaseModel)):
        return {}
    fields = section.model_fields.items()
    return {field.alias or name: field.annotation for name, field in fields}


def flatten(params: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested params to dotted keys; an empty mapping stays a value.

    >>> flatten({"train": {"epochs": 3, "augmentation": {"flip": False}}})
    {'train.epochs': 3, 'train.augmentation.flip': False}
    """
    flat: dict[str, Any] = {}
    for key, value in params.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def flatten_as_text(params: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Flatten nested params to dotted keys, with values as JSON text (strings unquoted)."""
    flat = flatten(params, prefix).items()
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in flat}


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

    Deeper keys do not count: train.learning_rate is learning_rate although there is
    train.fine_tuning.learning_rate. The two seeds are catalog.seed and train.seed.

    Args:
        keys: dotted keys.
        among: all dotted keys.
    """
    names = {}
    for key in keys:
        parts = key.split(".")
        others = [other.split(".") for other in among if other != key]
        rivals = [other for other in others if len(other) <= len(parts)]
        for count in range(1, len(parts) + 1):
            if not any(other[-count:] == parts[-count:] for other in rivals):
                break
        names[key] = ".".join(parts[-count:])
    return names

"""Nested params by dotted key."""

import json
from collections.abc import Mapping
from typing import Any


def flat_params(params: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Flatten nested params to dotted keys, values as they would look in JSON.

    >>> flat_params({"train": {"epochs": 3, "augmentation": {"flip": False}}})
    {'train.epochs': '3', 'train.augmentation.flip': 'false'}
    """
    return {
        key: value if isinstance(value, str) else json.dumps(value)
        for key, value in flat_values(params, prefix).items()
    }


def parsed_value(text: str) -> Any:
    """Return the value that ``flat_params`` shows as ``text``.

    >>> [parsed_value("0.5"), parsed_value("[1, 2]"), parsed_value("small_cnn")]
    [0.5, [1, 2], 'small_cnn']
    """
    try:
        return json.loads(text)
    except ValueError:
        return text


def flat_values(params: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested params to dotted keys, values as they are."""
    flat: dict[str, Any] = {}
    for key, value in params.items():
        if isinstance(value, Mapping):
            flat |= flat_values(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def short_names(keys: list[str], among: list[str]) -> dict[str, str]:
    """Return for each of ``keys`` the shortest end of it that cannot be taken for another key.

    A key owns an end that only deeper keys share: beside train.fine_tuning.learning_rate,
    train.learning_rate is learning_rate. Two seeds are catalog.seed and train.seed.

    Args:
        keys: dotted.
        among: all dotted keys that there are.
    """
    return {key: _short_name(key, among) for key in keys}


def _short_name(key: str, among: list[str]) -> str:
    parts = key.split(".")
    for count in range(1, len(parts)):
        end = parts[-count:]
        rivals = [other.split(".") for other in among if other != key]
        if not any(len(other) <= len(parts) and other[-count:] == end for other in rivals):
            return ".".join(end)
    return key

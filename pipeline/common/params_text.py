"""Read params.yaml, and change values in its text; comments and all other lines stay."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from pipeline.common.errors import PipelineError
from pipeline.common.files import replacing_file
from pipeline.common.paths import go_to_project

# A value on one line, up to its comment: quoted, a flow mapping, a flow sequence, or plain.
_VALUE = (
    r"(?:\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\n]|'')*'|\{[^}\n]*\}|\[[^\n#]*\]"
    r"|(?:[^\s#]|(?<=\S)#|[ \t]+(?=[^\s#]))*) *"
)


def read_yaml(path: Path) -> Any:
    """Return the content of a YAML file of the project.

    Raises:
        PipelineError: the file is missing or is not YAML in UTF-8.
    """
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PipelineError(f"{path}: no such file in {Path.cwd()}. {go_to_project()}") from None
    except UnicodeDecodeError as error:
        raise PipelineError(
            f"{path}: expected text in UTF-8. Received: {error.reason} at byte {error.start}. "
            "Save the file as UTF-8."
        ) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or " ".join(str(error).split())
        raise PipelineError(f"{path}{line}: not valid YAML: {problem}. Correct it.") from None


def set_values(path: Path, values: Mapping[str, Any]) -> None:
    """Set values by dotted key in the file ``path``.

    Raises:
        PipelineError: the file lacks a key, or its value is not on one line.
    """
    text = with_values(path.read_text(encoding="utf-8"), values, where=path)
    with replacing_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def with_values(text: str, values: Mapping[str, Any], *, where: Path) -> str:
    """Return the text of params.yaml with other values; each comment keeps its column.

    Raises:
        PipelineError: as ``set_values``.
    """
    for key, value in values.items():
        *outer, last = key.split(".")
        lines = r"[^\n]*\n(?:[ #][^\n]*\n|\n)*?"
        before = "".join(rf"{'  ' * depth}{part}:{lines}" for depth, part in enumerate(outer))
        before = rf"^{before}{'  ' * len(outer)}{last}: "
        match = re.search(rf"({before})({_VALUE})", text, re.MULTILINE)
        if match is None:
            raise PipelineError(
                f"{where}: expected the key {key} with its value on one line. Add it, with any "
                "value."
            )
        padded = f"{yaml_text(value)} ".ljust(len(match[2]))
        rest = text[match.end(2) :]
        padded = padded.rstrip() if rest.startswith("\n") or not rest else padded
        text = text[: match.end(1)] + padded + rest
        if not _has_value(text, key, value):
            raise PipelineError(
                f"{where}: the value of {key} cannot be replaced. Expected it on one line. "
                f"Received: {match[2].strip()}. Set it to {yaml_text(value)} by hand."
            )
    return text


def _has_value(text: str, key: str, value: Any) -> bool:
    try:
        return bool(value_at(yaml.safe_load(text), key) == value)
    except yaml.YAMLError:
        return False


def value_at(content: Any, key: str) -> Any:
    """Return the value of a dotted key in the content of params.yaml; None without the key.

    >>> value_at({"data": {"videos": "a"}}, "data.videos")
    'a'
    """
    for part in key.split("."):
        content = content.get(part) if isinstance(content, Mapping) else None
    return content


def yaml_text(value: Any) -> str:
    """Return YAML on one line.

    >>> yaml_text([16, 32]), yaml_text(False), yaml_text("")
    ('[16, 32]', 'false', '""')
    """
    if value == "":
        return '""'
    text = yaml.safe_dump(
        value, default_flow_style=True, sort_keys=False, width=10_000, allow_unicode=True
    )
    return text.removesuffix("...\n").strip()

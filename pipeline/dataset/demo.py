"""Point params.yaml at a demo data set, whose videos data/demo/dvc.yaml makes."""

import re
from pathlib import Path

from pipeline.common.errors import PipelineError
from pipeline.common.files import replacing_file

# Name of the demo data set -> values of params.yaml by section and key.
_DEMOS: dict[str, dict[str, dict[str, str]]] = {
    "classification": {"data": {"videos": "data/demo/videos"}},
    "caption": {"data": {"videos": "data/demo/videos_caption"}},
    "multilabel": {"data": {"videos": "data/demo/videos_multilabel"}},
    "regression": {
        "data": {"videos": "data/demo/videos_regression"},
        "task": {"unit": "pixels/s"},
    },
    "side_inputs": {
        "data": {
            "videos": "data/demo/videos_side_inputs",
            "side_inputs": "{camera_metres: number, site: category}",
        },
        "task": {"type": "classification"},
    },
}


def use_demo(name: str, params: Path) -> None:
    """Set ``data`` and ``task`` in params.yaml and keep all else, comments included.

    Raises:
        PipelineError: there is no such demo data set, or the file lacks a key.
    """
    if name not in _DEMOS:
        raise PipelineError(f"NAME must be one of {', '.join(_DEMOS)}. Received: {name}")
    values: dict[str, dict[str, str]] = {
        "data": {"labels": "", "side_inputs": "{}", **_DEMOS[name]["data"]},
        "task": {"type": name, "unit": "", **_DEMOS[name].get("task", {})},
    }
    text = params.read_text(encoding="utf-8")
    for section, keys in values.items():
        for key, value in keys.items():
            text = _set(text, section, key, value, where=params)
    with replacing_file(params) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _set(text: str, section: str, key: str, value: str, *, where: Path) -> str:
    """Replace the value of a key in the text of params.yaml; a comment stays in its column."""
    before = rf"^{section}:[^\n]*\n(?:[ #][^\n]*\n|\n)*?  {key}: "
    match = re.search(rf'({before})((?:"[^"]*"|\{{[^}}\n]*\}}|[^\s#]*) *)', text, re.MULTILINE)
    if match is None:
        raise PipelineError(
            f"{where}: expected the key {section}.{key} with its value on one line. Add it, with "
            "any value."
        )
    padded = f"{value or chr(34) * 2} ".ljust(len(match[2]))
    rest = text[match.end(2) :]
    return text[: match.end(1)] + (padded.rstrip() if rest.startswith("\n") else padded) + rest

"""Point params.yaml at the demo data set of a task, whose videos data/demo/dvc.yaml makes."""

import re
from pathlib import Path

from pipeline.common.errors import PipelineError
from pipeline.common.files import replacing_file

# Values of params.yaml that a demo set may change.
_DEFAULTS: dict[str, dict[str, str]] = {
    "data": {"labels": ""},
    "task": {"unit": "", "background": ""},
    "extract": {"frames": "20"},
    "model": {"temporal.bidirectional": "false"},
}

# Value of task.type -> values of params.yaml by section and key.
_DEMOS: dict[str, dict[str, dict[str, str]]] = {
    "classification": {"data": {"videos": "data/demo/videos"}},
    "multilabel": {"data": {"videos": "data/demo/videos_multilabel"}},
    "regression": {
        "data": {"videos": "data/demo/videos_regression"},
        "task": {"unit": "pixels/s"},
    },
    "frames": {
        "data": {"videos": "data/demo/videos_frames"},
        "extract": {"frames": "40"},
        "model": {"temporal.bidirectional": "true"},
    },
}


def use_demo(task: str, params: Path) -> None:
    """Set ``data``, ``task`` and what its recipe needs in params.yaml, and keep all else.

    Raises:
        PipelineError: the task has no demo data set, or the file lacks a key.
    """
    if task not in _DEMOS:
        raise PipelineError(f"TASK must be one of {', '.join(_DEMOS)}. Received: {task}")
    text = params.read_text(encoding="utf-8")
    text = _set(text, "task", "type", task, where=params)
    for section, defaults in _DEFAULTS.items():
        for key, value in {**defaults, **_DEMOS[task].get(section, {})}.items():
            text = _set(text, section, key, value, where=params)
    with replacing_file(params) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _set(text: str, section: str, key: str, value: str, *, where: Path) -> str:
    """Replace the value of a key in the text of params.yaml; a comment stays in its column."""
    *outer, name = [section, *key.split(".")]
    lines = r"[^\n]*\n(?:[ #][^\n]*\n|\n)*?"
    before = "".join(rf"{'  ' * depth}{part}:{lines}" for depth, part in enumerate(outer))
    before = rf"^{before}{'  ' * len(outer)}{name}: "
    match = re.search(rf'({before})((?:"[^"]*"|[^\s#]*) *)', text, re.MULTILINE)
    if match is None:
        raise PipelineError(f"{where}: expected the key {section}.{key}. Add it, with any value.")
    padded = f"{value or chr(34) * 2} ".ljust(len(match[2]))
    rest = text[match.end(2) :]
    return text[: match.end(1)] + (padded.rstrip() if rest.startswith("\n") else padded) + rest

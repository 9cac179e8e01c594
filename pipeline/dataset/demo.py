"""Point params.yaml at a demo data set, whose videos data/demo/dvc.yaml makes."""

import re
from pathlib import Path

from pipeline.common.errors import PipelineError
from pipeline.common.files import replacing_file

# Values of params.yaml that a demo data set may change.
_DEFAULTS: dict[str, dict[str, str]] = {
    "data": {"labels": "", "side_inputs": "{}"},
    "task": {"unit": "", "background": ""},
    "extract": {"frames": "20"},
    "model": {"temporal.bidirectional": "false"},
}

# Name of the demo data set -> values of params.yaml by section and key.
_DEMOS: dict[str, dict[str, dict[str, str]]] = {
    "classification": {"data": {"videos": "data/demo/videos"}},
    "caption": {
        "data": {"videos": "data/demo/videos_caption"},
        "extract": {"frames": "14"},
        "model": {"temporal.bidirectional": "true"},
    },
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
    "side_inputs": {
        "data": {
            "videos": "data/demo/videos_side_inputs",
            "side_inputs": "{camera_metres: number, site: category}",
        },
        "task": {"type": "classification"},
    },
}


def use_demo(name: str, params: Path) -> None:
    """Set ``data``, ``task``, ``register.name`` and what its recipe needs, and keep all else.

    Raises:
        PipelineError: there is no such demo data set, or the file lacks a key.
    """
    if name not in _DEMOS:
        raise PipelineError(f"NAME must be one of {', '.join(_DEMOS)}. Received: {name}")
    demo = _DEMOS[name]
    text = params.read_text(encoding="utf-8")
    text = _set(text, "task", "type", demo.get("task", {}).get("type", name), where=params)
    for section, defaults in _DEFAULTS.items():
        for key, value in {**defaults, **demo.get(section, {})}.items():
            text = _set(text, section, key, value, where=params)
    # Versions of one registered model have one task.
    model = "video-classifier" if name == "classification" else f"demo-{name.replace('_', '-')}"
    text = _set(text, "register", "name", model, where=params)
    with replacing_file(params) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _set(text: str, section: str, key: str, value: str, *, where: Path) -> str:
    """Replace the value of a key in the text of params.yaml; a comment stays in its column."""
    *outer, last = [section, *key.split(".")]
    lines = r"[^\n]*\n(?:[ #][^\n]*\n|\n)*?"
    before = "".join(rf"{'  ' * depth}{part}:{lines}" for depth, part in enumerate(outer))
    before = rf"^{before}{'  ' * len(outer)}{last}: "
    match = re.search(rf'({before})((?:"[^"]*"|\{{[^}}\n]*\}}|[^\s#]*) *)', text, re.MULTILINE)
    if match is None:
        raise PipelineError(
            f"{where}: expected the key {section}.{key} with its value on one line. Add it, with "
            "any value."
        )
    padded = f"{value or chr(34) * 2} ".ljust(len(match[2]))
    rest = text[match.end(2) :]
    return text[: match.end(1)] + (padded.rstrip() if rest.startswith("\n") else padded) + rest

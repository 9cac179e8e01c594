"""Point params.yaml at a demo data set, whose videos data/demo/dvc.yaml makes."""

from pathlib import Path
from typing import Any

from pipeline.common.errors import PipelineError
from pipeline.common.params_text import set_values

# Values of params.yaml that a demo data set may change.
_DEFAULTS: dict[str, Any] = {
    "data.labels": "",
    "data.side_inputs": {},
    "task.unit": "",
    "task.background": "",
    "extract.frames": 20,
    "model.cnn.pooling": "average",
    "model.temporal.bidirectional": False,
}

# Name of the demo data set -> values of params.yaml by dotted key.
_DEMOS: dict[str, dict[str, Any]] = {
    "classification": {"data.videos": "data/demo/videos"},
    "caption": {
        "data.videos": "data/demo/videos_caption",
        "extract.frames": 14,
        # The two motions of a video are learnt much faster from positions.
        "model.cnn.pooling": "flatten",
        "model.temporal.bidirectional": True,
    },
    "multilabel": {"data.videos": "data/demo/videos_multilabel"},
    "regression": {"data.videos": "data/demo/videos_regression", "task.unit": "pixels/s"},
    "frames": {
        "data.videos": "data/demo/videos_frames",
        "extract.frames": 40,
        # As for captions: with average, two of three seeds have not learnt it after 800 steps.
        "model.cnn.pooling": "flatten",
        "model.temporal.bidirectional": True,
    },
    "side_inputs": {
        "data.videos": "data/demo/videos_side_inputs",
        "data.side_inputs": {"camera_metres": "number", "site": "category"},
        "task.type": "classification",
    },
}


def use_demo(name: str, params: Path) -> None:
    """Set ``data``, ``task``, ``register.name`` and what its recipe needs, and keep all else.

    Raises:
        PipelineError: there is no such demo data set, or the file lacks a key.
    """
    if name not in _DEMOS:
        raise PipelineError(f"NAME must be one of {', '.join(_DEMOS)}. Received: {name}")
    # Versions of one registered model have one task.
    model = "video-classifier" if name == "classification" else f"demo-{name.replace('_', '-')}"
    set_values(params, {"task.type": name, **_DEFAULTS, **_DEMOS[name], "register.name": model})

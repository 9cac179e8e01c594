"""Which video a row of a request means, and whether it may be read."""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.base.errors import PipelineError
from pipeline.video.reading import WHOLE_VIDEO, Segment
from pipeline.video.source import source_name


@dataclass(frozen=True)
class VideoSource:
    """A video to classify, or a part. ``name`` is what messages call it: Video 2: left.mp4."""

    content: Path | bytes
    name: str
    segment: Segment = WHOLE_VIDEO


def source_of(row: Mapping[str, Any], *, number: int, path_root: str) -> VideoSource:
    """Return the one of ``video`` and ``path`` that the row has; None, NaN and "" are nothing.

    Args:
        row: column -> value.
        number: of the row, counted from 1, for messages.
        path_root: the folder that a path is relative to and must lie below, wherever its
            symbolic links lead; empty: no path is read.

    Raises:
        PipelineError: the row has neither or both, a path that may not be read, or a part
            that is none.
    """
    segment = _segment(row, number)
    given = {name: value for name in ("video", "path") if not _is_nothing(value := row.get(name))}
    match given:
        case {"video": bytes() as content, **others} if not others:
            name = f"Video {number}: {source_name(content)}"
            return VideoSource(_without_base64(content), name, segment)
        case {"path": str() as path, **others} if not others:
            name = f"Video {number}: {path}"
            return VideoSource(_below(path_root, path, name), name, segment)
    received = ", ".join(f"{name} of type {type(value).__name__}" for name, value in given.items())
    raise PipelineError(
        f"Video {number}: expected either the bytes of a video file in the column video (base64 "
        f"in JSON) or its path in the column path. Received: {received or 'neither'}"
    )


def _without_base64(content: bytes) -> bytes:
    """Return the bytes of the video: MLflow decodes base64 in data frames, not in ``inputs``."""
    try:
        return base64.b64decode(content, validate=True)
    except binascii.Error:
        return content


def _below(path_root: str, path: str, name: str) -> Path:
    if not path_root:
        raise PipelineError(
            f"{name}: this server reads no files by path. Send the bytes of the video in the "
            "column video (base64 in JSON), or have serve.path_root set where it is started"
        )
    root = Path(path_root).resolve()
    try:
        target = (root / path).resolve()
        is_below = target.is_relative_to(root)
    except (OSError, RuntimeError, ValueError):  # a loop of links, a name too long or with a NUL
        is_below = False
    if not is_below:
        raise PipelineError(f"{name}: expected a path below the folder that this server reads")
    return target


def _segment(row: Mapping[str, Any], number: int) -> Segment:
    """Return the part that the row asks for; None and NaN are no bound."""
    given = [row.get(name) for name in ("start_seconds", "end_seconds")]
    start, end = (None if value is None or value != value else float(value) for value in given)
    if (start or 0) < 0 or (end is not None and end <= (start or 0)):
        raise PipelineError(
            f"Video {number}: expected 0 <= start_seconds < end_seconds. "
            f"Received: start_seconds = {start}, end_seconds = {end}"
        )
    return Segment(start, end)


def _is_nothing(value: Any) -> bool:
    is_nan = value != value
    return value is None or is_nan or len(value) == 0

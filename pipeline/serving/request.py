"""A request: its videos and its options; the configuration of the process that answers it."""

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from numpy.typing import NDArray

from pipeline.common.errors import PipelineError
from pipeline.common.side_inputs import SideInput, side_values
from pipeline.common.tables import printable
from pipeline.common.video_files import pictures_in
from pipeline.video.opening import source_name
from pipeline.video.reading import WHOLE_VIDEO, Segment

MAX_CLIPS = 1000  # of one video; limits the memory of the server


class InvalidRequest(PipelineError):  # noqa: N818
    """A request that the server refuses with status 400."""


@dataclass(frozen=True)
class VideoRequest:
    """A video, or a segment of one, to predict.

    Attributes:
        content: path of a video file, a picture file or a folder of pictures; or bytes of a file.
        name: of the video in messages, such as ``Video 2: left.mp4``.
        segment: in seconds since the first frame.
        side_inputs: ``side_values`` of the model's columns.
    """

    content: Path | bytes
    name: str
    segment: Segment = WHOLE_VIDEO
    side_inputs: Mapping[str, NDArray[Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class RequestOptions:
    """The params of a request.

    Attributes:
        top_k: number of classes to name, the most probable first; 0 for all.
        timeline: also answer for consecutive segments of each video.
        clips: clips of a long video, at most, whose outputs are combined; 0: as in training
            (``extract.clips_per_video``). Sampling ``consecutive`` ignores it.
        keep_going: answer an unusable video with ``error`` instead of refusing the request.
    """

    top_k: int = 0
    timeline: bool = False
    clips: int = 0
    keep_going: bool = False

    @classmethod
    def from_params(cls, params: Mapping[str, Any] | None, *, prefix: str = "params.") -> Self:
        """Read the params of a request, whose names and types MLflow has checked.

        Args:
            params: name -> value; None for the defaults.
            prefix: of the name of a param in messages.

        Raises:
            InvalidRequest: top_k is negative, or clips is not from 0 to 1000.
        """
        options = cls(**(params or {}))
        if options.top_k < 0:
            raise InvalidRequest(
                f"{prefix}top_k must be 0 (all classes) or more. Received: {options.top_k}"
            )
        if not 0 <= options.clips <= MAX_CLIPS:
            raise InvalidRequest(
                f"{prefix}clips must be from 0 (as in training) to {MAX_CLIPS}. "
                f"Received: {options.clips}"
            )
        return options


@dataclass(frozen=True)
class ServingConfig:
    """Configuration of a serving process: MLflow's ``model_config`` or SERVING_MODEL_CONFIG.

    Attributes:
        path_root: folder below which requests may name files by path; empty: no paths.
        timeout_seconds: for decoding one video.
        decoders: number of decoder processes, which protect the server from a video that
            crashes its decoder; 0 decodes in the serving process.
    """

    path_root: str = ""
    timeout_seconds: float = 60
    decoders: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return what ``from_json`` reads."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any] | None) -> Self:
        """Read the result of ``to_json``; a missing key has its default."""
        return cls(**(value or {}))


def request_from_row(
    row: Mapping[str, Any], *, number: int, path_root: str, side_inputs: Sequence[SideInput] = ()
) -> VideoRequest:
    """Return the video that a row names in ``video`` or ``path``.

    Args:
        row: column -> value. None, NaN and empty values count as missing.
        number: of the row in messages, counted from 1.
        path_root: folder that a path is relative to and must be below, after symbolic links are
            resolved; empty: no path is read.
        side_inputs: columns that the model reads beside the video.

    Raises:
        InvalidRequest: the row has neither or both columns, a path outside ``path_root``, an
            invalid segment, or a side input that is missing or not valid.
    """
    segment = _segment(row, number)
    try:
        side = side_values(side_inputs, row, where=f"Video {number}")
    except PipelineError as error:
        raise InvalidRequest(str(error)) from None
    given = {name: row[name] for name in ("video", "path") if not _is_missing(row.get(name))}
    match given:
        case {"video": bytes() as content, **others} if not others:
            name = f"Video {number}: {source_name(content)}"
            return VideoRequest(_decode_base64(content), name, segment, side)
        case {"path": str() as path, **others} if not others:
            name = f"Video {number}: {printable(path)}"
            return VideoRequest(_path_below(path_root, path, name), name, segment, side)
    received = ", ".join(f"{name} of type {type(value).__name__}" for name, value in given.items())
    raise InvalidRequest(
        f"Video {number}: expected either the bytes of a video file in the column video (base64 "
        f"in JSON) or its path in the column path. Received: {received or 'neither'}"
    )


def _segment(row: Mapping[str, Any], number: int) -> Segment:
    bounds = [row.get(name) for name in ("start_seconds", "end_seconds")]
    # A missing number of a data frame is NaN, which differs from itself.
    start, end = (None if value is None or value != value else float(value) for value in bounds)
    if (start or 0) < 0 or (end is not None and end <= (start or 0)):
        raise InvalidRequest(
            f"Video {number}: expected 0 <= start_seconds < end_seconds. "
            f"Received: start_seconds = {start}, end_seconds = {end}"
        )
    return Segment(start, end)


def _is_missing(value: Any) -> bool:
    return value is None or value != value or len(value) == 0


def _decode_base64(content: bytes) -> bytes:
    """Return the bytes of the video: MLflow decodes base64 in data frames, not in ``inputs``."""
    try:
        return base64.b64decode(content, validate=True)
    except binascii.Error:
        return content


def _path_below(path_root: str, path: str, name: str) -> Path:
    if not path_root:
        raise InvalidRequest(
            f"{name}: this server does not read files by path. Send the bytes of the video in the "
            "column video (base64 in JSON), or set serve.path_root where the server is started."
        )
    root = Path(path_root).resolve()
    try:
        target = (root / path).resolve()
        pictures = pictures_in(target) if target.is_dir() else []
        # From Python 3.13 on, a loop of links is resolved to one of its links.
        is_below = not target.is_symlink() and all(
            file.resolve().is_relative_to(root) for file in (target, *pictures)
        )
    except (OSError, RuntimeError, ValueError):  # a loop of links, a long name or one with NUL
        is_below = False
    if not is_below:
        raise InvalidRequest(
            f"{name}: expected a path below the folder that this server reads. Name a file in it."
        )
    return target

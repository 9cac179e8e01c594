"""What was found in a video while its frames were read: a row of the ledger."""

from dataclasses import dataclass
from typing import Any

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from pipeline.video.survey import Survey

# Transfer characteristics of HDR pictures: PQ and HLG. Source: ITU-T H.273, table 3.
_HDR_TRANSFERS = (16, 18)


@dataclass(frozen=True)
class VideoInfo:
    """What a video file is, what it claims to hold and what was got from it."""

    container: str
    codec: str
    width: int  # of the coded picture, before rotation
    height: int
    rotation: int | None  # degrees counter-clockwise that turn the coded picture upright
    is_hdr: bool
    source_fps: float | None  # measured; None for a single frame
    is_variable_rate: bool | None  # None when the timestamps do not tell
    source_seconds: float  # got: from the first frame to the end of the last one
    source_frames: int  # got
    claimed_seconds: float | None  # by the container; None when it says nothing
    claimed_frames: int | None
    damage: str = ""  # where and why the video ended early, though it is kept


def found_by_survey(container: InputContainer, stream: VideoStream, survey: Survey) -> VideoInfo:
    """Describe a video of which no frame was decoded yet."""
    codec = stream.codec_context
    return VideoInfo(
        container=container.format.name,
        codec=codec.codec.canonical_name,
        width=stream.width,
        height=stream.height,
        rotation=None,
        is_hdr=codec.color_trc in _HDR_TRANSFERS,
        source_fps=_rate(survey.count, survey.seconds),
        is_variable_rate=survey.is_variable,
        source_seconds=round(survey.seconds, 3),
        source_frames=survey.count,
        claimed_seconds=_rounded(survey.claim.seconds),
        claimed_frames=survey.claim.frames,
        damage=survey.damage,
    )


def seen_in(frame: av.VideoFrame) -> dict[str, Any]:
    """Return the fields that the first decoded frame tells."""
    return {"width": frame.width, "height": frame.height, "rotation": frame.rotation}


def _rate(frames: int, seconds: float) -> float | None:
    return round(frames / seconds, 3) if seconds and frames > 1 else None


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)

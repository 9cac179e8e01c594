"""Everything between a video file and the model's input, as a value that travels with the model."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.base.errors import PipelineError
from pipeline.clips.sampling import Clip, ClipSpec
from pipeline.clips.windows import make_clips
from pipeline.video.reading import (
    FRAMES_VERSION,
    WHOLE_VIDEO,
    FrameSpec,
    Segment,
    read_frames,
)
from pipeline.video.source import Limits


@dataclass(frozen=True)
class Preprocessing:
    """How a video becomes a clip. Recorded by extract, carried by the model, used by serving."""

    frames: FrameSpec
    clip: ClipSpec
    limits: Limits

    def to_json(self) -> dict[str, Any]:
        value = {**asdict(self), "version": FRAMES_VERSION}
        if self.clip.clips_per_video == 1:
            del value["clip"]["clips_per_video"]  # as before there was a choice
        return value

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Preprocessing":
        """Read what ``to_json`` gave.

        Raises:
            PipelineError: it was written by a version that made other frames of a video.
        """
        if value["version"] != FRAMES_VERSION:
            raise PipelineError(
                f"The model was trained on frames of version {value['version']}, this code makes "
                f"version {FRAMES_VERSION}. Use the code that the model was trained with, or "
                "train again (dvc repro)."
            )
        return cls(
            frames=FrameSpec(**value["frames"]),
            clip=ClipSpec(**value["clip"]),
            limits=Limits(**value["limits"]),
        )


def clips_from_video(
    source: Path | bytes, preprocessing: Preprocessing, *, segment: Segment = WHOLE_VIDEO
) -> list[Clip]:
    """Return the clips that the model sees of a video, made as for training.

    Args:
        source: a path, or the bytes of a video file.

    Raises:
        VideoError: the file is no video, damaged, over a limit, or has no frame in ``segment``.
    """
    frames = read_frames(source, preprocessing.frames, limits=preprocessing.limits, segment=segment)
    return make_clips(frames, preprocessing.clip)

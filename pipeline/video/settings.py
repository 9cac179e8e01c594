"""The section ``decode`` of params.yaml."""

from typing import Annotated, Any, Literal

from pydantic import Field, PositiveInt

from pipeline.common.settings import Fraction, Positive, Section

Fit = Literal["crop", "letterbox", "stretch"]

Side = Annotated[int, Field(ge=2, le=8192)]  # pixels; no codec allows a smaller side


class DecodeSection(Section):
    """Rate and size of the frames that are kept, and limits of a video.

    Attributes:
        fps: frames kept per second of video, chosen by presentation time.
        width, height: of the kept frames, in pixels.
        fit: how frames of another aspect ratio are fitted: ``crop`` keeps the centre,
            ``letterbox`` adds black bars, ``stretch`` changes the proportions.
        on_damage: ``quarantine`` a damaged or truncated video, or ``keep`` the frames before the
            first sign of damage.
        max_seconds: a longer video is quarantined. Of a segment, its own length counts.
        max_pixels: per source frame; a larger picture is quarantined.
        timeout_seconds: a video that takes longer to decode is quarantined.
        max_bad_fraction: a larger fraction of quarantined videos fails the run.
        image_fps: rate of a folder of numbered pictures. Not a key of the section: it is set to
            ``data.image_fps``.
    """

    fps: Positive = 10.0
    width: Side = 64
    height: Side = 64
    fit: Fit = "crop"
    on_damage: Literal["quarantine", "keep"] = "quarantine"
    max_seconds: Positive = 3600.0
    max_pixels: PositiveInt = 35_000_000
    timeout_seconds: Positive = 600.0
    max_bad_fraction: Fraction = 0.1
    image_fps: Annotated[Positive, Field(exclude=True)] = 10.0

    def frames_identity(self) -> dict[str, Any]:
        """Return the settings that decide which frames a video gives."""
        settings = self.model_dump(exclude={"timeout_seconds", "max_bad_fraction"})
        return settings | {"image_fps": self.image_fps}

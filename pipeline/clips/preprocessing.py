"""The settings that turn a video into model input, saved with the clips and the model."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.clips.settings import ExtractSection
from pipeline.common.errors import PipelineError
from pipeline.common.files import read_json, write_json
from pipeline.common.versions import FRAMES_VERSION
from pipeline.video.settings import DecodeSection


@dataclass(frozen=True)
class Preprocessing:
    """Settings from video to clips; settings of ``decode`` that change no frame are not saved."""

    decode: DecodeSection
    extract: ExtractSection

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object that ``from_json`` reads."""
        return {
            "decode": self.decode.frames_identity(),
            "extract": self.extract.model_dump(),
            "frames_version": FRAMES_VERSION,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Preprocessing":
        """Read the result of ``to_json``.

        Raises:
            PipelineError: it was written with another FRAMES_VERSION.
        """
        if value["frames_version"] != FRAMES_VERSION:
            raise PipelineError(
                f"The model was trained on frames of version {value['frames_version']}, but this "
                f"code decodes version {FRAMES_VERSION}. Use the code that the model was trained "
                "with, or train again: dvc repro"
            )
        return cls(DecodeSection(**value["decode"]), ExtractSection(**value["extract"]))

    def write(self, path: Path) -> None:
        """Write ``to_json`` to a file."""
        write_json(path, self.to_json())

    @classmethod
    def read(cls, path: Path) -> "Preprocessing":
        """Read a file of ``write``.

        Raises:
            PipelineError: the file is missing, or as ``from_json``.
        """
        if not path.exists():
            raise PipelineError(f"{path}: no such file. Build it with: dvc repro extract")
        return cls.from_json(read_json(path))

"""What a model must know of the clips it was trained on to be used on other videos."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.base.errors import PipelineError
from pipeline.base.files import read_json, write_json
from pipeline.clips.preprocessing import Preprocessing


@dataclass(frozen=True)
class ClipsMetadata:
    """Written beside the clips by extract and beside the model by train."""

    class_names: tuple[str, ...]  # in the order of the model's outputs
    preprocessing: Preprocessing

    def to_json(self) -> dict[str, Any]:
        return {
            "class_names": list(self.class_names),
            "preprocessing": self.preprocessing.to_json(),
        }

    def write(self, path: Path) -> None:
        write_json(path, self.to_json())

    @classmethod
    def read(cls, path: Path) -> "ClipsMetadata":
        """Read what ``write`` wrote.

        Raises:
            PipelineError: the file is missing, or of a version that made other frames.
        """
        if not path.exists():
            raise PipelineError(f"{path}: no such file. Build it with dvc repro.")
        content = read_json(path)
        return cls(
            class_names=tuple(content["class_names"]),
            preprocessing=Preprocessing.from_json(content["preprocessing"]),
        )

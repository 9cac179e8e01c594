"""What goes with a trained classifier besides its weights."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from pipeline.base.files import read_json
from pipeline.clips.metadata import ClipsMetadata


@dataclass(frozen=True)
class ClassifierMetadata(ClipsMetadata):
    """Written beside the model by train, read also as the ClipsMetadata that it is.

    Attributes:
        abstain_below: probability of its best class below which the model had better say
            nothing of a video; None where no threshold reached evaluate.target_accuracy.
    """

    abstain_below: float | None = None

    def to_json(self) -> dict[str, Any]:
        return {**super().to_json(), "abstain_below": self.abstain_below}

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read what ``write`` wrote; a model made before there was a threshold has none.

        Raises:
            PipelineError: as ``ClipsMetadata.read``.
        """
        clips = ClipsMetadata.read(path)
        return cls(
            class_names=clips.class_names,
            preprocessing=clips.preprocessing,
            abstain_below=read_json(path).get("abstain_below"),
        )

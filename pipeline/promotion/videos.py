"""The current test videos, as files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.base.errors import PipelineError
from pipeline.catalog.hashing import content_hashes
from pipeline.catalog.records import CatalogEntry


@dataclass(frozen=True)
class GateVideo:
    """A test video, or the part of one that a row of the catalog names."""

    name: str
    path: Path
    label: str
    group: str
    sha256: str  # "": there was no file when the catalog was made
    start_seconds: float | None = None
    end_seconds: float | None = None


def videos_to_judge_by(catalog: Sequence[CatalogEntry], folder: Path) -> list[GateVideo]:
    """Return the test videos of the catalog, in its order.

    Args:
        folder: where the videos are: ``data.videos``.

    Raises:
        PipelineError: there are none, or a file is not as it was when the catalog was made:
            it is missing, came since, or is another one.
    """
    found = [
        GateVideo(
            name=entry.name,
            path=folder / entry.video,
            label=entry.label,
            group=entry.group,
            sha256=entry.sha256,
            start_seconds=entry.start_seconds,
            end_seconds=entry.end_seconds,
        )
        for entry in catalog
        if entry.split == "test"
    ]
    if not found:
        raise PipelineError("expected test videos in the catalog, found none. Run dvc repro.")
    paths = sorted({video.path for video in found})
    content = dict(zip(paths, content_hashes(paths), strict=True))
    changed = [video.path for video in found if content[video.path] != video.sha256]
    if changed:
        raise PipelineError(
            f"{changed[0]}: missing, or not the file that the catalog was made from "
            f"({len(changed)} of {len(found)} test videos). Get the videos of this catalog "
            "(dvc pull, if DVC keeps them), or run dvc repro."
        )
    return found

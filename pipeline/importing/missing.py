"""What happens to annotated videos whose file is not there."""

from pathlib import Path

from pipeline.common.errors import PipelineError
from pipeline.common.tables import count_of
from pipeline.dataset.folders import path_remedy

_REMEDY = " Add the videos, or delete the lines."


class MissingVideos:
    """Counts the annotated videos and those without a file, each name once."""

    def __init__(self, folder: Path, *, are_normal: bool) -> None:
        """Start to count.

        Args:
            folder: where the videos were looked for, for messages.
            are_normal: whether a copy of the data set may lack videos.
        """
        self._folder, self._are_normal = folder, are_normal
        self._videos: set[str] = set()
        self._paths: set[str] = set()  # of videos that are there, relative to the folder
        self._missing: dict[str, str] = {}  # name -> its first place

    def check(self, path: Path | None, name: str, *, where: str) -> Path | None:
        """Count a video and return its path."""
        self._videos.add(name)
        if path is None:
            self._missing.setdefault(name, where)
        elif path.is_relative_to(self._folder):
            self._paths.add(path.relative_to(self._folder).as_posix())
        return path

    def notes(self) -> list[str]:
        """Return sentences for the user.

        Raises:
            PipelineError: too many videos are missing.
        """
        if not self._videos:
            raise PipelineError(
                f"{self._folder}: the annotation files list no video with a label. Get them from "
                "the page of the data set."
            )
        if not self._missing:
            return []
        name, where = next(iter(self._missing.items()))
        counts = f"{len(self._missing):,} of {count_of(len(self._videos), 'video')}"
        if not self._are_normal or len(self._missing) == len(self._videos):
            raise PipelineError(
                f"{where}: the video {name} is not below {self._folder}. Missing: {counts}. "
                "Expected each annotated video in this folder or in an archive in it."
                f"{path_remedy(name, self._folder, self._paths) or _REMEDY}"
            )
        return [f"Missing: {counts} of the annotation files, such as {name}."]

"""Several official splits of a data set, of which the first becomes the split of the table."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace

from pipeline.common.errors import PipelineError
from pipeline.common.records import FoldPart
from pipeline.importing.table import Row


class OfficialSplits:
    """Collects the part of each video in each official split."""

    def __init__(self) -> None:
        """Start without a split."""
        self._parts: dict[str, dict[str, tuple[FoldPart, str]]] = defaultdict(dict)

    def add(self, video: str, number: str, part: FoldPart, *, where: str) -> None:
        """Add the part of a video in a split.

        Raises:
            PipelineError: the video has another part in this split.
        """
        known, place = self._parts[number].setdefault(video, (part, where))
        if known != part:
            raise PipelineError(
                f"{where}: {video} is a {part} video, but a {known} video in {place}. Expected one "
                "of them in each split. Correct one of the lines."
            )

    def complete(self, rows: Mapping[str, Row]) -> list[Row]:
        """Return the rows of the videos that a split uses, with split and folds.

        Args:
            rows: row of each video.
        """
        numbers = sorted(self._parts)
        completed = []
        for video, row in sorted(rows.items()):
            parts = [self._parts[number].get(video, ("", ""))[0] for number in numbers]
            if any(parts):
                folds = tuple(parts) if len(parts) > 1 else ()
                completed.append(replace(row, split=parts[0] or None, folds=folds))
        return completed

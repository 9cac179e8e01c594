"""What a data set holds, counted by class and split."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Literal

from pipeline.base import files

Status = Literal["ok", "damaged", "quarantined"]


@dataclass(frozen=True)
class DescribedVideo:
    """A labelled video, or a segment of one, and what decoding found; None: not known.

    Attributes:
        status: ``damaged`` videos were kept up to the damage, ``quarantined`` ones are not used.
        frames: kept of the video; 0 when it is quarantined.
        codec: FFmpeg's name; empty when not known.
        size: width and height in pixels of the source's picture as it is shown, after rotation.
        fps: frames per second of the source, measured; None for a single frame.
        seconds: how long the video or segment is.
        extra: cells of the other columns of the labels, by column.
    """

    label: str
    split: str
    status: Status
    frames: int
    codec: str = ""
    size: tuple[int, int] | None = None
    fps: float | None = None
    is_variable_rate: bool | None = None
    seconds: float | None = None
    extra: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class SplitSummary:
    """The videos of one class in one split.

    Attributes:
        videos: all of them; ``quarantined`` and ``damaged`` are among them.
        damaged: kept up to the damage.
        seconds: how long those that are not quarantined are together.
        frames: kept of them.
    """

    label: str
    split: str
    videos: int
    quarantined: int
    damaged: int
    seconds: float
    frames: int

    @property
    def intact(self) -> int:
        return self.videos - self.quarantined - self.damaged


def summarise(videos: Iterable[DescribedVideo], *, splits: Sequence[str]) -> list[SplitSummary]:
    """Return a row for every class and split, in order; also where there is no video."""
    members: dict[str, dict[str, list[DescribedVideo]]] = defaultdict(
        lambda: {split: [] for split in splits}
    )
    for video in videos:
        members[video.label][video.split].append(video)
    return [
        _summary(label, split, members[label][split])
        for label in sorted(members)
        for split in splits
    ]


def write_summary_csv(path: Path, rows: Iterable[SplitSummary]) -> None:
    """Write the columns class, split, videos, quarantined, damaged, seconds and frames."""
    counted = [column.name for column in fields(SplitSummary) if column.name != "label"]
    files.write_csv(
        path,
        ["class", *counted],
        [
            {"class": row.label}
            | {name: value for name, value in asdict(row).items() if name in counted}
            | {"seconds": f"{row.seconds:.3f}"}
            for row in rows
        ],
    )


def _summary(label: str, split: str, videos: Sequence[DescribedVideo]) -> SplitSummary:
    usable = [video for video in videos if video.status != "quarantined"]
    return SplitSummary(
        label=label,
        split=split,
        videos=len(videos),
        quarantined=len(videos) - len(usable),
        damaged=sum(video.status == "damaged" for video in usable),
        seconds=math.fsum(video.seconds or 0 for video in usable),
        frames=sum(video.frames for video in usable),
    )

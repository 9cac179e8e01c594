"""Count the videos of a data set by stratum, such as the class, and split."""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from pipeline.common.records import SPLITS, Split, VideoRecord
from pipeline.common.tables import write_table_csv


@dataclass(frozen=True)
class SplitSummary:
    """The videos of one stratum in one split.

    Attributes:
        videos: all videos, quarantined and damaged ones included.
        damaged: videos that are kept up to the damage.
        seconds: total duration of the videos that are not quarantined.
        frames: number of frames of these videos in the frame store.
    """

    target: str
    split: Split
    videos: int
    quarantined: int
    damaged: int
    seconds: float
    frames: int

    @property
    def intact(self) -> int:
        return self.videos - self.quarantined - self.damaged


def summarise(records: Sequence[VideoRecord], strata: Sequence[str]) -> list[SplitSummary]:
    """Return a row for every stratum and split, also for those without videos.

    Args:
        records: decoded.
        strata: ``Targets.strata`` of their targets, such as their classes.
    """
    members: dict[str, dict[Split, list[VideoRecord]]] = defaultdict(
        lambda: {split: [] for split in SPLITS}
    )
    for record, stratum in zip(records, strata, strict=True):
        assert record.split is not None
        members[stratum][record.split].append(record)
    return [
        _summary(stratum, split, members[stratum][split])
        for stratum in sorted(members)
        for split in SPLITS
    ]


def write_summary_csv(path: Path, rows: Iterable[SplitSummary]) -> None:
    """Write the columns target, split, videos, quarantined, damaged, seconds and frames."""
    write_table_csv(
        path,
        [column.name for column in fields(SplitSummary)],
        [asdict(row) | {"seconds": f"{row.seconds:.3f}"} for row in rows],
    )


def _summary(target: str, split: Split, records: Sequence[VideoRecord]) -> SplitSummary:
    facts = [record.facts for record in records if record.facts is not None]
    return SplitSummary(
        target=target,
        split=split,
        videos=len(records),
        quarantined=sum(fact.status == "quarantined" for fact in facts),
        damaged=sum(fact.status == "damaged" for fact in facts),
        seconds=math.fsum(record.seconds or 0 for record in records if record.is_usable),
        frames=sum(fact.frames for fact in facts),
    )

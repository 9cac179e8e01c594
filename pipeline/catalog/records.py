"""The catalog: one row a video (or a segment of one), the table that every stage starts from."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal, cast

from pipeline.base.files import read_csv, write_csv

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")

# Before the name of a column of the labels that the pipeline knows nothing of.
_EXTRA_PREFIX = "extra."
_COLUMNS = ("video", "label", "split", "group", "start_seconds", "end_seconds", "sha256")


@dataclass(frozen=True)
class LabelledVideo:
    """What a layout says of one video.

    video: relative to the videos folder, with ``/``.
    extra: cells of the other columns of a table, by column; the same columns for every video.
    """

    video: str
    label: str
    split: Split | None = None
    group: str | None = None
    start_seconds: float | None = None
    end_seconds: float | None = None
    extra: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return clip_name(self.video, self.start_seconds, self.end_seconds)


@dataclass(frozen=True)
class CatalogEntry:
    """One row of the catalog."""

    video: str
    label: str
    split: Split
    group: str  # videos of one group are always in the same split
    start_seconds: float | None
    end_seconds: float | None
    sha256: str  # of the file's bytes; empty when it is no regular file
    extra: Mapping[str, str] = field(default_factory=dict)  # as of LabelledVideo

    @property
    def name(self) -> str:
        return clip_name(self.video, self.start_seconds, self.end_seconds)


def clip_name(video: str, start_seconds: float | None, end_seconds: float | None) -> str:
    """Name a segment as W3C media fragments do: ``match.mp4#t=1.5,4``."""
    if start_seconds is None and end_seconds is None:
        return video
    start = "" if start_seconds is None else _exact(start_seconds)
    end = "" if end_seconds is None else f",{_exact(end_seconds)}"
    return f"{video}#t={start}{end}"


def _exact(seconds: float) -> str:
    return repr(float(seconds)).removesuffix(".0")


def write_catalog(path: Path, entries: Iterable[CatalogEntry]) -> None:
    """Write the catalog sorted by video, so that the same videos give the same bytes.

    Extra columns come last, as ``extra.<column>``.
    """
    in_order = sorted(
        entries, key=lambda entry: (entry.video, entry.start_seconds or 0, entry.name)
    )
    extra = [_EXTRA_PREFIX + column for column in (in_order[0].extra if in_order else ())]
    write_csv(path, [*_COLUMNS, *extra], (_cells(entry) for entry in in_order))


def read_catalog(path: Path) -> list[CatalogEntry]:
    """Read what write_catalog wrote."""
    return [
        CatalogEntry(
            video=row["video"],
            label=row["label"],
            split=cast(Split, row["split"]),
            group=row["group"],
            start_seconds=_number_or_none(row["start_seconds"]),
            end_seconds=_number_or_none(row["end_seconds"]),
            sha256=row["sha256"],
            extra={
                column.removeprefix(_EXTRA_PREFIX): cell
                for column, cell in row.items()
                if column.startswith(_EXTRA_PREFIX)
            },
        )
        for row in read_csv(path)
    ]


def _cells(entry: CatalogEntry) -> dict[str, object]:
    cells = asdict(entry)
    extra = cells.pop("extra")
    return cells | {_EXTRA_PREFIX + column: cell for column, cell in extra.items()}


def _number_or_none(text: str) -> float | None:
    return float(text) if text else None

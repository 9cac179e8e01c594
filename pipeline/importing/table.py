"""The rows of an imported data set, and the rules that are the same for every format."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pipeline.common.files import write_csv
from pipeline.common.records import FoldPart, Split
from pipeline.common.tables import count_of


@dataclass(frozen=True)
class Row:
    """A row of the labels table.

    Attributes:
        video: path of the video in the imported folder, with ``/``.
        source: the video file, or the folder of its pictures.
        where: file and line of the annotation.
        cells: of the columns of the task, such as ``{"label": "Archery"}``.
        split, group, folds: of ``VideoRecord``.
    """

    video: str
    source: Path
    where: str
    cells: Mapping[str, str]
    split: Split | None = None
    group: str = ""
    folds: tuple[FoldPart, ...] = ()


@dataclass(frozen=True)
class Imported:
    """The content of a data set.

    Attributes:
        task: value of ``task.type``.
        notes: sentences for the user, such as how many videos are missing.
    """

    task: str
    rows: Sequence[Row]
    notes: Sequence[str] = field(default=())


def with_usable_splits(imported: Imported) -> Imported:
    """Return splits that can be trained and tested, and groups that they do not divide.

    Without training videos, or with nothing else, there are no splits: the catalog stage computes
    them. Without test videos, the official validation videos are the test videos. A group
    that an official split or fold divides is dropped: its videos are groups of their own.
    """
    rows, notes = list(imported.rows), list(imported.notes)
    splits = {row.split for row in rows} - {None}
    if splits and ("train" not in splits or splits == {"train"}):
        rows = [replace(row, split=None) for row in rows]
        names = {"train": "training", "val": "validation", "test": "test"}
        own = " and ".join(name for split, name in names.items() if split in splits)
        notes.append(
            f"Only {own} videos have labels and files: the catalog stage computes the splits."
        )
    elif "val" in splits and "test" not in splits:
        rows = [replace(row, split="test") if row.split == "val" else row for row in rows]
        notes.append(
            "There are no test videos with labels: the official validation videos are the split "
            "test, and the catalog stage takes val from train."
        )
    parts: dict[tuple[int, str], set[str]] = defaultdict(set)
    for row in rows:
        for number, part in enumerate((row.split or "", *row.folds)):
            parts[number, row.group] |= {part} - {""}
    divided = {group for (_, group), own in parts.items() if group and len(own) > 1}
    if divided:
        videos = {row.video for row in rows if row.group in divided}
        rows = [replace(row, group="") if row.group in divided else row for row in rows]
        notes.append(
            f"The official splits divide {count_of(len(divided), 'group')} with "
            f"{count_of(len(videos), 'video')}, such as {min(divided)}: these videos have no group."
        )
    return replace(imported, rows=rows, notes=notes)


def write_labels(path: Path, rows: Sequence[Row]) -> None:
    """Write the labels table; a column that is empty in every row is left out."""
    n_folds = max(len(row.folds) for row in rows)
    columns = [
        "video",
        *rows[0].cells,
        *(["split"] if any(row.split for row in rows) else []),
        *(["group"] if any(row.group for row in rows) else []),
        *(f"fold_{number + 1}" for number in range(n_folds)),
    ]
    write_csv(path, columns, _cells(rows, columns))


def _cells(rows: Sequence[Row], columns: Sequence[str]) -> Iterable[Mapping[str, object]]:
    for row in rows:
        folds = {f"fold_{number}": part for number, part in enumerate(row.folds, start=1)}
        cells = {"video": row.video, "split": row.split, "group": row.group, **folds, **row.cells}
        yield {column: cells[column] for column in columns}

"""UCF101: 101 actions, 13,320 videos, three official splits by group.

``classInd.txt`` numbers the classes from 1, ``trainlist01.txt`` has a video and the number of its
class in each line, ``testlist01.txt`` a video. The lists spell a class HandstandPushups and its
videos HandStandPushups.
"""

import re
from pathlib import Path

from pipeline.common.errors import PipelineError
from pipeline.common.records import FoldPart
from pipeline.importing.missing import MissingVideos
from pipeline.importing.official_splits import OfficialSplits
from pipeline.importing.source import Source, numbered_lines
from pipeline.importing.table import Imported, Row

_VIDEO = re.compile(r"v_(?P<group>.+_g\d+)_c\d+\.\w+")
_REMEDY = (
    "It is in UCF101TrainTestSplits-RecognitionTask.zip, from "
    "https://www.crcv.ucf.edu/data/UCF101.php."
)


def read_ucf101(source: Source, task: str | None) -> Imported:  # noqa: ARG001
    """Return the videos with their classes, groups and official splits."""
    (class_file,) = source.require(r"classInd\.txt", "classInd.txt", _REMEDY)
    classes = _read_classes(class_file)
    lists = {
        path.stem: path
        for path in source.require(r"(train|test)list\d\d\.txt", "trainlist01.txt", _REMEDY)
    }
    splits = OfficialSplits()
    missing = MissingVideos(source.folders[0], are_normal=False)
    rows: dict[str, Row] = {}
    for number in sorted({stem[-2:] for stem in lists}):
        kinds: tuple[tuple[str, FoldPart], ...] = (("trainlist", "train"), ("testlist", "test"))
        for kind, part in kinds:
            if (path := lists.get(kind + number)) is None:
                raise PipelineError(
                    f"{source.folders[0]}: no file {kind}{number}.txt, but the other list of this "
                    f"split. {_REMEDY}"
                )
            for where, line in numbered_lines(path):
                row = _row(where, line, classes, source, missing)
                if row is not None:
                    splits.add(row.video, number, part, where=where)
                    rows.setdefault(row.video, row)
    return Imported("classification", splits.complete(rows), missing.notes())


def _read_classes(path: Path) -> dict[str, tuple[int, str]]:
    """Return lower-case name -> number and name of each class."""
    classes: dict[str, tuple[int, str]] = {}
    for where, line in numbered_lines(path):
        number, _, name = line.partition(" ")
        if number != str(len(classes) + 1) or not name:
            raise PipelineError(
                f"{where}: expected '{len(classes) + 1} <class>', counted from 1. Received: "
                f"{line!r}. Get the file again."
            )
        classes[name.casefold()] = (int(number), name)
    return classes


def _row(
    where: str,
    line: str,
    classes: dict[str, tuple[int, str]],
    source: Source,
    missing: MissingVideos,
) -> Row | None:
    listed, _, number = line.partition(" ")
    folder, _, name = listed.partition("/")
    match = _VIDEO.fullmatch(name)
    if match is None or folder.casefold() not in classes:
        raise PipelineError(
            f"{where}: expected <class>/v_<class>_g01_c01.avi, with a class of classInd.txt. "
            f"Received: {listed!r}. Correct the line."
        )
    expected, label = classes[folder.casefold()]
    if number and number.strip() != str(expected):
        raise PipelineError(
            f"{where}: expected {expected}, the number of {label} in classInd.txt. Received: "
            f"{number.strip()}. Correct the line."
        )
    path = source.video_named(name, where=where, parent=folder)
    if missing.check(path, name, where=where) is None:
        return None
    assert path is not None
    return Row(f"{label}/{path.name}", path, where, {"label": label}, group=match["group"])

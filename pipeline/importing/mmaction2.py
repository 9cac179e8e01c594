"""Lists of mmaction2: ``path label`` of videos, ``path total_frames label`` of folders of frames.

A line may have several labels. They are numbers from 0; a file of class names, one a line or
numbered as in ``classInd.txt``, names them. The name of a list has the word train, val or test, as
in ``train_list.txt``, and ``split_1`` and so on if there are several official splits, whose val
lists are test videos.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from pipeline.common.errors import PipelineError
from pipeline.common.records import FoldPart
from pipeline.common.tables import count_of
from pipeline.common.video_files import VIDEO_SUFFIXES, is_picture
from pipeline.dataset.names import split_named
from pipeline.importing.missing import MissingVideos
from pipeline.importing.official_splits import OfficialSplits
from pipeline.importing.source import Source, numbered_lines, safe_name
from pipeline.importing.table import Imported, Row

# Not latest.txt, interval.txt.
_SPLIT = r"(?<![A-Za-z])(train|val|test)(?:ing|val|idation|list)?(?![A-Za-z])"
_LIST = rf".*{_SPLIT}.*\.txt"
_NAMES = r"(?:classInd|class(?:es|_?names)?|label(?:s|_?map)?|.*label_?map.*|.+_classes)\.txt"
_LINE = re.compile(r"(?P<path>.*?)(?P<numbers>(?:\s+-?\d+)+)")
_NUMBERED = re.compile(r"(\d+)\s+(\S.*)")


def read_mmaction2(source: Source, task: str | None) -> Imported:
    """Return the videos of all lists with their classes or labels."""
    names = _read_names(source)
    lists = [
        path
        for path in source.require(
            _LIST,
            "train_list.txt",
            "Expected lists as in https://mmaction2.readthedocs.io/en/latest/user_guides/"
            "prepare_dataset.html.",
        )
        if not re.fullmatch(_NAMES, path.name)
    ]
    for kind in ("videos", "rawframes"):  # both list the same videos; others are the originals
        if chosen := [path for path in lists if kind in path.stem]:
            lists = chosen
            break
    missing = MissingVideos(source.folders[0], are_normal=True)
    splits = OfficialSplits()
    rows: dict[str, Row] = {}
    labels: dict[str, list[str]] = {}
    n_unlabelled = 0
    for path in lists:
        part = re.findall(_SPLIT, path.stem)[-1]
        number = re.search(r"split_?(\d+)", path.name)
        for where, line in numbered_lines(path):
            listed, numbers = _parse(where, line)
            if numbers == [-1]:
                n_unlabelled += 1
                continue
            video = missing.check(source.video_at(listed, where=where), listed, where=where)
            if video is None:
                continue
            own = [_name_of(where, one, names) for one in numbers]
            if labels.setdefault(listed, own) != own:
                raise PipelineError(
                    f"{where}: {listed} has the labels {own}, but {labels[listed]} in "
                    f"{rows[listed].where}. Correct one of the lines."
                )
            split = split_named(part)
            rows.setdefault(listed, Row(listed, video, where, {}, split))
            if number:
                fold_part: FoldPart = "train" if split == "train" else "test"
                splits.add(listed, number[1], fold_part, where=where)
            elif rows[listed].split != split:
                raise PipelineError(
                    f"{where}: {listed} is also in {rows[listed].where}. Expected each video in "
                    "one list. Delete one of the lines."
                )
    several = any(len(own) > 1 for own in labels.values())
    task = task or ("multilabel" if several else "classification")
    if task == "classification" and several:
        listed = next(name for name, own in labels.items() if len(own) > 1)
        raise PipelineError(
            f"{rows[listed].where}: expected one label, for the task classification. Received: "
            f"{len(labels[listed])}. Use: --task multilabel"
        )
    column = "label" if task == "classification" else "labels"
    completed = [
        Row(
            row.video,
            row.source,
            row.where,
            {column: "|".join(dict.fromkeys(labels[row.video]))},
            row.split,
            folds=row.folds,
        )
        for row in splits.complete(rows) or rows.values()
    ]
    notes = missing.notes()
    if n_unlabelled:
        notes.append(f"Left out: {count_of(n_unlabelled, 'line')} without a label (-1).")
    return Imported(task, completed, notes)


def listed_pictures(folder: Path) -> list[Path]:
    """Return the pictures of a folder that are frames: ``img_00001.jpg``, not optical flow."""
    pictures = [path for path in sorted(folder.iterdir()) if is_picture(path)]
    return [path for path in pictures if path.name.startswith("img_")] or pictures


def _parse(where: str, line: str) -> tuple[str, list[int]]:
    """Return the path and the labels of a line."""
    match = _LINE.fullmatch(line)
    numbers = [int(text) for text in match["numbers"].split()] if match else []
    path = match["path"] if match else ""
    if Path(path).suffix.lower() not in VIDEO_SUFFIXES:
        numbers = numbers[1:]  # after the number of frames
    if not path or not numbers:
        raise PipelineError(
            f"{where}: expected 'path label' of a video, or 'path total_frames label' of a folder "
            f"of frames. Received: {line[:80]!r}. Correct the line."
        )
    return safe_name(path, where=where), numbers


def _read_names(source: Source) -> list[str]:
    """Return the class names by number from 0; empty without a file of names."""
    paths = source.annotations(_NAMES)
    if not paths:
        return []
    if len(paths) > 1:
        raise PipelineError(
            f"{paths[1]}: expected one file of class names. Received: also {paths[0]}. Remove one "
            "of them."
        )
    lines = [line for _, line in numbered_lines(paths[0])]
    numbered = [_NUMBERED.fullmatch(line) for line in lines]
    numbers = [int(match[1]) for match in numbered if match]
    for first in (0, 1):
        if numbers == list(range(first, first + len(lines))):
            return [match[2] for match in numbered if match]
    return lines


def _name_of(where: str, number: int, names: Sequence[str]) -> str:
    if number < 0 or (names and number >= len(names)):
        raise PipelineError(
            f"{where}: expected a label from 0 to {len(names) - 1 if names else 'any number'}. "
            f"Received: {number}. Correct the line or the file of class names."
        )
    return names[number] if names else str(number)

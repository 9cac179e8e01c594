"""Read the labels of a data set: one folder per class, perhaps in folders of splits, or a table."""

import logging
import os
import sys
from pathlib import Path

from pipeline.common.errors import PipelineError
from pipeline.common.records import Split, VideoRecord
from pipeline.common.tables import count_of
from pipeline.common.video_files import is_video, join_numbered_pictures
from pipeline.dataset.folders import check_readable, visible_files, visible_folders
from pipeline.dataset.names import clean_text, split_named
from pipeline.dataset.settings import DataSection
from pipeline.dataset.table import read_table
from pipeline.tasks.targets import Targets

logger = logging.getLogger(__name__)

LABELS_TABLE = "labels.csv"  # inside data.videos


def read_labels(data: DataSection, targets: Targets) -> list[VideoRecord]:
    """Read the videos and their targets, from a table or from class folders.

    ``data.labels`` is the path of the table, relative to ``data.videos``. If it is empty, the table
    is ``labels.csv`` in ``data.videos``. Without such a file, the folders are the classes.

    Raises:
        PipelineError: the labels are missing or not valid.
    """
    videos = Path(data.videos)
    if not videos.is_dir():
        received = "a file" if videos.exists() else "no such path"
        raise PipelineError(f"data.videos: expected a folder. Received: {videos} ({received})")
    check_readable(videos, where=f"data.videos: {videos}")
    table = labels_table(data)
    if table is None:
        if data.side_inputs:
            raise PipelineError(
                f"{videos / LABELS_TABLE}: no such file. data.side_inputs names the columns "
                f"{', '.join(data.side_inputs)}, which class folders do not have. Label the "
                "videos in this table, or set data.side_inputs to {}."
            )
        return _read_class_folders(videos, targets)
    return read_table(videos, table, targets, data.side_inputs)


def labels_table(data: DataSection) -> Path | None:
    """Return the path of the table of labels; None for class folders.

    Raises:
        PipelineError: ``data.labels`` is not a relative path.
    """
    videos = Path(data.videos)
    if not data.labels:
        table = videos / LABELS_TABLE
        return table if table.is_file() else None
    path = Path(data.labels)
    if path.is_absolute():
        # DVC watches <data.videos>/<data.labels>.
        raise PipelineError(
            "data.labels: expected a path relative to data.videos, such as "
            f"{os.path.relpath(path, videos)}. Received: {data.labels}"
        )
    return videos / path


def _read_class_folders(videos: Path, targets: Targets) -> list[VideoRecord]:
    """Read ``<class>/**/<video>``, or ``<split>/<class>/**/<video>``.

    A deeper folder of numbered pictures is a video; other pictures are videos of one frame. Hidden
    files and files without the suffix of a video or picture are ignored.
    """
    if not targets.class_folders:
        raise PipelineError(
            f"{videos / LABELS_TABLE}: no such file. The task needs a table with the columns "
            f"video,{','.join(targets.columns)}. Add it, or name another one in data.labels."
        )
    splits = _split_folders(videos)
    depth = 2 if splits else 1  # parts of the path of a class folder
    names: list[str] = []  # relative to videos
    deep: list[Path] = []
    n_ignored = 0
    for path in visible_files(videos):
        if not is_video(path):
            n_ignored += 1
        elif len(path.relative_to(videos).parts) <= depth + 1:
            names.append(path.relative_to(videos).as_posix())
        else:
            deep.append(path)
    names += [path.relative_to(videos).as_posix() for path in join_numbered_pictures(deep)]
    records: list[VideoRecord] = []
    for video in sorted(names, key=lambda name: name.replace("/", "\0")):  # folder by folder
        path, parts = videos / video, video.split("/")
        if len(parts) <= depth:
            levels = ["<split>", "<class>"][len(parts) - depth - 1 :]
            raise PipelineError(
                f"{path}: the video is not in a class folder. Expected "
                f"{path.parent.joinpath(*levels, path.name)}. Move it, or label the videos in "
                f"{videos / LABELS_TABLE}."
            )
        name = str(path)
        if name != name.encode("utf-8", "ignore").decode("utf-8"):
            raise PipelineError(f"{name!a}: the name is not UTF-8. Rename the file.")
        label = clean_text(parts[depth - 1], where=f"{name!r}, class folder")
        target = sys.intern(targets.read({targets.columns[0]: label}, where=name))
        records.append(VideoRecord(video, target, splits.get(parts[0])))
    if not records:
        raise PipelineError(
            f"{videos}: no video found. Expected {videos}/<class>/<video> with a suffix such as "
            f".mp4, .mkv, .avi, .jpg or .png. Received: {count_of(n_ignored, 'other file')}"
        )
    if n_ignored:
        files_text = count_of(n_ignored, "file")
        logger.warning("%s: ignored %s without the suffix of a video", videos, files_text)
    filled = {parent for record in records for parent in (videos / record.video).parents}
    outer = [videos, *(videos / name for name in splits)]
    for folder in [path for parent in outer for path in visible_folders(parent)]:
        if folder not in filled:
            kind = "folder of a split" if splits and folder.parent == videos else "class folder"
            raise PipelineError(
                f"{folder}: the {kind} has no video. Add videos or remove the folder."
            )
    return records


def _split_folders(videos: Path) -> dict[str, Split]:
    """Return the split of each folder in ``videos``; empty if the folders are classes.

    Without a folder of test videos, those of validation are the test videos, as in an import.

    Raises:
        PipelineError: the names are those of splits, but not of all or not of enough.
    """
    names = [folder.name for folder in visible_folders(videos)]
    splits = {name: split for name in names if (split := split_named(name))}
    given, classes = set(splits.values()), [name for name in names if name not in splits]
    if not splits or (classes and len(given) == 1):  # a class may be called train
        return {}
    if classes or len(given) == 1 or "train" not in given:
        received = ", ".join(splits) + (f", and also {', '.join(classes)}" if classes else "")
        if classes:
            remedy = f"Move {', '.join(classes)} to another place."
        elif "train" in given:
            remedy = f"For computed splits, set data.videos to {videos / next(iter(splits))}."
        else:
            remedy = "Rename the folder of training videos to train."
        raise PipelineError(
            f"{videos}: folders that are named after splits must be train with val or test, and no "
            f"others (received: {received}). {remedy}"
        )
    if "test" in given:
        return splits
    logger.warning(
        "%s: no folder of test videos. Those of %s are the split test; val is taken from train.",
        videos,
        " and ".join(name for name, split in splits.items() if split == "val"),
    )
    return {name: "test" if split == "val" else split for name, split in splits.items()}


def check_class_folders(data: DataSection) -> None:
    """Refuse a linked or unreadable folder in class folders before DVC looks for changes.

    DVC sees no difference when such a folder is added, and would run no stage.

    Raises:
        PipelineError: there is one.
    """
    videos = Path(data.videos)
    if labels_table(data) is None:
        for _ in visible_files(videos):
            pass

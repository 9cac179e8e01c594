"""Import a data set: unpack, write the labels table, and point params.yaml at the new folder."""

import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from pipeline.common.errors import PipelineError
from pipeline.common.files import replacing_folder, write_json
from pipeline.common.params_text import set_values, with_values
from pipeline.common.tables import count_of, valid_unicode
from pipeline.dataset.layouts import LABELS_TABLE, read_labels
from pipeline.dataset.settings import DataSection
from pipeline.importing.archive_members import is_archive
from pipeline.importing.archives import free_path, unpack
from pipeline.importing.datasets import DATA_SETS, DataSet
from pipeline.importing.mmaction2 import listed_pictures
from pipeline.importing.source import Source
from pipeline.importing.source_archives import archives_to_unpack
from pipeline.importing.table import Imported, Row, with_usable_splits, write_labels
from pipeline.tasks.targets import targets_of

IMPORTED = Path("data/imported")  # folder of imported data sets
_MARKER = "import.json"  # in a folder that an import made
_UNPACKED = ".unpacked"


def import_data_set(
    name: str, source: Path, *, params: Path, to: Path | None = None, task: str | None = None
) -> list[str]:
    """Make a folder of videos with their labels table, and set it in params.yaml.

    The folder appears when it is complete; after a kill, the same call begins again. Videos of a
    folder are linked, videos of an archive are unpacked.

    Args:
        name: of ``DATA_SETS``.
        source: an archive, or a folder with the annotation files and the videos or archives.
        params: path of params.yaml.
        to: the new folder; None: ``data/imported/<name>``.
        task: one of the data set's tasks; None: the usual one.

    Returns:
        Lines for a terminal.

    Raises:
        PipelineError: the source is missing, incomplete or not safe.
    """
    data_set, target = DATA_SETS[name], to or IMPORTED / name
    _check_source(data_set, source)
    _check_target(target, source)
    # Fails before hours of work if the file lacks a key.
    values = _params(name, target, task or data_set.tasks[0])
    with_values(params.read_text(encoding="utf-8"), values, where=params)
    with replacing_folder(target) as folder:
        try:
            imported = _fill(folder, data_set, source, task)
        except PipelineError as error:
            raise PipelineError(_readable(str(error), folder, source, target)) from error
        write_json(folder / _MARKER, {"dataset": name, "task": imported.task})
    set_values(params, _params(name, target, imported.task))
    videos = {row.video for row in imported.rows}
    folds = len(imported.rows[0].folds)
    return [
        *(_readable(note, folder, source, target) for note in imported.notes),
        f"{target} has {count_of(len(videos), 'video')} of {data_set.title} for the task "
        f"{imported.task}" + (f", with {folds} official folds." if folds else "."),
        f"params.yaml uses them. Next: vidpipe init {target} --task {imported.task}, which fits "
        "settings to the videos, then vidpipe repro",
    ]


def _check_source(data_set: DataSet, source: Path) -> None:
    if source.is_dir() or (source.is_file() and is_archive(source)):
        return
    received = "no archive that can be unpacked" if source.exists() else "no such path"
    raise PipelineError(
        f"{source}: expected an archive (.zip, .rar, .tar, .tar.gz, ...) or a folder with "
        f"{data_set.needs}. Received: {received}. Nothing is downloaded: get {data_set.title} from "
        f"{data_set.page} (terms: {data_set.terms})."
    )


def _check_target(target: Path, source: Path) -> None:
    """Refuse a folder that an import did not make, and a folder inside the other one."""
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise PipelineError(
            f"{target}: expected a new folder. Received: a file or a link. Name another with --to."
        )
    if target.is_dir() and any(target.iterdir()) and not (target / _MARKER).is_file():
        raise PipelineError(
            f"{target}: expected a new folder, or one of an earlier import. Received: a folder "
            "with other files. Name another with --to."
        )
    new, old = target.resolve(), source.resolve()
    if new == old or new in old.parents or (old in new.parents and old.is_dir()):
        raise PipelineError(
            f"{target}: expected a folder beside {source}. Received: one inside the other. Name "
            "another with --to."
        )


def _fill(folder: Path, data_set: DataSet, source: Path, task: str | None) -> Imported:
    """Unpack, read and write everything into a new folder."""
    unpacked = folder / _UNPACKED
    for archive, place in archives_to_unpack(source):
        unpack(archive, free_path(unpacked / place))
    roots = [*([source.absolute()] if source.is_dir() else []), unpacked]
    imported = with_usable_splits(data_set.read(Source(*roots), task))
    if not imported.rows:
        raise PipelineError(
            f"{source}: no video has a label of the task {imported.task}. Expected "
            f"{data_set.needs}. Get them from {data_set.page}."
        )
    if not targets_of(imported.task).several_rows:
        _check_repeated(imported.rows)
    _place_videos(folder, imported.rows, unpacked)
    shutil.rmtree(unpacked, ignore_errors=True)
    write_labels(folder / LABELS_TABLE, imported.rows)
    _check_labels(folder, imported)
    return imported


def _check_labels(folder: Path, imported: Imported) -> None:
    """Read the table as the catalog stage does; an error names the annotation file and line."""
    try:
        read_labels(DataSection(videos=str(folder)), targets_of(imported.task))
    except PipelineError as error:
        message, place = str(error), re.match(r".*?, line (\d+)", str(error))
        if place and 2 <= int(place[1]) < len(imported.rows) + 2:
            where = imported.rows[int(place[1]) - 2].where
            message = f"{where}: the row of the labels table would be wrong. {message}"
        raise PipelineError(message) from error


def _check_repeated(rows: Sequence[Row]) -> None:
    first: dict[str, Row] = {}
    for row in rows:
        other = first.setdefault(row.video, row)
        if other is not row:
            raise PipelineError(
                f"{row.where}: {row.video} is also in {other.where}. Expected each video once. "
                "Delete one of the lines."
            )


def _place_videos(folder: Path, rows: Sequence[Row], unpacked: Path) -> None:
    """Move unpacked videos into the folder, and link the others."""
    sources: dict[str, Path] = {}
    for row in rows:
        if row.video != valid_unicode(row.video):
            raise PipelineError(f"{row.where!a}: the name is not UTF-8. Rename the file.")
        other = sources.setdefault(row.video, row.source)
        if other != row.source:
            raise PipelineError(
                f"{row.where}: expected one video {row.video}. Received: {other} and "
                f"{row.source}. Rename or remove one of them."
            )
    progress = tqdm(sources.items(), desc="videos", unit="video", disable=None)
    for video, path in progress:
        place = folder / video
        if path.is_dir():  # DVC does not see changes behind a linked folder
            files = {place / picture.name: picture for picture in listed_pictures(path)}
        else:
            files = {place: path}
        for new, old in files.items():
            new.parent.mkdir(parents=True, exist_ok=True)
            if old.is_relative_to(unpacked):
                old.rename(new)
            else:
                new.symlink_to(old.resolve())


def _params(name: str, target: Path, task: str) -> Mapping[str, Any]:
    is_usual = task == DATA_SETS[name].tasks[0]
    return {
        "data.videos": str(target),
        "data.labels": "",
        "data.side_inputs": {},
        "task.type": task,
        # Versions of one registered model have one task.
        "register.name": name if is_usual else f"{name}-{task}",
    }


def _readable(message: str, folder: Path, source: Path, target: Path) -> str:
    """Return a message with the paths that the user knows instead of temporary ones."""
    unpacked = str(folder / _UNPACKED)
    archives = source if source.is_dir() else source.parent
    message = message.replace(f"{unpacked}/", f"{archives}/").replace(unpacked, str(source))
    return message.replace(str(folder), str(target))

"""The archives of a source that are to be unpacked, and the places of their content."""

import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from pipeline.common.errors import PipelineError
from pipeline.importing.archive_members import (
    DAMAGE,
    Member,
    archive_stem,
    is_archive,
    read_members,
)

logger = logging.getLogger(__name__)


def archives_to_unpack(source: Path) -> Iterator[tuple[Path, Path]]:
    """Yield each archive whose content is not beside it, and the place of its content.

    The place is the path below the source without the suffix of the archive: a class ``dog.zip`` or
    a split ``train.zip`` is as the folder. Two archives may have the same place.

    Raises:
        PipelineError: a part of the content of an archive is beside it.
    """
    if source.is_file():
        yield source, Path(archive_stem(source))
        return
    for path in sorted(source.rglob("*")):
        relative = path.relative_to(source)
        if _is_hidden(relative) or not path.is_file() or not is_archive(path):
            continue
        folder = _folder_of_content(path)
        if folder is None:
            yield path, relative.with_name(archive_stem(path))
        else:
            logger.info("%s is not unpacked: its content is in %s", path, folder)


def _folder_of_content(archive: Path) -> Path | None:
    """Return the folder with the content of an archive: the one of the archive, or a sibling.

    The sibling has the name of the archive, in any case of letters and with any punctuation, as
    UCF-101 beside UCF101.rar. If the archive has no readable list, this name is enough.
    """
    siblings = [
        path
        for path in sorted(archive.parent.iterdir())
        if path.is_dir() and _letters(path.name) == _letters(archive_stem(archive))
    ]
    try:
        with read_members(archive) as members:
            return _compare(archive, members, [archive.parent, *siblings])
    except (*DAMAGE, OSError):
        return next((path for path in siblings if any(path.iterdir())), None)


def _compare(archive: Path, members: Iterable[Member], folders: Sequence[Path]) -> Path | None:
    """Return the folder that has all files of an archive; None if none has the first file."""
    files = (one for one in members if one.kind == "file" and not _is_hidden(_path_of(one)))
    first = next(files, None)
    if first is None:
        return None
    for folder in folders:
        if not _is_in(folder, first):
            continue
        logger.info("%s: comparing its files with those in %s", archive, folder)
        if missing := next((one for one in files if not _is_in(folder, one)), None):
            raise PipelineError(
                f"{archive}: expected all of its files, or none, in {folder}. Received: "
                f"{first.name}, but no {missing.name} of {missing.size_bytes:,} bytes. Delete the "
                "unpacked files, or move the archive away."
            )
        return folder
    return None


def _is_in(folder: Path, member: Member) -> bool:
    """Return whether a folder has the file, or the content of the inner archive."""
    path = folder / _path_of(member)
    if path.is_file():
        return path.stat().st_size == member.size_bytes
    return path.suffix != "" and is_archive(path) and path.with_name(archive_stem(path)).is_dir()


def _path_of(member: Member) -> PurePosixPath:
    return PurePosixPath(member.name.replace("\\", "/"))


def _is_hidden(path: Path | PurePosixPath) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _letters(name: str) -> str:
    return re.sub(r"[\W_]", "", name.casefold())

"""The folders of videos: their files, and those that DVC cannot watch."""

import os
from collections.abc import Iterator
from pathlib import Path

from pipeline.common.errors import PipelineError


def visible_files(videos: Path) -> Iterator[Path]:
    """Yield all files below ``videos`` that are not hidden, in no particular order."""
    for name, subfolders, files in os.walk(videos):
        folder = Path(name)
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        for subfolder in subfolders:
            check_folder(folder / subfolder, where=str(folder / subfolder))
        yield from (folder / name for name in files if not name.startswith("."))


def check_folder(path: Path, *, where: str) -> None:
    """Refuse a folder that DVC and ``os.walk`` skip without a message."""
    if path.is_symlink():  # DVC hashes the content behind a link to a file, but not to a folder
        raise PipelineError(
            f"{where}: expected a folder. Received: a symbolic link to a folder, behind which DVC "
            "sees no change. Replace it with the folder or with links to its files."
        )
    check_readable(path, where=where)


def check_readable(path: Path, *, where: str) -> None:
    is_effective = os.access in os.supports_effective_ids
    if not os.access(path, os.R_OK | os.X_OK, effective_ids=is_effective):
        raise PipelineError(
            f"{where}: the folder cannot be read (permission denied). Make it readable or remove "
            "it."
        )
